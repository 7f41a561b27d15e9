"""Every command of the README is run, with servers of this machine in place of those it names.

Those on the short list `OUTSIDE` need what is not here; only their syntax is checked, by the
grammar they are written for. So it is with the lines for PowerShell. What signs in is run in
`tests/signing_in/test_readme.py`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from mcp_stdio.cli import arguments, settings
from mcp_stdio.clients import program
from mcp_stdio.demo.http import Request
from mcp_stdio.demo.server import Server
from tests.http.proxy import ForwardProxy
from tests.peers.tls import serve_tls
from tests.process import LIMIT, SOURCE
from tests.readme.pages import ENGLISH, ROOT, Block

OUTSIDE = {
    "uv": "installs",
    "uvx": "installs",
    "pipx": "installs",
    "brew": "needs Homebrew",
    "claude": "is a client of its own",
}
"""Programs that this suite has no business with, and why."""

STARTED = program.command("python")
"""How `config` has this program started, where its script is not on the path."""

PROGRAMS = ("mcp-stdio", ".venv/bin/mcp-stdio")
VARIABLE = re.compile(r"[A-Z][A-Z_]*=")
PROXY = "HTTPS_PROXY=http://user:password@proxy.example.com:3128"
SIGNS_IN = ("login", "--oauth")
SERVERS = (
    "https://example.com/mcp",
    "https://mcp.atlassian.com/v1/mcp/authv2",
    "https://mcp.atlassian.com/v1/mcp",
    "https://api.githubcopilot.com/mcp/",
)


def split(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables that a line sets, and its words."""
    words = shlex.split(command)
    count = next(i for i, word in enumerate(words) if not VARIABLE.match(word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


def of_ours() -> list[str]:
    """The lines that start this program, each once."""
    lines = (line for line in ENGLISH.commands() if split(line)[1][0] in PROGRAMS)
    return list(dict.fromkeys(lines))


def others() -> list[str]:
    return [line for line in ENGLISH.commands() if split(line)[1][0] not in PROGRAMS]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place with the files that the commands name."""
    kept = tmp_path / ".config" / "example"
    kept.mkdir(parents=True)
    (kept / "token").write_text("...\n")
    (kept / "headers").write_text("X-Api-Key: ...\n")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(kept / "ca.pem")
    client = authority.issue_cert("client@example.com")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    # For the server that shows itself with a certificate of that authority.
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    programs = tmp_path / "bin"
    programs.mkdir()
    write_program(programs / "mcp-stdio", f'exec "{sys.executable}" -m mcp_stdio "$@"')
    for name in ("pass", "gcloud", "gh"):
        write_program(programs / name, "echo ...")
    write_program(programs / "example-cli", "echo X-Api-Key: ...")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(programs)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": SOURCE}


@pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
@pytest.mark.parametrize("command", of_ours())
def test_the_grammar_takes_it(command: str, home: Path) -> None:
    variables, (_, *words) = split(command)
    if words == ["--help"]:
        return
    words = [re.sub("^~", str(home), word) for word in words]
    settings.order(arguments.parse(words), variables)


# Run against servers of this machine


def runs() -> list[str]:
    return [line for line in of_ours() if not any(word in SIGNS_IN for word in split(line)[1])]


EXPECTED = {
    "MCP_BEARER_TOKEN": ("authorization", "Bearer ..."),
    "--bearer-token": ("authorization", "Bearer ..."),
    "ATLASSIAN_BASIC": ("authorization", "Basic ..."),
    "X-Api-Key": ("x-api-key", "..."),
    "--header-": ("x-api-key", "..."),
}
"""Which header a command has the server see."""


@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
@pytest.mark.parametrize("command", runs())
async def test_it_does_what_it_is_said_to_do(
    command: str, home: Path, nursery: trio.Nursery
) -> None:
    server = Server()
    url = await nursery.start(server.serve)
    proxy = ForwardProxy(credentials="user:password")
    await nursery.start(proxy.serve)
    line = command.replace(PROXY, f"HTTP_PROXY={proxy.url}")
    if "--c" in line.replace("--client", ""):
        url = await encrypted(url, home, nursery, wants_client="--cert " in line)
        if "--cacert" not in line:
            line = line.replace("--cert", "--cacert ~/.config/example/ca.pem --cert")
    for named in SERVERS:
        line = line.replace(named, url)
    with trio.fail_after(LIMIT):
        done = await trio.run_process(
            ["bash", "-euc", line],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environ(home),
        )
    assert done.returncode == 0, done.stderr.decode()
    _, (_, *words) = split(line)
    match words[0]:
        case "test":
            assert server.requests
            for header in {EXPECTED[word] for word in EXPECTED if word in command}:
                assert all(_has(request, *header) for request in server.requests)
        case "config":
            assert url in done.stdout.decode()
    assert bool(proxy.asked) == (PROXY in command)
    nursery.cancel_scope.cancel()


def _has(request: Request, name: str, value: str) -> bool:
    return request.get(name) == value


async def encrypted(url: str, home: Path, nursery: trio.Nursery, *, wants_client: bool) -> str:
    """A server with TLS in front of this one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(home / "server.pem")
    if wants_client:
        context.load_verify_locations(home / ".config" / "example" / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    port = int(re.findall(r":(\d+)/", url)[0])
    return f"https://127.0.0.1:{await nursery.start(serve_tls, port, context)}/mcp"


# What `config` prints


CLIENTS = ["claude-desktop", "claude-code", "cursor", "vscode", "cline", "codex", "gemini"]
PROGRAM = "/path/to/.venv/bin/mcp-stdio"


def printed(home: Path, client: str) -> tuple[str, str]:
    """The block for a client, and the advice."""
    done = subprocess.run(
        [home / "bin" / "mcp-stdio", "config", "https://example.com/mcp", "--client", client],
        capture_output=True,
        text=True,
        check=True,
        env={**environ(home), "MCP_BEARER_TOKEN": "s3cr3t"},
    )
    assert "s3cr3t" not in done.stdout + done.stderr
    return done.stdout, done.stderr


def read(text: str, language: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text) if language == "json" else tomllib.loads(text)
    return document


def entry(document: dict[str, Any]) -> dict[str, Any]:
    """The one server in a client's configuration."""
    (servers,) = [value for value in document.values() if isinstance(value, dict)]
    (server,) = servers.values()
    assert isinstance(server, dict)
    return server


def client_blocks() -> list[Block]:
    return [block for block in ENGLISH.blocks if block.language in ("json", "toml")]


@pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
def test_the_blocks_are_what_config_prints(home: Path) -> None:
    """Where this program stands differs, and Windows has a block of its own."""
    desktop, windows, *rest = client_blocks()
    for client, block in zip(CLIENTS, [desktop, *rest], strict=True):
        document = read(printed(home, client)[0], block.language)
        there = entry(document)
        assert (there["command"], *there["args"][: len(STARTED) - 1]) == STARTED
        there["args"] = there["args"][len(STARTED) - 1 :]
        there["command"] = PROGRAM
        assert read(block.text, block.language) == document, client
    on_windows = read(windows.text, "json")
    program = entry(on_windows)["command"]
    assert re.fullmatch(r"C:\\(\w+\\)+\.venv\\Scripts\\mcp-stdio\.exe", program)
    entry(on_windows)["command"] = PROGRAM
    assert on_windows == read(desktop.text, "json")


@pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
def test_the_command_for_claude_code_is_what_config_says(home: Path) -> None:
    (command,) = [line for line in ENGLISH.commands() if line.startswith("claude ")]
    advice = printed(home, "claude-code")[1]
    assert command in advice.replace(" ".join(STARTED), PROGRAM)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_files_are_where_the_advice_says(client: str) -> None:
    from mcp_stdio.clients.table import CLIENTS as KNOWN

    known = KNOWN[client]
    said = [row for row in ENGLISH.rows() if f"`{client}`" in row[1:2]]
    cells = " ".join(cell for row in said for cell in row)
    if known.project_file is not None:
        assert f"`{known.project_file}`" in cells
    if known.menu is not None and client != "claude-desktop":
        assert all(f"*{step}*" in cells for step in known.menu.split(" > "))
    elif known.file is not None:
        files = {known.file.linux, known.file.darwin, known.file.win32}
        if len(said) == 1:
            files = {known.file.linux}
        assert all(f"`{file}`" in cells for file in files)


def test_the_table_has_every_client() -> None:
    from mcp_stdio.clients.table import CLIENTS as KNOWN

    assert list(KNOWN) == CLIENTS


# Commands of others


@pytest.mark.parametrize("command", others())
def test_other_commands_are_known_here(command: str, tmp_path: Path) -> None:
    _, words = split(command)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    match words:
        case ["python3", "-m", "venv", *_]:
            pass  # `.ci/run` takes these lines out of this very page; see `tests/test_project.py`
        case [".venv/bin/pip", "install", what]:
            extra = re.fullmatch(r"\.\[(\w+)\]", what)
            assert extra is not None
            assert extra[1] in project["optional-dependencies"]
        case [".venv/bin/pytest", *paths]:
            assert all((ROOT / path).is_dir() for path in paths)
        case [".venv/bin/python", "-m", "tests.benchmarks", *options]:
            from tests.benchmarks.__main__ import _parser

            assert _parser().parse_args(options).against
        case [".venv/bin/python", "-m", "tests.load" | "tests.fuzz" as name]:
            assert (ROOT.joinpath(*name.split(".")) / "__main__.py").is_file()
        case [".venv/bin/python", ".github/pictures"]:
            pass  # `test_page` runs it
        case [program, *_]:
            assert program in OUTSIDE


def for_powershell() -> list[str]:
    blocks = [block.text for block in ENGLISH.blocks if block.language == "powershell"]
    return [line for text in blocks for line in text.splitlines()]


def test_what_powershell_installs_is_what_the_first_command_installs() -> None:
    (first, *_) = ENGLISH.commands()
    steps = first.replace("python3", "python").replace("/bin/", "/Scripts/").replace("/", "\\")
    lines = for_powershell()
    assert lines[:3] == steps.split(" && ")
    assert [line for line in lines if "pip" in line or "venv .venv" in line] == lines[:2]


@pytest.mark.parametrize("line", for_powershell()[2:])
def test_the_grammar_takes_what_powershell_starts(line: str) -> None:
    """None of it is run here. A variable is set by a line of its own, the program has its place."""
    if variable := re.fullmatch(r"\$env:(\w+) = '[^']*'", line):
        assert f"{variable[1]}=" in ENGLISH.text
        return
    program, *words = line.split()
    assert program == r".venv\Scripts\mcp-stdio"
    assert settings.order(arguments.parse(words), {})


def test_the_short_list_has_nothing_else() -> None:
    assert {split(line)[1][0] for line in others()} >= OUTSIDE.keys()

"""Facts about the project as a whole that nothing else would notice being broken."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcp_stdio

PACKAGE = Path(mcp_stdio.__file__).parent
ROOT = Path(__file__).parent.parent

CORE = {
    "config",
    "errors",
    "framing",
    "jsonrpc",
    "mirroring",
    "outline",
    "redaction",
    "retry",
    "routing",
    "scanner",
    "spec",
    "splice",
    "sse",
    "words",
}
"""Plain synchronous Python: bytes and values in, values out."""

MAY_IMPORT: dict[str, set[str]] = {
    # core
    "config": set(),
    "redaction": set(),
    "retry": set(),
    "words": set(),
    "errors": {"redaction"},
    "splice": {"errors"},
    "outline": {"splice"},
    "jsonrpc": {"errors", "outline", "redaction", "splice"},
    "spec": {"jsonrpc"},
    "sse": {"errors"},
    "routing": {"errors", "jsonrpc", "spec", "splice"},
    "mirroring": {"errors", "jsonrpc", "routing", "spec", "splice"},
    "scanner": {"jsonrpc"},
    "framing": {"jsonrpc", "scanner"},
    # wire: each touches one thing outside
    "descriptors": set(),
    "log": {"descriptors", "errors", "redaction"},
    "stdio": {"descriptors", "errors", "framing", "jsonrpc", "log"},
    "http": {"config", "errors", "log", "redaction", "sse"},
    "credentials": {"config", "errors", "http", "redaction", "spec"},
    "upstream": {
        "errors",
        "http",
        "jsonrpc",
        "log",
        "mirroring",
        "redaction",
        "retry",
        "routing",
        "spec",
        "splice",
        "sse",
    },
    "shaping": {"errors", "jsonrpc", "spec", "splice", "upstream"},
    "filtering": {"errors", "jsonrpc", "spec", "splice", "upstream"},
    "bridge": {"errors", "jsonrpc", "log", "spec", "splice", "upstream"},
    "oauth": {"config", "errors", "http", "log", "redaction", "spec", "words"},
    "in_flight": {"errors", "jsonrpc", "spec", "upstream"},
    "delivery": {
        "descriptors",
        "in_flight",
        "jsonrpc",
        "log",
        "redaction",
        "stdio",
        "upstream",
    },
    "signals": set(),
    "sleep": set(),
    "clients": {"words"},
    "terminal": set(),
    "last_words": {"errors", "jsonrpc", "spec"},
    # top
    "era": {"errors", "jsonrpc", "last_words", "log", "retry", "spec", "splice", "upstream"},
    "stand_in": {"era", "errors", "jsonrpc", "log", "spec", "upstream"},
    "assembly": {
        "bridge",
        "config",
        "credentials",
        "era",
        "filtering",
        "http",
        "jsonrpc",
        "mirroring",
        "oauth",
        "shaping",
        "stand_in",
        "upstream",
    },
    "relay": {
        "delivery",
        "errors",
        "framing",
        "http",
        "in_flight",
        "jsonrpc",
        "last_words",
        "log",
        "redaction",
        "signals",
        "sleep",
        "spec",
        "stdio",
        "upstream",
    },
    "serving": {
        "assembly",
        "config",
        "errors",
        "http",
        "log",
        "relay",
        "signals",
        "stdio",
        "upstream",
    },
    "diagnose": {*CORE, "assembly", "era", "http", "log", "terminal", "upstream"},
    "sign_in": {
        "assembly",
        "config",
        "errors",
        "http",
        "jsonrpc",
        "log",
        "oauth",
        "spec",
        "stdio",
        "terminal",
        "upstream",
    },
    "demo": {*CORE, "clients", "log"},
    "cli": {
        *CORE,
        "clients",
        "credentials",
        "demo",
        "descriptors",
        "diagnose",
        "http",
        "log",
        "serving",
        "sign_in",
        "signals",
    },
    "__main__": {"cli"},
}
"""The arrows: which part may import which. They point down, and never in a circle."""

MAY_NAME = {
    "trio": MAY_IMPORT.keys() - CORE - {"descriptors", "log", "__main__"},
    "h11": {"http", "demo", "oauth"},
    "httpx": {"http"},
    "ssl": {"http"},
    "certifi": {"http"},
    "truststore": {"http"},
}
"""What is not of this project, and the parts that may know of it; the rest of the standard library
is free, and anything else is used by nobody."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Full names of all modules that are imported anywhere in the file, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            assert node.module is not None
            if node.module in ("mcp_stdio", "mcp_stdio.oauth"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_arrows_point_down(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        assert list(imports_of(path)) == []
        return
    assert part in MAY_IMPORT, "a new part needs a place"
    own = {name.split(".")[1] for name in imports_of(path) if name.startswith("mcp_stdio.")}
    assert own - {part, "__version__"} <= MAY_IMPORT[part]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_wire_names_what_is_outside(path: Path) -> None:
    for name in {name.split(".")[0] for name in imports_of(path)} - {"mcp_stdio"}:
        if name in MAY_NAME:
            assert part_of(path) in MAY_NAME[name], name
        else:
            assert name in sys.stdlib_module_names, name


@pytest.mark.parametrize(
    "module", ["discovery", "fitting", "input_required", "introduction", "reshaping"]
)
def test_what_a_bridge_says_needs_no_loop(module: str) -> None:
    assert "trio" not in imports_of(PACKAGE / "bridge" / f"{module}.py")


@pytest.mark.parametrize("module", ["content", "fields", "redirects", "request_head", "response"])
def test_what_http_says_needs_no_loop(module: str) -> None:
    assert "trio" not in imports_of(PACKAGE / "http" / f"{module}.py")


OAUTH_FLOWS = {
    "answers",
    "authorization",
    "challenge",
    "commands",
    "device",
    "discovery",
    "login",
    "metadata",
    "record",
    "registration",
    "scopes",
    "tokens",
    "urls",
}
"""What of `oauth` is core: the rest performs it. Of the wire it may read a URL."""

OF_THE_REST = ("config", "errors", "http.url", "redaction", "spec")


@pytest.mark.parametrize("module", sorted(OAUTH_FLOWS))
def test_a_flow_of_oauth_needs_no_loop_and_no_wire(module: str) -> None:
    imports = set(imports_of(PACKAGE / "oauth" / f"{module}.py"))
    own = {name.split(".")[2] for name in imports if name.startswith("mcp_stdio.oauth.")}
    assert own <= OAUTH_FLOWS
    rest = {name for name in imports if name.startswith("mcp_stdio.") and ".oauth" not in name}
    assert rest <= {f"mcp_stdio.{name}" for name in OF_THE_REST}
    assert imports.isdisjoint({"trio", "time", "os", "pathlib"})


def test_nothing_depends_on_itself_in_a_circle() -> None:
    placed: set[str] = set()
    waiting = dict(MAY_IMPORT)
    while ready := {part for part, needs in waiting.items() if needs <= placed}:
        placed |= ready
        waiting = {part: needs for part, needs in waiting.items() if part not in ready}
    assert not waiting


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter with the package in reach, installed or not."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        timeout=60,
    )


def loaded_by(statement: str) -> set[str]:
    """The modules an interpreter has loaded after the statement."""
    script = f"import sys\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    return set(python("-c", script).stderr.split())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_network(option: str) -> None:
    loaded = loaded_by(f"from mcp_stdio.cli import main; assert main([{option!r}]) == 0")
    assert "mcp_stdio.cli" in loaded
    assert loaded.isdisjoint({"trio", "httpx", "h11", "ssl", "certifi"})


def test_a_command_line_without_options_loads_no_grammar_of_them() -> None:
    loaded = loaded_by(
        "from mcp_stdio.cli import arguments, settings\n"
        "settings.order(arguments.parse(['http://127.0.0.1/']), {})"
    )
    assert "mcp_stdio.cli.settings" in loaded
    assert loaded.isdisjoint({"argparse", "mcp_stdio.cli.options", "trio", "ssl"})


def test_the_relay_loads_only_what_every_run_needs() -> None:
    loaded = loaded_by("import mcp_stdio.serving, mcp_stdio.http.direct")
    assert "trio" in loaded
    others = {"bridge", "credentials", "demo", "diagnose", "oauth", "sign_in", "stand_in"}
    others |= {"clients", "filtering", "http.observer", "http.traced", "scanner"}
    others |= {"upstream.http_sse", "upstream.session", "upstream.stateless"}
    assert loaded.isdisjoint({"httpx", "h11", "certifi", *(f"mcp_stdio.{name}" for name in others)})


def test_versions_agree() -> None:
    printed = python("-m", "mcp_stdio", "--version").stdout
    assert printed == f"mcp-stdio {mcp_stdio.__version__}\n"
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{mcp_stdio.__version__}]" in changelog


def test_dependencies_are_the_four_that_are_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=\[]", needed)[0] for needed in project["dependencies"]}
    assert names == {"trio", "httpx", "h11", "certifi"}


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_begins_with_the_two_commands_that_ci_runs() -> None:
    commands = re.findall(r"^python3 -m venv .*", readme(), re.MULTILINE)
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    endings = re.search(r'^for ending in "(.+)" "(.+)"; do$', run, re.MULTILINE)
    assert endings is not None
    assert len(commands) == 2
    assert [command.endswith(endings[i + 1]) for i, command in enumerate(commands)] == [True, True]
    first_screen = readme().splitlines()[:30]
    assert all(command in first_screen for command in commands)


def test_the_readme_names_options_that_exist() -> None:
    known = python("-m", "mcp_stdio", "--help").stdout
    options = set(re.findall(r"`(--?[a-z-]+)", readme(), re.IGNORECASE))
    assert len(options) > 15
    # `-vv` is `-v` twice.
    assert {option for option in options - {"-vv"} if option not in known} == set()


def test_the_lock_file_of_the_peers_names_no_registry() -> None:
    lock = (ROOT / "tests" / "peers" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock

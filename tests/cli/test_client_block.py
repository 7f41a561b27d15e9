"""What of a command line goes into a client's configuration, and that secrets do not (P7)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_stdio.cli.arguments import parse
from mcp_stdio.cli.client_block import PATHS
from mcp_stdio.cli.options import _parser
from mcp_stdio.cli.settings import Order, Relay, ShowBlock, order
from mcp_stdio.clients.block import Server
from mcp_stdio.clients.table import CLIENTS
from mcp_stdio.errors import UsageFailure
from mcp_stdio.http.url import Url
from tests.cli.command import environment, run

URL = "https://example.com/mcp"

IN_THE_ENVIRONMENT = {"MCP_BEARER_TOKEN": "t0k3n", "MCP_OAUTH_CLIENT_SECRET": "s3cr3t"}


def understood(*argv: str, environ: Mapping[str, str] | None = None) -> Order:
    return order(parse(["config", *argv]), environ or {})


def server_of(*argv: str, environ: Mapping[str, str] | None = None) -> Server:
    task = understood(*argv, environ=environ).task
    assert isinstance(task, ShowBlock)
    return task.server


def variables(server: Server) -> list[str]:
    return [secret.variable for secret in server.secrets]


def refusal(*argv: str, environ: Mapping[str, str] | None = None) -> UsageFailure:
    with pytest.raises(UsageFailure) as caught:
        understood(*argv, environ=environ)
    return caught.value


def test_a_url_alone_needs_nothing_else() -> None:
    assert server_of(URL) == Server("example-com", (URL,))
    assert understood(URL).notes == ()


@pytest.mark.parametrize(
    "argv, environ, arguments, needed",
    [
        (["--bearer-token", "t0k3n"], {}, [], ["MCP_BEARER_TOKEN"]),
        ([], IN_THE_ENVIRONMENT, [], ["MCP_BEARER_TOKEN"]),
        (["--bearer-token", "t0k3n"], IN_THE_ENVIRONMENT, [], ["MCP_BEARER_TOKEN"]),
        (["-H", "Authorization: Bearer t0k3n"], {}, [], ["MCP_BEARER_TOKEN"]),
        (["-H", "authorization:bearer t0k3n"], {}, [], ["MCP_BEARER_TOKEN"]),
        (
            ["-H", "Authorization: Basic t0k3n"],
            {},
            ["--header", "Authorization: ${MCP_HEADER_AUTHORIZATION}"],
            ["MCP_HEADER_AUTHORIZATION"],
        ),
        (
            ["-H", "X-Api-Key: k", "-H", "Cookie: c"],
            {},
            [
                *("--header", "X-Api-Key: ${MCP_HEADER_X_API_KEY}"),
                *("--header", "Cookie: ${MCP_HEADER_COOKIE}"),
            ],
            ["MCP_HEADER_X_API_KEY", "MCP_HEADER_COOKIE"],
        ),
        (
            ["-H", "X-Whatever: 8f3a9c21"],
            {},
            ["--header", "X-Whatever: ${MCP_HEADER_X_WHATEVER}"],
            ["MCP_HEADER_X_WHATEVER"],
        ),
        (
            ["-H", "X-Key: a${MINE}$${b${MINE}${OTHER}"],
            {"MINE": "s3cr3t"},
            ["--header", "X-Key: a${MINE}$${b${MINE}${OTHER}"],
            ["MINE", "OTHER"],
        ),
        (
            ["-H", "Authorization: Bearer ${MINE}"],
            IN_THE_ENVIRONMENT,
            ["--header", "Authorization: Bearer ${MINE}"],
            ["MINE"],
        ),
        (
            ["-H", "X-A: s3cr3t-1", "-H", "X.A: s3cr3t-2", "-H", "Y: ${MCP_HEADER_X_A_2}"],
            {"MCP_HEADER_X_A_2": "other"},
            [
                *("--header", "X-A: ${MCP_HEADER_X_A}"),
                *("--header", "X.A: ${MCP_HEADER_X_A_3}"),
                *("--header", "Y: ${MCP_HEADER_X_A_2}"),
            ],
            ["MCP_HEADER_X_A", "MCP_HEADER_X_A_3", "MCP_HEADER_X_A_2"],
        ),
        (
            ["-H", "X-Api-Key: pre-${MINE}-s3cr3tXYZ99"],
            {"MINE": "x"},
            ["--header", "X-Api-Key: ${MCP_HEADER_X_API_KEY}"],
            ["MCP_HEADER_X_API_KEY"],
        ),
        (
            ["-H", "Authorization: Bearer s3cr3tXYZ99${MINE}"],
            {"MINE": "x"},
            [],
            ["MCP_BEARER_TOKEN"],
        ),
        (
            ["-H", "Cookie: session=${MINE}; user=${OTHER}"],
            {"MINE": "x", "OTHER": "y"},
            ["--header", "Cookie: session=${MINE}; user=${OTHER}"],
            ["MINE", "OTHER"],
        ),
        *(
            (
                ["-H", f"{name}: {value}"],
                {},
                ["--header", f"{name}: ${{MCP_HEADER_{name.upper().replace('-', '_')}}}"],
                [f"MCP_HEADER_{name.upper().replace('-', '_')}"],
            )
            for name, value in (
                ("X-Custom", "xkQzPmRtLwNbVcDfGhJk"),
                ("X-Custom", "1234567890123456"),
                ("X-Custom", "short"),
                ("X-Tenant", "8f3a9c21e7"),
                ("X-Tenant", "x" * 41),
            )
        ),
        (
            ["-H", "X-Tenant: acme", "-H", "Date: 2026-07-28", "-H", "x-tenant: other"],
            {},
            ["--header", "Date: 2026-07-28", "--header", "x-tenant: other"],
            [],
        ),
        (["--oauth"], IN_THE_ENVIRONMENT, ["--oauth"], []),
        (
            ["--oauth"],
            IN_THE_ENVIRONMENT | {"MCP_OAUTH_CLIENT_ID": "c"},
            ["--oauth", "--client-id", "c"],
            ["MCP_OAUTH_CLIENT_SECRET"],
        ),
        (["--client-id=c", "--oauth"], {}, ["--oauth", "--client-id", "c"], []),
        (
            ["--client-id=c", "--oauth", "--oauth-grant=client-credentials"],
            {},
            ["--oauth", "--client-id", "c", "--oauth-grant", "client-credentials"],
            ["MCP_OAUTH_CLIENT_SECRET"],
        ),
    ],
)
def test_no_secret_goes_into_a_block(
    argv: list[str], environ: dict[str, str], arguments: list[str], needed: list[str]
) -> None:
    server = server_of(URL, *argv, environ=environ)
    assert server.arguments == (*arguments, URL)
    assert variables(server) == needed
    assert server.has_references == any("${" in argument for argument in arguments)
    assert not any(word in repr(server) for word in ("t0k3n", "s3cr3t"))


def test_options_follow_in_the_order_of_the_help_text() -> None:
    server = server_of(
        *(URL, "--drain-timeout=2", "--insecure", "-v", "--oauth", "--oauth-scope", "a b"),
        *("--timeout-read=120", "--oauth-profile=work", "--client", "cursor", "--name", "mine"),
    )
    assert server.name == "mine"
    assert server.arguments == (
        *("--oauth", "--oauth-scope", "a b", "--oauth-profile", "work", "--insecure"),
        *("--drain-timeout", "2", "--verbose", URL),
    )


def test_files_and_programs_get_full_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    here = os.path.join(os.getcwd(), "file")
    command = f"'{sys.executable}' -c 'a b'"
    server = server_of(
        *(URL, "--bearer-token-file=file", "--cacert=file", "--cert=file", "--key=file"),
        *("--header-file=file", "--log-file", "file", "--header-command", command),
    )
    assert server.arguments[:4] == ("--bearer-token-file", here, "--header-file", here)
    assert server.arguments.count(here) == 6
    again = order(parse(server.arguments), {}).task
    assert isinstance(again, Relay)
    assert again.config.sources[-1].command == (sys.executable, "-c", "a b")


def test_a_file_at_home_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "token").touch()
    server = server_of(URL, "--bearer-token-file", "~/token")
    assert server.arguments == ("--bearer-token-file", str(tmp_path / "token"), URL)


def test_a_program_found_through_path_is_named_in_full() -> None:
    server = server_of(URL, "--bearer-token-command", "sh -c x")
    assert os.path.isabs(server.arguments[1].split()[0])


@pytest.mark.skipif(sys.platform == "win32", reason="a script that is a program")
def test_what_a_command_names_here_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program").touch(mode=0o755)
    Path("code.py").touch()
    argv = (URL, "--header-command", "./program code.py none.py")
    assert server_of(*argv).arguments[1] == f"{tmp_path / 'program'} code.py none.py"
    [note] = understood(*argv).notes
    assert note.startswith("`--header-command` names `code.py`, ")


def test_every_option_that_names_a_file_is_known() -> None:
    named = {action.dest for action in _parser()._actions if action.metavar == "PATH"}
    assert named == set(PATHS)


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://mcp.example.com/mcp", "mcp-example-com"),
        ("https://mcp.example.com:443/mcp/", "mcp-example-com"),
        ("https://LOCALHOST:8000", "localhost-8000"),
        ("http://127.0.0.1:9/mcp", "mcp-127-0-0-1-9"),
        ("https://h.example/a", "h-example-a"),
        ("https://h.example/A_b/v1/mcp?c=d", "h-example-a-b-v1-mcp"),
        ("https://h.example/s/k3y0fm1n3xyz/mcp", "h-example-s"),
        ("https://h.example/s/abcdefghijklmnopqrstu/mcp", "h-example-s"),
        ("https://müller.example/mcp", "xn-mller-kva-example"),
        (f"https://{'a' * 60}.{'b' * 60}.example/", f"{'a' * 60}-bbb"),
        (f"https://{'a' * 63}.example/", "a" * 63),
        ("http://[::1]/", "mcp-1"),
        ("https://xn--bcher-kva.example/", "xn-bcher-kva-example"),
    ],
)
def test_host_port_and_path_give_the_name(url: str, name: str) -> None:
    assert server_of(url) == Server(name, (url,))


@pytest.mark.parametrize(
    "argv, cause",
    [
        ([URL, "--client", "emacs"], "`--client`: `emacs` is not one of `claude-desktop`, "),
        ([URL, "--name", "a b"], "`--name`: `a b` is not"),
        ([URL, "--name", ""], "`--name`"),
        (["https://ann:s3cr3t@example.com/mcp"], "does not belong into"),
        ([URL, "--bearer-token", "t", "--oauth"], "two credentials were given"),
        ([URL, "-H", "Host: x"], "cannot set `Host`"),
        ([URL, "--cacert", "/no/file"], "cannot be read"),
        ([URL, "--oauth", "--oauth-grant=client-credentials"], "registered already"),
        (["example.com"], "neither a URL nor a command"),
    ],
)
def test_what_the_relay_would_refuse_is_refused_here(argv: list[str], cause: str) -> None:
    failure = refusal(*argv)
    assert cause in str(failure)
    assert failure.hint
    assert "s3cr3t" not in f"{failure} {failure.hint}"


@pytest.mark.parametrize(
    "argv, is_so",
    [
        ([URL], False),
        ([f"{URL}?x=${{HOME}}"], False),
        ([URL, "-H", "X-Key: ${MINE}"], False),
        ([URL, "-H", "X-Key: ${MINE}$${b"], True),
        ([URL, "--deny-tool", "${a}"], True),
    ],
)
def test_what_only_looks_like_a_variable_is_known(argv: list[str], is_so: bool) -> None:
    assert server_of(*argv, environ={"MINE": "x"}).has_literals == is_so


def test_nothing_in_the_url_looks_like_a_variable() -> None:
    [url] = server_of(f"{URL}?x=${{HOME}}").arguments
    assert url == f"{URL}?x=$%7BHOME}}"
    assert Url.parse(url) == Url.parse(f"{URL}?x=${{HOME}}")


def test_a_secret_in_the_url_is_noted() -> None:
    [note] = understood(f"{URL}?api_key=abcdefgh").notes
    assert "the URL may hold a secret" in note


@pytest.mark.parametrize(
    "option, value, is_noted",
    [
        ("--oauth-param", "key=s3cr3t", True),
        ("--oauth-param", "prompt=consent", False),
        ("--client-metadata-url", "https://example.com/c?a=s3cr3t", True),
        ("--client-metadata-url", "https://example.com/c", False),
        ("--header-command", f"'{sys.executable}' -c 'echo X-K: s3cr3t'", True),
        ("--header-command", f"'{sys.executable}' s3cr3t-99", True),
        ("--header-command", f"'{sys.executable}' show mcp", False),
    ],
)
def test_an_option_that_may_show_a_secret_is_noted(option: str, value: str, is_noted: bool) -> None:
    signs_in = ["--oauth"] if "command" not in option else []
    notes = understood(URL, *signs_in, option, value).notes
    assert len(notes) == is_noted
    for note in notes:
        assert note.startswith(f"`{option}")
        assert "may hold a secret" in note
        assert "s3cr3t" not in note


def test_what_the_environment_says_about_the_way_is_noted() -> None:
    [note] = understood(URL, environ={"https_proxy": "http://u:s3cr3t@proxy/", "HOME": "/x"}).notes
    assert note.startswith("the relay heeds `https_proxy` of this environment")
    assert "s3cr3t" not in note


def test_the_relay_s_log_is_not_written_yet(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("config", URL, "--log-file", str(log), "--insecure")
    assert done.returncode == 0
    assert f'"{log}"' in done.stdout
    assert not log.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a script that is a program")
def test_a_program_that_will_vanish_is_warned_of(tmp_path: Path) -> None:
    script = tmp_path / "archive-v0" / "mcp-stdio"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nfrom mcp_stdio.cli import main\nraise SystemExit(main())"
    )
    script.chmod(0o755)
    done = subprocess.run(
        [script, "config", URL], capture_output=True, text=True, env=environment(), check=True
    )
    assert f'"{script}"' in done.stdout
    assert f"{script} is in a cache that may be emptied" in done.stderr


@pytest.mark.parametrize("client", [None, *CLIENTS])
def test_the_command_prints_the_block_alone_and_no_secret(client: str | None) -> None:
    choice = [] if client is None else ["--client", client]
    done = run(
        *("config", URL, *choice, "-H", "X-Api-Key: k3y-of-mine", "-H", "X-Other: ${MINE}"),
        env={**IN_THE_ENVIRONMENT, "MINE": "m1n3"},
    )
    assert done.returncode == 0
    assert done.stdout.startswith("[mcp_servers" if client == "codex" else "{\n")
    for secret in ("t0k3n", "k3y-of-mine", "m1n3", "s3cr3t"):
        assert secret not in done.stdout + done.stderr
    for name in ("MCP_BEARER_TOKEN", "MCP_HEADER_X_API_KEY", "MINE"):
        assert name in done.stdout
        assert name in done.stderr
    assert "***" not in done.stderr


def test_the_help_text_names_the_clients() -> None:
    words = run("--help").stdout.replace(",", " ").split()
    assert set(CLIENTS) <= set(words)

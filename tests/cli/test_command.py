"""The command as a process: exit codes, stderr, an empty stdout, and what is not imported."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_stdio import __version__
from tests.cli.command import LIMIT, environment, run

# Nothing answers at port 9, and nothing is asked before stdin has brought a line.
URL = "http://127.0.0.1:9/mcp"


def test_help_goes_to_stdout_and_lists_every_option_in_order() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    options = [
        *("--bearer-token", "--bearer-token-file", "--bearer-token-command"),
        *("--header", "--header-file", "--header-command"),
        *("--oauth", "--client-id", "--oauth-scope", "--oauth-grant", "--oauth-device"),
        *("--client-metadata-url", "--oauth-resource", "--no-resource-indicator"),
        *("--oauth-param", "--oauth-use-id-token", "--oauth-assume-pkce"),
        *("--oauth-allow-private", "--oauth-callback-port", "--oauth-no-browser"),
        *("--oauth-profile", "--oauth-timeout", "--oauth-start-wait"),
        *("--timeout-connect", "--timeout-read", "--timeout-call", "--cacert", "--cert", "--key"),
        *("--insecure", "--max-message-size", "--transport", "--protocol-era", "--bridge"),
        *("--no-merge-pages", "--allow-tool", "--deny-tool", "--drain-timeout", "--test"),
        *(
            "--json",
            "--client",
            "--name",
            "--serve",
            "--verbose",
            "--quiet",
            "--log-file",
            "--version",
            "--help",
        ),
    ]
    listed = re.findall(r"^  (?:-\w(?: '.*')?, )?(--[\w-]+)", done.stdout, re.MULTILINE)
    assert listed == options
    assert "`ps`" in done.stdout
    for variable in ("MCP_BEARER_TOKEN", "MCP_OAUTH_CLIENT_ID", "MCP_OAUTH_CLIENT_SECRET"):
        assert variable in done.stdout


@pytest.mark.parametrize("argv", [["-V"], ["--version"], [URL, "--version"]])
def test_the_version_goes_to_stdout(argv: list[str]) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mcp-stdio {__version__}\n", "")


@pytest.mark.parametrize("argv", [[URL], ["test", URL], ["status"], ["demo"]])
def test_garbage_is_collected_whatever_is_done(argv: list[str], tmp_path: Path) -> None:
    code = (
        "import gc, sys\n"
        "from mcp_stdio.__main__ import main\n"
        f"sys.argv[1:] = {argv!r}\n"
        "main()\n"
        "sys.exit(0 if gc.isenabled() else 'the collector is off')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(dict.fromkeys(("HOME", "APPDATA", "XDG_CONFIG_HOME"), str(tmp_path))),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("argv", [["--help"], ["--version"], [], ["--oauth", "http://h/"]])
def test_what_needs_no_network_imports_none_of_it(argv: list[str]) -> None:
    code = (
        "import sys\n"
        "from mcp_stdio.cli import main\n"
        f"main({argv!r})\n"
        "unwanted = {'trio', 'httpx', 'h11', 'ssl', 'certifi', 'asyncio'} & sys.modules.keys()\n"
        "sys.exit(f'imported {unwanted}' if unwanted else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_arguments_show_the_usage_on_stderr() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: mcp-stdio [OPTIONS] URL\n")


@pytest.mark.parametrize(
    "argv, error",
    [
        (["--oauth", "http://h/"], "error: `--oauth`: a token is never sent unencrypted"),
        (["config"], "error: the URL of the server is missing\n\nhint: "),
        (["config", URL, "--client", "x"], "error: `--client`: `x` is not one of `claude-desktop`"),
        (["example.com"], "error: `example.com` is neither a URL nor a command\n\nhint: did you"),
        ([URL, "--nonsense"], "error: unknown option `--nonsense`\n\nhint: "),
        ([URL, "--timeout-read=soon"], "error: `--timeout-read`: `soon` is not a duration"),
        ([URL, "-H", "Host: x"], "error: `-H` cannot set `Host`\n\nhint: "),
        ([URL, "--log-file", "/no/such/directory/log"], "error: `--log-file"),
    ],
)
def test_a_usage_error_is_told_on_stderr_with_code_2(argv: list[str], error: str) -> None:
    done = run(*argv)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(error)
    assert "Traceback" not in done.stderr


def test_relaying_ends_with_0_when_stdin_is_empty() -> None:
    done = run(URL, "--timeout-connect", "0.1")
    assert (done.returncode, done.stdout) == (0, "")


def test_notes_are_shown_and_secrets_are_not() -> None:
    done = run(
        *("--bearer-token", "t0k3n-one", "--client-id", "x", URL),
        env={"MCP_BEARER_TOKEN": "t0k3n-two"},
    )
    assert "`MCP_BEARER_TOKEN` is not used, because of `--bearer-token`" in done.stderr
    assert "`--client-id` has no effect without `--oauth`" in done.stderr
    assert "t0k3n" not in done.stderr


def test_quiet_hides_notes() -> None:
    assert run("-q", "--client-id", "x", URL).stderr == ""


def test_the_log_file_gets_the_notes_too(tmp_path: Path) -> None:
    file = tmp_path / "log"
    run("--client-id", "x", "--log-file", str(file), URL)
    assert "`--client-id` has no effect" in file.read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of another kind")
def test_a_closed_pipe_is_a_normal_end() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with contextlib.closing(os.fdopen(writing, "wb")) as output:
        done = subprocess.run(
            [sys.executable, "-m", "mcp_stdio", "--help"],
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            env=environment(),
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of another kind")
@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_closed_descriptors_are_occupied_and_end_nothing_early(closed: list[int]) -> None:
    # Otherwise the first file or socket opened would become a standard stream.
    code = (
        "import os, sys\n"
        "from mcp_stdio.cli import main\n"
        "code = main(['--oauth', 'http://x/'])\n"
        "for fd in (0, 1, 2): os.fstat(fd)\n"
        "sys.exit(code)\n"
    )
    script = 'exec "$@" ' + " ".join(f"{fd}>&-" for fd in closed)
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-c", code],
        capture_output=True,
        timeout=LIMIT,
        env=environment(),
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == b""


@pytest.mark.parametrize("option", ["--cacert", "--cert"])
def test_a_file_that_holds_no_certificate_is_a_usage_error_at_start(
    tmp_path: Path, option: str
) -> None:
    path = tmp_path / "junk.pem"
    path.write_text("no certificate")
    done = run(option, str(path), "https://127.0.0.1:9/mcp")
    assert done.returncode == 2
    assert option in done.stderr
    assert str(path) in done.stderr
    assert "hint: " in done.stderr


_KILLS_ITSELF = """
import os, signal, sys


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.{signal})


sys.meta_path.insert(0, Finder())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_before_the_relay_is_up_is_a_normal_end(tmp_path: Path, name: str) -> None:
    done = run_killing_itself(tmp_path, name, "trio")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_before_it_is_known_what_to_do_leaves_no_traceback(tmp_path: Path) -> None:
    done = run_killing_itself(tmp_path, "SIGINT", "mcp_stdio.cli.settings")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_that_waits_for_the_start_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = run(URL, env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def run_killing_itself(directory: Path, name: str, module: str) -> subprocess.CompletedProcess[str]:
    """The relay, which gets a signal when it begins to import a module."""
    (directory / "sitecustomize.py").write_text(_KILLS_ITSELF.format(signal=name, module=module))
    paths = environment()["PYTHONPATH"]
    return run(URL, env={"PYTHONPATH": f"{directory}{os.pathsep}{paths}"})

"""The last seam: what an exception out of the work becomes for the user."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_stdio.cli.ending import FAILURE, INTERRUPTED, NORMAL_END, USAGE_ERROR, explained
from mcp_stdio.diagnose.report import exit_code
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    OutputClosed,
    Refused,
    RelayError,
    TimedOut,
    TlsFailure,
    Unreachable,
    UsageFailure,
)
from tests.cli.command import LIMIT, environment, run


def group(*parts: BaseException) -> BaseException:
    return BaseExceptionGroup("of a nursery", [BaseExceptionGroup("of another", list(parts))])


LIMITS = "\n\nhint: end other programs, or raise the limits that `ulimit -a` shows"


@pytest.mark.parametrize(
    "exc, code, text",
    [
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (BrokenPipeError(), NORMAL_END, ""),
        (OutputClosed(), NORMAL_END, ""),
        (
            OSError(errno.ENOSPC, "No room"),
            FAILURE,
            "error: standard output cannot be written: No room",
        ),
        (MemoryError(), FAILURE, f"error: there is not enough memory for this{LIMITS}"),
        (
            group(OSError(errno.EMFILE, "Too many open files", "/a/module.py")),
            FAILURE,
            f"error: the system gives mcp-stdio no more: Too many open files{LIMITS}",
        ),
        (UsageFailure("a", hint="b"), USAGE_ERROR, "error: a\n\nhint: b"),
        (Unreachable("a", hint="b"), FAILURE, "error: a\n\nhint: b"),
        (RelayError("a"), FAILURE, "error: a"),
        (group(RelayError("a")), FAILURE, "error: a"),
        (group(OutputClosed(), RelayError("a")), FAILURE, "error: a"),
        (group(RelayError("a"), KeyboardInterrupt()), INTERRUPTED, ""),
    ],
)
def test_exceptions_become_a_text_and_a_code(exc: BaseException, code: int, text: str) -> None:
    ending = explained(exc)
    assert (ending.code, ending.text) == (code, text)


@pytest.mark.parametrize("exc", [KeyError("k3y"), group(RelayError("a"), KeyError("k3y"))])
def test_a_defect_is_never_hidden(exc: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    ending = explained(exc)
    assert ending.code == FAILURE
    assert ending.text.startswith(
        "error: something went wrong inside mcp-stdio: KeyError\n\nhint: "
    )
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is exc


@pytest.mark.parametrize(
    "exc, code",
    [
        (Unreachable("a"), 3),
        (ConnectionLost("a"), 3),
        (TimedOut("a"), 3),
        (TlsFailure("a"), 4),
        (AuthorizationFailed("a"), 5),
        (BadAnswer("a"), 6),
        (Refused("a", status=404), 6),
        (Refused("a", status=500), 7),
        (UsageFailure("a"), USAGE_ERROR),
        (KeyboardInterrupt(), INTERRUPTED),
        (group(TlsFailure("a")), 4),
    ],
)
def test_commands_with_codes_of_their_own_say_whose_fault_it_is(
    exc: BaseException, code: int
) -> None:
    assert explained(exc, exit_code).code == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("words", [("test", "--json", "http://127.0.0.1:9/mcp"), ("--version",)])
def test_an_output_that_is_full_is_told_in_a_line(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mcp_stdio", *words],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            env=environment(),
            check=False,
        )
    assert done.returncode == FAILURE
    assert done.stderr == (
        f"error: standard output cannot be written: {os.strerror(errno.ENOSPC)}\n"
    )


# What a program gets in place of a report


def test_a_mistake_on_the_command_line_is_an_object_too() -> None:
    done = run("test", "--json", "https://h/mcp", "--timeout-read", "soon")
    assert done.returncode == USAGE_ERROR
    assert json.loads(done.stdout) == {
        "ok": False,
        "exit_code": 2,
        "stages": [
            {
                "name": "settings",
                "status": "failed",
                "cause": "`--timeout-read`: `soon` is not a duration, which is a number of "
                "seconds from 0 on, such as `30` or `2.5`",
                "hint": "`mcp-stdio --help` lists commands and options",
            }
        ],
    }
    (stage,) = json.loads(done.stdout)["stages"]
    assert done.stderr == f"error: {stage['cause']}\n\nhint: {stage['hint']}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--test", "--json"),
        ("--json", "https://h/mcp", "--bearer-token", "a", "--oauth", "--test"),
        ("test", "--json", "https://h/mcp", "--no-such-option"),
        ("test", "--json", "https://h/mcp", "--log-file", "/no/such/directory/log"),
    ],
)
def test_every_mistake_is_one(words: tuple[str, ...]) -> None:
    done = run(*words)
    found = json.loads(done.stdout)
    assert (found["ok"], found["exit_code"]) == (False, USAGE_ERROR)
    (stage,) = found["stages"]
    assert (stage["name"], stage["status"]) == ("settings", "failed")
    assert stage["cause"] in done.stderr


def test_a_status_without_a_report() -> None:
    done = run("status", "--json", "--oauth-profile", "me")
    assert json.loads(done.stdout) == {
        "ok": False,
        "exit_code": 2,
        "cause": "`status` with `--oauth-profile` needs the URL of a server",
        "hint": "name the server as well, or leave the profile out to see all",
    }
    done = run("status", "--json", env={"HOME": "", "XDG_CONFIG_HOME": "", "APPDATA": ""})
    assert json.loads(done.stdout)["exit_code"] == done.returncode == FAILURE
    assert done.stderr.startswith("error: there is no place to keep a sign-in: ")


def test_without_json_nothing_is_printed_but_words() -> None:
    done = run("test", "https://h/mcp", "--timeout-read", "soon")
    assert (done.returncode, done.stdout) == (USAGE_ERROR, "")


INTERRUPTED_WHILE_LOADING = """
import sys

class Finder:
    def find_spec(self, name, *_):
        if name == "mcp_stdio.diagnose":
            raise RAISED

sys.meta_path.insert(0, Finder())
from mcp_stdio.cli import main
sys.exit(main(["test", "--json", "https://h/mcp"]))
"""


@pytest.mark.parametrize(
    "raised, code, stage",
    [
        ("KeyboardInterrupt", INTERRUPTED, {"status": "interrupted"}),
        (
            "KeyError",
            FAILURE,
            {
                "status": "failed",
                "cause": "something went wrong inside mcp-stdio: KeyError",
                "hint": "please report it, with the traceback above",
            },
        ),
    ],
)
def test_an_end_before_the_first_stage(raised: str, code: int, stage: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_LOADING.replace("RAISED", raised)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(),
        check=False,
    )
    assert done.returncode == code
    stages = [{"name": "settings", **stage}]
    assert json.loads(done.stdout) == {"ok": False, "exit_code": code, "stages": stages}

"""The last seam: what an exception out of the work becomes for the user."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_stdio.cli import FAILURE, INTERRUPTED, NORMAL_END, USAGE_ERROR, explained
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
from tests.cli.command import LIMIT, environment


def group(*parts: BaseException) -> BaseException:
    return BaseExceptionGroup("of a nursery", [BaseExceptionGroup("of another", list(parts))])


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
        (UsageFailure("a", hint="b"), USAGE_ERROR, "error: a\n\nhint: b"),
        (Unreachable("a", hint="b"), FAILURE, "error: a\n\nhint: b"),
        (RelayError("a"), FAILURE, "error: a"),
        (group(RelayError("a")), FAILURE, "error: a"),
        (group(OutputClosed(), RelayError("a")), FAILURE, "error: a"),
        (group(RelayError("a"), KeyboardInterrupt()), INTERRUPTED, ""),
    ],
)
def test_exceptions_become_a_text_and_a_code(exc: BaseException, code: int, text: str) -> None:
    assert explained(exc) == (code, text)


@pytest.mark.parametrize("exc", [KeyError("k3y"), group(RelayError("a"), KeyError("k3y"))])
def test_a_defect_is_never_hidden(exc: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    code, text = explained(exc)
    assert code == FAILURE
    assert text.startswith("error: something went wrong inside mcp-stdio: KeyError\n\nhint: ")
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
    assert explained(exc, exit_code)[0] == code


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

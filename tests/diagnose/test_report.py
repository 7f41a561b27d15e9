"""What is kept of a test: stages, exit codes, and the object for machines."""

from __future__ import annotations

import pytest

from mcp_stdio.diagnose import facts
from mcp_stdio.diagnose.report import Report, Stage, as_object, exit_code
from mcp_stdio.diagnose.view import Silent, summary
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    Refused,
    RelayError,
    TimedOut,
    TlsFailure,
    Unreachable,
    UsageFailure,
)
from mcp_stdio.http.observer import Certificate


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def report(clock: Clock) -> Report:
    return Report("https://h/", Silent(), clock)


@pytest.mark.parametrize(
    "failed, code",
    [
        (RelayError("?"), 1),
        (UsageFailure("?"), 2),
        (Unreachable("?"), 3),
        (TimedOut("?"), 3),
        (ConnectionLost("?"), 3),
        (TlsFailure("?"), 4),
        (AuthorizationFailed("?"), 5),
        (BadAnswer("?"), 6),
        (Refused("?", status=400), 6),
        (Refused("?", status=404), 6),
        (Refused("?", status=429), 7),
        (Refused("?", status=503), 7),
    ],
)
def test_exit_codes(failed: RelayError, code: int) -> None:
    assert exit_code(failed) == code


def test_an_object_for_machines(report: Report, clock: Clock) -> None:
    report.begin("name")
    clock.now += 0.0015
    report.passed("name", "`h` is 127.0.0.1")
    report.passed("proxy", "none is set", is_timed=False)
    report.begin("tcp")
    clock.now += 1
    report.failed("tcp", Unreachable("cause", hint="hint"))
    report.skip_the_rest({"tls", "settings", "tools", "resources", "prompts", "listening"})
    assert as_object(report) == {
        "url": "https://h/",
        "ok": False,
        "exit_code": 3,
        "stages": [
            {"name": "name", "status": "ok", "found": "`h` is 127.0.0.1", "ms": 1.5},
            {"name": "proxy", "status": "ok", "found": "none is set"},
            {"name": "tcp", "status": "failed", "ms": 1000.0, "cause": "cause", "hint": "hint"},
            *(
                {"name": name, "status": "skipped"}
                for name in ("http", "credential", "protocol", "initialize", "farewell")
            ),
        ],
    }
    assert summary(report) == "failed at `TCP`, exit code 3"


def test_an_interrupt_belongs_to_the_stage_under_way(report: Report, clock: Clock) -> None:
    report.begin("tls")
    clock.now += 2
    report.interrupted()
    assert report.stages == [Stage("tls", "interrupted", "", 2.0)]
    assert as_object(report)["exit_code"] == 130
    assert summary(report) == "interrupted at `TLS`, exit code 130"


def test_an_interrupt_between_two_stages(report: Report) -> None:
    report.passed("settings", "", is_timed=False)
    report.interrupted()
    assert report.exit_code == 130
    assert summary(report) == "interrupted, exit code 130"


def test_a_certificate_that_says_little() -> None:
    found = facts.distrusted(Certificate("", (), "", None, None), 0.0)
    assert found.text == (
        "the certificate is that of nobody who is named, for no name, issued by nobody who is named"
    )
    assert found.facts == {"tls": {"subject": "", "names": (), "issuer": ""}}

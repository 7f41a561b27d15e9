"""Says at the end of a run how many of the conformance suite's scenarios pass."""

from __future__ import annotations

import pytest

SCORED = "scored by the conformance suite"
"""The property that a test records when it is one scenario of the suite in one revision."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    played = [
        report.outcome
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
        and report.when == "call"
        and (SCORED, True) in report.user_properties
    ]
    if played:
        passed = played.count("passed")
        terminalreporter.write_line(f"conformance: {passed} of {len(played)} scenarios pass")

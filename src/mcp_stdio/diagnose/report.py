"""What a connection test found: stages, facts, the exit code, and how they are shown.

Refuses to know how anything was found. Kept here: nothing leaves for machines that has not been
through redaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp_stdio import log
from mcp_stdio.errors import ConnectionLost, Refused, RelayError

UNREACHABLE = 3
NOT_MCP = 6
SERVER_ERROR = 7


class ServerError(RelayError):
    """The server answered with a JSON-RPC error."""

    exit_code = SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Stage:
    """How one stage went. `seconds` is None where it was not measured, `cause` where it passed."""

    name: str
    status: str
    found: str = ""
    seconds: float | None = None
    cause: str | None = None
    hint: str | None = None


@dataclass(slots=True)
class Report:
    """The stages so far; `narrate` is told each as it ends. `facts` are for machines."""

    url: str
    narrate: Callable[[Stage], None]
    stages: list[Stage] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0

    def passed(self, name: str, found: str, seconds: float | None) -> None:
        """A stage went well."""
        self._add(Stage(name, "ok", found, seconds))

    def failed(self, name: str, failure: RelayError, seconds: float) -> None:
        """A stage went wrong."""
        self.exit_code = exit_code(failure)
        self._add(Stage(name, "failed", "", seconds, str(failure), failure.hint))

    def skipped(self, name: str) -> None:
        """A stage that an earlier failure left no sense in."""
        self._add(Stage(name, "skipped"))

    def _add(self, stage: Stage) -> None:
        self.stages.append(stage)
        self.narrate(stage)


def exit_code(failure: RelayError) -> int:
    """What a failed test ends with.

    3 unreachable, 4 TLS, 5 authentication, 6 not an MCP server, 7 server error; 2 for a setting.
    """
    match failure:
        case Refused(status=int(status)):
            is_of_server = status >= 500 or status in (408, 425, 429)
            return SERVER_ERROR if is_of_server else NOT_MCP
        case ConnectionLost():
            return UNREACHABLE
    return failure.exit_code


def as_object(report: Report) -> dict[str, Any]:
    """The report for machines; durations in milliseconds, secrets taken out."""
    stages = [
        {
            key: value
            for key, value in {
                "name": stage.name,
                "status": stage.status,
                "found": stage.found,
                "ms": None if stage.seconds is None else round(stage.seconds * 1000, 1),
                "cause": stage.cause,
                "hint": stage.hint,
            }.items()
            if value not in (None, "")
        }
        for stage in report.stages
    ]
    head = {"url": report.url, "ok": report.exit_code == 0, "exit_code": report.exit_code}
    clean: dict[str, Any] = _redacted({**head, **report.facts, "stages": stages})
    return clean


def as_text(stage: Stage) -> str:
    """The line or lines for a reader."""
    time = "" if stage.seconds is None else f"  ({stage.seconds * 1000:.0f} ms)"
    lines = [f"{_MARKS[stage.status]}  {stage.name:<10}  {stage.cause or stage.found}{time}"]
    if stage.hint:
        lines.append(f"        {'hint':<10}  {stage.hint}")
    return "\n".join(lines).rstrip()


_MARKS = {"ok": "ok    ", "failed": "FAILED", "skipped": "-     "}


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return log.redact(value)
        case dict():
            return {key: _redacted(item) for key, item in value.items()}
        case list():
            return [_redacted(item) for item in value]
    return value

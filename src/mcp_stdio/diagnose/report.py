"""What a connection test found: stages, facts, the exit code, and the object for machines.

Refuses to know how anything was found and how it is shown to a person (`view`). Kept here: nothing
leaves for machines that has not been through redaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mcp_stdio import log
from mcp_stdio.diagnose.facts import Found
from mcp_stdio.errors import ConnectionLost, Refused, RelayError

NOT_MCP = 6
SERVER_ERROR = 7
UNREACHABLE = 3
INTERRUPTED = 130

SETTINGS: Final = "settings"
NAME: Final = "name"
PROXY: Final = "proxy"
TCP: Final = "tcp"
TLS: Final = "tls"
HTTP: Final = "http"
CREDENTIAL: Final = "credential"
PROTOCOL: Final = "protocol"
INITIALIZE: Final = "initialize"
LISTENING: Final = "listening"
FAREWELL: Final = "farewell"

STAGES: Final = (
    *(SETTINGS, NAME, PROXY, TCP, TLS, HTTP, CREDENTIAL, PROTOCOL, INITIALIZE),
    *("tools", "resources", "prompts", LISTENING, FAREWELL),
)
"""Every stage, in the order of the way to a server. One that does not apply is left out."""

OK: Final = "ok"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
STOPPED: Final = "interrupted"


class ServerError(RelayError):
    """The server answered with a JSON-RPC error."""

    exit_code = SERVER_ERROR


class NotModern(RelayError):
    """The server does not speak the era that the settings insist on."""

    exit_code = NOT_MCP
    usual_hint = "leave out `--protocol-era modern`"


@dataclass(frozen=True, slots=True)
class Stage:
    """How one stage went. `seconds` is None where nothing was waited for, `cause` where it passed.

    One that passed has a `hint` where something is wrong that ends nothing, and one that failed
    `found` something where that helps to see why.
    `status` is one of `ok`, `failed`, `skipped` and `interrupted`.
    """

    name: str
    status: str
    found: str = ""
    seconds: float | None = None
    cause: str | None = None
    hint: str | None = None


class View(Protocol):
    """Shows a person how the test goes on."""

    def begun(self, name: str) -> None:
        """A stage is under way."""
        ...

    def ended(self, stage: Stage) -> None:
        """A stage is over."""
        ...

    def skipped(self, names: Collection[str]) -> None:
        """These stages will not be reached."""
        ...


@dataclass(slots=True)
class Report:
    """The stages so far; `view` is told of each. `facts` are for machines.

    `under_way` is the stage that is being tried.
    """

    url: str
    view: View
    clock: Callable[[], float] = time.monotonic
    stages: list[Stage] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    under_way: str | None = None
    _begun: float = 0.0

    def has_told(self, name: str) -> bool:
        """Whether this stage is over."""
        return any(stage.name == name for stage in self.stages)

    def begin(self, name: str) -> None:
        """A stage is under way from now on."""
        self.under_way = name
        self._begun = self.clock()
        self.view.begun(name)

    def passed(
        self, name: str, found: str, *, is_timed: bool = True, hint: str | None = None
    ) -> None:
        """A stage went well; `is_timed` says that it had something to wait for.

        With a `hint`, something is wrong that is no reason to end here.
        """
        seconds = self._seconds() if is_timed else None
        self._add(Stage(name, OK, found, seconds, hint=hint))

    def found(self, name: str, found: Found, *, is_timed: bool = True) -> None:
        """A stage went well, and this was found."""
        self.facts |= found.facts
        self.passed(name, found.text, is_timed=is_timed, hint=found.hint)

    def failed(
        self,
        name: str,
        failure: RelayError,
        hint: str | None = None,
        found: Found | None = None,
    ) -> None:
        """A stage went wrong; `hint` says more than the failure's own, `found` what was seen."""
        text = ""
        if found is not None:
            self.facts |= found.facts
            text = found.text
        self.exit_code = exit_code(failure)
        self._add(Stage(name, FAILED, text, self._seconds(), str(failure), hint or failure.hint))

    def interrupted(self) -> None:
        """Whoever waits here has had enough."""
        self.exit_code = INTERRUPTED
        if self.under_way is not None:
            self._add(Stage(self.under_way, STOPPED, "", self._seconds()))

    def skip_the_rest(self, left_out: Collection[str]) -> None:
        """No stage that has not been reached will be, but for those that do not apply anyway."""
        rest = [name for name in STAGES if not (self.has_told(name) or name in left_out)]
        self.stages += [Stage(name, SKIPPED) for name in rest]
        self.view.skipped(rest)

    def _seconds(self) -> float:
        return self.clock() - self._begun

    def _add(self, stage: Stage) -> None:
        self.under_way = None
        self.stages.append(stage)
        self.view.ended(stage)


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


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return log.redact(value)
        case dict():
            return {key: _redacted(item) for key, item in value.items()}
        case list() | tuple():
            return [_redacted(item) for item in value]
    return value

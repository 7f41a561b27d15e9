"""How a connection test is shown to a person: a line for each stage, and on a terminal a live one.

Owns columns, marks and colours. Refuses to know what the stages are about. Kept here: what is shown
has been through redaction and holds no control characters but our own, and those go to a terminal
only; other lines on standard error, such as the page of a sign-in, never end up in a live line.
"""

from __future__ import annotations

import logging
import os
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

import trio

from mcp_stdio import log
from mcp_stdio.diagnose.report import FAILED, INTERRUPTED, OK, SKIPPED, STOPPED, Report, Stage
from mcp_stdio.terminal import LiveLine, has_colour, is_live

TICK = 0.1
"""Seconds between two drawings of the live line: it is to be seen moving."""

SLOW = 1.0
"""Seconds after which a person wants to see how long something takes."""

HEADING = 10
"""Columns of the name of a stage."""

NARROW = 60
"""Columns below which a text of several lines stands under its name: it would be all margin."""

INDENT = 2
"""Columns before it there."""

LEAST = 10
"""Columns that a text has, be the terminal as narrow as it may."""

_TITLES = {"tcp": "TCP", "tls": "TLS", "http": "HTTP"}
_WORDS = {OK: "ok", FAILED: "FAILED", STOPPED: "STOPPED", SKIPPED: "-"}
_SIGNS = {OK: "✓", FAILED: "✗", STOPPED: "✗", SKIPPED: "-"}
_COLOURS = {OK: "32", FAILED: "1;31", STOPPED: "1;31", SKIPPED: "2"}
_HINT_COLOUR = "36"
_DIM = "2"
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Silent:
    """Shows nothing: what is found goes to a program."""

    def begun(self, name: str) -> None:
        """See `View`."""

    def ended(self, stage: Stage) -> None:
        """See `View`."""

    def skipped(self, names: Collection[str]) -> None:
        """See `View`."""


class Lines:
    """Writes a line on `stream` for each stage as it ends; on a terminal, also while it lasts."""

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        width: Callable[[TextIO], int] | None = None,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._width = width or _width
        self.is_live = is_live(stream, environ)
        self._line = LiveLine(stream, is_live=self.is_live)
        self._has_colour = has_colour(stream, environ)
        has_signs = self.is_live and _can_write(stream, "".join(_SIGNS.values()) + _FRAMES)
        self._frames = _FRAMES if has_signs else "-\\|/"
        self._marks = _SIGNS if has_signs else {key: f"{word:<7}" for key, word in _WORDS.items()}
        self._margin = len(self._marks[OK]) + 1 + HEADING + 2
        self._name: str | None = None
        self._since = 0.0
        self._turns = 0

    def begun(self, name: str) -> None:
        """See `View`."""
        self._name = name
        self._since = self._clock()
        self.draw()

    def ended(self, stage: Stage) -> None:
        """See `View`."""
        self._name = None
        self._line.clear()
        time = "" if stage.seconds is None else f"({_duration(stage.seconds)})"
        found = stage.cause or stage.found or ("interrupted" if stage.status == STOPPED else "")
        mark, title = self._mark(stage.status), f"{_title(stage.name):<{HEADING}}"
        self._row(mark, title, found, time)
        if stage.cause and stage.found:
            self._more(f"{'found':<{HEADING}}", stage.found)
        if stage.hint:
            self._more(self._coloured(f"{'hint':<{HEADING}}", _HINT_COLOUR), stage.hint)

    def skipped(self, names: Collection[str]) -> None:
        """See `View`."""
        if names:
            title = f"{'skipped':<{HEADING}}"
            self._row(self._mark(SKIPPED), title, ", ".join(map(_title, names)))

    def say(self, text: str) -> None:
        """Write a line that belongs to no stage."""
        self._line.tell("\n".join(_wrapped(_clean(text), self._columns())))

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Have log lines on standard error begin where the live line stands, not behind it."""
        eraser = _Eraser(self._line)
        root = logging.getLogger()
        root.handlers.insert(0, eraser)  # before the one that writes
        try:
            yield
        finally:
            root.removeHandler(eraser)
            self._line.clear()

    async def keep_drawing(self) -> None:
        """Draw the live line until cancelled."""
        while True:
            await trio.sleep(TICK)
            self.draw()

    def draw(self) -> None:
        """Draw the live line as it is now."""
        if self._name is None:
            return
        self._turns += 1
        frame = f"{self._frames[self._turns % len(self._frames)]:<{len(self._marks[OK])}}"
        passed = self._clock() - self._since
        elapsed = f"  {passed:.0f} s" if passed >= SLOW else ""
        self._line.draw(f"{frame} {_title(self._name):<{HEADING}}{elapsed}".rstrip())

    def _row(self, mark: str, title: str, text: str, time: str = "") -> None:
        text, columns = _clean(text), self._columns()
        before, margin = f"{mark} {title}  ", self._margin
        size = len(text) + (len(time) + 2 if time else 0)
        if 0 < columns < NARROW and margin + size >= columns:
            before, margin = f"{before.rstrip()}\n{' ' * INDENT}", INDENT
        *lines, last = _wrapped(text, columns, margin) or [""]
        if time:
            fits = not columns or margin + len(last) + 2 + len(time) < columns
            lines, last = (lines, f"{last}  ") if fits else ([*lines, last], "")
            last += self._coloured(time, _DIM)
        self._line.tell(before + f"\n{' ' * margin}".join([*lines, last]))

    def _more(self, title: str, text: str) -> None:
        self._row(" " * len(self._marks[OK]), title, text)

    def _columns(self) -> int:
        return self._width(self._stream) if self.is_live else 0

    def _mark(self, status: str) -> str:
        return self._coloured(self._marks[status], _COLOURS[status])

    def _coloured(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._has_colour and text else text


class _Eraser(logging.Handler):
    def __init__(self, line: LiveLine) -> None:
        super().__init__(log.NOTICE)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.clear()


def summary(report: Report) -> str:
    """What has come of it all, in one line."""
    if report.exit_code == 0:
        seconds = _duration(sum(stage.seconds or 0.0 for stage in report.stages))
        odd = [_title(stage.name) for stage in report.stages if stage.hint]
        if odd:
            return f"the server can be used, but see `{'`, `'.join(odd)}`, in {seconds}"
        return f"the server can be used: everything went well, in {seconds}"
    last = next((each for each in report.stages if each.status in (FAILED, STOPPED)), None)
    where = "" if last is None else f" at `{_title(last.name)}`"
    word = "interrupted" if report.exit_code == INTERRUPTED else "failed"
    return f"{word}{where}, exit code {report.exit_code}"


def _width(stream: TextIO) -> int:
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns
    return 0


def _wrapped(text: str, columns: int, margin: int = 0) -> list[str]:
    """The lines of a text behind a margin; one where it is not known how many columns there are."""
    if not columns:
        return [text]
    room = max(columns - margin - 1, LEAST)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _clean(text: str) -> str:
    return "".join(ch if ch.isprintable() else " " for ch in log.redact(text))


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"

"""A person at a terminal who waits: a line that says what for, drawn anew as time passes.

Owns one line of a stream: it is drawn, overwritten, and gone without a trace, so that what stays
is told in whole lines. Where it could not be drawn (a pipe, `TERM=dumb`) nothing is. Carriage
returns and blanks do it, which every terminal knows, that of an old Windows included; colour is
for those who want it and know it. Where somebody is asked to type, the line is theirs: what they
have typed so far stands in it, unknown here, and is never drawn over. Refuses to know what is
waited for; text comes fit to be seen.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO, TypeVar

import trio

T = TypeVar("T")

Elapsed = Callable[[float], str]
"""What the line says after so many seconds."""

AFTER = 1.0
"""Seconds after which somebody at a terminal wants to know what is waited for."""

EVERY = 1.0
"""Seconds between drawings: what the line counts."""

SPARE = 2
"""Columns behind the text that are cleared as well."""

_KNOWING_COLOUR = ("WT_SESSION", "TERM", "TERM_PROGRAM", "ConEmuANSI", "ANSICON")
"""Set by terminals on Windows that know colours; its own older one shows their codes instead."""

WIDTH = 80
"""Columns of a terminal that does not tell."""


def is_live(stream: TextIO | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a line of the stream can be drawn anew."""
    return stream is not None and stream.isatty() and environ.get("TERM") != "dumb"


def has_colour(
    stream: TextIO | None,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
) -> bool:
    """Whether the stream shows colour and nobody has asked for none (no-color.org)."""
    if not is_live(stream, environ) or environ.get("NO_COLOR"):
        return False
    return platform != "win32" or any(environ.get(name) for name in _KNOWING_COLOUR)


class LiveLine:
    """The last line of `stream`; with `is_live` False only what stays is written.

    A stream that takes nothing any more ends nothing: that is for whoever has something to do.
    """

    def __init__(self, stream: TextIO | None, *, is_live: bool) -> None:
        self._stream = stream
        self._is_live = is_live
        self._shown = ""
        self._prompt = ""
        self._is_asked = False  # the cursor stands behind the prompt, or what was typed there

    def draw(self, text: str) -> None:
        """Show `text` in place of what the line shows; the cursor stays behind it.

        While somebody is asked nothing is shown.
        """
        if not self._is_live or self._prompt:
            return
        # In the last column some terminals wrap, and behind the text may stand a `^C`.
        text = _cut(text, self._width() - 1 - SPARE)
        if text == self._shown:
            return
        rest = _columns(self._shown) - _columns(text)
        self._shown = text  # first: a Ctrl-C may come in the middle of the write
        self._write(f"\r{text}" + (" " * rest + "\b" * rest if rest > 0 else ""))

    def clear(self) -> None:
        """Leave the line as if it had never been there; one that is typed into is left to stand."""
        if self._is_asked:
            self._is_asked = False
            self._write("\n")
        elif self._shown:
            self._write("\r" + " " * (_columns(self._shown) + SPARE) + "\r")
            self._shown = ""

    def tell(self, text: str) -> None:
        """Write whole lines that stay, above the line."""
        shown = self._shown
        self.clear()
        self._write(f"{text}\n")
        if self._prompt:
            self._ask()
        elif shown:
            self.draw(shown)

    @contextmanager
    def asking(self, prompt: str) -> Iterator[None]:
        """Show `prompt` and draw nothing meanwhile: somebody may be typing behind it.

        It is shown again only under what is told.
        """
        self.clear()
        self._shown, self._prompt = "", prompt
        try:
            self._ask()
            yield
        finally:
            self._prompt = ""
            self.clear()

    def entered(self) -> None:
        """They have pressed Enter: the cursor is in a new line."""
        self._is_asked = False

    def _ask(self) -> None:
        if self._is_live:
            self._is_asked = True  # first, as in `draw`
            self._write(self._prompt)

    async def during(
        self,
        work: Callable[[], Awaitable[T]],
        text: Elapsed,
        *,
        after: float = AFTER,
        every: float = EVERY,
    ) -> T:
        """What `work` returns or raises; the line says `text` meanwhile, if it takes a while."""
        if not self._is_live:
            return await work()
        done: list[T] = []
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.tick, text, after, every)
            try:
                done.append(await work())
            except Exception as exc:  # noqa: BLE001 - passed on, not in a group of one
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return done[0]

    async def tick(self, text: Elapsed, after: float = AFTER, every: float = EVERY) -> None:
        """Draw `text` again and again until cancelled, then clear the line."""
        begun = trio.current_time()
        await trio.sleep(after)
        try:
            while True:
                self.draw(text(trio.current_time() - begun))
                await trio.sleep(every)
        finally:
            self.clear()

    def _width(self) -> int:
        columns = 0
        if self._stream is not None:
            with suppress(OSError, ValueError):
                columns = os.get_terminal_size(self._stream.fileno()).columns
        return columns or WIDTH  # some say that they have none

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        with suppress(OSError, ValueError):  # a terminal that was closed; a stream that was
            self._stream.write(text)
            self._stream.flush()


def _columns(text: str) -> int:
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, columns: int) -> str:
    """The text in so many columns; what is cut off is marked."""
    if _columns(text) <= columns:
        return text
    kept, room = "", columns - 1
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        kept += character
    return f"{kept}…"

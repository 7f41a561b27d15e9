"""Bytes to server-sent events, incrementally (WHATWG HTML, 9.2.6 Interpreting an event stream).

Owns line ends (LF, CR, CRLF, also cut in two), fields, the last event id and the bound on one
event. Data stays bytes. Departs from WHATWG in one point, as MCP wants it: an event whose data is
empty is no message (T-40c, the priming event). Refuses to know JSON, connections and time.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

from mcp_stdio.errors import TooLarge

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DATA = b"data: "
_MESSAGE = b"event: message\n" + _DATA
_LF, _CR = b"\n\r"

_LONG = 32 * 1024
"""Bytes of an unfinished line of data from which its value is gathered by itself: then it is copied
once, and takes the memory of one."""

_LONG_LINE = 1024
"""Bytes of a line, on average, from which lines are looked for and not events."""

_RETRY_DIGITS = 12
"""Milliseconds of more digits than these (thirty years) are no advice any more."""


# No dataclass: a frozen one takes twice the time to make, and streams bring hundreds of thousands.
class Event(NamedTuple):
    """One message of the stream; `id` is the last event id as it stood when the event ended."""

    type: str
    data: bytes
    id: str


class Decoder:
    """Decodes one event stream. A new connection needs a new decoder.

    `last_event_id` and `retry` (milliseconds, None until told) hold what the stream has said up to
    now; an event without data moves them too. An event that the end of the stream cuts off is no
    event, and its id does not count. `failure` is what ended the decoding: a line, or the data of
    one event, over `max_size` bytes.
    """

    def __init__(self, max_size: int, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self.failure: TooLarge | None = None
        self._max_size = max_size
        self._line = bytearray()
        self._long: BytesIO | None = None  # the value of a long line of data, instead of `_line`
        self._ended_with_cr = False
        self._is_first = True
        # The event being read. Its id takes effect with its blank line only.
        self._is_begun = False
        self._type = ""
        self._data: bytes | bytearray | None = None
        self._next_id = last_event_id

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes, up to a `failure`; nothing after one."""
        events: list[Event] = []
        if self.failure is None:
            try:
                self._feed(chunk, events)
            except TooLarge as exc:
                self.failure = exc
        return events

    def _feed(self, chunk: bytes, events: list[Event]) -> None:
        if self._long is not None:
            chunk = self._after_long_line(self._long, chunk)
        text = self._whole_lines(chunk)
        if len(text) > text.count(b"\n") * _LONG_LINE:
            # To look for two bytes in a long text takes ten times as long as to look for one.
            self._read(text, events)
            return
        *blocks, rest = text.split(b"\n\n")
        for block in blocks:
            # Nearly every event has one of two shapes; read whole it takes a third of the time.
            begin = _MESSAGE if block.startswith(_MESSAGE) else _DATA
            data = block[len(begin) :]
            if (
                not self._is_begun
                and block.startswith(begin)
                and _LF not in data
                and 0 < len(data) <= self._max_size
            ):
                events.append(Event("message", data, self.last_event_id))
            else:
                self._read(block + b"\n\n", events)
        self._read(rest, events)

    def _whole_lines(self, chunk: bytes) -> bytes:
        """The lines that end in `chunk`, each ended by LF; what follows them is kept."""
        if self._ended_with_cr and chunk:
            # The line ended with its CR; an LF now is the second half of the same line end.
            chunk = chunk.removeprefix(b"\n")
            self._ended_with_cr = False
        if _CR in chunk:
            self._ended_with_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = chunk.rfind(b"\n") + 1
        if end == 0:
            self._line += chunk
            self._check(len(self._line) - len(_DATA))
            if len(self._line) >= _LONG:
                self._begin_long_line()
            return b""
        text = chunk[:end]
        if self._line:
            text = b"".join((self._line, text))
        self._line = bytearray(memoryview(chunk)[end:])
        if self._is_first:
            self._is_first = False
            text = text.removeprefix(BYTE_ORDER_MARK)
        if len(self._line) >= _LONG:
            self._begin_long_line()
        return text

    def _begin_long_line(self) -> None:
        """Gather the unfinished line otherwise, if it is one of data."""
        if self._is_first and self._line.startswith(BYTE_ORDER_MARK):
            del self._line[: len(BYTE_ORDER_MARK)]
        self._is_first = False
        name = next((name for name in (_DATA, b"data:") if self._line.startswith(name)), None)
        if name is not None:
            self._long = BytesIO()
            self._long.write(memoryview(self._line)[len(name) :])
            self._line = bytearray()

    def _after_long_line(self, line: BytesIO, chunk: bytes) -> bytes:
        """Take the rest of the line; returns what follows it in `chunk`, `b""` if it goes on."""
        end = chunk.find(b"\n")
        carriage_return = chunk.find(b"\r", 0, None if end < 0 else end)
        if carriage_return >= 0:
            end = carriage_return
        line.write(chunk if end < 0 else memoryview(chunk)[:end])
        self._check(line.tell())
        if end < 0:
            return b""
        self._long = None
        self._is_begun = True
        self._add_data(line.getvalue())
        self._ended_with_cr = chunk[end] == _CR
        return chunk[end + 1 :]

    def _read(self, text: bytes, events: list[Event]) -> None:
        """Read whole lines, one after the other."""
        *lines, _ = text.split(b"\n")
        for line in lines:
            if line:
                self._field(line)
            else:
                self._dispatch(events)

    def _field(self, line: bytes) -> None:
        self._is_begun = True
        if line.startswith(_DATA):  # it may be long, and is copied once so
            self._add_data(line[len(_DATA) :])
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._next_id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _RETRY_DIGITS:
            self.retry = int(value)

    def _add_data(self, value: bytes) -> None:
        if self._data is None:
            self._data = value
        else:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += b"\n"
            self._data += value
        self._check(len(self._data))

    def _dispatch(self, events: list[Event]) -> None:
        # The id is taken over even when there is nothing to dispatch.
        self.last_event_id = self._next_id
        if self._data:
            events.append(Event(self._type or "message", bytes(self._data), self.last_event_id))
        self._data = None
        self._type = ""
        self._is_begun = False

    def _check(self, size: int) -> None:
        if size > self._max_size:
            raise TooLarge(f"an event of the server exceeds {self._max_size} bytes")

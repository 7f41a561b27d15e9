"""The log on standard error, and in a file if wanted: whole lines, no secrets, never in the way.

A standard error that is full, closed or unread loses lines instead of blocking or ending the
program (P6). Redaction happens in the formatter, so that no caller can forget it (P7), tracebacks
included; control characters are escaped, for a terminal may be reading. So does the adding of its
hint to a failure, in the words that the client gets (P8). Modules log through
`logging.getLogger(__name__)`. Knows no MCP.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from mcp_stdio import redaction
from mcp_stdio.descriptors import STDERR, Outlet, outlet
from mcp_stdio.errors import RelayError, UsageFailure
from mcp_stdio.redaction import protect, redact

__all__ = ["NOTICE", "TO_BE_FOLLOWED", "WIRE", "making_way", "protect", "redact", "setup"]

NOTICE = 25
"""Level of the few lines that are no warning but shown by default: that the relay is up."""

WIRE = logging.DEBUG
"""Level of what crosses the wire (`-vv`)."""

TO_BE_FOLLOWED = {"is_to_be_followed": True}
"""As `extra` of a record: it names a page to visit, whose parameters only look like secrets, and
which repeats what the user said of the server."""

MAX_MESSAGE = 3000
"""Characters of one message; a longer one is cut. Mostly fits in `PIPE_BUF`: whole or dropped."""

MAX_ADDRESS = 32 * 1024
"""Characters of a line with an address to be followed, which cut off would be of no use."""

MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback: room for an exception group."""

_SHOWN = {-1: logging.ERROR, 0: NOTICE, 1: logging.INFO, 2: WIRE}

_PACKAGE = "mcp_stdio"


def setup(verbosity: int = 0, log_file: str | None = None) -> None:
    """Send the log to standard error and, if named, append it to `log_file`.

    `verbosity` is -1 for errors and pages to visit only, 0 for warnings and notices, 1 for
    information as well, 2 for the wire; the file gets information at least. Warnings of libraries,
    and whatever exception nobody caught, go the same way. Raises UsageFailure when the file cannot
    be opened.
    """
    shown = _SHOWN[max(-1, min(verbosity, 2))]
    handlers: list[Handler] = [Handler(STDERR, shown, "mcp-stdio: %(label)s%(message)s")]
    if log_file is not None:
        handlers.append(
            Handler(
                _open(log_file),
                min(shown, logging.INFO),
                "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
                closes=True,
            )
        )
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, Handler)]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_PACKAGE).setLevel(min(handler.level for handler in handlers))
    logging.addLevelName(NOTICE, "NOTICE")
    # Without these, Python itself writes to standard error: unredacted, and waiting for it.
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


_makes_way: list[Callable[[], None]] = []


@contextmanager
def making_way(clear: Callable[[], None]) -> Iterator[None]:
    """Have `clear` called before each line on standard error: something may be drawn there."""
    _makes_way.append(clear)
    try:
        yield
    finally:
        _makes_way.remove(clear)


class Handler(logging.Handler):
    """Writes each record to a descriptor, or drops it when the reader does not keep up.

    Up to `PIPE_BUF` bytes are written whole or not at all; a longer record may be cut off. With
    `closes` the descriptor is closed together with the handler. On Windows what is handed over may
    still be on its way to a standard error that is read slowly.
    """

    def __init__(self, fd: int, level: int, format: str, *, closes: bool = False) -> None:
        # Pages to visit are shown also to those who want to hear of errors only.
        super().__init__(min(level, logging.WARNING))
        self._shown = level
        self.setFormatter(Formatter(format))
        self._fd = fd
        self._closes = closes
        self._outlet: Outlet | None = None
        self._is_torn = False
        self._dropped = 0
        with suppress(OSError):
            self._outlet = outlet(fd)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if record.levelno < self._shown and not getattr(record, "is_to_be_followed", False):
            return False
        return bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or drop it. Never raises."""
        if self._fd == STDERR:
            for clear in _makes_way:
                clear()
        try:
            text = self.format(record)
        except Exception as exc:  # noqa: BLE001 - a defect in a log call must not end a request
            text = f"mcp-stdio: error: a log record could not be formatted: {type(exc).__name__}"
        if self._dropped:
            text = f"mcp-stdio: {self._dropped} earlier lines were dropped\n{text}"
        if self._is_torn:
            text = f"\n{text}"
        if self._write(f"{text}\n".encode(errors="backslashreplace")):
            self._dropped = 0
        else:
            self._dropped += 1

    def _write(self, data: bytes) -> bool:
        if self._outlet is None:
            return False
        written = 0
        try:
            while written < len(data):
                count = self._outlet.write(data[written:])
                if count == 0:
                    break
                written += count
        except OSError:
            pass
        if written:
            self._is_torn = written < len(data)
        return written == len(data)

    def close(self) -> None:
        """Release the outlet; what is logged afterwards is dropped."""
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None
            if self._closes:
                os.close(self._fd)
        super().close()


class Formatter(logging.Formatter):
    """One line for a record, then its traceback in indented lines, all fit to be seen."""

    def __init__(self, format: str) -> None:
        super().__init__(format, "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The text of the record without its secrets."""
        record.label = "" if record.levelno == NOTICE else f"{record.levelname.lower()}: "
        record.message = _message(record)
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        # The page to sign in at has parameters that look like secrets, and must be found.
        if getattr(record, "is_to_be_followed", False):
            line = _presentable(self.formatMessage(record), MAX_ADDRESS, hide=str)
        else:
            line = _presentable(self.formatMessage(record), MAX_MESSAGE)
        if not record.exc_info:
            return line
        traceback = _presentable(self.formatException(record.exc_info), MAX_TRACEBACK, keep="\n")
        return "\n    ".join([line, *traceback.split("\n")])


def _message(record: logging.LogRecord) -> str:
    """What the record says; a failure in it also says what one can do."""
    args = record.args
    if isinstance(args, tuple) and any(isinstance(each, RelayError) for each in args):
        said = [each.explanation if isinstance(each, RelayError) else each for each in args]
        return str(record.msg) % tuple(said)
    return record.getMessage()


def _presentable(text: str, limit: int, keep: str = "", hide: Callable[[str], str] = redact) -> str:
    """`text` redacted, cut to `limit`, and with control characters other than `keep` escaped."""
    # Cut at first with room to spare, for the sake of time: half a secret would not be known.
    margin = max(redaction.longest_secret(), 1024)
    is_cut = len(text) > limit + margin
    clean = hide(text[: limit + margin])
    if is_cut:
        clean = clean[:-margin]
    if is_cut or len(clean) > limit:
        clean = f"{clean[:limit]}… ({len(text)} characters)"
    if clean.isprintable():
        return clean
    return "".join(
        ch if ch.isprintable() or ch == keep else ch.encode("unicode_escape").decode()
        for ch in clean
    )


def _open(path: str) -> int:
    # Not blocking, in case it is a pipe that nobody reads.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(path, flags, 0o600)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise UsageFailure(
            f"`--log-file {path}` cannot be opened: {reason}",
            hint="name a file in a directory that exists and is yours",
        ) from None


def _uncaught(
    kind: type[BaseException], exc: BaseException, traceback: TracebackType | None
) -> None:
    logging.getLogger(_PACKAGE).critical("unforeseen", exc_info=(kind, exc, traceback))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        logging.getLogger(_PACKAGE).error("unforeseen, in %r", args.object, exc_info=args.exc_value)

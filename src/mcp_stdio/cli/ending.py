"""What ended a run: an exit code, and the words for it.

The last seam between exceptions and people: groups are taken apart here, once. What has an
explanation becomes a cause and a hint; anything else is a defect, whose traceback goes to the log.
Prints nothing itself.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mcp_stdio import log
from mcp_stdio.errors import OutputClosed, OutputFailed, RelayError, UsageFailure, shortage

NORMAL_END = 0
FAILURE = 1
USAGE_ERROR = 2
INTERRUPTED = 130

_NO_ROOM = frozenset({errno.ENOSPC, errno.EIO, errno.EFBIG, getattr(errno, "EDQUOT", errno.EIO)})
"""What a file or device says that takes nothing more; what is written to is standard output."""

logger = logging.getLogger(__name__)


class Ending(NamedTuple):
    """The exit code, and why; no cause where nobody has to be told."""

    code: int
    cause: str = ""
    hint: str | None = None

    @property
    def text(self) -> str:
        """What stands on standard error; empty without a cause."""
        if not self.cause:
            return ""
        return f"error: {self.cause}" + (f"\n\nhint: {self.hint}" if self.hint else "")

    @property
    def is_worth_telling(self) -> bool:
        """Whether whoever waits for a report should hear that there is none."""
        return self.code != NORMAL_END

    def as_object(self, *, has_stages: bool) -> dict[str, Any]:
        """What a program gets in place of a report; `has_stages` says that it would have some."""
        why = {"cause": log.redact(self.cause), "hint": log.redact(self.hint or "")}
        why = {name: text for name, text in why.items() if text}
        head = {"ok": False, "exit_code": self.code}
        if not has_stages:
            return {**head, **why}
        status = "interrupted" if self.code == INTERRUPTED else "failed"
        return {**head, "stages": [{"name": "settings", "status": status, **why}]}


def explained(exc: BaseException, exit_code: Callable[[RelayError], int] | None = None) -> Ending:
    """What `exc`, which ended the run, means; a defect is logged with its traceback.

    `exit_code` is for commands whose code says whose fault a failure is. Raises what is none of
    ours.
    """
    cause = min(_leaves(exc), key=_rank)
    match cause:
        case KeyboardInterrupt():
            return Ending(INTERRUPTED)
        case BrokenPipeError() | OutputClosed():
            return Ending(NORMAL_END)
        case OSError(errno=number, filename=None) if number in _NO_ROOM:
            return Ending(FAILURE, str(OutputFailed(cause)))
        case MemoryError() | OSError() if (lack := shortage(cause)) is not None:
            return Ending(FAILURE, str(lack), lack.hint)
        case UsageFailure():
            return Ending(USAGE_ERROR, str(cause), cause.hint)
        case RelayError():
            code = FAILURE if exit_code is None else exit_code(cause)
            return Ending(code, str(cause), cause.hint)
        case Exception():
            logger.critical("a defect of mcp-stdio", exc_info=exc)
            return Ending(
                FAILURE,
                f"something went wrong inside mcp-stdio: {type(cause).__name__}",
                "please report it, with the traceback above",
            )
    raise exc


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for part in exc.exceptions:
            yield from _leaves(part)
    else:
        yield exc


def _rank(exc: BaseException) -> int:
    """A defect first, since nothing else may hide it; then the wish to stop, then causes."""
    match exc:
        case RelayError():
            return 2
        case BrokenPipeError() | OutputClosed():
            return 3
        case Exception():
            return 0
    return 1

"""What happened in one run, in the order it happened, and what was wrong about it.

A breach of a promise may be noticed within a task of the relay, where an exception would only be
one more failure of the server; so it is written down, and raised by the run itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio


class Breach(AssertionError):
    """A promise was broken; says which, after what history."""


class History(logging.Handler):
    """The lines of one run, each with its time, the relay's log among them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.breaches: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(f"{trio.current_time():8.2f}  {text}")

    def breach(self, text: str) -> None:
        self.note(f"BREACH: {text}")
        self.breaches.append(text)

    def emit(self, record: logging.LogRecord) -> None:
        self.note(f"        ({self.format(record)})")
        if record.levelno >= logging.ERROR:
            self.breach("a defect of ours")

    def check(self) -> None:
        """Raises Breach if there was one."""
        if self.breaches:
            raise Breach("\n".join(self.breaches))

    def __str__(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def noted(history: History, setting: Callable[[], str]) -> Iterator[None]:
    """Note what the relay logs; what is raised comes alone, with the history and its setting."""
    log = logging.getLogger("mcp_stdio")
    log.addHandler(history)
    log.propagate = False
    try:
        yield
        history.check()
    except (Breach, BaseExceptionGroup) as exc:
        failure = _sole(exc)
        if isinstance(failure, Exception):
            failure.add_note(f"{history}\n{setting()}")
        raise failure from None
    finally:
        log.propagate = True
        log.removeHandler(history)


def _sole(failure: BaseException) -> BaseException:
    """What is in the groups that nurseries have put around it, if it is one thing."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure

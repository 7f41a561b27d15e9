"""The signals that ask the program to end, as whoever started it left them.

Two things are inherited that a program must not pass over: what it is told to ignore (`nohup`, and
a shell without job control for what it runs in the background), and what is blocked, which many a
parent with threads has for itself and forgets to lift. Knows only the signals' dispositions; what
to do about one is the business of whoever listens.
"""

from __future__ import annotations

import signal

ALL = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)


def heeded() -> list[int]:
    """Those to listen to: all but a SIGINT or SIGHUP that is being ignored.

    SIGTERM is how MCP clients end their servers, so that one is always meant for us.
    """
    return [
        number
        for number in ALL
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    ]


def let_through() -> None:
    """Lift a block on any of them: blocked, they would leave a client with SIGKILL alone."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows, which knows no such thing
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)

"""What a command prints, within bounds of time and size, and without a shell.

Owns the process: it reads nothing, belongs to no terminal, and is gone when this is. Refuses to
know what the output means; none of it is in a complaint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

MAX_SIZE = 64 * 1024
"""Bytes that may be printed: no server takes headers as long."""

MAX_TIME = 30.0
"""Seconds for a command: some ask a service, which asks its user."""

GRACE = 0.5
"""Seconds for the rest of the output once a command has ended; whatever it has left running in the
background may hold the pipes for ever."""


@dataclass(frozen=True, slots=True)
class Output:
    """What was printed; `failure` says what went wrong, in words, None when nothing did."""

    printed: bytes
    complaints: bytes = b""
    failure: str | None = None


async def run(
    command: Sequence[str], *, max_time: float = MAX_TIME, max_size: int = MAX_SIZE
) -> Output:
    """Run the command to its end; one that takes too long or prints too much is killed."""
    try:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.DEVNULL,  # ours belongs to the MCP client
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **_apart(),
        )
    except (OSError, RuntimeError) as exc:
        # RuntimeError: there are too many threads, of which starting a process takes one.
        words = exc.strerror if isinstance(exc, OSError) else str(exc)
        return Output(b"", failure=f"the command cannot be started: {words}")
    assert process.stdout is not None
    assert process.stderr is not None
    printed, complaints = bytearray(), bytearray()
    try:
        with trio.move_on_after(max_time) as time:
            async with trio.open_nursery() as nursery:
                too_much = nursery.cancel_scope
                nursery.start_soon(_collect, process.stdout, printed, max_size, too_much)
                nursery.start_soon(_collect, process.stderr, complaints, max_size, None)
                await process.wait()
                too_much.deadline = trio.current_time() + GRACE
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                _kill(process)
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()
    failure, code = None, process.returncode or 0
    if len(printed) > max_size:
        failure = f"the command prints more than {max_size} bytes"
    elif time.cancelled_caught:
        failure = f"the command was not over within {max_time:g} s"
    elif code < 0:
        failure = f"the command was ended by signal {-code}"
    elif code:
        failure = f"the command ended with code {code}"
    return Output(bytes(printed), bytes(complaints), failure)


async def _collect(
    pipe: trio.abc.ReceiveStream, data: bytearray, limit: int, too_much: trio.CancelScope | None
) -> None:
    """Read to the end; what is over the limit is dropped, or else ends the reading of all."""
    with suppress(trio.BrokenResourceError):
        async for some in pipe:
            if len(data) <= limit:
                data += some[: limit + 1 - len(data)]
            if len(data) > limit and too_much is not None:
                too_much.cancel()


def _apart() -> dict[str, Any]:
    """Without our terminal, where its question would stop it, and with all that it starts."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _kill(process: trio.Process) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

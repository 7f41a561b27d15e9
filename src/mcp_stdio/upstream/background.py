"""The seam of tasks that belong to no request: a defect in one is logged and ends only that one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

from mcp_stdio.errors import OutputClosed

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")


async def guarded(task: Callable[[Unpack[Ts]], Awaitable[None]], *args: *Ts) -> None:
    """Run `task`; the client's leaving passes through, a defect does not (P1)."""
    try:
        await task(*args)
    except OutputClosed:
        raise
    except Exception:
        log.exception("internal error in the background")

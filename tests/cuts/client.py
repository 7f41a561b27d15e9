"""The whole relay in this process, over real sockets, and its client at the other end of two pipes.

What is checked on each run, whatever went wrong on the way: one answer for each request, under its
id as it was written; nothing but messages on standard output; no defect in the log; and an end soon
after the end of input. Time is that of trio's clock, which jumps when nothing else happens.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.assembly import Access, assemble
from mcp_stdio.config import Config
from mcp_stdio.http.url import Url
from mcp_stdio.upstream import Emit, Upstream
from mcp_stdio.upstream.background import guarded
from tests.faults.driver import Client
from tests.faults.server import TOOL_CALL
from tests.relay.rig import Rig

ENDS_WITHIN = 2.0
"""Seconds from the end of input to the end of the relay (P6)."""

TESTED, NEXT = "7", 7
"""The ids of the request that is cut and of the one after it, which differ by their type alone."""

Json = dict[str, Any]

MODERN_META: Json = {
    spec.META_VERSION: spec.R5,
    spec.META_CLIENT_INFO: {"name": "test", "version": "1"},
    spec.META_CLIENT_CAPABILITIES: {"elicitation": {"form": {}}},
}


class Talker(Client):
    """A client of either era; one of the modern era says with each request who it is."""

    limit = 100.0  # nothing may take longer than three silences, one after the other

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self.is_modern = False
        self._rig = rig

    async def write(self, data: bytes) -> None:
        await self._rig.write(data)

    async def request(self, method: str, params: Json | None = None, id: object = None) -> object:
        if self.is_modern:
            params = {**(params or {}), "_meta": MODERN_META}
        return await super().request(method, params, id)

    async def call_as(self, id: object, tool: str) -> Json:
        """Call a tool under this id; the server counts it by the same."""
        return await self.ask(TOOL_CALL, {"name": tool, "arguments": {"call": id}}, id)

    async def goes_on(self) -> None:
        """The next request is answered by the server."""
        answer = await self.call_as(NEXT, "echo")
        assert answer.get("result", {}).get("content", [{}])[0].get("text") == "echo", answer

    def outcome_of(self, id: object) -> str | int | None:
        """What became of a request so far."""
        answers = self._answers.get(id)
        return None if answers is None else outcome(answers[0])

    @property
    def texts(self) -> list[str]:
        """What came besides answers: the text of a log message, of others the method."""
        return [m.get("params", {}).get("data", m["method"]) for m in self.said]

    async def read(self) -> None:
        """Take what comes; what the server asks is answered at once."""
        while line := await self._rig.read_line():
            self.take(line)
            self.tell()
            message = json.loads(line)
            if "id" in message and "method" in message:
                result = {"action": "accept", "content": {}}
                await self.send({"jsonrpc": "2.0", "id": message["id"], "result": result})
        self._is_over = True
        self.tell()

    async def leave(self) -> None:
        """End the input and check what must hold by then."""
        with trio.fail_after(ENDS_WITHIN):
            await self._rig.hang_up()
            await self._rig.over()
            while not self._is_over:
                await self._news.wait()
        self.check_answers()


@asynccontextmanager
async def talking(config: Config) -> AsyncIterator[Talker]:
    """A client in front of a relay with these settings, as `serving` puts it together."""
    access, url = Access(config), Url.parse(config.url)

    def open_upstream(nursery: trio.Nursery, emit: Emit) -> Upstream:
        nursery.start_soon(guarded, access.client.prepare, url)
        access.attend(nursery)
        return assemble(config, access.client, nursery, emit, access.bearer)

    rig = Rig(
        open_upstream,
        lane=access.client,
        drain_timeout=config.drain_timeout,
        wall_clock=trio.current_time,
        max_size=config.max_message_size,
    )
    talker = Talker(rig)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            nursery.start_soon(talker.read)
            try:
                yield talker
                await talker.leave()
            finally:
                await rig.aclose()
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await access.aclose()


_logged: ContextVar[list[str]] = ContextVar("_logged")


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        mine = _logged.get(None)
        if mine is not None:
            mine.append(self.format(record))


@contextmanager
def logged() -> Iterator[list[str]]:
    """What the relays that begin in here say of defects; each task has its own."""
    handler = _Log(logging.ERROR)
    logger = logging.getLogger("mcp_stdio")
    lines: list[str] = []
    token = _logged.set(lines)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        _logged.reset(token)


def outcome(answer: Json) -> str | int:
    """What became of a request: `result`, or the code of an error."""
    if "result" in answer:
        return "result"
    code = answer["error"]["code"]
    assert isinstance(code, int), answer
    return code

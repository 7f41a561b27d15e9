"""A call is withdrawn while it runs, seen from both ends: the client's pipe and the server's log.

Messages are written and read one by one here, below the SDK's session, since a session drops what
it does not expect, and this is about what must not come.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
from mcp import types
from mcp.shared.message import SessionMessage

from tests.peers.process import Peer
from tests.real.client import Incoming, Outgoing, piped, until

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "by hand", "version": "1"},
}


class Wire:
    """One message at a time, either way."""

    def __init__(self, read: Incoming, write: Outgoing) -> None:
        self._read = read
        self._write = write

    async def put(self, **members: Any) -> None:
        message = types.JSONRPCMessage.model_validate({"jsonrpc": "2.0", **members})
        await self._write.send(SessionMessage(message))

    async def get(self) -> dict[str, Any]:
        received = await self._read.receive()
        assert isinstance(received, SessionMessage), received
        message: dict[str, Any] = received.message.model_dump(exclude_none=True)
        return message

    async def get_answer(self) -> dict[str, Any]:
        while "method" in (message := await self.get()):
            pass
        return message

    async def shake_hands(self) -> None:
        await self.put(id="hello", method="initialize", params=INITIALIZE)
        assert (await self.get_answer())["id"] == "hello"
        await self.put(method="notifications/initialized")


async def test_a_cancel_reaches_the_server_at_once_and_no_answer_follows(
    sdk_server: Peer, tmp_path: Path
) -> None:
    seconds = 301.25  # longer than any test may take, and found in the log by its value
    async with piped(sdk_server.url, tmp_path / "stderr") as (read, write):
        wire = Wire(read, write)
        await wire.shake_hands()
        call = {"name": "slow", "arguments": {"seconds": seconds}}
        await wire.put(id="slow", method="tools/call", params=call)
        await until(lambda: f"slow begins {seconds}" in sdk_server.printed())
        await wire.put(method="notifications/cancelled", params={"requestId": "slow"})
        await until(lambda: f"slow cancelled {seconds}" in sdk_server.printed())
        await wire.put(id="after", method="ping")
        assert (await wire.get_answer())["id"] == "after"
        with trio.move_on_after(1):  # the server does answer a cancelled call
            raise AssertionError(await wire.get())


async def test_a_hundred_calls_are_withdrawn_one_by_one(sdk_server: Peer, tmp_path: Path) -> None:
    def begun() -> int:
        return sdk_server.printed().count("slow begins 302.5")

    def cancelled() -> int:
        return sdk_server.printed().count("slow cancelled 302.5")

    async with piped(sdk_server.url, tmp_path / "stderr") as (read, write):
        wire = Wire(read, write)
        await wire.shake_hands()
        call = {"name": "slow", "arguments": {"seconds": 302.5}}
        for number in range(100):
            await wire.put(id=number, method="tools/call", params=call)
        try:
            await until(lambda: begun() == 100)
        finally:
            assert begun() == 100
        for number in range(100):
            await wire.put(
                method="notifications/cancelled", params={"requestId": number, "reason": "no"}
            )
            await wire.put(id=f"ping {number}", method="ping")
        pings = [(await wire.get_answer())["id"] for _ in range(100)]
        await until(lambda: cancelled() == 100)
        assert set(pings) == {f"ping {number}" for number in range(100)}


async def test_the_relay_leaves_while_calls_run(sdk_server: Peer, tmp_path: Path) -> None:
    async with piped(sdk_server.url, tmp_path / "stderr") as (read, write):
        wire = Wire(read, write)
        await wire.shake_hands()
        call = {"name": "slow", "arguments": {"seconds": 303.75}}
        await wire.put(id="slow", method="tools/call", params=call)
        await until(lambda: "slow begins 303.75" in sdk_server.printed())
    await until(lambda: "slow cancelled 303.75" in sdk_server.printed())

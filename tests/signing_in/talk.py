"""What these tests say to the relay, and what they read in its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio

from tests.process import INITIALIZE, LIMIT, Relay

Json = dict[str, Any]
T = TypeVar("T")

AUTHORIZATION_FAILED = -33004
"""E-4."""


async def call(relay: Relay, tool: str = "echo", text: str = "hello") -> str:
    """Call a tool that must succeed; its text."""
    answer = await relay.ask("tools/call", {"name": tool, "arguments": {"text": text}})
    assert "result" in answer, f"{answer}\n{relay.errors}"
    said: str = answer["result"]["content"][0]["text"]
    return said


async def opened(relay: Relay) -> Json:
    """Shake hands with the real server, which must let us in."""
    answer = await relay.ask("initialize", INITIALIZE)
    assert answer.get("result", {}).get("serverInfo", {}).get("name") == "sdk-peer", (
        f"{answer}\n{relay.errors}"
    )
    await relay.send(method="notifications/initialized")
    result: Json = answer["result"]
    return result


def failure(answer: Json) -> Json:
    """The error of an answer that must be a failed authorization."""
    error: Json = answer["error"]
    assert error["code"] == AUTHORIZATION_FAILED, answer
    return error


async def until(found: Callable[[], T]) -> T:
    """Wait for something in what another process writes; what was found."""
    with trio.fail_after(LIMIT):
        while not (value := found()):  # noqa: ASYNC110 - a file tells nobody
            await trio.sleep(0.05)
    return value

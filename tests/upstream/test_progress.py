"""Progress of our own, put above what a server has told (B-14, step 7)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_stdio import jsonrpc, spec
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream.progress import Rising


def progress(token: object, value: object) -> Message:
    return jsonrpc.notification(spec.PROGRESS, {"progressToken": token, "progress": value})


@pytest.mark.parametrize(
    "told", [0, -1, 0.5, 3, 1e-300, 1e12, 1e20, 2**53 + 1, 1.7976931348623157e308]
)
async def test_there_is_a_value_above_the_last_one(told: Any) -> None:
    emitted: list[Message] = []

    async def emit(message: Message) -> None:
        emitted.append(message)

    rising = Rising(emit)
    assert rising.above("t") == 0
    await rising.first(progress("t", told))
    value = rising.above("t")
    assert rising.above("other") == 0
    if told == 1.7976931348623157e308:
        assert value is None
        return
    assert value is not None
    assert value > told
    assert value <= told + 1 or value == pytest.approx(told)
    await rising.emit(progress("t", value))
    assert [message.params["progress"] for message in emitted] == [told, value]


@pytest.mark.parametrize("spelling", ["1e400", "1" + "0" * 400])
async def test_what_no_number_is_above_stays_the_last(spelling: str) -> None:
    async def emit(message: Message) -> None:
        pass

    rising = Rising(emit)
    raw = progress("t", 0).raw.decode().replace(":0}", f":{spelling}}}")
    assert json.loads(raw)
    await rising.first(jsonrpc.parse(raw.encode()))
    assert rising.above("t") is None

"""The client's part of a test: what it waits for, and for how long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from mcp_stdio.config import Config
from mcp_stdio.diagnose.peer import LIST_TIME, Peer
from mcp_stdio.errors import TimedOut
from mcp_stdio.http.client import open_client


async def test_pages_that_never_end_are_waited_for_no_longer(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config("http://127.0.0.1:9/mcp", timeout_read=5.0)
    peer = Peer(config, open_client(config), nursery)

    async def answer(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(peer, "answer", answer)
    begun = trio.current_time()
    with pytest.raises(TimedOut, match="the pages of `tools/list` had not ended after 65 s"):
        await peer.count("tools/list")
    assert trio.current_time() - begun == pytest.approx(5.0 + LIST_TIME)
    nursery.cancel_scope.cancel()

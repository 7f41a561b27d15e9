"""The parts put together: which upstream a configuration asks for.

The relay and the connection test stand on the same objects, so they are joined here, once. Knows
neither standard streams nor what becomes of the messages.
"""

from __future__ import annotations

import trio

from mcp_stdio import jsonrpc
from mcp_stdio.config import Config
from mcp_stdio.http import Lane
from mcp_stdio.http.url import Url
from mcp_stdio.shaping import MergedPages
from mcp_stdio.upstream import Emit, Upstream
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.session import Session
from mcp_stdio.upstream.streamable_http import StreamableHttp


def assemble(config: Config, client: Lane, nursery: trio.Nursery, emit: Emit) -> Upstream:
    """The upstream of these settings; `emit` takes what belongs to no request."""
    ids = jsonrpc.mint_ids()
    messenger = Messenger(client, Url.parse(config.url), limit=config.max_message_size)
    upstream: Upstream = Session(
        StreamableHttp(messenger, nursery=nursery, emit=emit),
        nursery=nursery,
        emit=emit,
        ids=ids,
        timeout_read=config.timeout_read,
        timeout_call=config.timeout_call,
    )
    if config.merge_pages:
        upstream = MergedPages(upstream, ids, limit=config.max_message_size)
    return upstream

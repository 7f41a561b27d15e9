"""One run of the relay: what it is put together from, said at its start and closed at its end.

Knows the settings and standard input and output, which `relay` is given, and no message.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress

import trio

from mcp_stdio import __version__, signals
from mcp_stdio.assembly import Access, assemble
from mcp_stdio.config import Config
from mcp_stdio.errors import OutputFailed
from mcp_stdio.http.url import Url
from mcp_stdio.log import NOTICE
from mcp_stdio.relay import FAREWELL, Relay
from mcp_stdio.stdio import standard_input, standard_output
from mcp_stdio.upstream import Emit, Upstream
from mcp_stdio.upstream.background import guarded

log = logging.getLogger(__name__)

STDIN = 0

AT_A_TERMINAL = (
    "waiting for the messages of an MCP client on standard input; to try the connection by hand, "
    "run `mcp-stdio test URL`"
)


async def serve(config: Config) -> None:
    """Relay between standard input and output and the server until the client has gone."""
    raise_descriptor_limit()
    access, url = Access(config), Url.parse(config.url)
    client, bearer = access.client, access.bearer

    def open_upstream(nursery: trio.Nursery, emit: Emit) -> Upstream:
        nursery.start_soon(guarded, client.prepare, url)  # while the client prepares its first line
        access.attend(nursery, relay.grace)
        return assemble(config, client, nursery, emit, bearer)

    output = standard_output()
    relay = Relay(
        standard_input(config.max_message_size),
        output,
        client,
        open_upstream,
        drain_timeout=config.drain_timeout,
        wall_clock=time.time,
    )
    log.log(NOTICE, "version %s relays to %s", __version__, url.public)
    if os.isatty(STDIN):
        log.log(NOTICE, AT_A_TERMINAL)
    try:
        await relay.run()
    finally:
        for number in signals.ALL:  # all is said; one that comes now would only spoil the exit code
            signal.signal(number, signal.SIG_IGN)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL):
            await access.aclose()
    if output.failure is not None:
        raise OutputFailed(output.failure)


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system lets us: each running request has a connection."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (65536, 32768, 10240, 4096, 1024):  # macOS allows less than its "infinity" says
        if soft >= wanted:
            return
        if hard == resource.RLIM_INFINITY or hard >= wanted:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                return

"""What must not pile up, and what must not get in the way: memory, descriptors, children, stderr.

The long forms, of 200 starts and of 100,000 calls, run when `MCP_STDIO_LONG` is 1.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading

import pytest
import trio

from tests.faults.driver import LIMIT, NOT_UNDERSTOOD, Relay, relaying
from tests.faults.proc import cpu_seconds, holdings, needs_proc
from tests.faults.server import (
    END,
    Server,
    Visit,
    answering,
    cut_off,
    event,
    http,
    never,
    notification,
    serving,
    stream_head,
)

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"
CYCLES = 200 if IS_LONG else 12
CALLS = 100_000 if IS_LONG else 5_000
AT_ONCE = 50
MIB = 1024 * 1024

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="a matter of POSIX descriptors")


@needs_proc
async def test_starting_and_stopping_leaves_nothing() -> None:
    async def cycle(server: Server, number: int) -> None:
        async with relaying(server.url) as relay:
            await relay.lives()
            assert holdings(relay.process.pid).children == 0
            if number % 2:
                relay.process.send_signal(signal.SIGTERM)

    async with serving() as server:
        before = None
        for number in range(CYCLES + 2):
            await cycle(server, number)
            server.runs.clear()
            with trio.fail_after(LIMIT):
                while server.open_connections:  # noqa: ASYNC110 - the kernel's own time
                    await trio.sleep(0.001)
            if number == 1:  # what the tests themselves need once is there by now
                before = _own_holdings()
        assert _own_holdings() == before
        assert not server.sessions
        assert len(server.requests("DELETE")) == CYCLES + 2


def _own_holdings() -> tuple[int, int, int]:
    gc.collect()
    own = holdings(os.getpid())
    return own.descriptors, own.children, threading.active_count()


@needs_proc
async def test_many_calls_leave_memory_and_descriptors_where_they_were() -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.tools |= {
            "stream": _stream,
            "html": answering(http(body=b"<p>" * 100, kind="text/html")),
            "cut": cut_off,
            "cookie": _set_cookie,
            "never": never,
        }
        server.methods["GET"] = _listen
        server.restart()
        await make_calls(server, relay, 1_000)
        before = holdings(relay.process.pid)
        await make_calls(server, relay, CALLS)
        after = holdings(relay.process.pid)
        assert after.descriptors < 2 * AT_ONCE  # connections that are kept
        assert after.threads == before.threads
        assert after.children == 0
        assert after.memory < before.memory + 2 * MIB, (before, after)


async def make_calls(server: Server, relay: Relay, count: int) -> None:
    """Calls with all kinds of ends."""
    rare = ["html", "cut", "cookie", "never", *["stream"] * 4]
    kinds = rare + ["echo"] * (AT_ONCE - len(rare))
    for _ in range(0, count, AT_ONCE):
        ids = [(kind, await relay.start_call(kind)) for kind in kinds]
        for kind, id in ids:
            if kind == "never":
                with trio.fail_after(LIMIT):
                    while f"{id}" not in server.runs:
                        await server.saw("tools/call", len(server.requests("tools/call")) + 1)
                relay.unanswerable.add(id)
                await relay.notify("notifications/cancelled", {"requestId": id})
            else:
                await relay.answer(id)
        server.received.clear()
        relay.said.clear()


async def _stream(visit: Visit) -> None:
    parts = [event(notification(f"{number}" * 100)) for number in range(5)]
    await visit.send(b"".join([stream_head(), *parts, event(visit.result()), END]))


async def _set_cookie(visit: Visit) -> None:
    await visit.answer(None, f"Set-Cookie: lb=balanced-{visit.id}; Path=/")


async def _listen(visit: Visit) -> None:
    await visit.send(stream_head())
    await trio.sleep_forever()


STATES = ["without a session", "with a session", "listening", "with a call", "without a server"]


@needs_proc
@pytest.mark.parametrize("state", STATES)
async def test_waiting_costs_no_cpu_time(state: str) -> None:
    async with serving() as server:
        if state == "listening":
            server.methods["GET"] = _listen
        async with relaying(server.url, initialize=state != STATES[0]) as relay:
            if state == "with a call":
                server.tools["never"] = never
                await relay.start_call("never")
            if state == "without a server":
                server.kill()
            await trio.sleep(0.5)  # what starting takes is over
            before = cpu_seconds(relay.process.pid)
            await trio.sleep(2)
            assert cpu_seconds(relay.process.pid) - before <= 0.1


HTML = answering(http(body=b"<p>" * 100, kind="text/html"))


@needs_posix
@pytest.mark.parametrize("is_closed_at_its_end", [False, True])
async def test_a_stderr_that_nobody_reads_blocks_and_kills_nothing(
    is_closed_at_its_end: bool,
) -> None:
    read_end, write_end = os.pipe()
    try:
        if is_closed_at_its_end:
            os.close(read_end)
        async with serving(tools={"html": HTML}) as server:
            async with relaying(server.url, "-vv", stderr=write_end) as relay:
                await talk(relay)
    finally:
        os.close(write_end)
        if not is_closed_at_its_end:
            said = os.read(read_end, 1 << 20)
            os.close(read_end)
            assert len(said) > 32_000  # it was full indeed


@needs_posix
async def test_a_closed_stderr_kills_nothing() -> None:
    closing = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    async with serving(tools={"html": HTML}) as server:
        async with relaying(server.url, "-vv", wrapper=closing) as relay:
            await talk(relay)


async def talk(relay: Relay) -> None:
    """Have much to complain of."""
    for _ in range(20):
        ids = [await relay.start_call("html") for _ in range(50)]
        for id in ids:
            assert (await relay.answer(id))["error"]["code"] == NOT_UNDERSTOOD
    await relay.lives()

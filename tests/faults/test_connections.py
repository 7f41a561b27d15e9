"""Servers that go away and come back, streams that break, answers that are too much.

Each request gets exactly one response (P1), the process lives on, and no call runs twice (P2).
"""

from __future__ import annotations

import zlib
from functools import cache

import pytest
import trio

from mcp_stdio import spec
from tests.faults.driver import (
    LANES,
    LIMIT,
    NOT_UNDERSTOOD,
    SESSION_LOST,
    UNKNOWN,
    UNREACHABLE,
    opening,
    relaying,
)
from tests.faults.proc import needs_proc, peak_memory
from tests.faults.server import (
    END,
    EVENTS,
    Json,
    Server,
    Visit,
    answering,
    chunk,
    dumps,
    event,
    http,
    in_turn,
    never,
    notification,
    serving,
    stream_head,
    well,
)

MIB = 1024 * 1024


# Down and up


async def test_a_server_that_is_down_at_start_and_then_up() -> None:
    async with serving(is_down=True) as server, relaying(server.url, initialize=False) as relay:
        error = (await relay.ask(spec.INITIALIZE, opening()))["error"]
        assert error["code"] == UNREACHABLE, error
        assert error["data"]["retryable"] is True
        await server.revive()
        await relay.lives()
        assert len(server.requests(spec.INITIALIZE)) == 1


async def test_a_server_that_comes_up_while_the_client_waits() -> None:
    async with serving(is_down=True) as server, relaying(server.url, initialize=False) as relay:
        id = await relay.request(spec.INITIALIZE, opening())
        await trio.sleep(1)
        await server.revive()
        assert "result" in await relay.answer(id)
        await relay.notify(spec.INITIALIZED)
        await relay.lives()


async def test_calls_while_the_server_is_down_have_not_run() -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.kill()
        ids = [await relay.start_call("echo") for _ in range(5)]
        for id in ids:
            assert (await relay.answer(id))["error"]["code"] == UNREACHABLE
        await server.revive()
        await relay.lives()
        assert len(server.requests("tools/call")) == 2  # the first met a 404
        assert sum(server.runs.values()) == 1


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_server_killed_and_restarted_with_20_calls_in_flight(
    is_streaming: bool, lane: str
) -> None:
    async def begin(visit: Visit) -> None:
        await visit.send(stream_head() + event(notification(f"begun {visit.id}")))
        await trio.sleep_forever()

    async with serving() as server, relaying(server.url, env=LANES[lane]) as relay:
        server.tools["long"] = begin if is_streaming else never
        server.methods["resources/read"] = in_turn(*[never] * 5, well)
        calls = [await relay.start_call("long") for _ in range(20)]
        reads = [await relay.request("resources/read", {"uri": "x:y"}) for _ in range(5)]
        with trio.fail_after(LIMIT):
            await server.saw("tools/call", 20)
            await server.saw("resources/read", 5)
        if is_streaming:
            for id in calls:
                await relay.heard(f"begun {id}")
        server.kill()
        await server.revive()
        for id in calls:
            assert (await relay.answer(id))["error"]["code"] in (UNKNOWN, SESSION_LOST)
        for id in reads:
            assert "result" in await relay.answer(id)
        await relay.lives()
        assert len(server.requests(spec.INITIALIZE)) == 2  # one renewal for all


async def test_a_server_restarted_without_a_trace_is_greeted_anew() -> None:
    async with serving() as server, relaying(server.url) as relay:
        for _ in range(3):
            server.restart()
            ids = [await relay.start_call("echo") for _ in range(20)]
            for id in ids:
                assert "result" in await relay.answer(id)
        assert len(server.requests(spec.INITIALIZE)) == 4
        assert set(server.runs.values()) == {1}


async def test_a_server_that_forgets_each_session_at_once() -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.methods[spec.INITIALIZED] = _forget
        server.restart()
        assert (await relay.call("echo"))["error"]["code"] == SESSION_LOST
        assert len(server.requests("tools/call")) == 2
        del server.methods[spec.INITIALIZED]
        await relay.lives()


async def _forget(visit: Visit) -> None:
    visit.server.restart()
    await visit.send(http(202))


async def test_a_renewal_that_fails_is_tried_again_with_the_next_message() -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.restart()
        server.methods[spec.INITIALIZE] = answering(http(500, b"no"))
        ids = [await relay.start_call("echo") for _ in range(3)]
        for id in ids:
            assert (await relay.answer(id))["error"]["code"] == NOT_UNDERSTOOD
        del server.methods[spec.INITIALIZE]
        await relay.lives()


async def test_a_400_about_the_session_opens_it_anew_before_the_next_message() -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.tools["lost"] = answering(http(400, b"Bad Request: No valid session ID provided"))
        assert (await relay.call("lost"))["error"]["data"]["status"] == 400
        await relay.lives()
        assert len(server.requests(spec.INITIALIZE)) == 2


# Idle connections


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("is_reset", [False, True])
async def test_idle_connections_closed_under_us_are_not_used(is_reset: bool, lane: str) -> None:
    closed = trio.Event()

    async def answer_and_close(visit: Visit) -> None:
        await visit.answer()
        if is_reset:
            visit.reset()
        else:
            await visit.close()
        closed.set()

    async with serving() as server, relaying(server.url, env=LANES[lane]) as relay:
        server.tools["last"] = answer_and_close
        for _ in range(20):
            assert "result" in await relay.call("last")
            with trio.fail_after(LIMIT):
                await closed.wait()
            closed = trio.Event()
        await relay.lives()


# Streams


class Resumable:
    """A tool whose stream breaks after each event; `Last-Event-ID` finds the way back."""

    def __init__(self, server: Server, *, breaks: int = 3, status: int = 200) -> None:
        self.asked: list[str | None] = []
        self._breaks = breaks
        self._status = status
        self._answer: Json = {}
        server.tools["resumable"] = self.begin
        server.methods["GET"] = self.resume

    async def begin(self, visit: Visit) -> None:
        self._answer = visit.result()
        await visit.send(stream_head() + event(id="0", retry=10))
        await visit.close()

    async def resume(self, visit: Visit) -> None:
        last = visit.received.get(spec.LAST_EVENT_ID)
        if last is None:
            await visit.send(http(405))
            return
        self.asked.append(last)
        if self._status != 200:
            await visit.send(http(self._status))
            return
        step = int(last) + 1
        is_answer = step > self._breaks
        message = self._answer if is_answer else notification(f"step {step}")
        await visit.send(stream_head() + event(message, id=str(step)))
        if is_answer:
            await visit.send(END)
        else:
            visit.reset()


@pytest.mark.parametrize("lane", LANES)
async def test_a_cut_stream_with_event_ids_is_resumed(lane: str) -> None:
    async with serving() as server, relaying(server.url, env=LANES[lane]) as relay:
        tool = Resumable(server)
        assert "result" in await relay.call("resumable")
        assert tool.asked == ["0", "1", "2", "3"]
        steps = [message["params"]["data"] for message in relay.said]
        assert steps == ["step 1", "step 2", "step 3"]
        await relay.lives()


@pytest.mark.parametrize("status, code", [(405, UNKNOWN), (400, UNKNOWN), (404, SESSION_LOST)])
async def test_a_stream_that_the_server_does_not_resume(status: int, code: int) -> None:
    async with serving() as server, relaying(server.url) as relay:
        tool = Resumable(server, status=status)
        assert (await relay.call("resumable"))["error"]["code"] == code
        assert tool.asked == ["0"]
        await relay.lives()


async def test_a_stream_is_resumed_after_the_server_was_away() -> None:
    async with serving(has_sessions=False) as server, relaying(server.url) as relay:
        tool = Resumable(server, breaks=0)

        async def begin_and_die(visit: Visit) -> None:
            await tool.begin(visit)
            server.kill()

        server.tools["resumable"] = begin_and_die
        id = await relay.start_call("resumable")
        with trio.fail_after(LIMIT):
            await server.saw("tools/call")
        await trio.sleep(0.5)
        await server.revive()
        assert "result" in await relay.answer(id)


async def test_a_stream_that_is_never_resumed_ends_in_a_time_out() -> None:
    async with serving() as server, relaying(server.url, "--timeout-read", "1") as relay:
        Resumable(server, status=503)
        assert "error" in await relay.call("resumable")
        await relay.lives()


async def test_calls_go_on_when_the_listening_stream_is_declined_late() -> None:
    """What a stream has begun to answer does not depend on another stream."""
    decline = trio.Event()

    async def listen(visit: Visit) -> None:
        await decline.wait()
        await visit.send(http(405))

    async def half(visit: Visit) -> None:
        await visit.send(stream_head() + event(notification("half")))
        decline.set()
        await trio.sleep(0.2)
        await visit.send(event(visit.result()) + END)

    async with serving(methods={"GET": listen}) as server, relaying(server.url) as relay:
        server.tools["half"] = half
        assert "result" in await relay.call("half")


# Too much, and compressed

LARGE = 100 * MIB


async def send_large(visit: Visit, size: int, *, is_stream: bool) -> None:
    before, after = dumps(visit.result({"content": [{"type": "text", "text": "|"}]})).split(b"|")
    before, after = (b"data: " + before, after + b"\n\n") if is_stream else (before, after)
    await visit.send(stream_head(kind=EVENTS if is_stream else "application/json") + chunk(before))
    block = chunk(b"x" * MIB)
    for _ in range(size // MIB):
        await visit.send(block)
    await visit.send(chunk(after) + END)


@needs_proc
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_reply_of_100_mb_is_over_the_limit(is_stream: bool) -> None:
    async def behave(visit: Visit) -> None:
        await send_large(visit, LARGE, is_stream=is_stream)

    async with serving() as server, relaying(server.url) as relay:
        server.tools["large"] = behave
        id = await relay.start_call("large")
        await relay.lives()
        assert (await relay.answer(id))["error"]["code"] == NOT_UNDERSTOOD
        await relay.lives()
        assert peak_memory(relay.process.pid) < 250 * MIB


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_reply_of_100_mb_arrives_whole_when_the_limit_is_raised(is_stream: bool) -> None:
    async def behave(visit: Visit) -> None:
        await send_large(visit, LARGE, is_stream=is_stream)

    async with serving() as server, relaying(server.url, "--max-message-size", "200M") as relay:
        server.tools["large"] = behave
        id = await relay.start_call("large")
        await relay.lives()
        text = (await relay.answer(id))["result"]["content"][0]["text"]
        assert text == "x" * LARGE
        await relay.lives()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_compressed_answers_are_understood(coding: str, is_stream: bool) -> None:
    async def behave(visit: Visit) -> None:
        data = dumps(visit.result())
        data = b"data: " + data + b"\n\n" if is_stream else data
        compress = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
        compressed = compress.compress(data) + compress.flush()
        kind = EVENTS if is_stream else "application/json"
        head = [f"Content-Encoding: {coding}"]
        await visit.send(http(body=compressed, kind=kind, headers=head))

    async with serving() as server, relaying(server.url) as relay:
        server.tools["compressed"] = behave
        assert "result" in await relay.call("compressed")
        await relay.lives()


@cache
def bomb() -> bytes:
    """Few bytes of gzip that become many."""
    compress = zlib.compressobj(level=1, wbits=31)
    begin, block = compress.compress(b'data: "'), b"x" * MIB
    return b"".join([begin, *(compress.compress(block) for _ in range(300)), compress.flush()])


@needs_proc
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("kind", ["application/json", EVENTS])
async def test_a_bomb_is_over_the_limit(status: int, kind: str) -> None:
    head = ["Content-Encoding: gzip"]
    async with serving() as server, relaying(server.url) as relay:
        server.tools["bomb"] = answering(http(status, bomb(), kind=kind, headers=head))
        id = await relay.start_call("bomb")
        assert (await relay.answer(id))["error"]["code"] == NOT_UNDERSTOOD
        await relay.lives()
        assert peak_memory(relay.process.pid) < 250 * MIB


async def test_a_request_over_the_servers_limit_is_answered_before_it_is_read() -> None:
    """A server that says 413 and hangs up, with most of the body still on its way."""
    async with serving(limit=MIB) as server, relaying(server.url) as relay:
        error = (await relay.call("echo", text="x" * 30 * MIB))["error"]
        assert error["data"]["status"] == 413, error
        await relay.lives()

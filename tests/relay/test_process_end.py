"""The real process ends: promptly, with code 0, an ended session and nothing to complain about.

The exact times are held against virtual time in `test_shutdown`; here is only asked that it ends.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from tests.process import INITIALIZE, Relay, command, environment, line, running
from tests.relay.server import Asked, McpServer

PROMPT = 5.0
"""Seconds for what takes less than two on a machine with nothing else to do."""

SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
]

posix = pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent on Windows")


async def never(asked: Asked) -> None:
    """Answer nothing until the client hangs up."""
    await asked.hung_up()


async def stream(asked: Asked) -> None:
    """Stream without end."""
    await asked.begin()
    while True:
        await asked.event(line(method="notifications/message", params={"data": "x" * 1000}).strip())


async def listening(asked: Asked) -> None:
    await asked.begin()
    await asked.hung_up()


@asynccontextmanager
async def serving(
    answer: Callable[[Asked], Awaitable[None]] = never,
) -> AsyncIterator[McpServer]:
    server = McpServer(answer, listening)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        yield server
        nursery.cancel_scope.cancel()


def assert_quiet(relay: Relay) -> None:
    (only,) = relay.errors.splitlines()
    assert "relays to" in only


async def test_one_line_on_stderr_says_what_is_relayed_and_no_secret() -> None:
    async with serving() as server:
        url = server.url.replace("http://", "http://user:word-of-the-user@") + "?key=the-key"
        async with running(url) as relay:
            await relay.shake_hands()
            await relay.close_stdin()
            assert await relay.wait() == 0
            assert relay.errors == f"mcp-stdio: version 0.1.0 relays to {server.url}\n"
        async with running(url, "-q") as relay:
            await relay.close_stdin()
            assert await relay.wait() == 0
            assert relay.errors == ""


async def test_idle_without_a_session() -> None:
    async with serving() as server, running(server.url) as relay:
        await relay.close_stdin()
        assert await relay.rest() == []
        assert await relay.wait(PROMPT) == 0
        assert_quiet(relay)
        assert server.log == []
        assert server.sessions_ended == 0


async def test_idle_with_a_session() -> None:
    async with serving() as server, running(server.url) as relay:
        await relay.shake_hands()
        await server.until(lambda: server.listened == 1)
        await relay.close_stdin()
        assert await relay.rest() == []
        assert await relay.wait(PROMPT) == 0
        assert_quiet(relay)
        assert server.sessions_ended == 1


async def test_unfinished_requests_get_an_error_after_the_drain() -> None:
    async with serving() as server, running(server.url, "--drain-timeout", "0.2") as relay:
        await relay.shake_hands()
        await relay.write(b"".join(line(id=f"n{n}", method="tools/call") for n in range(20)))
        await server.until(lambda: len(server.received("tools/call")) == 20)
        await relay.close_stdin()
        answers = await relay.rest()
        assert {answer["id"] for answer in answers} == {f"n{n}" for n in range(20)}
        assert len(answers) == 20
        assert {answer["error"]["code"] for answer in answers} == {-33002}
        assert await relay.wait(PROMPT) == 0
        assert_quiet(relay)
        assert server.sessions_ended == 1


async def test_what_finishes_within_the_drain_is_answered() -> None:
    async def answer(asked: Asked) -> None:
        await trio.sleep(0.5)
        await asked.result()

    async with serving(answer) as server, running(server.url, "--drain-timeout", "20") as relay:
        await relay.shake_hands()
        id = await relay.request("tools/call")
        await relay.close_stdin()
        (got,) = await relay.rest()
        assert (got["id"], got["result"]) == (id, {})
        assert await relay.wait(PROMPT) == 0


async def test_a_file_is_answered_to_its_end_slow_calls_too() -> None:
    async def answer(asked: Asked) -> None:
        await trio.sleep(asked.params.get("seconds", 0))
        await asked.result()

    async with serving(answer) as server:
        with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as output:
            file.write(line(id=1, method="initialize", params=INITIALIZE))
            file.write(line(method="notifications/initialized"))
            file.write(line(id="slow", method="tools/call", params={"seconds": 2.5}))
            file.writelines(line(id=n, method="tools/call") for n in range(2, 600))
            file.seek(0)
            async with running(server.url, stdin=file, stdout=output) as relay:
                assert await relay.wait() == 0
                assert_quiet(relay)
            output.seek(0)
            answers = [json.loads(raw) for raw in output]
        assert len(answers) == 600
        assert {answer["id"] for answer in answers} == {"slow", *range(1, 600)}
        assert all("result" in answer for answer in answers)
        assert server.sessions_ended == 1


@posix
async def test_nobody_reads_standard_output_any_more() -> None:
    async with serving(stream) as server, running(server.url) as relay:
        await relay.shake_hands()
        await relay.request("tools/call")
        await relay.read()
        await relay.close_stdout()
        assert await relay.wait(PROMPT) == 0
        assert_quiet(relay)
        assert server.sessions_ended == 1


PARENT = """
import os, signal, sys
if os.fork():
    signal.pause()
os.execv(sys.argv[1], sys.argv[1:])
"""


@posix
async def test_its_parent_has_gone() -> None:
    """The pipes stay open: another child of the client may hold them, too."""
    async with serving() as server:
        parent = await trio.lowlevel.open_process(
            [sys.executable, "-c", PARENT, *command(server.url)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert parent.stdin is not None
        assert parent.stdout is not None
        with trio.fail_after(30):
            await parent.stdin.send_all(line(id=1, method="initialize", params=INITIALIZE))
            assert await parent.stdout.receive_some()
            parent.kill()
            await parent.wait()
            assert await parent.stdout.receive_some() == b""  # the relay has closed its end
        assert server.sessions_ended == 1
        await parent.stdin.aclose()
        await parent.stdout.aclose()


@posix
@pytest.mark.parametrize("number", SIGNALS)
class TestSignals:
    """In every state: code 0, no traceback, the session ended, unfinished requests answered."""

    async def test_before_any_message(self, number: int) -> None:
        async with serving() as server, running(server.url) as relay:
            await started(relay)
            relay.signal(number)
            await self.ends(relay)

    async def test_idle(self, number: int) -> None:
        async with serving() as server, running(server.url) as relay:
            await relay.shake_hands()
            await server.until(lambda: server.listened == 1)
            relay.signal(number)
            await self.ends(relay)
            assert server.sessions_ended == 1

    async def test_waiting_for_an_answer(self, number: int) -> None:
        async with serving() as server, running(server.url) as relay:
            await relay.shake_hands()
            id = await relay.request("tools/call")
            await server.until(lambda: len(server.received("tools/call")) == 1)
            relay.signal(number)
            await self.ends(relay, id)
            assert server.sessions_ended == 1

    async def test_in_the_middle_of_a_stream(self, number: int) -> None:
        async with serving(stream) as server, running(server.url) as relay:
            await relay.shake_hands()
            id = await relay.request("tools/call")
            await relay.read()
            relay.signal(number)
            await self.ends(relay, id)
            assert server.sessions_ended == 1

    async def test_with_a_standard_output_that_takes_no_more(self, number: int) -> None:
        async with serving(stream) as server, running(server.url) as relay:
            await relay.shake_hands()
            await relay.request("tools/call")
            await relay.read()
            await trio.sleep(0.3)  # until the pipe is full
            relay.signal(number)
            assert await relay.wait(PROMPT) == 0
            assert_quiet(relay)
            assert server.sessions_ended == 1

    async def test_in_a_pause_between_attempts(self, number: int) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}/mcp"
            async with running(url) as relay:
                await relay.send(id="first", method="initialize", params=INITIALIZE)
                await started(relay)
                await trio.sleep(0.3)  # until the first attempt has failed
                relay.signal(number)
                await self.ends(relay, "first")

    @pytest.mark.skipif(
        sys.platform != "linux", reason="only Linux drops what a backlog is full of"
    )
    async def test_connecting_to_a_black_hole(self, number: int) -> None:
        with black_hole() as url:
            async with running(url) as relay:
                await relay.send(id="first", method="initialize", params=INITIALIZE)
                await started(relay)
                relay.signal(number)
                await self.ends(relay, "first")

    async def test_while_the_client_closes_the_pipes(self, number: int) -> None:
        async with serving() as server, running(server.url) as relay:
            await relay.shake_hands()
            id = await relay.request("tools/call")
            await relay.close_stdin()
            relay.signal(number)
            await self.ends(relay, id)
            assert server.sessions_ended == 1

    async def test_while_the_interpreter_winds_up(self, number: int) -> None:
        async with serving() as server, running(server.url) as relay:
            await relay.shake_hands()
            await relay.close_stdin()
            await server.until(lambda: server.sessions_ended == 1)
            await trio.sleep(0.02)  # it has no more to do than to be unloaded
            relay.signal(number)
            assert await relay.wait(PROMPT) == 0
            assert "Traceback" not in relay.errors

    async def test_twice(self, number: int) -> None:
        async with serving() as server, running(server.url) as relay:
            await relay.shake_hands()
            await relay.request("tools/call")
            relay.signal(number)
            relay.signal(signal.SIGTERM)
            assert await relay.wait(PROMPT) in (0, -signal.SIGTERM, -number)
            assert "Traceback" not in relay.errors

    async def ends(self, relay: Relay, *unanswered: object) -> None:
        with trio.fail_after(PROMPT):  # reading, for what streams may have filled the pipe
            answers = [message for message in await relay.rest() if "method" not in message]
        assert await relay.wait(PROMPT) == 0
        assert [answer["id"] for answer in answers] == [*unanswered]
        assert all("error" in answer for answer in answers)
        assert_quiet(relay)


async def started(relay: Relay) -> None:
    """Wait until it has printed its line, after which signals are watched at once."""
    with trio.fail_after(PROMPT * 4):
        while not relay.errors:  # noqa: ASYNC110 - a file tells nobody
            await trio.sleep(0.01)
    await trio.sleep(0.1)


@contextmanager
def black_hole() -> Iterator[str]:
    """The URL of a server whose backlog is full: connections to it neither succeed nor fail."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        crowd = [socket.socket() for _ in range(8)]
        try:
            for one in crowd:
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            for one in crowd:
                one.close()

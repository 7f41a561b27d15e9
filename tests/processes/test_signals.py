"""Signals as the world sends them: inherited dispositions, at any moment, while it is stopped.

`MCP_STDIO_LONG=1` in the environment asks for the long form.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from mcp_stdio import spec
from tests.faults.driver import LIMIT, UNKNOWN, Relay, environment, opening, relaying
from tests.faults.proc import needs_proc
from tests.faults.server import Server, Visit, never, serving

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

NAMES = ["SIGTERM", "SIGINT", "SIGHUP"]

BLOCKING = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
os.execv(sys.argv[1], sys.argv[1:])
"""


def ignoring(name: str) -> tuple[str, ...]:
    """A shell that ignores the signal, and so does what it becomes."""
    return "sh", "-c", f"trap '' {name.removeprefix('SIG')}; exec \"$@\"", "sh"


async def ended(relay: Relay) -> int:
    with trio.fail_after(LIMIT):
        return await relay.process.wait()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
async def test_what_whoever_started_it_ignores_does_not_end_it(name: str) -> None:
    """`nohup`, or a shell that runs the client in the background: the client lives on as well."""
    async with serving() as server, relaying(server.url, wrapper=ignoring(name)) as relay:
        relay.process.send_signal(getattr(signal, name))
        await relay.lives()
        await trio.sleep(0.1)
        await relay.lives()


async def test_sigterm_ends_it_even_where_it_was_ignored() -> None:
    async with serving() as server, relaying(server.url, wrapper=ignoring("SIGTERM")) as relay:
        relay.process.send_signal(signal.SIGTERM)
        assert await ended(relay) == 0
    assert not server.sessions


@pytest.mark.parametrize("name", NAMES)
async def test_a_signal_that_its_parent_has_blocked_ends_it_all_the_same(name: str) -> None:
    blocking = (sys.executable, "-c", BLOCKING)
    async with serving(tools={"never": never}) as server:
        async with relaying(server.url, wrapper=blocking) as relay:
            call = await relay.start_call("never")
            with trio.fail_after(LIMIT):
                await server.saw("tools/call")
            relay.process.send_signal(getattr(signal, name))
            assert (await relay.answer(call))["error"]["code"] == UNKNOWN
            assert await ended(relay) == 0
    assert not server.sessions


@needs_proc
async def test_as_the_first_process_of_a_container_it_ends_as_anywhere() -> None:
    """To that one the kernel passes no signal on for which there is no handler."""
    first = ("unshare", "-rpf", "--mount-proc", "--kill-child")
    probe = ["sh", "-c", f"{' '.join(first)} true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no name spaces for processes here")
    async with serving(tools={"never": never}) as server:
        async with relaying(server.url, wrapper=first) as relay:
            call = await relay.start_call("never")
            with trio.fail_after(LIMIT):
                await server.saw("tools/call")
            outer = relay.process.pid
            (inner,) = Path(f"/proc/{outer}/task/{outer}/children").read_text("utf-8").split()
            os.kill(int(inner), signal.SIGTERM)
            assert (await relay.answer(call))["error"]["code"] == UNKNOWN
            assert await ended(relay) == 0
    assert not server.sessions


async def test_a_stopped_process_goes_on_where_it_was() -> None:
    async with serving() as server, relaying(server.url) as relay:
        relay.process.send_signal(signal.SIGSTOP)
        calls = [await relay.start_call("echo") for _ in range(10)]
        await trio.sleep(0.2)
        assert len(server.requests("tools/call")) == 0
        relay.process.send_signal(signal.SIGCONT)
        for call in calls:
            assert "result" in await relay.answer(call)


async def test_what_comes_while_it_is_stopped_counts_once_it_goes_on() -> None:
    async with serving(tools={"never": never}) as server, relaying(server.url) as relay:
        call = await relay.start_call("never")
        with trio.fail_after(LIMIT):
            await server.saw("tools/call")
        relay.process.send_signal(signal.SIGSTOP)
        relay.process.send_signal(signal.SIGTERM)
        await trio.sleep(0.2)
        assert relay.process.poll() is None
        relay.process.send_signal(signal.SIGCONT)
        assert (await relay.answer(call))["error"]["code"] == UNKNOWN
        assert await ended(relay) == 0
    assert not server.sessions


async def test_a_signal_at_any_moment_of_the_start_leaves_no_traceback_and_no_torn_line() -> None:
    """Before anything of ours is loaded, it is the signal that ends the process."""
    dice = random.Random(8)
    moments = [dice.uniform(0, 0.3) for _ in range(400 if IS_LONG else 24)]
    limiter = trio.CapacityLimiter(4)

    async def start(moment: float, number: int) -> None:
        async with limiter:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "mcp_stdio", server.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            async with process.stdin, process.stdout, process.stderr:
                await process.stdin.send_all(INITIALIZE)
                await trio.sleep(moment)
                process.send_signal(number)
                with trio.fail_after(LIMIT):
                    output = b"".join([data async for data in process.stdout])
                    said = b"".join([data async for data in process.stderr]).decode()
                    code = await process.wait()
        where = f"{signal.Signals(number).name} after {moment * 1000:.1f} ms: {code} {said}"
        assert code in (0, -number), where
        assert "Traceback" not in said, where
        assert output == b"" or output.endswith(b"\n"), where
        answers = [json.loads(line) for line in output.splitlines()]
        assert [answer["id"] for answer in answers] in ([], ["first"]), where
        opened.extend(answer for answer in answers if "result" in answer)

    opened: list[object] = []
    async with serving() as server:
        async with trio.open_nursery() as nursery:
            for moment in moments:
                nursery.start_soon(start, moment, dice.choice([signal.SIGTERM, signal.SIGHUP]))
    # Of a session whose opening was not answered in time, nobody knows the name.
    assert len(server.sessions) <= len(server.requests(spec.INITIALIZE)) - len(opened)


INITIALIZE = (
    json.dumps({"jsonrpc": "2.0", "id": "first", "method": "initialize", "params": opening()})
    + "\n"
).encode()

PARENT = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdin.write(sys.stdin.buffer.readline())
child.stdin.flush()
child.stdout.readline()
child.stdin.write(sys.stdin.buffer.readline())
child.stdin.flush()
child.wait()
"""


async def test_a_client_killed_at_any_moment_leaves_no_orphan_and_no_session() -> None:
    dice = random.Random(15)
    moments = [dice.uniform(0, 0.4) for _ in range(200 if IS_LONG else 12)]
    limiter = trio.CapacityLimiter(4)

    async def live(moment: float) -> None:
        read_end, write_end = os.pipe()  # whose end tells that nobody is left
        async with limiter, trio.lowlevel.FdStream(read_end) as left:
            client = await trio.lowlevel.open_process(
                [sys.executable, "-c", PARENT, sys.executable, "-m", "mcp_stdio", server.url],
                stdin=subprocess.PIPE,
                stderr=write_end,
                env=environment(),
            )
            os.close(write_end)
            assert client.stdin is not None
            async with client.stdin:
                await client.stdin.send_all(INITIALIZE + CALL)
                await trio.sleep(moment)
                client.kill()
                await client.wait()
                with trio.fail_after(LIMIT):
                    said = b"".join([data async for data in left]).decode()
        assert "Traceback" not in said, f"{moment * 1000:.1f} ms: {said}"

    async with serving(tools={"never": Visit.hung_up}) as server:
        async with trio.open_nursery() as nursery:
            for moment in moments:
                nursery.start_soon(live, moment)
        await _all_left(server)
        server.runs.clear()  # several clients with the same id


CALL = (
    json.dumps(
        {"jsonrpc": "2.0", "id": "call", "method": "tools/call", "params": {"name": "never"}}
    )
    + "\n"
).encode()


async def _all_left(server: Server) -> None:
    assert not server.sessions
    with trio.fail_after(LIMIT):
        while server.open_connections:  # noqa: ASYNC110 - the kernel's own time
            await trio.sleep(0.01)

"""Little of everything: descriptors, memory. What cannot be done is answered, the rest goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.faults.driver import (
    LANES,
    LIMIT,
    UNREACHABLE,
    Relay,
    command,
    environment,
    opening,
    relaying,
)
from tests.faults.proc import needs_proc
from tests.faults.server import Visit, serving

MIB = 1024 * 1024

needs_ulimit = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


def at_most(descriptors: int) -> tuple[str, ...]:
    return "sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"


async def slowly(visit: Visit) -> None:
    await trio.sleep(0.1)
    await visit.answer()


@needs_ulimit
@pytest.mark.parametrize("lane", LANES)
async def test_more_calls_than_descriptors_are_all_answered(lane: str) -> None:
    """A connection that could not be had is tried again, and what did not run is said not to."""
    async with serving(tools={"slow": slowly}) as server:
        async with relaying(server.url, env=LANES[lane], wrapper=at_most(24)) as relay:
            calls = [await relay.start_call("slow") for _ in range(60)]
            answers = {call: await relay.answer(call) for call in calls}
            unheard = {f"{call}" for call in calls} - server.runs.keys()
            for call, answer in answers.items():
                if f"{call}" in unheard:
                    assert answer["error"]["code"] == UNREACHABLE
                    assert "Too many open files" in answer["error"]["message"]
                    assert "too many files" in answer["error"]["data"]["hint"]
                else:
                    assert "result" in answer
            assert len(unheard) < len(calls)
            assert server.connections < 24  # it was short of them indeed
            await relay.lives()


@needs_ulimit
def test_too_few_descriptors_to_begin_with_are_told_in_a_line() -> None:
    done = subprocess.run(
        [*at_most(6), *command("http://127.0.0.1:9/mcp")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    first, *rest = done.stderr.splitlines()
    assert first == "error: the system gives mcp-stdio no more: Too many open files"
    assert rest == ["", "hint: end other programs, or raise the limits that `ulimit -a` shows"]


async def large(visit: Visit) -> None:
    await visit.answer({"content": [{"type": "text", "text": "x" * 32 * MIB}]})


def large_request() -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": "tools/call"}
    message["params"] = {"name": "echo", "arguments": {"text": "x" * 48 * MIB}}
    return json.dumps({**message, "id": "large"}).encode() + b"\n"


@needs_proc
@pytest.mark.parametrize("is_answer", [True, False], ids=["an answer", "a request"])
async def test_a_message_that_memory_does_not_hold_costs_nothing_but_itself(
    is_answer: bool,
) -> None:
    async with serving(tools={"large": large}) as server:
        async with relaying(server.url) as relay:
            await relay.lives()  # all that takes memory in any case is there
            limit_memory(relay, 24 * MIB)
            if is_answer:
                error = (await relay.call("large"))["error"]
                assert (error["code"], error["data"]["kind"]) == (-32603, "exhausted")
            else:
                relay.expects("large")
                await relay.write(large_request())
                error = (await relay.answer("large"))["error"]
                assert error["code"] == -32600
                assert "too large" in error["message"]
            await relay.lives()


def limit_memory(relay: Relay, more: int) -> None:
    """Let it have so many bytes more than it has now."""
    import resource

    status = Path(f"/proc/{relay.process.pid}/status").read_text(encoding="utf-8")
    size = int(status.partition("VmSize:")[2].split()[0]) * 1024
    resource.prlimit(relay.process.pid, resource.RLIMIT_AS, (size + more, size + more))


@needs_proc
async def test_once_there_are_descriptors_again_all_is_well() -> None:
    """Also what is loaded only when it is needed takes one, if for a moment."""
    import resource

    async with serving() as server, relaying(server.url, initialize=False) as relay:
        with trio.fail_after(LIMIT):
            while not server.open_connections:  # noqa: ASYNC110 - no event tells
                await trio.sleep(0.01)
        await trio.sleep(0.3)  # until it has nothing to do but to wait
        pid = relay.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken, before[1]))
        error = (await relay.ask("initialize", opening()))["error"]
        assert "Too many open files" in error["message"]
        assert error["data"]["kind"] in ("exhausted", "unreachable")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        await relay.initialize()
        await relay.lives()

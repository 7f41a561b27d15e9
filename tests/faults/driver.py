"""A client in front of the relay as a process: what it sent, what came back, how it ended.

At the end of `relaying` the rules that always hold have been checked: each request has exactly one
answer, standard output held nothing but messages, there was no traceback, and the end of input
ended the process with code 0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import mcp_stdio
from mcp_stdio import spec
from tests.faults.server import TOOL_CALL, VERSION

LIMIT = 45.0
"""Seconds for anything that should take a few at most, on a busy machine."""

Json = dict[str, Any]

LANES: dict[str, dict[str, str]] = {
    "direct": {},
    # A proxy for other URLs than these: httpx is asked, and goes straight to the server.
    "proxied": {"HTTPS_PROXY": "http://127.0.0.1:9"},
}
"""Environments for the two ways to send requests."""

UNREACHABLE = -33001
UNKNOWN = -33002
SILENT = -33003
UNAUTHORIZED = -33004
NOT_UNDERSTOOD = -33005
SESSION_LOST = -33007
"""The codes E-1 to E-7 of errors that the relay answers with itself."""

_LEFT_OUT = {name for lower in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
             for name in (lower, lower.upper())} | {
                 "MCP_BEARER_TOKEN", "MCP_OAUTH_CLIENT_ID", "MCP_OAUTH_CLIENT_SECRET"}  # fmt: skip


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without proxies and credentials; the package importable."""
    source = str(Path(mcp_stdio.__file__).parent.parent)
    kept = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    path = os.pathsep.join(filter(None, [source, kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, **(extra or {})}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mcp_stdio", *arguments]


class Client(ABC):
    """A client of the relay, however its lines travel.

    `said` is what came besides answers; the `unanswerable` ids are to have none. What takes longer
    than `limit` seconds has failed.
    """

    limit = LIMIT

    def __init__(self) -> None:
        self.said: list[Json] = []
        self.unanswerable: set[object] = set()
        self._answers: dict[object, list[Json]] = {}
        self._asked: list[object] = []
        self._news = trio.Event()
        self._is_over = False  # the relay's output has ended

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Write to the relay's standard input."""

    @property
    def errors_said(self) -> str:
        """What the relay said besides, for whoever looks into a failure."""
        return ""

    def expects(self, *ids: object) -> None:
        """What is written as bytes has requests with these ids."""
        self._asked += ids

    async def send(self, *messages: Json) -> None:
        """Send messages, in one write."""
        self.expects(*[m["id"] for m in messages if "id" in m and "method" in m])
        await self.write(b"".join(json.dumps(m).encode() + b"\n" for m in messages))

    async def request(self, method: str, params: Json | None = None, id: object = None) -> object:
        """Send a request and give its id."""
        id = len(self._asked) + 1 if id is None else id
        message = {"jsonrpc": "2.0", "id": id, "method": method}
        await self.send(message if params is None else {**message, "params": params})
        return id

    async def notify(self, method: str, params: Json | None = None) -> None:
        message: Json = {"jsonrpc": "2.0", "method": method}
        await self.send(message if params is None else {**message, "params": params})

    async def answer(self, id: object) -> Json:
        """Wait for the answer to a request."""
        with trio.fail_after(self.limit):
            while id not in self._answers:
                assert not self._is_over, f"no answer to {id}\n{self.errors_said}"
                await self._news.wait()
        return self._answers[id][0]

    async def ask(self, method: str, params: Json | None = None, id: object = None) -> Json:
        return await self.answer(await self.request(method, params, id))

    async def start_call(self, tool: str, **arguments: Any) -> object:
        return await self.request(TOOL_CALL, {"name": tool, "arguments": arguments})

    async def call(self, tool: str, **arguments: Any) -> Json:
        return await self.answer(await self.start_call(tool, **arguments))

    async def initialize(self) -> Json:
        """Open the session as clients do; fails unless it opens."""
        answer = await self.ask(spec.INITIALIZE, opening())
        assert "result" in answer, answer
        await self.notify(spec.INITIALIZED)
        return answer

    async def heard(self, text: str) -> Json:
        """Wait for a message besides the answers that contains a text."""
        with trio.fail_after(self.limit):
            while True:
                for message in self.said:
                    if text in json.dumps(message):
                        return message
                assert not self._is_over, f"never said: {text}"
                await self._news.wait()

    async def lives(self) -> None:
        """The next request is answered by the server."""
        answer = await self.call("echo")
        assert answer.get("result", {}).get("content", [{}])[0].get("text") == "echo", answer

    def check_answers(self) -> None:
        """One answer for each request; to be called when the relay has ended."""
        for id in self._asked:
            expected = 0 if id in self.unanswerable else 1
            assert len(self._answers.get(id, [])) == expected, (id, self._answers.get(id))
        asked = {(type(id), id) for id in (*self._asked, None)}  # without an id: no message read
        assert {(type(id), id) for id in self._answers} <= asked

    def take(self, line: bytes | bytearray) -> None:
        """One line of the relay's standard output has come."""
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        if "method" in message:
            self.said.append(message)
        else:
            self._answers.setdefault(message.get("id"), []).append(message)

    def tell(self) -> None:
        """Something has come, or ended."""
        self._news.set()
        self._news = trio.Event()


class Relay(Client):
    """A running relay. `errors` is what it wrote to standard error."""

    def __init__(self, process: trio.Process) -> None:
        super().__init__()
        self.process = process
        self.errors = bytearray()
        self._is_silent = False  # standard error has ended as well

    @property
    def errors_said(self) -> str:
        return self.errors.decode()

    async def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with trio.fail_after(LIMIT):
            await self.process.stdin.send_all(data)

    async def leave(self) -> None:
        """End the input and check what must hold by then."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()
        with trio.fail_after(LIMIT):
            code = await self.process.wait()
            while not (self._is_over and self._is_silent):
                await self._news.wait()
        said = self.errors.decode()
        assert code == 0, said
        assert "Traceback" not in said, said
        self.check_answers()

    async def read_output(self) -> None:
        assert self.process.stdout is not None
        line = bytearray()
        async for data in self.process.stdout:
            *ends, rest = data.split(b"\n")
            for end in ends:
                self.take(line + end)
                line.clear()
            line += rest
            self.tell()
        assert not line, f"an unfinished line: {line[:200]!r}"
        self._is_over = True
        self.tell()

    async def read_errors(self) -> None:
        if self.process.stderr is not None:
            async for data in self.process.stderr:
                self.errors += data
        self._is_silent = True
        self.tell()


def opening() -> Json:
    """The parameters of `initialize`."""
    return {
        "protocolVersion": VERSION,
        "capabilities": {"sampling": {}},
        "clientInfo": {"name": "test", "version": "1"},
    }


@asynccontextmanager
async def relaying(
    url: str,
    *options: str,
    env: Mapping[str, str] | None = None,
    initialize: bool = True,
    stderr: int = subprocess.PIPE,
    wrapper: Sequence[str] = (),
) -> AsyncIterator[Relay]:
    """A relay in front of `url`, with a session unless told otherwise; always killed at the end.

    `stderr` is another descriptor for its standard error, `wrapper` a command that starts it.
    """
    process = await trio.lowlevel.open_process(
        [*wrapper, *command(*options, url)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment(env),
    )
    try:
        async with AsyncExitStack() as pipes, trio.open_nursery() as nursery:
            for pipe in process.stdin, process.stdout, process.stderr:
                if pipe is not None:
                    await pipes.enter_async_context(pipe)
            relay = Relay(process)
            nursery.start_soon(relay.read_output)
            nursery.start_soon(relay.read_errors)
            if initialize:
                await relay.initialize()
            yield relay
            await relay.leave()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()

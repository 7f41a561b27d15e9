"""A conversation to watch: a client, the relay as a real process, and the demo's server behind it.

Owns the client's part and how both sides are shown. Refuses to know the relay from within: it is
started as any MCP client would start it. Kept here: every wait is bounded, and whatever differs
from what should happen ends the demo with a word about it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.demo.http import Request
from mcp_stdio.demo.server import Server
from mcp_stdio.errors import REPORT, RelayError
from mcp_stdio.jsonrpc import Id, Message, NotAMessage

PATIENCE = 20.0
"""Seconds for each step: everything is on this machine, so this much silence is a failure."""

MAX_SHOWN = 150

Show = Callable[[str], None]
Command = Callable[[str], list[str]]
T = TypeVar("T")


class DemoFailed(RelayError):
    """The conversation went another way than it should."""

    usual_hint = REPORT


def client_command(url: str) -> list[str]:
    """How a client starts the relay for `url` with the interpreter that runs now."""
    # Without `-P` it would look for its modules in whatever directory the demo is in.
    return [sys.executable, "-P", "-m", "mcp_stdio", url]


async def play(show: Show, command: Command = client_command) -> None:
    """Play the conversation and show it line by line; `command` starts the relay for a URL.

    Raises DemoFailed, within an exception group.
    """
    async with trio.open_nursery() as nursery:
        server = Server(watch=lambda request: show(http_line(request)))
        url = await nursery.start(server.serve)
        show(f"A small MCP server listens on {url}")
        show(f"The relay is started in front of it: {' '.join(command(url))}")
        show("->  from client to relay, <-  from relay to client, http  from relay to server")
        process = await nursery.start(
            partial(
                trio.run_process,
                command(url),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(os.environ),
                check=False,
                deliver_cancel=_kill,
            )
        )
        client = Client(process, show)
        nursery.start_soon(client.listen)
        nursery.start_soon(client.overhear)
        await _converse(client, server, show)
        nursery.cancel_scope.cancel()


async def _converse(client: Client, server: Server, show: Show) -> None:
    show("\n1. Client and server introduce themselves")
    about = {"name": "demo", "version": "1"}
    params = {"protocolVersion": spec.R4, "capabilities": {"elicitation": {}}, "clientInfo": about}
    result = await client.ask(spec.INITIALIZE, params)
    _expect("serverInfo" in result, "`initialize` was not answered with a server's name")
    await client.tell(spec.INITIALIZED)

    show("\n2. What does the server offer?")
    tools = (await client.ask("tools/list")).get("tools", [])
    _expect(len(tools) > 0, "`tools/list` brought no tools")
    show(f"Its tools are {', '.join(tool['name'] for tool in tools)}")

    show("\n3. A call that tells how far it is")
    text = await client.call("countdown", {"from": 3, "pause": 0.2})
    _expect(text == "lift-off", "`countdown` ended with another result")
    for _ in range(3):
        await client.progress()

    show("\n4. A call with a question to the user, which the demo answers in the user's place")
    text = await client.call("ask", {"question": "What is your name?"})
    _expect(text == "Hello, Ada", "the user's answer did not reach the server")

    show("\n5. A call that the client cancels")
    id = await client.start_call("wait", {})
    await client.progress()
    await client.tell(spec.CANCELLED, {"requestId": id, "reason": "changed my mind"})
    await _bounded(server.executions[-1].over.wait, "the cancel did not arrive")
    _expect(server.executions[-1].how == "cancelled", "`wait` ended in another way")

    show("\n6. The client leaves")
    code = await client.leave()
    _expect(code == 0, f"the relay ended with code {code}")
    _expect(not server.sessions, "the session was not ended")
    show("The relay ended with code 0, and the session with it")


class Client:
    """The client's end of the relay's pipes. Run `listen` and `overhear` in the background."""

    def __init__(self, process: trio.Process, show: Show) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("all three streams of the process must be pipes")
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = process.stderr
        self._show = show
        self._last = 0
        self._waiting: dict[Id, trio.MemorySendChannel[Message]] = {}
        self._progressed, self._progress = trio.open_memory_channel[Message](100)

    async def ask(self, method: str, params: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Send a request and wait for its result. Raises DemoFailed."""
        send, receive = trio.open_memory_channel[Message](1)
        id = self._next_id()
        self._waiting[id] = send
        await self._send(jsonrpc.request(id, method, params))
        answer = await _next(receive, f"`{method}` was not answered")
        if answer.error is not None:
            raise DemoFailed(f"`{method}` was answered with an error")
        return answer.result

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool and return its text. Raises DemoFailed."""
        match await self.ask("tools/call", self._call(tool, arguments)):
            case {"content": [{"type": "text", "text": str(text)}, *_]}:
                return text
        raise DemoFailed(f"`{tool}` did not answer with a text")

    async def start_call(self, tool: str, arguments: Mapping[str, Any]) -> Id:
        """Call a tool and do not wait for its answer; returns the request's id."""
        params = self._call(tool, arguments)
        id = self._next_id()
        await self._send(jsonrpc.request(id, "tools/call", params))
        return id

    async def tell(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification."""
        await self._send(jsonrpc.notification(method, params))

    async def progress(self) -> None:
        """Wait for the next progress notification. Raises DemoFailed."""
        await _next(self._progress, "no progress was told")

    async def leave(self) -> int:
        """Close the relay's stdin and wait for its exit code. Raises DemoFailed."""
        await self._stdin.aclose()
        return await _bounded(self._process.wait, "the relay did not end")

    async def listen(self) -> None:
        """Take what the relay writes to stdout until it ends."""
        await _lines(self._stdout, self._received)
        for waiting in (self._progressed, *self._waiting.values()):
            waiting.close()

    async def overhear(self) -> None:
        """Show what the relay writes to stderr until it ends."""
        await _lines(self._stderr, self._overheard)

    async def _overheard(self, line: bytes) -> None:
        self._show(f"  log   {line.decode(errors='replace')}")

    async def _received(self, line: bytes) -> None:
        self._show(f"  <-    {_cut(line)}")
        try:
            message = jsonrpc.parse(line)
        except NotAMessage as exc:
            raise DemoFailed(f"the relay wrote something that is no message: {exc}") from None
        if message.is_response and message.id is not None:
            if (waiting := self._waiting.pop(message.id, None)) is not None:
                waiting.send_nowait(message)
        elif message.method == "notifications/progress":
            self._progressed.send_nowait(message)
        elif message.method == "elicitation/create" and message.id is not None:
            answer = {"action": "accept", "content": {"name": "Ada"}}
            await self._send(jsonrpc.result(message.id, answer))

    async def _send(self, message: Message) -> None:
        self._show(f"  ->    {_cut(message.raw)}")
        try:
            await self._stdin.send_all(message.raw + b"\n")
        except trio.BrokenResourceError:
            raise DemoFailed("the relay ended too early") from None

    def _call(self, tool: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"name": tool, "arguments": arguments, "_meta": {"progressToken": tool}}

    def _next_id(self) -> int:
        self._last += 1
        return self._last


def http_line(request: Request) -> str:
    """One line about a request that reached the server, and the status of its answer."""
    words = ["  http ", request.method]
    if request.method == "POST":
        try:
            words.append(jsonrpc.parse(request.body).method or "(an answer)")
        except NotAMessage:
            words.append("(no message)")
    return " ".join([*words, "=>", str(request.status), request.media_type]).rstrip()


def _cut(line: bytes) -> str:
    text = line.decode(errors="replace")
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + " ..."


async def _kill(process: trio.Process) -> None:
    process.kill()  # it has failed, or has ended by itself


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise DemoFailed(otherwise)


async def _next(channel: trio.MemoryReceiveChannel[Message], otherwise: str) -> Message:
    try:
        return await _bounded(channel.receive, otherwise)
    except trio.EndOfChannel:
        raise DemoFailed(f"{otherwise}: the relay ended too early") from None


async def _bounded(wait: Callable[[], Awaitable[T]], otherwise: str) -> T:
    with trio.move_on_after(PATIENCE):
        return await wait()
    raise DemoFailed(f"{otherwise} within {PATIENCE:g} s")


async def _lines(stream: trio.abc.ReceiveStream, take: Callable[[bytes], Awaitable[None]]) -> None:
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            await take(line)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The relay's environment: proxies stay out of the way, and no token goes to a demo."""
    return {
        **{name: value for name, value in environ.items() if name != "MCP_BEARER_TOKEN"},
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }

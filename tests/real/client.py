"""The official Python SDK's client on one side, `mcp-stdio` as the server it starts on the other.

`Client` plays the user: it answers what servers ask, and remembers what they say unasked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio
import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.shared.context import RequestContext
from mcp.shared.message import SessionMessage
from pydantic import AnyUrl, FileUrl

import mcp_stdio

LIMIT = 60.0
"""Seconds after which a conversation that should take one or two counts as stuck."""

ROOT = types.Root(uri=FileUrl("file:///projects/one"), name="one")

Context = RequestContext[ClientSession, Any]
N = TypeVar("N")


def relay(url: str, *options: str, env: dict[str, str] | None = None) -> StdioServerParameters:
    """How a client's configuration would have it; the package need not be installed."""
    source = str(Path(mcp_stdio.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "mcp_stdio", *options, url],
        env={"PYTHONPATH": path, **(env or {})},
    )


@dataclass
class Client:
    """What the user would say, and what the client got to hear."""

    answers: dict[str, Any] = field(default_factory=dict)
    roots: list[types.Root] = field(default_factory=lambda: [ROOT])
    asked: list[types.ElicitRequestParams | types.CreateMessageRequestParams] = field(
        default_factory=list
    )
    heard: list[types.ServerNotificationType] = field(default_factory=list)
    session: ClientSession = field(init=False)
    server: types.InitializeResult = field(init=False)
    _news: trio.Event = field(default_factory=trio.Event)

    async def elicit(
        self, context: Context, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        self.asked.append(params)
        return types.ElicitResult(action="accept", content=self.answers or None)

    async def sample(
        self, context: Context, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        self.asked.append(params)
        content = types.TextContent(type="text", text="a sampled word")
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    async def list_roots(self, context: Context) -> types.ListRootsResult | types.ErrorData:
        return types.ListRootsResult(roots=self.roots)

    async def hear(self, message: object) -> None:
        if isinstance(message, types.ServerNotification):
            self.heard.append(message.root)
            self._news.set()
            self._news = trio.Event()
        elif isinstance(message, Exception):
            raise message

    async def wait_to_hear(
        self, kind: type[N], is_meant: Callable[[N], bool] = lambda _: True
    ) -> N:
        """The first notification of a kind that has come or will come; bounded by the test."""
        while True:
            for notification in self.heard:
                if isinstance(notification, kind) and is_meant(notification):
                    return notification
            await self._news.wait()

    async def call(self, tool: str, **arguments: Any) -> types.CallToolResult:
        return await self.session.call_tool(tool, arguments)

    async def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool that answers in text."""
        result = await self.call(tool, **arguments)
        return "\n".join(part.text for part in result.content if part.type == "text")

    async def read(self, uri: str) -> str:
        """Read a resource of text."""
        contents = (await self.session.read_resource(AnyUrl(uri))).contents[0]
        assert isinstance(contents, types.TextResourceContents)
        return contents.text


Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]


@asynccontextmanager
async def piped(
    url: str, errors: Path, *options: str, env: dict[str, str] | None = None
) -> AsyncIterator[tuple[Incoming, Outgoing]]:
    """The relay as the SDK starts it; what the relay says on stderr goes to `errors`."""
    is_over = False
    with errors.open("w", encoding="utf-8") as log, trio.fail_after(LIMIT):
        try:
            async with stdio_client(relay(url, *options, env=env), errlog=log) as streams:
                yield streams
                is_over = True
        except* anyio.BrokenResourceError:
            # The SDK does not expect a server to speak once its session has left.
            if not is_over:
                raise


@asynccontextmanager
async def connected(
    url: str,
    errors: Path,
    *options: str,
    client: Client | None = None,
    env: dict[str, str] | None = None,
    **more: Any,
) -> AsyncIterator[Client]:
    """An initialized session through the relay, which has nothing to complain of until its end."""
    client = client or Client()
    async with (
        piped(url, errors, *options, env=env) as (read, write),
        ClientSession(
            read,
            write,
            sampling_callback=client.sample,
            elicitation_callback=client.elicit,
            list_roots_callback=client.list_roots,
            message_handler=client.hear,
            **more,
        ) as session,
    ):
        client.session = session
        client.server = await session.initialize()
        yield client
    said = errors.read_text(encoding="utf-8")
    assert len(said.splitlines()) <= 1, said


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another process does, such as a line in its log; bounded by `LIMIT`."""
    with trio.fail_after(LIMIT):
        while not is_so():  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(0.02)


async def at_once(jobs: Sequence[Callable[[], Any]]) -> None:
    """Run all jobs at the same time."""
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(job)

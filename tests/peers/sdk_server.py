"""A server on the official Python SDK: one small tool for each thing the protocol can do.

Run as a script it listens on a free port of the loopback interface and prints `listening on PORT`.
With `--stateless` it gives out no session, with `--json` it answers in JSON instead of a stream,
with `--resumable` events carry ids, are kept for a client that comes back, and `hang_up` works.
With `--sse` it speaks HTTP+SSE instead, the transport of 2024-11-05. `--port` takes a certain port.
What happens to a call is printed, so that a test can see it from the server's side.
"""

from __future__ import annotations

import argparse
import logging
import socket
from dataclasses import dataclass, field

import anyio
import uvicorn
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.session import ServerSession
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    JSONRPCMessage,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    TextContent,
)
from pydantic import AnyUrl, BaseModel

Ctx = Context[ServerSession, None]

COUNTER = AnyUrl("test://counter")
RETRY_MS = 100
"""How soon a client whose stream was hung up may come back."""


@dataclass
class Kept(EventStore):
    """Every event since the start, in order; the id of an event is its place."""

    events: list[tuple[StreamId, JSONRPCMessage | None]] = field(default_factory=list)

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        self.events.append((stream_id, message))
        return str(len(self.events) - 1)

    async def replay_events_after(
        self, last_event_id: EventId, send_callback: EventCallback
    ) -> StreamId | None:
        last = int(last_event_id)
        stream_id = self.events[last][0]
        for place in range(last + 1, len(self.events)):
            of, message = self.events[place]
            if of == stream_id and message is not None:
                await send_callback(EventMessage(message, str(place)))
        return stream_id


class Colour(BaseModel):
    colour: str


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def build(*, stateless: bool, json: bool, resumable: bool) -> FastMCP[None]:
    server: FastMCP[None] = FastMCP(
        "sdk-peer",
        instructions="For tests",
        stateless_http=stateless,
        json_response=json,
        event_store=Kept() if resumable else None,
        retry_interval=RETRY_MS if resumable else None,
        log_level="WARNING",
    )
    add_tools(server)
    add_the_rest(server)
    return server


def add_tools(server: FastMCP[None]) -> None:
    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def slow(seconds: float) -> str:
        say(f"slow begins {seconds}")
        try:
            await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            say(f"slow cancelled {seconds}")
            raise
        say(f"slow ends {seconds}")
        return f"slept {seconds}"

    @server.tool()
    async def progress(steps: int, ctx: Ctx) -> str:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
            await anyio.sleep(0.01)
        return f"{steps} steps"

    @server.tool()
    async def ask(question: str, ctx: Ctx) -> str:
        answer = await ctx.elicit(question, Colour)
        return answer.data.colour if answer.action == "accept" else answer.action

    @server.tool()
    async def sample(prompt: str, ctx: Ctx) -> str:
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        answer = await ctx.session.create_message(
            [message], max_tokens=20, related_request_id=ctx.request_id
        )
        assert isinstance(answer.content, TextContent)
        return answer.content.text

    @server.tool()
    async def roots(ctx: Ctx) -> list[str]:
        """Asks outside of any call's stream: the question travels on the GET stream."""
        return [str(root.uri) for root in (await ctx.session.list_roots()).roots]

    @server.tool()
    async def log(text: str, ctx: Ctx) -> str:
        await ctx.info(text)
        return "logged"

    @server.tool()
    async def touch(ctx: Ctx) -> str:
        """Says on the GET stream that the counter has changed."""
        await ctx.session.send_resource_updated(COUNTER)
        return "touched"

    @server.tool()
    async def hang_up(ctx: Ctx) -> str:
        """Closes its own stream in mid-call; the client has to come back for the answer."""
        await ctx.report_progress(1, 2, "before")
        await ctx.close_sse_stream()
        await anyio.sleep(0.2)
        await ctx.report_progress(2, 2, "after")
        return "resumed"

    @server.tool()
    async def fail() -> str:
        raise ValueError("meant to fail")


def add_the_rest(server: FastMCP[None]) -> None:
    reads = 0

    @server.resource(str(COUNTER))
    def counter() -> str:
        nonlocal reads
        reads += 1
        return str(reads)

    @server.resource("test://greeting/{name}")
    def greeting(name: str) -> str:
        return f"hello {name}"

    @server.prompt()
    def review(language: str) -> str:
        return f"Review this {language} program"

    @server.completion()
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        languages = ["Python", "Perl", "Pascal", "Rust"]
        return Completion(values=[name for name in languages if name.startswith(argument.value)])

    # FastMCP has no face for these; the server it wraps does.
    lower = server._mcp_server

    @lower.subscribe_resource()
    async def subscribe(uri: AnyUrl) -> None:
        say(f"subscribed {uri}")

    @lower.unsubscribe_resource()
    async def unsubscribe(uri: AnyUrl) -> None:
        say(f"unsubscribed {uri}")

    @lower.set_logging_level()
    async def set_level(level: str) -> None:
        say(f"level {level}")


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--stateless", "--json", "--resumable"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--sse", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    options = vars(parser.parse_args())
    speaks_sse, port = options.pop("sse"), options.pop("port")
    server = build(**options)
    app = server.sse_app() if speaks_sse else server.streamable_http_app()
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    logging.getLogger("mcp").setLevel(logging.ERROR)
    config = uvicorn.Config(app, log_level="info", access_log=True)
    say(f"listening on {listener.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

"""A server on the official Python SDK 2.x: one small tool for each thing the protocol can do.

Run as a script it listens on a free port of the loopback interface and prints `listening on PORT`.
It serves both eras, as the SDK does by default. With `--modern-only` it knows 2026-07-28 alone:
what else comes is refused with the versions that it has, with `--curt` without them. With `--json`
it answers in JSON where it can, with `--mute` it never answers a `server/discover`. Each request
and what happens to a call is printed, so that a test can see it from the server's side:

    request POST 2026-07-28 tools/call
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
import warnings
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.server.mcpserver import (
    AcceptedElicitation,
    Context,
    Elicit,
    ElicitationResult,
    ListRoots,
    MCPServer,
    Resolve,
    Sample,
)
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    EmptyResult,
    InputRequests,
    InputRequiredResult,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

warnings.simplefilter("ignore")  # part of what is served here is deprecated

MODERN = "2026-07-28"
LEGACY = {"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"}
COUNTER = "test://counter"


class Colour(BaseModel):
    colour: str


class Weather(BaseModel):
    city: str
    degrees: int


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


# What a tool has to ask before it can begin. In the modern era all questions of a call come in one
# `input_required` result; in the legacy era each is a request of the server.


async def ask_colour(question: str) -> Elicit[Colour]:
    return Elicit(question, Colour)


async def ask_model(question: str) -> Sample:
    content = TextContent(type="text", text=question)
    return Sample([SamplingMessage(role="user", content=content)], max_tokens=20)


async def ask_roots() -> ListRoots:
    return ListRoots()


def text_of(sampled: CreateMessageResult) -> str:
    assert isinstance(sampled.content, TextContent)
    return sampled.content.text


def build() -> MCPServer[None]:
    server: MCPServer[None] = MCPServer(
        "sdk2-peer", instructions="For tests", version="1", log_level="WARNING"
    )
    add_tools(server)
    add_tools_that_ask(server)
    add_the_rest(server)
    return server


def add_tools(server: MCPServer[None]) -> None:
    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def weather(city: str) -> Weather:
        return Weather(city=city, degrees=21)

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
    async def progress(steps: int, ctx: Context) -> str:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
            await anyio.sleep(0.01)
        return f"{steps} steps"

    @server.tool()
    async def log(text: str, ctx: Context) -> str:
        await ctx.debug(text)
        await ctx.info(text)
        await ctx.error(text)
        return "logged"

    @server.tool()
    async def touch(ctx: Context) -> str:
        """Say to whom it may concern that the counter has changed."""
        await ctx.notify_resource_updated(COUNTER)
        if ctx.protocol_version != MODERN:
            await ctx.session.send_resource_updated(COUNTER)
        return "touched"

    @server.tool()
    async def grow(name: str, ctx: Context) -> str:
        """Have one more tool, and say so."""

        async def grown() -> str:
            return name

        server.add_tool(grown, name=name)
        await ctx.notify_tools_changed()
        if ctx.protocol_version != MODERN:
            await ctx.session.send_tool_list_changed()
        return "grown"

    @server.tool()
    async def mirrored(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
        note: str,
        ctx: Context,
        size: Annotated[int, Field(json_schema_extra={"x-mcp-header": "Size"})] = 1,
        urgent: Annotated[bool, Field(json_schema_extra={"x-mcp-header": "Urgent"})] = False,
    ) -> str:
        """Answer with the header fields that came with the call."""
        fields = {k: v for k, v in (ctx.headers or {}).items() if k.startswith("mcp-param-")}
        return json.dumps(fields, sort_keys=True)

    @server.tool()
    async def fail() -> str:
        raise ValueError("meant to fail")


def add_tools_that_ask(server: MCPServer[None]) -> None:
    @server.tool()
    async def ask(
        question: str, answer: Annotated[ElicitationResult[Colour], Resolve(ask_colour)]
    ) -> str:
        return answer.data.colour if isinstance(answer, AcceptedElicitation) else answer.action

    @server.tool()
    async def sample(
        question: str, answer: Annotated[CreateMessageResult, Resolve(ask_model)]
    ) -> str:
        return text_of(answer)

    @server.tool()
    async def roots(answer: Annotated[ListRootsResult, Resolve(ask_roots)]) -> str:
        return " ".join(str(root.uri) for root in answer.roots)

    @server.tool()
    async def survey(
        question: str,
        colour: Annotated[Colour, Resolve(ask_colour)],
        word: Annotated[CreateMessageResult, Resolve(ask_model)],
        where: Annotated[ListRootsResult, Resolve(ask_roots)],
    ) -> str:
        """Ask everything at once."""
        return f"{colour.colour}, {text_of(word)}, {len(where.roots)} roots"

    @server.tool()
    async def rounds(
        count: int, ctx: Context, is_silent: bool = False
    ) -> str | InputRequiredResult:
        """Need so many rounds, each with a question or with nothing but a state (modern only)."""
        done = int(ctx.request_state or 0)
        say(f"round {done} of {count}")
        if done == count:
            return f"{done} rounds"
        form = ElicitRequestFormParams(
            message=f"Round {done + 1}?", requested_schema=Colour.model_json_schema()
        )
        asked: InputRequests | None = None if is_silent else {"colour": ElicitRequest(params=form)}
        return InputRequiredResult(input_requests=asked, request_state=str(done + 1))


def add_the_rest(server: MCPServer[None]) -> None:
    reads = 0

    @server.resource(COUNTER)
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

    # MCPServer has no face for these methods of the legacy era; the server it wraps does. That
    # `logging/setLevel` has a handler is also what makes the server say that it logs.
    lower = server._lowlevel_server

    async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        say(f"subscribed {params.uri}")
        return EmptyResult()

    async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        say(f"unsubscribed {params.uri}")
        return EmptyResult()

    async def set_level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
        say(f"level {params.level}")
        return EmptyResult()

    lower.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    lower.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
    lower.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)


class Told:
    """Prints each request before it is served."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            fields = headers(scope)
            version = fields.get("mcp-protocol-version", "-")
            say(f"request {scope['method']} {version} {fields.get('mcp-method', '-')}")
        await self._app(scope, receive, send)


class Mute:
    """Lets whoever asks what the server is wait."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and headers(scope).get("mcp-method") == "server/discover":
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await self._app(scope, receive, send)


class ModernOnly:
    """Refuses what is not of the modern era, as a server would that knows no other."""

    def __init__(self, app: ASGIApp, *, is_curt: bool) -> None:
        self._app = app
        self._is_curt = is_curt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        version = headers(scope).get("mcp-protocol-version") if scope["type"] == "http" else MODERN
        if scope["type"] == "http" and scope["method"] != "POST":
            await respond(send, 405, b"")
        elif version is None or version in LEGACY:
            message = json.loads(await body(receive))
            await respond(send, 400, json.dumps(self._refusal(message, version)).encode())
        else:
            await self._app(scope, receive, send)

    def _refusal(self, message: dict[str, Any], version: str | None) -> dict[str, Any]:
        error: dict[str, Any]
        if self._is_curt:
            error = {"code": -32020, "message": "Missing MCP-Protocol-Version header"}
        else:
            requested = message.get("params", {}).get("protocolVersion", version or "")
            data = {"supported": [MODERN], "requested": requested}
            error = {"code": -32022, "message": "Unsupported protocol version", "data": data}
        return {"jsonrpc": "2.0", "id": message.get("id"), "error": error}


def headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def body(receive: Receive) -> bytes:
    data = b""
    while (event := await receive())["type"] == "http.request":
        data += event.get("body", b"")
        if not event.get("more_body"):
            break
    return data


async def respond(send: Send, status: int, data: bytes) -> None:
    fields = [(b"content-type", b"application/json"), (b"allow", b"POST")]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data})


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--modern-only", "--curt", "--json", "--mute"):
        parser.add_argument(flag, action="store_true")
    wanted = parser.parse_args()
    app: ASGIApp = build().streamable_http_app(json_response=wanted.json)
    if wanted.modern_only:
        app = ModernOnly(app, is_curt=wanted.curt)
    if wanted.mute:
        app = Mute(app)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    logging.getLogger("mcp").setLevel(logging.ERROR)
    say(f"listening on {listener.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(Told(app), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()

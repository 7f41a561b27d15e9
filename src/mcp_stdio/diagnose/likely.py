"""Where the MCP server may be instead: looks at likely paths when a URL turns out to be wrong.

Asks only what does no harm: a `ping`, which no server counts as work, and a GET for an event stream
that is closed again. Stays on the origin of the URL, and signs in nowhere. What it finds is a hint;
that of the failure itself is the relay's and stays what it is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from mcp_stdio import jsonrpc, spec, sse
from mcp_stdio.config import Config
from mcp_stdio.errors import BadAnswer, Refused, RelayError
from mcp_stdio.http import Exchange, Lane, Request
from mcp_stdio.http.body import read_beginning
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import NotAMessage
from mcp_stdio.upstream.stream import messages_in

NAMES = ("/mcp", "/sse")
"""Where SDKs and frameworks put their servers, by the transport."""

PATIENCE = 3.0
"""Seconds for all of it: a server that is there answers a ping at once."""

BEGINNING = 64 * 1024
ANSWER_TIME = 2.0
"""Bytes of an answer that are read, and for how many seconds: some streams never end."""

WANTS_CREDENTIAL = "asks for a credential"

WRONG_PATH = frozenset({400, 404, 405, 410})
"""Statuses that may mean no more than that another path is the right one."""


@dataclass
class Found:
    """The URL that answers as MCP, and how."""

    url: Url
    manner: str

    @property
    def wants_credential(self) -> bool:
        """Whether it does no more than ask for a credential."""
        return self.manner == WANTS_CREDENTIAL


def may_be_elsewhere(failure: RelayError) -> bool:
    """Whether a failure may come from a path that is not the server's."""
    if isinstance(failure, Refused):
        return failure.status in WRONG_PATH
    is_redirect = failure.status is not None and 300 <= failure.status < 400
    return isinstance(failure, BadAnswer) and not is_redirect  # whose hint names the place


def candidates(url: Url) -> list[Url]:
    """The likely URLs on the same origin, without the one that was given."""
    path = url.target.partition("?")[0].rstrip("/")
    paths = [*NAMES, *(path + name for name in NAMES if not path.endswith(NAMES))]
    found = dict.fromkeys(url._replace(target=each) for each in paths)
    return [each for each in found if each.target != url.target]


async def hint_for(failure: RelayError, config: Config) -> str | None:
    """A better hint than the failure's own, for which it is looked around; None without one."""
    if not may_be_elsewhere(failure):
        return None
    found, tried = await look(config)
    if found:
        # What answers is a better bet than what asks for a credential, as everything may there.
        best = min(found, key=lambda each: each.wants_credential)
        more = ", with `--oauth` or a token" if best.wants_credential else ""
        return f"`{best.url.public}` {best.manner}: use that URL{more}"
    chosen = " ".join(
        f"{option} {value}"
        for option, value in (
            ("--transport", config.transport),
            ("--protocol-era", config.protocol_era),
        )
        if value != "auto"
    )
    if chosen:
        # What there is may speak otherwise, whatever the paths that were tried have shown.
        return f"{failure.hint}; or leave out `{chosen}`"
    paths = ", ".join(f"`{url.target}`" for url in tried)
    told = f"no MCP server answers at {paths} either: ask who runs it for its URL"
    return told if isinstance(failure, Refused) else f"{failure.hint}; {told}"


async def look(config: Config) -> tuple[list[Found], list[Url]]:
    """What is found at the likely URLs, and the URLs that were tried."""
    tried = candidates(Url.parse(config.url))
    found: dict[Url, str] = {}
    client = open_client(config)  # with nothing that signs in: a challenge is an answer here

    async def ask(url: Url) -> None:
        manner = await _manner(client, url)
        if manner is not None:
            found[url] = manner

    try:
        with trio.move_on_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for url in tried:
                    nursery.start_soon(ask, url)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await client.aclose()
    return [Found(url, found[url]) for url in tried if url in found], tried


async def _manner(client: Lane, url: Url) -> str | None:
    """How the URL answers as MCP, in words; None if it does not."""
    ping = jsonrpc.request("likely-path", spec.PING)
    try:
        post = Request("POST", url, spec.POST_HEADERS, ping.raw, is_replayable=True)
        manner = await _answer(client, post)
        if manner is None:
            get = Request("GET", url, spec.GET_HEADERS, is_replayable=True)
            manner = await _answer(client, get)
    except RelayError:
        return None
    return manner


async def _answer(client: Lane, request: Request) -> str | None:
    exchange = await client.send(request)
    try:
        head = await exchange.head()
        if head.status == 401 and head.headers.get("www-authenticate") is not None:
            return WANTS_CREDENTIAL
        if request.method == "GET":
            if head.status == 200 and head.media_type == spec.EVENT_STREAM:
                return await _endpoint(exchange)
            return None
        body = await read_beginning(exchange, BEGINNING, ANSWER_TIME)
        is_stream = head.media_type == spec.EVENT_STREAM
        return "answers as MCP" if _has_response(body, is_stream=is_stream) else None
    finally:
        await exchange.aclose()


async def _endpoint(exchange: Exchange) -> str | None:
    """Whether a stream begins as that of HTTP+SSE does: with where to POST."""
    decoder = sse.Decoder(BEGINNING)
    while chunk := await exchange.receive_some():
        for event in decoder.feed(chunk):
            return "answers as MCP over HTTP+SSE" if event.type == "endpoint" else None
        if decoder.failure is not None:
            return None
    return None


def _has_response(body: bytes, *, is_stream: bool) -> bool:
    try:
        if is_stream:
            messages = messages_in(sse.Decoder(BEGINNING).feed(body))
        else:
            messages = jsonrpc.parse_many(body)
    except NotAMessage:
        return False
    return any(message.is_response for message in messages)

"""A sign-in by hand: the same story as the relay's, told to whoever sits at the terminal.

Asks the server first, as the relay would, so that its challenge names scope and metadata; one that
answers without a challenge is taken at the word of its well-known metadata, and without that there
is nothing to sign in at. On a terminal the page's redirect may be pasted as well, for a browser on
another machine. Knows no store but the entry it is given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import NamedTuple

import trio

from mcp_stdio import __version__, jsonrpc, log, spec
from mcp_stdio.assembly import given
from mcp_stdio.config import Config, OAuth
from mcp_stdio.errors import TimedOut
from mcp_stdio.http import Request
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import challenge as challenges
from mcp_stdio.oauth import login, redirect
from mcp_stdio.oauth.announcing import Announcing
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Flow
from mcp_stdio.oauth.discovery import NowhereToSignIn
from mcp_stdio.oauth.fetch import Fetcher
from mcp_stdio.oauth.performer import Performer, Show, T
from mcp_stdio.oauth.record import Record, Tokens
from mcp_stdio.oauth.store import Entry
from mcp_stdio.sign_in.account import in_words
from mcp_stdio.sign_in.narrator import Narrator
from mcp_stdio.stdio import Input
from mcp_stdio.terminal import AFTER
from mcp_stdio.upstream.refusal import HttpRefusal, refusal

MAX_PASTED = 64 * 1024
"""Bytes of a pasted line; most terminals cut it off long before."""

CUT_OFF_AT = 4095
"""Bytes of a line that Linux keeps before its line end (termios(3)); it drops the rest."""

PATIENCE = 30.0
"""Seconds for the server to say what it wants."""


async def obtain(config: Config, entry: Entry) -> Record | None:
    """Sign in, and keep what came of it in the entry. Raises RelayError.

    None where nobody has to: the server answers anybody, and names no place to sign in at.
    """
    assert config.oauth is not None
    narrator = Narrator(may_paste=sys.stdin is not None and sys.stdin.isatty())
    where = Url.parse(config.url).authority
    said = await narrator.during(partial(asked, config), f"asking {where} how to sign in")
    challenge = said.challenge
    async with locked(entry, narrator) as others:
        known = entry.known()
        for secret in known.secrets():
            log.protect(secret)
        if _is_done(config.oauth, known, others):
            return known
        flow = login.sign_in(config.oauth, entry.server_url, challenge, known)
        with Announcing(entry, narrator) as show:
            perform = partial(_perform, config, flow, narrator, keep=entry.write, show=show)
            try:
                record = await narrator.during(perform)
            except NowhereToSignIn as failure:
                if not said.is_answer:
                    if challenge is None:
                        failure.hint = "`mcp-stdio test URL` shows what is there"
                    raise
                return None
            entry.write(record)
        return record


def _is_done(oauth: OAuth, known: Record, others: Others) -> bool:
    """Whether the page of another process, which was shown here, has brought what is wanted."""
    if known.tokens is None or known.tokens == others.tokens or not others.pages:
        return False
    return oauth.scope is None or oauth.scope == known.tokens.requested_scope


@dataclass
class Others:
    """What other processes were seen to do: `pages` that they show, and `tokens` kept before."""

    tokens: Tokens | None
    pages: set[str] = field(default_factory=set)


@asynccontextmanager
async def locked(entry: Entry, narrator: Narrator) -> AsyncIterator[Others]:
    """The entry's lock; tells what it is waited for when another process has it for long."""
    others = Others(entry.known().tokens)
    async with AsyncExitStack() as stack:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_of, others, entry, narrator)
            lock = partial(stack.enter_async_context, entry.locked())
            await narrator.during(lock, "waiting for another mcp-stdio process")
            nursery.cancel_scope.cancel()
        yield others


async def _tell_of(others: Others, entry: Entry, narrator: Narrator) -> None:
    await trio.sleep(AFTER)
    if entry.announced() is None:
        narrator.tell("another mcp-stdio process is at this sign-in; waiting for it")
    while True:
        notice = entry.announced()
        if notice is not None and notice.in_vain_at is None and notice.url not in others.pages:
            others.pages.add(notice.url)
            narrator.tell(
                f"another mcp-stdio process ({notice.pid}) asks somebody to sign in there, since "
                f"{in_words(time.time() - notice.since)}, at this page:\n\n    {notice.url}\n\n"
                "waiting until somebody has, or that process ends"
            )
        await trio.sleep(AFTER)


async def revoke(config: Config, record: Record) -> None:
    """Tell the authorization server to forget the tokens, where it offers that.

    Raises RelayError.
    """
    flow, narrator = login.revoke(config.oauth or OAuth(), record), Narrator()
    perform = partial(_perform, config, flow, narrator, keep=_nowhere, show=narrator, within=inf)
    await narrator.during(perform)


class Said(NamedTuple):
    """What a server says to somebody it does not know: a challenge, or even an answer of MCP."""

    challenge: Challenge | None
    is_answer: bool = False


async def asked(config: Config) -> Said:
    """What the server answers somebody it does not know.

    Raises RelayError where there is no server that one could sign in at.
    """
    client = open_client(config, authorizer=given(config))
    about = {"name": "mcp-stdio", "version": __version__}
    params = {"protocolVersion": spec.R4, "capabilities": {}, "clientInfo": about}
    message = jsonrpc.request("login", spec.INITIALIZE, params)
    url = Url.parse(config.url)
    request = Request("POST", url, spec.POST_HEADERS, message.raw, is_replayable=True)
    try:
        with trio.move_on_after(PATIENCE):
            exchange = await client.send(request)
            try:
                head = await exchange.head()
                if head.status == 401:
                    return Said(challenges.parse(head.headers.get_all("www-authenticate")))
                if head.status < 300:
                    return Said(None, head.media_type in (spec.JSON, spec.EVENT_STREAM))
                failure = await refusal(exchange, head, message.id)
                if head.status in (404, 405) or head.status >= 500:
                    raise failure
                # Such as a server that does without a handshake and says so.
                return Said(None, isinstance(failure, HttpRefusal) and failure.answer is not None)
            finally:
                await exchange.aclose()
        raise TimedOut(
            f"the server said nothing for {PATIENCE:g} s",
            hint="try again; `mcp-stdio test URL` shows where the time goes",
        )
    finally:
        await client.aclose()


async def _perform(
    config: Config,
    flow: Flow[T],
    narrator: Narrator,
    *,
    keep: Callable[[Record], None],
    show: Show,
    within: float | None = None,
) -> T:
    fetcher = Fetcher(config)
    try:
        performer = Performer(
            config.oauth or OAuth(),
            fetch=narrator.fetching(fetcher.fetch),
            keep=keep,
            show=show,
            paste=partial(_paste, narrator) if narrator.may_paste else None,
        )
        return await performer.perform(flow, within=within)
    finally:
        with trio.CancelScope(shield=True):
            await fetcher.aclose()


async def _paste(narrator: Narrator, state: str) -> Mapping[str, str]:
    with narrator.asking():
        async for line in Input(sys.stdin.fileno(), MAX_PASTED, keeps_blank=True):
            text = line.decode(errors="replace") if isinstance(line, bytes) else ""
            narrator.entered(text)
            if not text.strip():
                continue
            if len(line) == CUT_OFF_AT:  # what is missing may be half a code
                narrator.tell(
                    f"that cannot be used: the terminal has cut it off after {CUT_OFF_AT} bytes;\n"
                    "paste only its `code=...`, `state=...` and `iss=...`, with `&` between them"
                )
                continue
            try:
                found = redirect.pasted(text)
            except ValueError as exc:
                narrator.tell(f"that cannot be used: {exc}; paste the whole address")
                continue
            if redirect.is_awaited(found, state):
                return found
            narrator.tell("that is the answer to another sign-in; paste the address of this one")
    await trio.sleep_forever()  # the terminal is gone; the browser may still come back
    raise AssertionError


def _nowhere(record: Record) -> None:
    """What is forgotten is not kept."""

"""Signing in and renewing a token: challenges, metadata and token requests that are cut.

The request that met the 401 has had no effect, so it is never told that its outcome is unknown
(P2); a grant outlives every failure of the network; and the next try succeeds.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.config import Config, OAuth
from mcp_stdio.oauth.record import Record, Tokens
from mcp_stdio.oauth.store import Store, default_directory
from tests.cuts.calls import (
    LEGACY,
    MODERN,
    by_length,
    discovered,
    has_head,
    lost,
    runs,
    same,
)
from tests.cuts.client import TESTED, Talker, outcome
from tests.cuts.matrix import SILENCE, Case, Exchange, World
from tests.faults.driver import SILENT, UNAUTHORIZED, opening
from tests.faults.server import (
    TOOL_CALL,
    Behaviour,
    Server,
    Visit,
    dumps,
    http,
    serving,
    welcome,
    well,
)
from tests.faults.wire import Wire

CLIENT = "client"

RESOURCE = "/.well-known/oauth-protected-resource"
ISSUER = "/.well-known/oauth-authorization-server"
TOKEN = "/token"

PAUSE = 20.0
"""Seconds until a client tries again what was refused."""

TRIES = 4

NUMBERS = itertools.count()


class Site:
    """A server that wants a token, and who gives them out; a refresh token is good for ever."""

    def __init__(self, *, is_modern: bool = False) -> None:
        self.is_modern = is_modern
        self.issued = 0
        self.accepted: set[str] = set()
        self.server: Server
        self.issuer: Server

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.issuer.port}"

    def guarded(self, behaviour: Behaviour) -> Behaviour:
        async def behave(visit: Visit) -> None:
            token = (visit.received.get("authorization") or "").removeprefix("Bearer ")
            if token in self.accepted:
                await behaviour(visit)
                return
            if visit.received.rpc == TOOL_CALL:
                visit.did_not_run()
            challenge = f'Bearer resource_metadata="{self.origin}{RESOURCE}"'
            await visit.send(http(401, headers=[f"WWW-Authenticate: {challenge}"]))

        return behave

    async def document(self, visit: Visit) -> None:
        """Answer a GET for metadata."""
        documents: dict[str, dict[str, Any]] = {
            RESOURCE: {"resource": self.server.url, "authorization_servers": [self.origin]},
            ISSUER: {
                "issuer": self.origin,
                "authorization_endpoint": f"{self.origin}/authorize",
                "token_endpoint": f"{self.origin}{TOKEN}",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
            },
        }
        found = documents.get(visit.received.target)
        await visit.send(http(404) if found is None else http(body=dumps(found)))

    async def grant(self, visit: Visit) -> None:
        """Answer a token request; what was given out before is good no more."""
        self.issued += 1
        token = f"token-{self.issued}"
        self.accepted = {token}
        await visit.send(http(body=dumps({"access_token": token, "token_type": "Bearer"})))

    @asynccontextmanager
    async def running(self, oauth: OAuth, *, of_issuer: bool, wire: Wire) -> AsyncIterator[World]:
        guarded = {TOOL_CALL: self.guarded(by_length)}
        if self.is_modern:
            guarded[spec.DISCOVER] = self.guarded(discovered)
        else:
            guarded[spec.INITIALIZE] = self.guarded(welcome)
            guarded[spec.INITIALIZED] = self.guarded(well)
        documents = {"GET": self.document, "POST": self.grant}
        async with (
            serving(
                methods=documents,
                has_sessions=False,
                is_judged=False,
                wire=wire if of_issuer else None,
            ) as self.issuer,
            serving(
                path=f"/mcp/{next(NUMBERS):06}",  # ports come back, and what is kept has this name
                methods=guarded,
                has_sessions=not self.is_modern,
                wire=None if of_issuer else wire,
            ) as self.server,
        ):
            config = Config(self.server.url, timeout_read=SILENCE, oauth=oauth)
            await self.prepare(oauth)
            yield World(self.server, config)

    async def prepare(self, oauth: OAuth) -> None:
        """Before the relay starts."""


class SignedIn(Site):
    """Somebody has signed in before; the server takes the token until the call that is tested."""

    async def prepare(self, oauth: OAuth) -> None:
        self.accepted = {"kept"}
        entry = Store(default_directory(os.environ)).entry(
            self.server.url, oauth.client_id, oauth.profile
        )
        tokens = Tokens(
            access_token="kept",
            refresh_token="grant",
            issuer=self.origin,
            client_id=CLIENT,
            token_endpoint=f"{self.origin}{TOKEN}",
            resource=self.server.url,
        )
        async with entry.locked():
            entry.write(Record(server_url=self.server.url, client_id=CLIENT, tokens=tokens))

    def guarded(self, behaviour: Behaviour) -> Behaviour:
        guarded = super().guarded(behaviour)

        async def behave(visit: Visit) -> None:
            if visit.received.call == json.dumps(TESTED):
                self.accepted.discard("kept")
            await guarded(visit)

        return behave


WITH_SECRET = OAuth(grant="client-credentials", client_id=CLIENT, client_secret="secret")
BY_A_PERSON = OAuth(client_id=CLIENT, opens_browser=False)


@asynccontextmanager
async def signing_in(wire: Wire) -> AsyncIterator[World]:
    async with Site().running(WITH_SECRET, of_issuer=True, wire=wire) as world:
        yield world


@asynccontextmanager
async def challenged(wire: Wire) -> AsyncIterator[World]:
    async with Site().running(WITH_SECRET, of_issuer=False, wire=wire) as world:
        yield world


def signed_in(*, of_issuer: bool, is_modern: bool) -> Callable[[Wire], Any]:
    """A world in which the token expires with the call; what is cut is the issuer's or not."""

    @asynccontextmanager
    async def serve(wire: Wire) -> AsyncIterator[World]:
        site = SignedIn(is_modern=is_modern)
        async with site.running(BY_A_PERSON, of_issuer=of_issuer, wire=wire) as world:
            yield world

    return serve


async def initialize(talker: Talker, server: Server) -> Any:
    """Open the session, which takes a token, and call."""
    opened = outcome(await talker.ask(spec.INITIALIZE, opening(), TESTED))
    if opened == "result":
        await talker.notify(spec.INITIALIZED)
    return opened, await try_on(talker)


async def call(talker: Talker, server: Server) -> Any:
    await talker.initialize()
    return outcome(await talker.call_as(TESTED, "tested")), await try_on(talker)


async def modern_call(talker: Talker, server: Server) -> Any:
    talker.is_modern = True
    assert outcome(await talker.ask(spec.DISCOVER)) == "result"
    return outcome(await talker.call_as(TESTED, "tested")), await try_on(talker)


async def try_on(talker: Talker) -> list[str | int]:
    """Call until there is an answer; what the others got."""
    refused: list[str | int] = []
    for number in range(TRIES):
        seen = outcome(await talker.call_as(f"try {number}", "echo"))
        if seen == "result":
            return refused
        refused.append(seen)
        await trio.sleep(PAUSE)
    raise AssertionError(f"refused for good: {refused}")


def answered(case: Case) -> None:
    """`initialize` and its 401 are harmless: asked once more, answered unless nothing comes."""
    opened, refused = case.seen
    is_there = has_head(case) if b"401" in case.recorded.response else case.is_whole
    same(opened, SILENT if case.is_stalled and not is_there else "result")
    same(refused, [])


def signed(case: Case) -> None:
    """A sign-in that fails is tried again; while it hangs, the relay answers in its place."""
    opened, refused = case.seen
    if case.is_whole:
        same((opened, refused), ("result", []))
    elif case.is_stalled:
        same((opened, set(refused)), ("result", {UNAUTHORIZED}))
    else:
        same((opened, refused), (UNAUTHORIZED, []))


def renewed(case: Case) -> None:
    """The call was refused and has not run; the grant is as good as it was."""
    seen, refused = case.seen
    same(seen, "result" if case.is_whole else UNAUTHORIZED)
    same(set(refused), {UNAUTHORIZED} if case.is_stalled else set())
    same(runs(case), int(case.is_whole))


def challenged_call(case: Case) -> None:
    """From its head on a 401 says that the call did not run."""
    seen, refused = case.seen
    same(seen, "result" if has_head(case) else lost(case))
    same(refused, [])
    same(runs(case), int(has_head(case)))


def replayed_call(case: Case) -> None:
    """With the new token it is a call as any other."""
    seen, refused = case.seen
    same(seen, "result" if case.is_whole else lost(case))
    same(refused, [])
    same(runs(case), int(case.was_read))


EXCHANGES = [
    Exchange("sign-in: 401", LEGACY, challenged, initialize, spec.INITIALIZE, answered),
    Exchange("sign-in: resource metadata", LEGACY, signing_in, initialize, RESOURCE, signed),
    Exchange("sign-in: server metadata", LEGACY, signing_in, initialize, ISSUER, signed),
    Exchange("sign-in: token", LEGACY, signing_in, initialize, TOKEN, signed),
    Exchange("sign-in: replayed", LEGACY, challenged, initialize, spec.INITIALIZE, answered, nth=1),
    *(
        exchange
        for eras, talk in ((LEGACY, call), (MODERN, modern_call))
        for of_server in [signed_in(of_issuer=False, is_modern=eras == MODERN)]
        for of_issuer in [signed_in(of_issuer=True, is_modern=eras == MODERN)]
        for exchange in (
            Exchange("renewal: 401", eras, of_server, talk, TOOL_CALL, challenged_call),
            Exchange("renewal: token", eras, of_issuer, talk, TOKEN, renewed),
            Exchange("renewal: replayed", eras, of_server, talk, TOOL_CALL, replayed_call, nth=1),
        )
    ),
]

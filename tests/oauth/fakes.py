"""A protected server and its authorization server as objects, with a person who signs in by code.

The device grant needs no socket, so that all time there is can be a test's own.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from mcp_stdio.config import OAuth
from mcp_stdio.http import Exchange, Request
from mcp_stdio.http.authorizer import Authorizer, Fixed
from mcp_stdio.http.client import Client
from mcp_stdio.http.url import Url
from mcp_stdio.oauth.bearer import Bearer
from mcp_stdio.oauth.commands import Fetch, Fetched
from mcp_stdio.oauth.record import Record, Registration, Tokens
from mcp_stdio.oauth.store import Entry, Store
from tests.http.fakes import Answer, FakeLane
from tests.oauth.pump import AS, ASM, CLOCK, MCP, MISSING, PRM, RESOURCE, SERVER, form_of, found

PAGE = f"{AS}/device"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
SECRET = "the-secret-of-client-1"
DEVICE = OAuth(grant="device-code")

Trouble = Fetched | Exception


def now() -> float:
    """A wall clock that goes as trio's does."""
    return CLOCK + trio.current_time()


@dataclass
class Authority:
    """An authorization server; every grant it gives is remembered with its time.

    `trouble` is what the next requests for tokens get instead, `outages` what the next of any kind
    raise. Used refresh tokens are dead.
    """

    lifetime: float | None = 3600
    gives_refresh_tokens: bool = True
    delay: float = 0.0
    trouble: list[Trouble] = field(default_factory=list)
    outages: list[Exception] = field(default_factory=list)
    denies: bool = False
    client_secret: str = SECRET
    confirmed: trio.Event = field(default_factory=trio.Event)
    fetched: list[str] = field(default_factory=list)
    grants: list[tuple[str, float]] = field(default_factory=list)
    scopes: list[str | None] = field(default_factory=list)
    refresh_tokens: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def fetch(self, fetch: Fetch) -> Fetched:
        self.fetched.append(f"{fetch.method} {fetch.url.removeprefix(AS)}")
        await trio.sleep(self.delay)
        if self.outages:
            raise self.outages.pop(0)
        match fetch.url.removeprefix(AS):
            case "/token":
                return self._granted(form_of(fetch))
            case "/device_authorization":
                self.scopes.append(form_of(fetch).get("scope"))
                return found({**CODE, "device_code": f"device-{next(self._numbers)}"})
            case "/register":
                return found({"client_id": "client-1", "client_secret": self.client_secret}, 201)
        pages = {PRM: RESOURCE, ASM: {**SERVER, **DEVICE_METADATA}}
        return found(pages[fetch.url]) if fetch.url in pages else MISSING

    def _granted(self, form: dict[str, str]) -> Fetched:
        grant = form["grant_type"].rpartition(":")[2]
        if grant == "device_code" and self.denies:
            return found({"error": "access_denied"}, 400)
        if grant == "device_code" and not self.confirmed.is_set():
            return found({"error": "authorization_pending"}, 400)
        self.grants.append((grant, trio.current_time()))
        if self.trouble:
            trouble = self.trouble.pop(0)
            if isinstance(trouble, Exception):
                raise trouble
            return trouble
        if grant == "refresh_token" and form["refresh_token"] not in self.refresh_tokens:
            return found({"error": "invalid_grant"}, 400)
        self.refresh_tokens.discard(form.get("refresh_token", ""))
        return found(self._issued())

    def _issued(self) -> dict[str, Any]:
        number = next(self._numbers)
        answer: dict[str, Any] = {"access_token": f"access-{number}", "token_type": "Bearer"}
        if self.lifetime is not None:
            answer["expires_in"] = self.lifetime
        self.tokens.add(answer["access_token"])
        if self.gives_refresh_tokens:
            answer["refresh_token"] = f"refresh-{number}"
            self.refresh_tokens.add(answer["refresh_token"])
        return answer

    @property
    def names(self) -> list[str]:
        """The kinds of all grants."""
        return [name for name, _ in self.grants]

    @property
    def asked(self) -> int:
        """How often a person was to type a code."""
        return self.fetched.count("POST /device_authorization")


CODE = {"user_code": "WDJB-MJHT", "verification_uri": PAGE, "expires_in": 1800, "interval": 1}

DEVICE_METADATA = {
    "device_authorization_endpoint": f"{AS}/device_authorization",
    "grant_types_supported": [DEVICE_CODE, "refresh_token", "client_credentials"],
}

Judge = Callable[[str | None, Request], Answer | None]
"""Answers to a request with this token, if it does not get through."""


def refusal(status: int = 401, **members: str) -> Answer:
    """A refusal with its challenge."""
    said = "".join(f', {name}="{value}"' for name, value in members.items())
    return Answer(status, [("WWW-Authenticate", f'Bearer realm="mcp"{said}')])


class Server(FakeLane):
    """A protected server; without a judge it takes the tokens that its authority has given."""

    def __init__(self, authority: Authority, judge: Judge | None = None) -> None:
        super().__init__()
        self._authority = authority
        self.judge = judge or self.protected

    def protected(self, token: str | None, request: Request) -> Answer | None:
        return None if token in self._authority.tokens else refusal()

    async def send(self, request: Request) -> Exchange:
        value = dict(request.headers).get("Authorization", "")
        kind, _, token = value.partition(" ")
        await trio.lowlevel.checkpoint()
        self.answers = [self.judge(token if kind == "Bearer" else None, request) or Answer()]
        return await super().send(request)

    @property
    def shown(self) -> list[str | None]:
        """What each request had for an `Authorization`."""
        return [dict(request.headers).get("Authorization") for request in self.requests]


@dataclass
class Rig:
    """Bearers of one machine, in front of one server."""

    directory: Path
    nursery: trio.Nursery
    authority: Authority = field(default_factory=Authority)

    def __post_init__(self) -> None:
        self.server = Server(self.authority)

    def entry(self) -> Entry:
        """What is kept, as each process sees it."""
        return Store(self.directory / "kept").entry(MCP, None, "default")

    def kept(self) -> Tokens | None:
        """The tokens in the store."""
        record = self.entry().read()
        return None if record is None else record.tokens

    async def signed_in(self, **members: Any) -> Tokens:
        """Have tokens kept, as an earlier sign-in has left them."""
        issued = self.authority._issued()
        tokens = Tokens(
            access_token=issued["access_token"],
            refresh_token=issued.get("refresh_token"),
            expires_at=issued.get("expires_in") and now() + issued["expires_in"],
            issuer=AS,
            client_id="client-1",
            resource=MCP,
            token_endpoint=f"{AS}/token",
        )
        tokens = dataclasses.replace(tokens, **members)
        client = Registration(client_id="client-1", client_secret=SECRET)
        entry = self.entry()
        async with entry.locked():
            entry.write(Record(server_url=MCP, registrations={AS: client}, tokens=tokens))
        return tokens

    def bearer(
        self,
        oauth: OAuth = DEVICE,
        *,
        others: Authorizer | None = None,
        entry: Entry | None = None,
        clock: Callable[[], float] = now,
    ) -> Bearer:
        """One more bearer that is attended to."""
        bearer = Bearer(
            oauth, entry or self.entry(), others or Fixed(), self.authority.fetch, clock=clock
        )
        bearer.recall()
        self.nursery.start_soon(bearer.attend)
        return bearer

    def client(self, bearer: Bearer | None = None) -> Client:
        """The way to the server with this bearer's token."""
        origin = Url.parse(MCP).origin
        return Client(self.server, origin=origin, authorizer=bearer or self.bearer())


async def ask(client: Client, body: bytes = b"{}") -> int:
    """The status of one request."""
    exchange = await client.send(Request("POST", Url.parse(MCP), body=body))
    try:
        return (await exchange.head()).status
    finally:
        await exchange.aclose()

"""A flow pumped by hand: what it yields is recorded, what it gets comes from a list or a table."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from mcp_stdio.oauth.commands import (
    Command,
    Fetch,
    Fetched,
    Flow,
    Keep,
    Listen,
    Now,
    ShowCode,
    Visit,
    Wait,
)
from mcp_stdio.oauth.record import Record

T = TypeVar("T")

CLOCK = 1_000_000.0

Answer = Any
"""What a command gets; an exception is thrown, a function is asked with the command."""


@dataclass
class Pumped(Generic[T]):
    """What a flow did and returned."""

    commands: list[Command]
    result: T


def pump(flow: Flow[T], answers: list[Answer]) -> Pumped[T]:
    """Run a flow to its end; every answer must be used."""
    left = list(answers)
    commands, result = drive(flow, lambda command: left.pop(0))
    assert left == []
    return Pumped(commands, result)


def drive(flow: Flow[T], answer: Callable[[Command], Answer]) -> tuple[list[Command], T]:
    """Run a flow to its end, asking for each answer."""
    commands: list[Command] = []
    send: Answer = None
    try:
        while True:
            command = flow.throw(send) if isinstance(send, Exception) else flow.send(send)
            commands.append(command)
            send = answer(command)
            if callable(send):
                send = send(command)
    except StopIteration as stop:
        return commands, stop.value


def found(document: Any, status: int = 200) -> Fetched:
    return Fetched(status, {"content-type": "application/json"}, json.dumps(document).encode())


def form(body: bytes, status: int = 200) -> Fetched:
    return Fetched(status, {"content-type": "application/x-www-form-urlencoded"}, body)


MISSING = Fetched(404, {}, b"<h1>Not found</h1>")


def query_of(url: str) -> dict[str, str]:
    """The query of a URL, in which no name may stand twice."""
    return members(urlsplit(url).query)


def form_of(fetch: Fetch) -> dict[str, str]:
    assert ("Content-Type", "application/x-www-form-urlencoded") in fetch.headers
    return members(fetch.body.decode())


def members(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def basic_of(fetch: Fetch) -> str | None:
    value = dict(fetch.headers).get("Authorization")
    return value and base64.b64decode(value.removeprefix("Basic ")).decode()


MCP = "https://mcp.example/mcp"
PRM = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
AS = "https://as.example"
ASM = "https://as.example/.well-known/oauth-authorization-server"
LISTENER = "http://127.0.0.1:4711/callback"

RESOURCE = {"resource": MCP, "authorization_servers": [AS]}
SERVER = {
    "issuer": AS,
    "authorization_endpoint": f"{AS}/authorize",
    "token_endpoint": f"{AS}/token",
    "registration_endpoint": f"{AS}/register",
    "code_challenge_methods_supported": ["S256"],
    "token_endpoint_auth_methods_supported": ["none"],
}
TOKENS = {
    "access_token": "access-1",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "refresh-1",
}


@dataclass
class World:
    """Servers, a browser and a clock, as a table; what is not in it is not found."""

    pages: dict[str, Answer] = field(default_factory=dict)
    browser: Callable[[Visit], Answer] | Answer = None
    listeners: dict[int | None, Answer] = field(default_factory=dict)
    clock: float = CLOCK
    commands: list[Command] = field(default_factory=list)
    kept: list[Record] = field(default_factory=list)

    def run(self, flow: Flow[T]) -> T:
        return drive(flow, self.answer)[1]

    def answer(self, command: Command) -> Answer:
        self.commands.append(command)
        match command:
            case Fetch():
                page = self.pages.get(command.url, MISSING)
                return page.pop(0) if isinstance(page, list) else page
            case Listen():
                return self.listeners.get(command.port, LISTENER)
            case Visit():
                return self.browser if self.browser is not None else came_back()
            case Wait():
                self.clock += command.seconds
            case Now():
                return self.clock
            case Keep():
                self.kept.append(command.record)
            case ShowCode():
                pass
        return None

    @property
    def fetched(self) -> list[str]:
        return [f"{c.method} {c.url}" for c in self.commands if isinstance(c, Fetch)]

    def sent(self, url: str) -> list[Fetch]:
        return [c for c in self.commands if isinstance(c, Fetch) and c.url == url]

    @property
    def visits(self) -> list[dict[str, str]]:
        return [query_of(c.url) for c in self.commands if isinstance(c, Visit)]

    @property
    def ports(self) -> list[int | None]:
        return [c.port for c in self.commands if isinstance(c, Listen)]


def came_back(**members: str) -> Mapping[str, str]:
    return {"code": "code-1", **members}


def world(
    resource: Mapping[str, Any] | None = None, server: Mapping[str, Any] | None = None
) -> World:
    """The usual servers, with members replaced; None removes one."""
    published = {**RESOURCE, **(resource or {})}
    metadata = {**SERVER, **(server or {})}
    return World(
        {
            PRM: found({k: v for k, v in published.items() if v is not None}),
            ASM: found({k: v for k, v in metadata.items() if v is not None}),
            f"{AS}/register": found({"client_id": "client-1"}, 201),
            f"{AS}/token": found(TOKENS),
        }
    )

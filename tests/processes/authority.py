"""A protected MCP server and the authorization server in front of it, in one and in threads.

Light enough for hundreds of relays at once, and strict where they might tread on each other: a
refresh token is used up by its first use, and whoever shows it again is told so and counted. The
page to sign in at agrees to everything and redirects at once.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from mcp_stdio import spec
from mcp_stdio.oauth.record import Record, Registration, Tokens

Json = dict[str, Any]

CLIENT = "client-0"
"""The client of whoever has signed in before the test."""


def nothing() -> None:
    """What happens by default at the moments that a test can seize."""


@dataclass
class Authority:
    """What the two have seen and given out.

    `seen` counts what was asked for: `register`, `authorize`, the grants, and `reuse` for refresh
    tokens shown twice; `calls` counts tool calls by id. `before_refresh` runs when a refresh has
    arrived and before it counts; raising OSError leaves it unanswered. `after_refresh` runs when
    the old token is used up and before the answer is written.
    """

    lifetime: float = 3600.0
    origin: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    before_refresh: Callable[[], None] = nothing
    after_refresh: Callable[[], None] = nothing
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _valid: set[str] = field(default_factory=set)
    _alive: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"

    def signed_in(self, *, expires_at: float = 0.0) -> Record:
        """The record of somebody who has signed in; by default the token has expired since."""
        granted = self.grant()
        tokens = Tokens(
            access_token=granted["access_token"],
            refresh_token=granted["refresh_token"],
            expires_at=expires_at,
            issuer=self.origin,
            client_id=CLIENT,
            resource=self.url,
            token_endpoint=f"{self.origin}/token",
        )
        client = Registration(client_id=CLIENT, method="none")
        return Record(server_url=self.url, registrations={self.origin: client}, tokens=tokens)

    def grant(self) -> Json:
        with self._lock:
            number = next(self._numbers)
            access, refresh = f"access-{number:06}", f"refresh-{number:06}"
            self._valid.add(access)
            self._alive.add(refresh)
        return {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
        }

    def expire(self) -> None:
        """All access tokens given out so far are refused from now on."""
        with self._lock:
            self._valid.clear()

    def is_alive(self, refresh_token: str | None) -> bool:
        """Whether it can still be used."""
        return refresh_token in self._alive

    # Answers: a status, headers and a body

    def page(self, path: str, query: str) -> tuple[int, dict[str, str], Json]:
        match path:
            case "/.well-known/oauth-protected-resource/mcp":
                return 200, {}, {"resource": self.url, "authorization_servers": [self.origin]}
            case "/.well-known/oauth-authorization-server":
                return 200, {}, self.metadata()
            case "/authorize":
                self._count("authorize")
                asked = {name: values[0] for name, values in parse_qs(query).items()}
                back = urlencode({"code": "c0de", "state": asked["state"], "iss": self.origin})
                return 302, {"Location": f"{asked['redirect_uri']}?{back}"}, {}
            case "/mcp":
                return 405, {}, {}
        return 404, {}, {}

    def metadata(self) -> Json:
        return {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "registration_endpoint": f"{self.origin}/register",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def answer(self, path: str, body: bytes, token: str) -> tuple[int, dict[str, str], Json]:
        match path:
            case "/register":
                self._count("register")
                asked: Json = json.loads(body)
                client = {"client_id": "client-1", "token_endpoint_auth_method": "none"}
                return 201, {}, {**asked, **client}
            case "/token":
                return self._give({k: v[0] for k, v in parse_qs(body.decode()).items()})
            case "/mcp":
                with self._lock:
                    is_valid = token in self._valid
                if is_valid:
                    return self._serve(json.loads(body))
                where = f"{self.origin}/.well-known/oauth-protected-resource/mcp"
                return 401, {"WWW-Authenticate": f'Bearer resource_metadata="{where}"'}, {}
        return 404, {}, {}

    def _give(self, form: Json) -> tuple[int, dict[str, str], Json]:
        if form["grant_type"] == "refresh_token":
            self.before_refresh()
            with self._lock:
                is_good = form["refresh_token"] in self._alive
                self._alive.discard(form["refresh_token"])
            if not is_good:
                self._count("reuse")
                return 400, {}, {"error": "invalid_grant"}
        self._count(form["grant_type"])
        granted = self.grant()
        if form["grant_type"] == "refresh_token":
            self.after_refresh()
        return 200, {}, granted

    def _serve(self, message: Json) -> tuple[int, dict[str, str], Json]:
        if "id" not in message:
            return 202, {}, {}
        result: Json = {}
        match message["method"]:
            case spec.INITIALIZE:
                about = {"name": "protected", "version": "1"}
                version = message["params"]["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": {}, "serverInfo": about}
            case "tools/call":
                with self._lock:
                    self.calls[json.dumps(message["id"])] += 1
        return 200, {}, {"jsonrpc": "2.0", "id": message["id"], "result": result}

    def _count(self, what: str) -> None:
        with self._lock:
            self.seen[what] += 1


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, authority: Authority) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.authority = authority

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: relays that are killed leave broken connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self._respond(*self.server.authority.page(url.path, url.query))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        self._respond(*self.server.authority.answer(self.path, body, token))

    def _respond(self, status: int, headers: dict[str, str], content: Json) -> None:
        body = json.dumps(content).encode() if content else b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what matters is counted."""


@contextmanager
def protecting(**settings: Any) -> Iterator[Authority]:
    """Both servers, running."""
    authority = Authority(**settings)
    with _Server(authority) as server:
        authority.origin = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield authority
        finally:
            server.shutdown()
            thread.join()

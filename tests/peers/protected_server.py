"""The SDK's server behind OAuth: it asks the authorization server what a token is worth.

    python -m tests.peers.protected_server ISSUER [--sse]

Run as a module it listens on a free port of the loopback interface and prints `listening on PORT`.
Each request needs a token for this server with `mcp:read`, and the tool `write` needs `mcp:write`.
What is wrong with a request is said in `WWW-Authenticate`; the metadata of RFC 9728 say who gives
out tokens. What it made of a request is printed, with the JSON-RPC method and the tool:

    bare initialize        no token: 401
    stale tools/list       a token that is not valid, or not for this server: 401
    short tools/call write a token that does not reach so far: 403
    passed tools/call echo

Requests for metadata are printed as `GET /.well-known/…`.
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.peers.sdk_server import build, say

METADATA = "/.well-known/oauth-protected-resource"
READ, WRITE = "mcp:read", "mcp:write"

ID, SECRET = "protected-server", "the secret of the protected server"
"""What `authorization_server.mjs` knows this server by."""


@dataclass
class Guard:
    """Lets a request with a good token through to `app`."""

    app: ASGIApp
    origin: str
    path: str
    issuer: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if request.url.path.startswith("/.well-known/"):
            say(f"{request.method} {request.url.path}")
        if request.url.path == METADATA + self.path:
            await JSONResponse(self.metadata())(scope, receive, send)
            return
        body = await request.body()
        refused = await self.refusal(request, body)
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self.app(scope, again(body, receive), send)

    def metadata(self) -> dict[str, Any]:
        return {
            "resource": self.origin + self.path,
            "authorization_servers": [self.issuer],
            "scopes_supported": [READ, WRITE],
            "bearer_methods_supported": ["header"],
        }

    async def refusal(self, request: Request, body: bytes) -> JSONResponse | None:
        message = json.loads(body) if body else {}
        method = message.get("method", request.method)
        tool = message.get("params", {}).get("name", "") if method == "tools/call" else ""
        what = f"{method} {tool}".strip()
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            say(f"bare {what}")
            return self.challenge(401, f'scope="{READ}"')
        found = await self.introspected(token)
        if not found.get("active") or found.get("aud") != self.origin + self.path:
            say(f"stale {what}")
            return self.challenge(401, f'error="invalid_token", scope="{READ}"')
        needed = WRITE if tool == "write" else READ
        if needed not in found.get("scope", "").split():
            say(f"short {what}")
            return self.challenge(403, f'error="insufficient_scope", scope="{needed}"')
        say(f"passed {what}")
        return None

    def challenge(self, status: int, parameters: str) -> JSONResponse:
        where = f'resource_metadata="{self.origin}{METADATA}{self.path}"'
        headers = {"WWW-Authenticate": f"Bearer {parameters}, {where}"}
        return JSONResponse({"error": "no access"}, status, headers)

    async def introspected(self, token: str) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"{self.issuer}/token/introspection",
                data={"token": token},
                auth=(ID, SECRET.replace(" ", "+")),  # form-encoded, RFC 6749, 2.3.1
            )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` for which the body has not been read yet."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("issuer")
    parser.add_argument("--sse", action="store_true")
    options = parser.parse_args()
    server = build(stateless=False, json=False, resumable=False)

    @server.tool()
    async def write(text: str) -> str:
        return f"written: {text}"

    app = server.sse_app() if options.sse else server.streamable_http_app()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    path = "/sse" if options.sse else "/mcp"
    guard = Guard(app, f"http://127.0.0.1:{port}", path, options.issuer)
    for quiet in ("mcp", "httpx", "httpcore"):
        logging.getLogger(quiet).setLevel(logging.ERROR)
    config = uvicorn.Config(guard, log_level="warning", access_log=False)
    say(f"listening on {port}")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

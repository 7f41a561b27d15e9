"""The demo's MCP server: Streamable HTTP as 2025-11-25 basic/transports describes it, and strictly.

Owns the rules of the transport: which headers a request must have, sessions, what is answered
with which status. Refuses to know the wire (`http`) and what tools do (`offer`). Kept here: it
listens on 127.0.0.1 only and refuses foreign origins; every request and its status is noted for
whoever watches; what a client gets wrong is refused with a sentence that says what.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import trio

from mcp_stdio import __version__, jsonrpc, spec
from mcp_stdio.demo.http import Connection, Request, Response
from mcp_stdio.demo.offer import CAPABILITIES, MAX_NOTED, Execution, Offer
from mcp_stdio.demo.session import Call, Error, Session
from mcp_stdio.jsonrpc import Kind, Message, NotAMessage

log = logging.getLogger(__name__)

PATH = "/mcp"
VERSIONS = (spec.R2, spec.R3, spec.R4)
SINGLE_HEADERS = ("accept", "content-type", "mcp-protocol-version", "mcp-session-id")


class Refusal(Exception):
    """A request that breaks the rules: answered with this status and the reason."""

    def __init__(
        self, status: int, reason: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers or {}


def _ignore(_: Request) -> None:
    pass


class Server:
    """An MCP server to look at and to test with.

    `requests` and `executions` hold what came, oldest first. `watch` is called with each request
    when its response begins, the status filled in. With a `token`, requests must carry it.
    """

    def __init__(
        self, *, token: str | None = None, watch: Callable[[Request], None] = _ignore
    ) -> None:
        self.requests: deque[Request] = deque(maxlen=MAX_NOTED)
        self.sessions: dict[str, Session] = {}
        self._token = token
        self._watch = watch
        self._offer = Offer(self._changed)

    @property
    def executions(self) -> deque[Execution]:
        """Every run of a tool."""
        return self._offer.executions

    async def serve(
        self, *, port: int = 0, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; started with the URL once connections are accepted."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        task_status.started(f"http://127.0.0.1:{port}{PATH}")
        await trio.serve_listeners(self.connected, listeners)

    async def connected(self, stream: trio.abc.Stream) -> None:
        """Serve one client until either side is done with the connection."""
        try:
            await Connection(stream, self._watch).serve(self._handle)
        except Exception:  # the seam: no other client suffers from it
            log.exception("unforeseen; the connection is closed")

    async def _handle(self, request: Request, response: Response) -> None:
        self.requests.append(request)
        if request.target != PATH:
            text = f"MCP is spoken at {PATH}\n".encode()
            await response.answer(404, media_type="text/plain", body=text)
            return
        try:
            self._check_request(request)
            match request.method:
                case "POST":
                    await self._post(request, response)
                case "GET":
                    await self._get(request, response)
                case "DELETE":
                    await self._delete(request, response)
                case method:
                    allowed = {"Allow": "GET, POST, DELETE"}
                    raise Refusal(405, f"{method} means nothing here", headers=allowed)
        except Refusal as exc:
            await response.answer(
                exc.status,
                media_type=spec.JSON,
                headers=list(exc.headers.items()),
                body=jsonrpc.error(None, jsonrpc.INVALID_REQUEST, str(exc)).raw,
            )

    def _check_request(self, request: Request) -> None:
        origin = request.get("origin")
        if origin is not None and _host(origin) not in ("127.0.0.1", "localhost"):
            raise Refusal(403, "a page of another site may not talk to this server")
        if self._token is not None and request.get("authorization") != f"Bearer {self._token}":
            challenge = {"WWW-Authenticate": 'Bearer realm="demo"'}
            raise Refusal(401, "a valid token is needed", headers=challenge)
        for name in SINGLE_HEADERS:
            if request.count(name) > 1:
                raise Refusal(400, f"the header {name} was sent more than once")

    async def _post(self, request: Request, response: Response) -> None:
        if not {spec.JSON, spec.EVENT_STREAM} <= _accepted(request):
            raise Refusal(406, f"Accept must list {spec.JSON} and {spec.EVENT_STREAM}")
        if _media_type(request.get("content-type") or "") != spec.JSON:
            raise Refusal(415, f"Content-Type must be {spec.JSON}")
        try:
            message = jsonrpc.parse(request.body)
        except NotAMessage as exc:
            raise Refusal(400, str(exc)) from None
        if message.method == spec.INITIALIZE and message.is_request:
            await self._initialize(message, request, response)
            return
        session = self._session(request)
        match message.kind:
            case Kind.REQUEST:
                await self._answer(Call(session, message, response))
            case Kind.NOTIFICATION:
                self._notified(session, message)
                await response.answer(202)
            case Kind.RESPONSE:
                session.answered(message)
                await response.answer(202)

    async def _initialize(self, message: Message, request: Request, response: Response) -> None:
        if request.get("mcp-session-id") is not None:
            raise Refusal(400, "initialize begins a session and cannot be part of one")
        wanted = message.params.get("protocolVersion")
        capabilities = message.params.get("capabilities")
        session = Session(
            wanted if wanted in VERSIONS else VERSIONS[-1],
            capabilities if isinstance(capabilities, dict) else {},
        )
        self.sessions[session.id] = session
        result: dict[str, Any] = {
            "protocolVersion": session.version,
            "capabilities": CAPABILITIES,
            "serverInfo": {"name": "mcp-stdio-demo", "version": __version__},
            "instructions": "A small server to try things out.",
        }
        await response.answer(
            200,
            media_type=spec.JSON,
            headers=[(spec.SESSION_ID, session.id)],
            body=jsonrpc.result(_id(message), result).raw,
        )

    def _session(self, request: Request) -> Session:
        id = request.get("mcp-session-id")
        if id is None:
            raise Refusal(400, f"the header {spec.SESSION_ID} is missing")
        session = self.sessions.get(id)
        if session is None:
            raise Refusal(404, "the session is not known, or not any more")
        if request.get("mcp-protocol-version") != session.version:
            raise Refusal(400, f"the header {spec.PROTOCOL_VERSION} must be {session.version}")
        return session

    async def _answer(self, call: Call) -> None:
        """Carry out a request; one that is cancelled gets no answer but the end of its stream."""
        id = _id(call.request)
        running = call.session.running
        if id in running:
            raise Refusal(400, "a request with this id is still running")
        running[id] = scope = trio.CancelScope()
        answer = None
        try:
            with scope:
                answer = await self._result(call)
        finally:
            del running[id]
        if answer is None or call.response.is_streaming:
            await call.response.begin()
            if answer is not None:
                await call.response.event(answer.raw)
            await call.response.end()
        else:
            await call.response.answer(200, media_type=spec.JSON, body=answer.raw)

    async def _result(self, call: Call) -> Message:
        id = _id(call.request)
        if not call.session.is_ready and call.request.method != spec.PING:
            text = f"{spec.INITIALIZED} has to come first"
            return jsonrpc.error(id, jsonrpc.INVALID_REQUEST, text)
        try:
            return jsonrpc.result(id, await self._offer.answer(call))
        except Error as exc:
            return jsonrpc.error(id, exc.code, str(exc))

    def _notified(self, session: Session, message: Message) -> None:
        match message.method:
            case spec.INITIALIZED:
                session.is_ready = True
            case spec.CANCELLED:
                session.cancel(message.params.get("requestId"))

    async def _get(self, request: Request, response: Response) -> None:
        if spec.EVENT_STREAM not in _accepted(request):
            raise Refusal(406, f"Accept must list {spec.EVENT_STREAM}")
        session = self._session(request)
        if not session.is_ready:
            raise Refusal(400, f"{spec.INITIALIZED} has to come first")
        await session.listen(response)

    async def _delete(self, request: Request, response: Response) -> None:
        session = self._session(request)
        del self.sessions[session.id]
        session.end()
        await response.answer(204)

    def _changed(self, uri: str) -> None:
        update = jsonrpc.notification("notifications/resources/updated", {"uri": uri})
        for session in self.sessions.values():
            if uri in session.subscriptions:
                session.post(update)


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def _id(message: Message) -> jsonrpc.Id:
    if message.id is None:
        raise ValueError("not a request")
    return message.id


def _accepted(request: Request) -> set[str]:
    return {_media_type(part) for part in (request.get("accept") or "").split(",")}


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()

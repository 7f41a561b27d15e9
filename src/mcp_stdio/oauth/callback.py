"""The loopback listener that a browser is sent back to with the outcome of a sign-in (A-22).

Owns who is listened to: loopback addresses only, one path, `GET`, a `Host` that is this machine
(a page elsewhere whose name was made to resolve to us gets nowhere), and of all that only the
request with the right state; whatever else arrives is turned away while the waiting goes on
(A-20). Every connection is bounded in size and time, and the oldest gives way when there are too
many, so nobody keeps the browser out. The browser that brought it waits for its page until somebody
says what came of the sign-in. The pages are fixed texts that reflect nothing. What the parameters
mean is not known here.

The socket listens from the beginning, but nobody serves it before `redirected` is called: until
then a browser waits in the kernel's queue.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

import h11
import trio

from mcp_stdio.errors import PortTaken, UsageFailure
from mcp_stdio.http.transport import explain
from mcp_stdio.oauth import redirect

PATH = "/callback"

MAX_HEAD = 32 * 1024
"""Bytes of a request head: codes have up to a few thousand, and a browser may send its cookies for
`localhost` along."""

PATIENCE = 10.0
"""Seconds that a connection may take; browsers open some ahead and say nothing on them."""

MAX_CONNECTIONS = 32
"""Connections at once; a browser opens up to six."""

LAST_WORD = 2.0
"""Seconds that the browser may take to accept the last page: the sign-in does not depend on it."""

OUTCOME = 8.0
"""Seconds for which the browser waits for what came of the sign-in, which takes one question to the
authorization server: longer than most take, shorter than a person looks at an empty window."""

_NAMES = ("127.0.0.1", "localhost")
"""How a redirect URI may spell this machine: as RFC 8252 section 7.3 has it, and as some servers
insist."""

_ADDRESSES = ("127.0.0.1", "::1")
"""What `localhost` leads to, in either order; another user of this machine must not have one."""

_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})
"""How systems say that another process listens there."""


class Page(NamedTuple):
    """An answer: everything that is ever sent."""

    status: str
    title: str
    text: str
    headers: str = ""

    @property
    def raw(self) -> bytes:
        """The whole response."""
        body = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f"<title>{self.title}</title><h1>{self.title}</h1><p>{self.text}</p></html>\n"
        )
        return (
            f"HTTP/1.1 {self.status}\r\n"
            "Content-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            "Referrer-Policy: no-referrer\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
            f"{self.headers}"
            "Connection: close\r\n"
            f"\r\n{body}"
        ).encode("ascii")


SIGNED_IN = Page(
    "200 OK",
    "Signed in",
    "The sign-in has worked, and mcp-stdio has got what it needs. You can close this window and go "
    "back to your application; should anything still be missing, it says so.",
)
NOT_SIGNED_IN = Page(
    "200 OK",
    "Not signed in",
    "The sign-in has not worked, or was declined. You can close this window; your application "
    "says what happened.",
)
PASSED_ON = Page(
    "200 OK",
    "Back to your application",
    "Nothing more is to be done here. You can close this window; your application says whether "
    "the sign-in has worked.",
)
NOT_AWAITED = Page(
    "400 Bad Request",
    "Not expected",
    "This is not the sign-in that mcp-stdio is waiting for. It may be an old window: please use "
    "the newest one.",
)
NOT_UNDERSTOOD = Page("400 Bad Request", "Bad request", "This is not a request of a browser.")
FOREIGN = Page("403 Forbidden", "Forbidden", "This address is for this machine only.")
NOT_FOUND = Page("404 Not Found", "Not found", "There is nothing here.")
NOT_ALLOWED = Page("405 Method Not Allowed", "Not allowed", "Only GET works.", "Allow: GET\r\n")


async def listen(port: int | None = None) -> Callback:
    """A listener on this port, or any free one; `async with` it.

    The redirect URI may as well spell this machine `localhost`. Raises PortTaken for a port that
    cannot be had, UsageFailure where none can.
    """
    attempts = 1 if port else 5
    while True:
        attempts -= 1
        listeners: list[trio.SocketListener] = []
        try:
            for address in _ADDRESSES:
                wanted = _port(listeners) if listeners else port or 0
                try:
                    listeners += await trio.open_tcp_listeners(wanted, host=address)
                except OSError as exc:
                    if not listeners or exc.errno in _TAKEN:
                        raise
                    # This machine has no IPv6.
            return Callback(listeners)
        except OSError as exc:
            for listener in listeners:
                listener.socket.close()
            if attempts == 0:
                raise _unavailable(port, exc) from exc
        except BaseException:
            for listener in listeners:
                listener.socket.close()
            raise


class Callback(trio.abc.AsyncResource):
    """An open listener; `redirect_uri` leads to it."""

    def __init__(self, listeners: list[trio.SocketListener]) -> None:
        port = _port(listeners)
        self.redirect_uri = f"http://{_NAMES[0]}:{port}{PATH}"
        self._listeners = listeners
        self._hosts = {f"{name}:{port}" for name in _NAMES}
        if port == 80:
            self._hosts |= {*_NAMES}
        self._connections: dict[trio.CancelScope, None] = {}
        self._found: dict[str, str] | None = None
        self._browser: trio.SocketStream | None = None  # waits for its page
        self._answer_by = inf  # trio's clock

    async def redirected(self, state: str) -> Mapping[str, str]:
        """Wait for the redirect with this state; its parameters. Nothing listens afterwards.

        The browser that brings it is told what came of it with `tell`. Whoever wants to wait no
        longer cancels. Once only.
        """
        async with trio.open_nursery() as nursery:

            async def serve(stream: trio.SocketStream) -> None:
                if await self._serve(stream, state):
                    nursery.cancel_scope.cancel()

            nursery.start_soon(trio.serve_listeners, serve, self._listeners)
        assert self._found is not None
        await self._listen_no_more()
        return self._found

    async def tell(self, page: Page) -> None:
        """Show the browser that waits for it what came of the sign-in, unless it was told."""
        browser, self._browser = self._browser, None
        if browser is not None:
            await _send(page, browser)

    async def console(self) -> None:
        """Let the browser go once it has waited for long."""
        await trio.sleep_until(self._answer_by)
        await self.tell(PASSED_ON)

    async def aclose(self) -> None:
        """Listen no more, and keep no browser waiting."""
        await self._listen_no_more()
        await self.tell(PASSED_ON)

    async def _listen_no_more(self) -> None:
        for listener in self._listeners:
            await listener.aclose()

    async def _serve(self, stream: trio.SocketStream, state: str) -> bool:
        """Answer one request, or have it wait if it is the awaited one; whether it was."""
        page = None
        with trio.move_on_after(PATIENCE) as scope:
            if len(self._connections) >= MAX_CONNECTIONS:
                next(iter(self._connections)).cancel()
            self._connections[scope] = None
            try:
                page = await self._page(stream, state)
                if page is PASSED_ON:
                    self._browser = _kept(stream)
                    self._answer_by = trio.current_time() + OUTCOME
                elif page is not None:
                    await stream.send_all(page.raw)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                del self._connections[scope]
        return page is PASSED_ON

    async def _page(self, stream: trio.SocketStream, state: str) -> Page | None:
        try:
            request = await _request(stream)
        except h11.RemoteProtocolError:
            return NOT_UNDERSTOOD
        return None if request is None else self._answer(request, state)

    def _answer(self, request: h11.Request, state: str) -> Page:
        """What is said to a request, if nothing better to the one that is awaited."""
        headers = dict(request.headers)
        path, _, query = request.target.decode("ascii", "replace").partition("?")
        if headers.get(b"host", b"").decode("ascii", "replace").lower() not in self._hosts:
            return FOREIGN
        if path != PATH:
            return NOT_FOUND
        if request.method != b"GET":
            return NOT_ALLOWED
        try:
            found = redirect.parameters(query)
        except ValueError:
            return NOT_AWAITED
        if self._found is not None or not redirect.is_awaited(found, state):
            return NOT_AWAITED
        self._found = found
        return PASSED_ON


async def _request(stream: trio.SocketStream) -> h11.Request | None:
    """The head of the request; None when there is none. Raises h11.RemoteProtocolError."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        http.receive_data(bytes(await stream.receive_some(MAX_HEAD)))


def _kept(stream: trio.SocketStream) -> trio.SocketStream:
    """The same connection, which the end of its server does not close."""
    kept = socket.socket(fileno=stream.socket.detach())
    return trio.SocketStream(trio.socket.from_stdlib_socket(kept))


async def _send(page: Page, stream: trio.SocketStream) -> None:
    with trio.move_on_after(LAST_WORD):
        try:
            await stream.send_all(page.raw)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the window was closed
    await trio.aclose_forcefully(stream)


def _port(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port


def _unavailable(port: int | None, exc: OSError) -> UsageFailure:
    if port is None:
        return UsageFailure(
            f"no port can be listened on for the browser to come back to: {explain(exc)}",
            hint="allow this program to listen on 127.0.0.1, or use `--oauth-grant device-code`",
        )
    return PortTaken(
        f"port {port}, to which the browser is to come back, cannot be listened on: {explain(exc)}",
        hint="end the program that has it, or name another one with `--oauth-callback-port`",
    )

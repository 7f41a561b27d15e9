"""A tiny forward proxy: `CONNECT` for https, the absolute form for http (RFC 9110 9.3.6).

It records what it was asked for, can want Basic credentials, and can refuse.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import h11
import trio

from mcp_stdio.http.url import Url


@dataclass(frozen=True)
class Asked:
    """One request to the proxy."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class ForwardProxy:
    """A running proxy. `refuses_with` is the status it gives instead of its service.

    One that `is_mute` accepts connections and never answers.
    """

    credentials: str | None = None
    refuses_with: int | None = None
    is_mute: bool = False
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What an environment variable says of it, credentials included."""
        return f"http://{self.credentials + '@' if self.credentials else ''}{self.address}"

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Use with `nursery.start`."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._converse, [listener])
            task_status.started()

    async def _converse(self, client: trio.SocketStream) -> None:
        try:
            async with client, trio.open_nursery() as nursery:
                await self._serve_client(client, nursery)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _serve_client(self, client: trio.SocketStream, nursery: trio.Nursery) -> None:
        asked = await self._next(client)
        if asked is None:
            return
        upstream = await _connect(asked.seen)
        if upstream is None:
            await client.send_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        async with upstream:
            nursery.start_soon(pump, upstream, client)
            if asked.seen.method == "CONNECT":
                await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await pump(client, upstream)
                return
            while asked is not None:
                left = await _forward(asked, client, upstream)
                asked = await self._next(client, left)

    async def _next(self, client: trio.SocketStream, data: bytes = b"") -> _Request | None:
        """The next request; None at the end, or when it was refused."""
        http = h11.Connection(h11.SERVER)
        if data:  # to h11, no data would be the end
            http.receive_data(data)
        event = await _next_event(http, client)
        if not isinstance(event, h11.Request):
            return None
        headers = {name.decode(): value.decode() for name, value in event.headers}
        asked = Asked(event.method.decode(), event.target.decode(), headers)
        self.asked.append(asked)
        if self.is_mute:
            await trio.sleep_forever()
        status = self._refusal(asked)
        if status is None:
            return _Request(asked, event, http)
        challenge = b"Proxy-Authenticate: Basic\r\n" if status == 407 else b""
        await client.send_all(
            b"HTTP/1.1 %d No\r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n"
            % (status, challenge)
        )
        return None

    def _refusal(self, asked: Asked) -> int | None:
        if self.credentials is not None:
            wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
            if asked.headers.get("proxy-authorization") != wanted:
                return 407
        return self.refuses_with


@dataclass
class _Request:
    """A request whose body is still to come."""

    seen: Asked
    event: h11.Request
    http: h11.Connection


async def _connect(asked: Asked) -> trio.SocketStream | None:
    if asked.method == "CONNECT":
        host, _, port = asked.target.rpartition(":")
    else:
        url = Url.parse(asked.target)
        host, port = url.host, str(url.port)
    try:
        return await trio.open_tcp_stream(host, int(port))
    except OSError:
        return None


async def _next_event(http: h11.Connection, client: trio.SocketStream) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await client.receive_some()))
    return event


async def _forward(
    asked: _Request, client: trio.SocketStream, upstream: trio.SocketStream
) -> bytes:
    """Pass one request on; gives what the client has sent beyond it."""
    onward = h11.Connection(h11.CLIENT)
    headers = [pair for pair in asked.event.headers if pair[0] != b"proxy-authorization"]
    target = Url.parse(asked.seen.target).target
    event: object = h11.Request(method=asked.event.method, target=target, headers=headers)
    while True:
        assert isinstance(event, h11.Request | h11.Data | h11.EndOfMessage)
        await upstream.send_all(onward.send(event) or b"")
        if isinstance(event, h11.EndOfMessage):
            return asked.http.trailing_data[0]
        event = await _next_event(asked.http, client)


async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    """Copy until the source ends; then the sink is closed."""
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(sink)

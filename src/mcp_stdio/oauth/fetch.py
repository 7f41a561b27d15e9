"""Performs `Fetch`: requests to URLs of a server's choosing, with the care they need (A-50…A-53).

Owns what is reached, judged anew at each hop: https alone (http on loopback for a server there),
and only addresses that are acceptable for this MCP server, judged as the connection is made so
that a name which resolves differently a moment later is of no use. Owns the limits as well: a
`GET` follows three redirects, nothing else follows any; one mebibyte; thirty seconds in all.
Nothing of the user's travels here: no header, no cookie, no credential but those of the `Fetch`
itself, and these not to another origin. What the answers mean is the flow's business.

Through a proxy it is the proxy that resolves and connects, so there only what a URL says outright
can be judged; connections past it (`NO_PROXY`) are judged like all others.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import trio

from mcp_stdio.config import Config
from mcp_stdio.errors import AuthorizationFailed, BadAnswer, RelayError, TimedOut, TooLarge
from mcp_stdio.http import Exchange, Head, Request
from mcp_stdio.http.client import open_lane
from mcp_stdio.http.decoded import Decoded, os_errors_translated
from mcp_stdio.http.dial import NoAcceptableAddress
from mcp_stdio.http.redirects import is_redirect, location
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import addresses, urls
from mcp_stdio.oauth.commands import Fetch, Fetched
from mcp_stdio.redaction import beginning

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
"""Bytes of a document, decompressed (A-53); real ones have a few thousand."""

MAX_TIME = 30.0
"""Seconds for one `Fetch`, redirects included."""

MAX_HOPS = 3
"""Redirects that a `GET` follows: from http to https, to a host's other name, to a tenant."""

LOOKUP = 5.0
"""Seconds for resolving the MCP server's name, which behind a proxy may not be possible at all."""

_LOCAL = "127.0.0.1"
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


class Fetcher:
    """Performs the fetches of sign-ins at the server of these settings."""

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str] = os.environ,
        platform: str = sys.platform,
    ) -> None:
        self._server = Url.parse(config.url)
        allows_private = config.oauth is not None and config.oauth.allows_private
        self._acceptable = addresses.EVERYWHERE if allows_private else addresses.acceptable([])
        self._is_settled = allows_private
        self._lane = open_lane(config, accepts=self._accepts, environ=environ, platform=platform)

    async def fetch(self, fetch: Fetch) -> Fetched:
        """The response, whatever its status.

        Raises AuthorizationFailed for what is not fetched at all, Unreachable, ConnectionLost and
        TimedOut for what may work another time, BadAnswer for an answer that is none.
        """
        with _named(fetch.purpose), trio.move_on_after(MAX_TIME):
            if not self._is_settled:
                await self._settle()
            return await self._follow(fetch)
        raise TimedOut(
            f"could not {fetch.purpose}: no whole answer within {MAX_TIME:g} s",
            hint="the authorization server is too slow; try again later",
        )

    async def aclose(self) -> None:
        """Close what is left open."""
        await self._lane.aclose()

    async def _follow(self, fetch: Fetch) -> Fetched:
        url = urls.trusted(fetch.url, "address", self._server)
        headers = fetch.headers
        for hops in range(MAX_HOPS + 1):
            self._judge(url)
            # Not as replayable: a connection that rested is then never one that is being closed.
            exchange = await self._send(Request(fetch.method, url, headers, fetch.body))
            try:
                with os_errors_translated():
                    head = await exchange.head()
                log.debug("to %s: %s %s: %s", fetch.purpose, fetch.method, url.public, head)
                if fetch.method != "GET" or not is_redirect(head):
                    body = await _body(exchange, head)
                    if fetch.method == "GET":  # a document; what else is answered is a secret
                        log.debug("%d bytes: %s", len(body), beginning(body))
                    return Fetched(head.status, head.headers.combined(), body)
            finally:
                await exchange.aclose()
            target = location(url, head)
            if hops == MAX_HOPS:
                break
            target = urls.trusted(str(target), "target of a redirect", self._server)
            if target.origin != url.origin:
                headers = tuple(each for each in headers if each[0].lower() not in _CREDENTIALS)
            url = target
        raise BadAnswer(
            f"more than {MAX_HOPS} redirects, lastly to `{target.public}`",
            hint="the authorization server seems to send requests round in a circle",
            status=head.status,
        )

    async def _send(self, request: Request) -> Exchange:
        with os_errors_translated():
            return await self._lane.send(request)

    def _judge(self, url: Url) -> None:
        """Refuse what the URL alone shows to lead to the wrong place."""
        address = addresses.literal(url.host) or (_LOCAL if url.is_loopback else None)
        if address is not None and not self._accepts(address):
            raise NoAcceptableAddress(url, address)

    def _accepts(self, address: str) -> bool:
        try:
            return addresses.kind(address) in self._acceptable
        except ValueError:
            return False

    async def _settle(self) -> None:
        """Find out what the MCP server's own addresses allow; until they are known, nothing.

        Not asked again then: a name that resolves differently later is to gain nothing by it.
        """
        with trio.move_on_after(LOOKUP):
            try:
                found = await trio.socket.getaddrinfo(self._server.host, self._server.port)
            except (OSError, UnicodeError):
                return
            home = [str(each[4][0]) for each in found]
            if addresses.literal(self._server.host) is None and not self._server.is_loopback:
                # Whoever names the server could lend it this machine's address for a moment.
                home = [each for each in home if addresses.is_remote(each)]
            self._acceptable = addresses.acceptable(home)
            self._is_settled = True


async def _body(exchange: Exchange, head: Head) -> bytes:
    length = head.headers.get("content-length") or ""
    if length.isdecimal() and int(length[:20]) > MAX_BODY:
        raise _too_large()
    decoded = Decoded(head, exchange.receive_some)
    body = bytearray()
    with os_errors_translated(answer_begun=True):
        while part := await decoded.receive_some():
            body += part
            if len(body) > MAX_BODY:
                raise _too_large()
    return bytes(body)


def _too_large() -> TooLarge:
    return TooLarge(
        f"the answer is larger than {MAX_BODY} bytes",
        hint="this is no OAuth document; check what the server's metadata names",
    )


@contextmanager
def _named(purpose: str) -> Iterator[None]:
    """Have a failure say what could not be done."""
    try:
        yield
    except NoAcceptableAddress as exc:
        # No failure of the network: it would be refused another time as well.
        raise AuthorizationFailed(
            f"could not {purpose}: {exc} ({addresses.kind(exc.address).value})",
            hint="`--oauth-allow-private` allows addresses that are not public, for servers that "
            "you trust",
        ) from None
    except RelayError as exc:
        exc.args = (f"could not {purpose}: {exc}",)
        raise

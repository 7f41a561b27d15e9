"""What certificate a server shows that is not accepted: two looks at it, and never a word.

Python tells of no certificate that it has not verified but its bytes. So the first handshake, which
verifies nothing, brings these, and the second one trusts them and nothing else, whatever their
dates and names; then they can be read. Both end with the handshake: nothing is sent, and nothing
of the user's is shown, not even a certificate. Knows nothing of why the server is not trusted.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence

import trio

from mcp_stdio.config import Config, Tls
from mcp_stdio.errors import RelayError
from mcp_stdio.http import Lane, Request
from mcp_stdio.http.client import open_lane
from mcp_stdio.http.observer import Certificate, Secured
from mcp_stdio.http.tls import context
from mcp_stdio.http.url import Url

LOOK_TIME = 3.0
"""Seconds for both looks: the server has just made a handshake."""

NO_CHECK_TIME = 0x200000
"""X509_V_FLAGNO_CHECK_TIME, which the `ssl` module has no name for."""

_ANY_KEY = "DEFAULT:@SECLEVEL=0"
"""Ciphers as ever, and keys and digests of any strength."""


async def look(config: Config, environ: Mapping[str, str], platform: str) -> Certificate | None:
    """The certificate of the server of these settings, None if it cannot be had."""
    if Url.parse(config.url).scheme != "https":  # a redirect has led to where the certificate is
        return None
    with trio.move_on_after(LOOK_TIME):
        first = await _secured(config, _trusting_anybody(), environ, platform)
        if first is not None and first.raw:
            second = await _secured(config, _trusting_only(first.raw), environ, platform)
            return None if second is None else second.certificate
    return None


class _Seen(RelayError):
    """Ends a connection once the handshake is over."""

    usual_hint = "this is told to nobody"


class _Glance:
    """An observer that lets no connection live longer than its handshake."""

    def __init__(self) -> None:
        self.found: Secured | None = None

    def connecting(self, proxy: str | None) -> None:
        """See `Observer`."""

    def resolved(self, host: str, addresses: Sequence[str]) -> None:
        """See `Observer`."""

    def connected(self, address: str) -> None:
        """See `Observer`."""

    def tunnelled(self) -> None:
        """See `Observer`."""

    def secured(self, secured: Secured) -> None:
        """See `Observer`."""
        self.found = secured
        raise _Seen("the certificate has been seen")

    def around(self, lane: Lane) -> Lane:
        """See `Observer`."""
        return lane


async def _secured(
    config: Config, tls: ssl.SSLContext, environ: Mapping[str, str], platform: str
) -> Secured | None:
    glance = _Glance()
    lane = open_lane(config, tls=lambda: tls, observer=glance, environ=environ, platform=platform)
    try:
        exchange = await lane.send(Request("HEAD", Url.parse(config.url)))
        try:
            await exchange.head()
        finally:
            await exchange.aclose()
    except RelayError:
        pass
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await lane.aclose()
    return glance.found


def _trusting_anybody() -> ssl.SSLContext:
    result = context(Tls(insecure=True))
    result.set_ciphers(_ANY_KEY)
    return result


def _trusting_only(certificate: bytes) -> ssl.SSLContext:
    result = _trusting_anybody()
    result.verify_mode = ssl.CERT_REQUIRED
    result.load_verify_locations(cadata=certificate)
    result.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    result.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    return result

"""What a lane tells whoever watches it: how far a connection has come, and what was found there.

A lane without an observer, as the relay has it, never comes here. Owns the reading of what a TLS
handshake has settled, and the ear at the system's resolver, which belongs to no lane. Refuses to
know what is made of it. Text that comes from a certificate is quoted.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import trio

from mcp_stdio.errors import quote
from mcp_stdio.http import Lane


class Certificate(NamedTuple):
    """A certificate that was verified; the times in seconds since the epoch, None if unreadable."""

    subject: str
    names: tuple[str, ...]
    issuer: str
    begins: float | None
    expires: float | None


class Secured(NamedTuple):
    """What a TLS handshake has settled; `certificate` is None where nothing is known of it.

    `raw` is the same as it came, verified or not.
    """

    version: str
    cipher: str
    certificate: Certificate | None
    raw: bytes = b""


class Observer(Protocol):
    """Is told how far the connections of a lane have come, each time, in this order.

    `connecting` and `tunnelled` are told by a lane that knows proxies only.
    """

    def connecting(self, proxy: str | None) -> None:
        """A connection is begun, to this proxy or without one."""
        ...

    def resolved(self, host: str, addresses: Sequence[str]) -> None:
        """A host name, be it the proxy's, has these addresses. An address is not resolved."""
        ...

    def connected(self, address: str) -> None:
        """There is a TCP connection to this address, be it the proxy's."""
        ...

    def tunnelled(self) -> None:
        """The proxy has made the connection to the server."""
        ...

    def secured(self, secured: Secured) -> None:
        """The TLS handshake with the server is over."""
        ...

    def around(self, lane: Lane) -> Lane:
        """The lane to be used: the one it is given, or one around it."""
        ...


def listen_to_resolver(observer: Observer) -> None:
    """From now on have the observer told of every name that this run of trio resolves."""
    trio.socket.set_custom_hostname_resolver(_Resolver(observer))


class _Resolver(trio.abc.HostnameResolver):
    """Asks the system, as trio does without it."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        import socket

        found = await trio.to_thread.run_sync(
            socket.getaddrinfo, host, port, family, type, proto, flags, abandon_on_cancel=True
        )
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        self._observer.resolved((host or b"").decode("ascii", "replace"), tuple(addresses))
        return found

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        import socket

        return await trio.to_thread.run_sync(
            socket.getnameinfo, sockaddr, flags, abandon_on_cancel=True
        )


def facts_of(connection: ssl.SSLObject | trio.SSLStream[Any]) -> Secured:
    """What a handshake that is over has settled."""
    cipher = connection.cipher()
    try:
        found = connection.getpeercert()  # empty unless it was verified
    except (ValueError, ssl.SSLError):
        found = None  # it holds text that is none
    return Secured(
        version=connection.version() or "TLS",
        cipher="" if cipher is None else cipher[0],
        certificate=_certificate(found) if found else None,
        raw=connection.getpeercert(binary_form=True) or b"",
    )


def _certificate(found: Mapping[str, Any]) -> Certificate:
    names = tuple(quote(str(value)) for _, value in found.get("subjectAltName", ()))
    subject, issuer = dict(_pairs(found, "subject")), dict(_pairs(found, "issuer"))
    unit = issuer.get("commonName") or issuer.get("organizationalUnitName", "")
    said = (issuer.get("organizationName", ""), unit)
    return Certificate(
        subject=quote(subject.get("commonName") or (names[0] if names else "")),
        names=names,
        issuer=quote(" ".join(dict.fromkeys(filter(None, said)))),
        begins=_time(found, "notBefore"),
        expires=_time(found, "notAfter"),
    )


def _time(found: Mapping[str, Any], member: str) -> float | None:
    try:
        return float(ssl.cert_time_to_seconds(found[member]))
    except (KeyError, ValueError):
        return None


def _pairs(found: Mapping[str, Any], member: str) -> Iterator[tuple[str, str]]:
    for group in found.get(member, ()):
        yield from group

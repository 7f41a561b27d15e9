"""Which IP addresses may be connected to when the URL was a server's choice (A-51).

A server may name any host in its metadata, and a name may resolve to anything: to a router, to a
service on this machine that trusts whoever can reach it. So only the public internet is reached,
and besides it the kind of network that the MCP server itself is in. An IPv4 address inside an IPv6
one (mapped, translated, NAT64, 6to4) is judged as what it leads to. No I/O; who resolves is not
known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from socket import inet_aton

_IPV4_AT_THE_END = (
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
    IPv6Network("::ffff:0:0:0/96"),  # SIIT (RFC 2765)
    IPv6Network("::/96"),  # "IPv4-compatible" (RFC 4291 section 2.5.5.1)
)

_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
"""A network's own (RFC 8215); not every Python knows it for one."""


class Kind(Enum):
    """What an address leads to."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    NONE = "no single host"


_BESIDES: dict[Kind, frozenset[Kind]] = {
    Kind.LOOPBACK: frozenset({Kind.LOOPBACK, Kind.PRIVATE}),
    Kind.PRIVATE: frozenset({Kind.PRIVATE}),
    Kind.LINK_LOCAL: frozenset({Kind.LINK_LOCAL, Kind.PRIVATE}),
}
"""What besides the public internet a server of each kind may name. Not more than it can reach
itself: one in a company's network has no business on this machine, nor with 169.254.169.254, where
clouds hand out credentials."""

EVERYWHERE = frozenset({Kind.PUBLIC, Kind.PRIVATE, Kind.LOOPBACK, Kind.LINK_LOCAL})
"""What `--oauth-allow-private` allows."""


def kind(address: str) -> Kind:
    """What the address leads to. Raises ValueError for what is no IP address."""
    ip = _led_to(ip_address(address.partition("%")[0]))
    if ip.is_unspecified or ip.is_multicast:
        return Kind.NONE
    if ip.is_loopback:
        return Kind.LOOPBACK
    if ip.is_link_local:
        return Kind.LINK_LOCAL
    if not ip.is_global or (
        isinstance(ip, IPv6Address) and (ip.is_site_local or ip in _LOCAL_NAT64)
    ):
        return Kind.PRIVATE
    return Kind.PUBLIC


def literal(host: str) -> str | None:
    """The address that a host in a URL is by itself, None for a name.

    With the old spellings of IPv4 (`127.1`, `0x7f000001`), which resolvers still understand.
    """
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return str(ip_address(inet_aton(host)))
    except (OSError, ValueError):
        return None


def is_remote(address: str) -> bool:
    """Whether the address leads to another machine, beyond the next router perhaps."""
    return kind(address) in (Kind.PUBLIC, Kind.PRIVATE)


def acceptable(server: Iterable[str]) -> frozenset[Kind]:
    """What may be connected to for a server that is at these addresses, of one kind each."""
    found = {kind(address) for address in server}
    home = found.pop() if len(found) == 1 else Kind.PUBLIC
    return frozenset({Kind.PUBLIC}) | _BESIDES.get(home, frozenset())


def _led_to(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address):
        return ip
    if ip.is_loopback or ip.is_unspecified:
        return ip
    if any(ip in network for network in _IPV4_AT_THE_END):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip

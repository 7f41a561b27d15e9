"""Which addresses may be connected to at a server's word (A-51)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.oauth.addresses import EVERYWHERE, Kind, acceptable, kind, literal

PUBLIC, PRIVATE, LOOPBACK = Kind.PUBLIC, Kind.PRIVATE, Kind.LOOPBACK
LINK_LOCAL, NONE = Kind.LINK_LOCAL, Kind.NONE


@pytest.mark.parametrize(
    "address, expected",
    [
        ("93.184.216.34", PUBLIC),
        ("8.8.8.8", PUBLIC),
        ("2606:4700::1111", PUBLIC),
        ("10.0.0.1", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("172.31.255.255", PRIVATE),
        ("172.32.0.1", PUBLIC),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("198.18.0.1", PRIVATE),
        ("240.0.0.1", PRIVATE),
        ("255.255.255.255", PRIVATE),
        ("0.1.2.3", PRIVATE),
        ("fc00::1", PRIVATE),
        ("fd12:3456::1", PRIVATE),
        ("fec0::1", PRIVATE),
        ("127.0.0.1", LOOPBACK),
        ("127.255.0.9", LOOPBACK),
        ("::1", LOOPBACK),
        ("169.254.169.254", LINK_LOCAL),
        ("fe80::1", LINK_LOCAL),
        ("fe80::1%eth0", LINK_LOCAL),
        ("febf::1", LINK_LOCAL),
        ("0.0.0.0", NONE),
        ("::", NONE),
        ("224.0.0.1", NONE),
        ("239.255.255.250", NONE),
        ("ff02::1", NONE),
        # IPv4 inside IPv6
        ("::ffff:127.0.0.1", LOOPBACK),
        ("::ffff:10.0.0.1", PRIVATE),
        ("::ffff:169.254.169.254", LINK_LOCAL),
        ("::ffff:0.0.0.0", NONE),
        ("::ffff:8.8.8.8", PUBLIC),
        ("64:ff9b::a00:1", PRIVATE),
        ("64:ff9b::7f00:1", LOOPBACK),
        ("64:ff9b::808:808", PUBLIC),
        ("64:ff9b:1::808:808", PRIVATE),
        ("::7f00:1", LOOPBACK),
        ("::a9fe:a9fe", LINK_LOCAL),
        ("::ffff:0:7f00:1", LOOPBACK),
        ("::ffff:0:a00:1", PRIVATE),
        ("2001:0:7f00:1::", PRIVATE),
        ("2002:7f00:1::", LOOPBACK),
        ("2002:a9fe:a9fe::", LINK_LOCAL),
    ],
)
def test_what_an_address_leads_to(address: str, expected: Kind) -> None:
    assert kind(address) is expected


@pytest.mark.parametrize(
    "host, expected",
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.0.0.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("as.example", None),
        ("localhost", None),
        ("1.example", None),
        ("1.2.3.4.5", None),
    ],
)
def test_which_hosts_are_addresses(host: str, expected: str | None) -> None:
    assert literal(host) == expected


@pytest.mark.parametrize(
    "server, expected",
    [
        ([], {PUBLIC}),
        (["8.8.8.8"], {PUBLIC}),
        (["10.0.0.1"], {PUBLIC, PRIVATE}),
        (["10.0.0.1", "fd00::1"], {PUBLIC, PRIVATE}),
        (["127.0.0.1", "::1"], {PUBLIC, PRIVATE, LOOPBACK}),
        (["169.254.1.1"], {PUBLIC, PRIVATE, LINK_LOCAL}),
        # A public server that adds a private address to its own gains nothing by it.
        (["8.8.8.8", "10.0.0.1"], {PUBLIC}),
        (["10.0.0.1", "127.0.0.1"], {PUBLIC}),
        (["0.0.0.0"], {PUBLIC}),
    ],
)
def test_a_server_may_name_what_is_where_it_is(server: list[str], expected: set[Kind]) -> None:
    assert acceptable(server) == expected


@given(st.ip_addresses().map(str))
def test_every_address_is_judged_and_no_private_one_is_public(address: str) -> None:
    found = kind(address)
    assert (found is NONE) == (found not in EVERYWHERE)


@given(st.ip_addresses(v=4))
def test_wrapped_in_ipv6_an_address_stays_what_it_is(address: object) -> None:
    assert kind(f"::ffff:{address}") is kind(str(address))
    assert kind(f"64:ff9b::{address}") is kind(str(address))
    assert kind(f"::ffff:0:{address}") is kind(str(address))


@pytest.mark.parametrize("host", ["", "localhost", "a\0b", "\udcff", "1.2.3.4.5", "[::1]"])
def test_what_is_no_address_is_a_name(host: str) -> None:
    assert literal(host) is None


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "2130706433", "0x7f.1", "::1::"])
def test_what_is_no_address_is_not_judged(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        kind(text)

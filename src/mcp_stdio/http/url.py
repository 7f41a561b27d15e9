"""URLs as the relay needs them: parsed once, origin comparable, never printed with a secret."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from mcp_stdio.redaction import HIDDEN

DEFAULT_PORTS = {"http": 80, "https": 443}

MIN_QUERY_SECRET = 8
"""Characters of a value in a query from which on it may be a secret and not a word."""

MIN_PATH_SECRET = 20
"""The same for a segment of a path, if it mixes letters and digits: some servers take a key there
(`/api/mcp/s/<key>/mcp`)."""

_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._~-")
"""Characters of a host name in lower case; what else RFC 3986 allows, no resolver knows."""

_IN_IPV6 = frozenset("0123456789abcdef:.")
"""Characters of an IPv6 address in lower case; one of them is a colon."""


_AMBIGUOUS = frozenset("\u00df\u03c2")
"""Letters that the two editions of IDNA take to different hosts (RFC 5894 section 7.2): `ß` is a
letter to browsers and `ss` to others."""

_LOOPBACK = re.compile(r"127(?:\.(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}")
"""What nobody asks a name server for."""


class Origin(NamedTuple):
    """Scheme, host and port: what credentials are bound to."""

    scheme: str
    host: str
    port: int


class _Parts(NamedTuple):
    scheme: str
    host: str
    port: int
    target: str


class Url(_Parts):
    """An absolute http or https URL. `target` is path and query, as a request line wants them.

    What follows from it is remembered: a session asks the same of one URL for each message.
    """

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Read a URL without user information and fragment. Raises ValueError with a reason."""
        if any(ch.isspace() or not ch.isprintable() for ch in text):
            raise ValueError("it contains white space or control characters")
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError("its host is not a valid name") from None
        scheme = parts.scheme.lower()
        if scheme not in DEFAULT_PORTS:
            raise ValueError("it must begin with http:// or https://")
        if not parts.hostname:
            raise ValueError("it names no host")
        try:
            port = parts.port
        except ValueError:
            raise ValueError("its port is not a number from 1 to 65535") from None
        if port == 0:
            raise ValueError("its port is not a number from 1 to 65535")
        host = parts.hostname
        if not host.isascii():
            if not _AMBIGUOUS.isdisjoint(host):
                raise ValueError(
                    "its host means different ones to different programs; give the one that "
                    "is meant as it begins with `xn--`"
                )
            try:
                host = host.encode("idna").decode("ascii")
            except UnicodeError:
                raise ValueError("its host is not a valid name") from None
        is_ipv6 = ":" in host
        characters = _IN_IPV6 if is_ipv6 else _IN_NAMES
        if not characters.issuperset(host) or ("[" in parts.netloc) != is_ipv6:
            raise ValueError("its host is not a valid name")
        target = quote(_without_dots(parts.path or "/"), safe="/%:@!$&'()*+,;=~-._")
        if parts.query:
            target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
        return cls(scheme, host, port or DEFAULT_PORTS[scheme], target)

    @cached_property
    def origin(self) -> Origin:
        """What decides whether another URL may see this one's credentials."""
        return Origin(self.scheme, self.host, self.port)

    @cached_property
    def authority(self) -> str:
        """Host and port as the `Host` header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine by name or address."""
        return (
            self.host in ("localhost", "::1")
            or self.host.endswith(".localhost")
            or _LOOPBACK.fullmatch(self.host) is not None
        )

    @property
    def must_be_here(self) -> bool:
        """Whether this machine is meant by name, and only the name says so.

        A name server, and whoever answers in its place, may say something else of `x.localhost`.
        """
        return self.scheme == "http" and self.host.endswith("localhost") and self.is_loopback

    @cached_property
    def public(self) -> str:
        """The part that may be printed: no query, no part of the path that looks like a secret."""
        path = "/".join(
            HIDDEN if _is_secret(segment) else segment
            for segment in self.target.partition("?")[0].split("/")
        )
        return f"{self.scheme}://{self.authority}{path}"

    def join(self, reference: str) -> "Url":
        """The URL that `reference` (a `Location` header) denotes. Raises ValueError."""
        try:
            joined = urljoin(str(self), reference)
        except ValueError:
            raise ValueError("its host is not a valid name") from None
        return Url.parse(joined)

    def __str__(self) -> str:
        """The whole URL, query included; for a text that is shown take `public`."""
        return f"{self.scheme}://{self.authority}{self.target}"


def is_loopback_address(text: str) -> bool:
    """Whether an address, as the system spells it, is one of this machine's own."""
    return text == "::1" or _LOOPBACK.fullmatch(text.removeprefix("::ffff:")) is not None


def _without_dots(path: str) -> str:
    """The path with `.` and `..` followed (RFC 3986 section 5.2.4), as httpx would do by itself."""
    if "/." not in path:
        return path
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def user_information(text: str) -> tuple[str, str] | None:
    """User name and password of a URL, percent-decoded; None when it has neither."""
    parts = urlsplit(text)
    if parts.username is None and parts.password is None:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")


def secrets_in(text: str) -> Iterator[str]:
    """What of a URL should not be shown, as it stands there and percent-decoded."""
    parts = urlsplit(text)
    # Without a password the name is the token.
    values = [parts.password or parts.username or ""]
    values += filter(_is_secret, parts.path.split("/"))
    for pair in parts.query.split("&"):
        value = pair.partition("=")[2] or pair
        if len(value) >= MIN_QUERY_SECRET:
            values.append(value)
    for value in filter(None, values):
        yield value
        yield unquote(value)


def _is_secret(segment: str) -> bool:
    text = unquote(segment)
    return (
        len(text) >= MIN_PATH_SECRET and any(map(str.isalpha, text)) and any(map(str.isdigit, text))
    )

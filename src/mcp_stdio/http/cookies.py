"""Cookies that keep a client on the same instance behind a load balancer (RFC 6265).

One jar per origin, stricter than a browser: what an origin set goes back to that origin alone
(T-24). Expiry, path and `Secure` are the standard library's business. Nothing is kept on disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp_stdio.http import Headers
from mcp_stdio.http.url import Origin, Url
from mcp_stdio.redaction import protect_passing

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

MAX_COOKIES = 50
"""Cookies kept for an origin: what RFC 6265 section 6.1 asks of every user agent at least."""

MAX_SIZE = 4096
"""Bytes of one cookie: as little as the same section asks for, and as much as browsers keep."""


class Cookies:
    """The cookies that servers have set."""

    def __init__(self) -> None:
        self._jars: dict[Origin, CookieJar] = {}

    def store(self, url: Url, headers: Headers) -> None:
        """Take in the `Set-Cookie` headers of a response from `url`.

        A server that sets more than `MAX_COOKIES` has its earlier ones forgotten, one of more than
        `MAX_SIZE` bytes is not taken.
        """
        lines = headers.get_all("set-cookie")
        lines = [line for line in lines if len(line.partition(";")[0]) <= MAX_SIZE][-MAX_COOKIES:]
        if not lines:
            return
        # Not at the top: they cost more to import than the rest of this package, and most
        # servers never set a cookie.
        from http.cookiejar import CookieJar
        from urllib.request import Request

        jar = self._jars.setdefault(url.origin, CookieJar())
        if len(jar) + len(lines) > MAX_COOKIES:
            jar.clear()
        jar.extract_cookies(_Response(lines), Request(str(url)))  # type: ignore[arg-type]
        for cookie in jar:
            # As it may be shown: a header is read as Latin-1.
            protect_passing(_octets(cookie.value or "").decode("latin-1"))

    def header(self, url: Url) -> str | None:
        """The value of a `Cookie` header for a request to `url`; None where there is none.

        Bytes beyond ASCII are in it as `surrogateescape` has them, to go back as they came.
        """
        if not self._jars or (jar := self._jars.get(url.origin)) is None:
            return None
        from urllib.request import Request

        request = Request(str(url))
        jar.add_cookie_header(request)
        return request.get_header("Cookie")


class _Response:
    """What a `CookieJar` asks of a response and of its headers."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = [_transparent(line) for line in lines]

    def info(self) -> _Response:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self._lines if name.lower() == "set-cookie" else default


def _transparent(line: str) -> str:
    # The jar strips white space, for which it takes parts of characters in UTF-8 when they are
    # read as Latin-1; it takes none of these surrogates for any. It cannot have them in a path.
    pair, *attributes = line.split(";")
    sound = filter(_is_sound, attributes)
    return ";".join([pair.encode("latin-1").decode("ascii", "surrogateescape"), *sound])


def _is_sound(attribute: str) -> bool:
    """False for what is to be ignored (RFC 6265 section 5.2), over which a `CookieJar` stumbles."""
    from http.cookiejar import http2time  # type: ignore[attr-defined]

    name, _, value = attribute.partition("=")
    match name.strip().lower():
        case "max-age":
            return re.fullmatch("-?[0-9]+", value.strip()) is not None
        case "expires":
            try:
                http2time(value.strip().removeprefix('"').removesuffix('"'))
            except ValueError:
                return False
    return True


def _octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")

"""The header fields of a request as they go on the wire, the same on both lanes."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_stdio import __version__
from mcp_stdio.http.url import Url

Fields = list[tuple[bytes, bytes]]

SHORT = 16 * 1024
"""Characters of headers that are worth remembering: more than most servers take."""


def are_short(given: Iterable[tuple[str, str]]) -> bool:
    """Whether what is made of these headers may be remembered.

    Else megabytes of them would be, for a server can have any argument of a tool sent as a header.
    """
    return sum([len(value) for _, value in given]) <= SHORT


def fields(method: str, url: Url, given: Iterable[tuple[str, str]], size: int) -> Fields:
    """`given` and what HTTP and politeness ask for besides, each once; `size` is the body's."""
    headers = [("Host", url.authority), *given]
    names = {name.lower() for name, _ in headers}
    if size or method == "POST":
        headers.append(("Content-Length", str(size)))
    if "accept-encoding" not in names:
        headers.append(("Accept-Encoding", "identity"))
    if "user-agent" not in names:
        headers.append(("User-Agent", f"mcp-stdio/{__version__}"))
    # UTF-8 is what servers take for anything beyond ASCII; bytes that the environment gave and
    # nobody could decode come out as they were.
    return [
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in headers
    ]

"""Text without its secrets (P7): registered values wherever they appear, and what looks like one.

`protect` takes each secret as it becomes known; `redact` replaces it, and its usual encodings, by
`***`. Patterns catch the rest: credential headers, session ids, `Mcp-Param-*`, authorization
schemes, user information and query values of URLs, members of token requests and answers. Errs on
the side of hiding. Knows no logging.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

HIDDEN = "***"

MIN_SECRET = 4
"""Shorter values are not protected: hiding them would blank out ordinary words and tell on them."""

MIN_PASSING = 8
"""The same for values that a server chose, which may be words like `english`."""

MAX_PASSING = 50
"""Passing secrets remembered: load balancers set a new cookie with each response."""

MAX_BEGINNING = 500
"""Characters of a body that the log shows: enough for a method, an error, a page's title."""

MIN_ENCODED = 8
"""Shorter values are not looked for in Base64, where a few characters occur by chance."""


class Redactor:
    """Knows the secrets of one process."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self._passing: deque[str] = deque(maxlen=MAX_PASSING)
        self.longest = 0

    def protect(self, secret: str) -> None:
        """From now on hide `secret`, as it is and percent-encoded, quoted or in Base64.

        Values shorter than MIN_SECRET are not protected.
        """
        forms = {form for form in _forms(secret.strip()) if len(form) >= MIN_SECRET}
        if forms <= self._forms:
            return
        self._forms |= forms
        self.longest = max(self.longest, *map(len, self._forms))
        # The longest first, lest a part of one secret be taken for the whole of another.
        ordered = sorted(self._forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered)))

    def protect_passing(self, secret: str) -> None:
        """Hide a value that the server will soon replace; the last MAX_PASSING are remembered.

        Values shorter than MIN_PASSING are not protected.
        """
        if len(secret) >= MIN_PASSING and secret not in self._passing:
            self._passing.append(secret)
            self.longest = max(self.longest, len(secret))

    def redact_known(self, text: str) -> str:
        """`text` with what is known to be secret replaced, and nothing that only looks like it."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for secret in self._passing:  # no pattern: compiling one costs more than it saves
            text = text.replace(secret, HIDDEN)
        return text

    def redact(self, text: str) -> str:
        """`text` with every secret in it replaced."""
        text = self.redact_known(text)
        for marks, pattern, replacement in _PATTERNS:
            if not marks or any(mark in text for mark in marks):
                text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
        return text


_process = Redactor()

protect = _process.protect
protect_passing = _process.protect_passing
redact = _process.redact
redact_known = _process.redact_known


def longest_secret() -> int:
    """Length of the longest form of a secret; text must not be cut closer than this beforehand."""
    return _process.longest


def beginning(data: bytes, *, is_whole: bool = True) -> str:
    """The first MAX_BEGINNING characters of what crossed the wire, without secrets.

    Of what is not all there, so much less is shown that no part of a secret can be at its end.
    """
    # Looked at with room to spare: half a secret would not be known.
    margin = max(longest_secret(), 1024)
    looked_at = data[: MAX_BEGINNING + margin]
    clean = redact(looked_at.decode(errors="replace"))
    if len(looked_at) < len(data):
        return f"{clean[:-margin][:MAX_BEGINNING]}…"
    if not is_whole:
        return f"{clean[: -longest_secret() or None][:MAX_BEGINNING]}…"
    return clean if len(clean) <= MAX_BEGINNING else f"{clean[:MAX_BEGINNING]}…"


def _forms(secret: str) -> Iterator[str]:
    if len(secret) < MIN_SECRET:
        return
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    octets = secret.encode(errors="surrogatepass")
    for form in (quote(octets, safe=""), quote(octets), quote_plus(octets)):
        yield form
        yield re.sub("%..", lambda escape: escape[0].lower(), form)
    if len(octets) < MIN_ENCODED:
        return
    # In `Basic` the secret follows a name, so it may begin at any of three places in a group;
    # the characters that also carry bits of its neighbours are left out.
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(octets)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + octets).decode()[first:last]


_HEADERS = (
    r"(?:proxy-)?authorization|(?:set-)?cookie2?|mcp-session-id|mcp-param-[\w!#$%&*+.^|~-]+"
    r"|x-api-key|api-key|x-auth-token"
)
_MEMBERS = (
    r"(?:access|refresh|id|subject|actor|registration_access|device|bearer)?[_-]?token"
    r"|client[_-]?secret|(?:client_?)?assertion|(?:device_?)?code|code_?verifier"
    r"|pass(?:word|wd|phrase)|secret|api[_-]?key|private_?key|session_?id"
)
# What follows "Bearer" in prose and in challenges; everything else is taken for a credential.
_NO_CREDENTIAL = (
    r"(?:(?:tokens?|auth(?:entication|orization)?|credentials?|scheme|header|challenge|is|was|and|or|in|with|for|from|by)"
    r"\b(?![.~+/=-]\w)|(?:realm|scope|error\w*|resource_metadata)=)"
)

# Between a name and its value. What stands between a comma and a colon is the next member's name,
# so the word before was no name.
_THEN = r"""\s*(?::|,(?!\s*["'][\w-]+["']\s*:))"""

# A value between quotes, up to where a cut text ends. Group 2 is the quote that opens it.
_QUOTED = r"""(["'])(?:(?!\2)[^\\]|\\.)*(?:\2|\\?$)"""
# The same in JSON that stands in a JSON string, where each quote has its backslashes.
_NESTED_QUOTED = r"""((?<!\\)\\++["'])(?:(?!(?<!\\)\2).)*"""


def _hide_in_url(found: re.Match[str]) -> str:
    url = found[0]
    if "@" in url:
        url = re.sub(r"(?<=://)[^/?#]*@", f"{HIDDEN}@", url)
    if "?" in url or "#" in url:
        # A query or fragment without names is a value as a whole.
        url = re.sub(r"([?#])(?!\*)[^=&?#]+(?=$|[?#])", rf"\1{HIDDEN}", url)
    return url


_PATTERNS: tuple[tuple[str, str, str | Callable[[re.Match[str]], str]], ...] = (
    # A header as a pair of strings, and as a line.
    ("\"'", rf"""(["'](?:{_HEADERS})["']{_THEN}\s*b?){_QUOTED}""", rf"\1\g<2>{HIDDEN}\2"),
    (":=", rf"(?<![\w-])({_HEADERS})(\s*[:=]\s*)[^\s][^\r\n]*", rf"\1\g<2>{HIDDEN}"),
    # Credentials by their scheme.
    ("", rf"\b(bearer|basic|dpop)\s+(?!{_NO_CREDENTIAL})[\w.~+/=-]{{4,}}", rf"\1 {HIDDEN}"),
    # A member in JSON, of a Python value, in JSON inside of JSON, in a form.
    ("\"'", rf"""(["'](?:{_MEMBERS})["']{_THEN}\s*b?){_QUOTED}""", rf"\1\g<2>{HIDDEN}\2"),
    ("\"'", rf"(\b(?:{_MEMBERS})\s*[:=]\s*b?){_QUOTED}", rf"\1\g<2>{HIDDEN}\2"),
    (
        "\\",
        rf"""((?<!\\)\\++["'](?:{_MEMBERS})\\++["']\s*:\s*){_NESTED_QUOTED}""",
        rf"\1\g<2>{HIDDEN}",
    ),
    ("=", rf"\b({_MEMBERS})=(?!-?\d{{1,6}}\b)[^\s&\"'<>`,;)]+", rf"\1={HIDDEN}"),
    # The parts of a URL, and the query in the target of a request line.
    ("/", r"\b[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>`]+", _hide_in_url),
    ("=", r"""([?&#;][\w.~%\[\]-]+=)[^\s&#"'<>`]+""", rf"\1{HIDDEN}"),
)
"""What matches has one of the characters that stand first (if any do). A pattern that no text needs
is never compiled: all of them take 2 ms, and something is logged at every start."""

"""Text without its secrets (P7): registered values wherever they appear, and what looks like one.

`protect` takes each secret as it becomes known; `redact` replaces it by `***`, also where JSON,
HTML, a URL or Base64 spell it differently, or in other letters' case. Patterns catch the rest:
credential headers, session ids, `Mcp-Param-*`, authorization schemes, user information and query
values of URLs, members of token requests and answers. Errs on the side of hiding. Knows no logging.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import cached_property

HIDDEN = "***"

MIN_SECRET = 4
"""Shorter values are not protected: hiding them would blank out ordinary words and tell on them."""

MIN_PASSING = 8
"""The same for values that a server chose, which may be words like `english`."""

MAX_PASSING = 50
"""Passing secrets remembered: load balancers set a new cookie with each response."""

MAX_REPLACEABLE = 24
"""Tokens remembered that a renewal has replaced or will: those of a dozen renewals."""

MAX_SUPPLIED = 100
"""Headers remembered of files and commands, which may give others each time: more than one has."""

MAX_RESPELLED = 64
"""Letters and digits apart, characters of a passing secret that is sought in every spelling: twice
as many as a Base64 text of a thousand has. A longer pattern takes long to make and to seek."""

MAX_SEARCH = 300_000
"""Characters of a passing secret times those of a text up to which the same goes for both: it may
be tried at each place, and the server has chosen it."""

MAX_BEGINNING = 500
"""Characters of a body that the log shows: enough for a method, an error, a page's title."""

MIN_ENCODED = 8
"""Shorter values are not looked for in Base64, where a few characters occur by chance, nor in
letters of the other case: `DEMO` may be a secret where `demo` is a word."""


class Redactor:
    """Knows the secrets of one process."""

    def __init__(self) -> None:
        self._lasting: dict[str, _Secret] = {}
        self._replaceable: dict[str, _Secret] = {}
        self._supplied: dict[str, _Secret] = {}
        self._passing: dict[str, _Secret] = {}
        self._sought: list[_Secret] = []
        self.longest = 0

    def protect(self, secret: str) -> None:
        """From now on hide `secret`, as it is and in its usual spellings.

        Values shorter than MIN_SECRET are not protected.
        """
        secret = secret.strip()
        if len(secret) >= MIN_SECRET and secret not in self._lasting:
            self._lasting[secret] = _Secret(secret)
            self._sort()

    def protect_replaceable(self, secret: str) -> None:
        """The same for a token that a renewal replaces; the last MAX_REPLACEABLE are remembered.

        What a server sets in passing does not push it out.
        """
        self._remember(self._replaceable, secret, MAX_REPLACEABLE)

    def protect_supplied(self, secret: str) -> None:
        """The same for what a file or a command gives; the last MAX_SUPPLIED are remembered.

        No token pushes it out, for it may be read once and sent for weeks.
        """
        self._remember(self._supplied, secret, MAX_SUPPLIED)

    def protect_passing(self, secret: str) -> None:
        """Hide a value that the server will soon replace; the last MAX_PASSING are remembered.

        Values shorter than MIN_PASSING are not protected, and none is looked for in Base64; those
        that would take long to find are sought in their usual spellings alone.
        """
        if len(secret) >= MIN_PASSING and secret not in self._passing:
            self._passing[secret] = _Secret(secret, is_passing=True)
            _forget_first(self._passing, MAX_PASSING)
            self._sort()

    def redact_known(self, text: str) -> str:
        """`text` with what is known to be secret replaced, and nothing that only looks like it."""
        lowered = text.lower() if self._sought else ""
        for secret in self._sought:
            text = secret.hidden_in(text, lowered)
        return text

    def redact(self, text: str) -> str:
        """`text` with every secret in it replaced."""
        text = self.redact_known(text)
        for marks, pattern, replacement in _PATTERNS:
            if not marks or any(mark in text for mark in marks):
                text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
        return text

    def _remember(self, secrets: dict[str, _Secret], secret: str, limit: int) -> None:
        secret = secret.strip()
        if (known := secrets.pop(secret, None)) is not None:
            secrets[secret] = known  # in use: others go first
        elif len(secret) >= MIN_SECRET:
            secrets[secret] = _Secret(secret)
            _forget_first(secrets, limit)
            self._sort()

    def _sort(self) -> None:
        # The longest first, lest a part of one secret be taken for the whole of another.
        known = {**self._passing, **self._replaceable, **self._supplied, **self._lasting}
        self._sought = sorted(known.values(), key=lambda each: len(each.value), reverse=True)
        self.longest = max(self.longest, *(each.longest for each in self._sought))


def _forget_first(secrets: dict[str, _Secret], limit: int) -> None:
    if len(secrets) > limit:
        del secrets[next(iter(secrets))]


_process = Redactor()

protect = _process.protect
protect_replaceable = _process.protect_replaceable
protect_supplied = _process.protect_supplied
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


class _Secret:
    """One secret, and how it may be spelled; `is_passing` says that the server has chosen it."""

    def __init__(self, value: str, *, is_passing: bool = False) -> None:
        self.value = value
        self._mark = max(re.findall(r"[0-9A-Za-z]+", value), key=len, default="").lower()
        is_encoded = not is_passing and len(value) >= MIN_ENCODED
        self._encoded = list(_encoded(value)) if is_encoded else []
        respelled = sum(map(_is_respelled, value))
        self._is_passing, self._is_costly = is_passing, is_passing and respelled > MAX_RESPELLED
        spellings = self._usual if self._is_costly else self._encoded
        in_general = 0 if self._is_costly else len(value) + respelled * (LONGEST_SPELLING - 1)
        self.longest = max(in_general, *map(len, spellings), 0)

    def hidden_in(self, text: str, lowered: str) -> str:
        """`text` without the secret; `lowered` is what it was before any was taken out."""
        # To make the pattern of a long token takes milliseconds, and hardly any is ever seen.
        if self._mark in lowered and len(self.value) <= len(text):
            size = len(self.value) * len(text)
            if self._is_costly or (self._is_passing and size > MAX_SEARCH):
                for form in self._usual:
                    text = text.replace(form, HIDDEN)
            else:
                text = self._pattern.sub(HIDDEN, text)
        for form in self._encoded:
            text = text.replace(form, HIDDEN)
        return text

    @cached_property
    def _usual(self) -> list[str]:
        """The secret as it is, in JSON, in URLs and in HTML."""
        import html  # seldom needed
        import json
        from urllib.parse import quote

        value = self.value
        in_url = quote(value.encode(errors="surrogatepass"), safe="")
        in_json = json.dumps(value)[1:-1]
        forms = {value, in_json, in_json.replace("/", "\\/"), in_url, html.escape(value)}
        forms.add(re.sub("%..", lambda escape: escape[0].lower(), in_url))
        return sorted(forms, key=len, reverse=True)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        flags = re.IGNORECASE if len(self.value) >= MIN_ENCODED else re.NOFLAG
        parts = re.findall(r"\\+|[^\\]", self.value, re.DOTALL)
        spelled = [*map(_spelled, parts), ""]
        # What follows backslashes may begin with some: where they part is decided once, for to try
        # each place with each other would take for ever.
        return re.compile(
            "".join(
                f"(?>{form}(?={following}))" if part[0] == "\\" else form
                for part, form, following in zip(parts, spelled, spelled[1:], strict=False)
            ),
            flags,
        )


def _encoded(secret: str) -> Iterator[str]:
    """The secret in Base64, wherever it stands in what was encoded."""
    octets = secret.encode(errors="surrogatepass")
    # In `Basic` the secret follows a name, so it may begin at any of three places in a group;
    # the characters that also carry bits of its neighbours are left out.
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(octets)) * 8 // 6
        plain = b64encode(bytes(before) + octets).decode()[first:last]
        yield plain
        for_url = urlsafe_b64encode(bytes(before) + octets).decode()[first:last]
        if for_url != plain:
            yield for_url


_SHORT_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}

_NAMES = {'"': "quot", "&": "amp", "<": "lt", ">": "gt", "'": "apos"}
"""What HTML calls the characters that have to be written otherwise."""

LONGEST_SPELLING = 32
"""Characters that one may become: four octets with `%25` before each."""


def _is_respelled(char: str) -> bool:
    return not (char.isascii() and char.isalnum())


def _spelled(part: str) -> str:
    """A pattern for one character, or several backslashes, in whatever an encoder makes of it.

    Bounds instead of stars: the text may be made to have the search take long.
    """
    if not _is_respelled(part):
        return re.escape(part)
    if part[0] == "\\":
        count = len(part)
        one = r"%(?:25)?5c|\\{1,4}(?:x|u00)5c|&(?:amp;)?#(?:92|x5c);"
        return rf"(?:\\{{{count},{4 * count}}}|(?i:{one}){{{count}}})"
    code, octets = ord(part), part.encode(errors="surrogatepass")
    escapes = [f"U{code:08x}"]
    escapes += [f"u{code:04x}"] if code < 0x10000 else []
    escapes += [f"x{code:02x}"] if code < 0x100 else []
    escapes += [_SHORT_ESCAPES[part]] if part in _SHORT_ESCAPES else []
    entities = [rf"#0{{0,4}}{code};?+", rf"#x0{{0,4}}{code:x};?+"]
    entities += [f"{_NAMES[part]};"] if part in _NAMES else []
    forms = [
        # As it is; with backslashes before it in JSON, in JSON inside of that, and by PHP.
        rf"\\{{0,3}}{re.escape(part)}",
        *([re.escape(octets.decode("latin-1"))] if code >= 0x80 else []),
        *([r"\+"] if part == " " else []),
        # JSON, JavaScript and Python; the last also of octets.
        rf"\\{{1,4}}(?:{'|'.join(escapes)})",
        *(["".join(rf"\\{{1,4}}u{half:04x}" for half in _halves(code))] if code > 0xFFFF else []),
        *(["".join(rf"\\{{1,4}}x{octet:02x}" for octet in octets)] if code >= 0x80 else []),
        # URLs and forms, HTML: once or twice.
        "".join(f"%(?:25)?{octet:02x}" for octet in octets),
        rf"\\{{0,3}}&(?:amp;)?(?:{'|'.join(entities)})",
    ]
    return f"(?i:{'|'.join(forms)})"


def _halves(code: int) -> tuple[int, int]:
    """The surrogate pair of a character beyond the first plane."""
    return 0xD800 + (code - 0x10000 >> 10), 0xDC00 + (code - 0x10000 & 0x3FF)


_HEADERS = (
    r"(?:proxy-)?authorization|(?:set-)?cookie2?|mcp-session-id|mcp-param-[\w!#$%&*+.^|~-]{1,999}+"
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

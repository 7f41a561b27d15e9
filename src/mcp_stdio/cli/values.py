"""What the values of options look like: each function reads one, or says what is accepted.

Owns the forms only; refuses to know the options. Kept here: a complaint repeats the value only
where it cannot be a secret.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from mcp_stdio.cli.arguments import NO_RESOURCE
from mcp_stdio.errors import quote
from mcp_stdio.http.url import Url
from mcp_stdio.words import join, split

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

_PARAMETERS_OF_OURS = {
    "client_id": "`--client-id`",
    "scope": "`--oauth-scope`",
    "resource": "`--oauth-resource`",
} | dict.fromkeys(
    ("response_type", "redirect_uri", "state", "code_challenge", "code_challenge_method"),
    "mcp-stdio itself",
)
"""Parameters of the authorize request, and who sets them."""


def duration(text: str) -> float:
    """Seconds: a finite number, not negative."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a duration, which is a number of seconds from 0 on, such as "
            "`30` or `2.5`"
        )
    return seconds


def positive_duration(text: str) -> float:
    """Seconds, more than none."""
    seconds = duration(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is no time at all; a number of seconds above 0 is expected, such as "
            "`10` or `2.5`"
        )
    return seconds


def size(text: str) -> int:
    """Bytes: a whole number above 0, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a size, which is a number of bytes above 0, such as "
            "`67108864` or `64M`"
        )
    return int(match[1]) * _UNITS[match[2]]


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """One of these words."""

    def choice(text: str) -> str:
        if text not in choices:
            accepted = ", ".join(f"`{each}`" for each in choices)
            raise argparse.ArgumentTypeError(f"`{quote(text)}` is not one of {accepted}")
        return text

    return choice


def port(text: str) -> int:
    """A TCP port of one's own."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a port, which is a number from 1 to 65535"
        )
    return int(text)


def scope(text: str) -> str:
    """Scopes separated by spaces (RFC 6749 section 3.3)."""
    if not re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]*", text):
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a scope, which is words of ASCII characters without quotes "
            "and backslashes, separated by spaces"
        )
    return " ".join(text.split())


def profile(text: str) -> str:
    """The name of an account."""
    if not re.fullmatch(r"[\w.@+-]{1,64}", text):
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a profile, which is up to 64 letters, digits and `.@+-_`"
        )
    return text


def resource(text: str) -> str:
    """A resource indicator (RFC 8707 section 2), as it will be sent; or `none`."""
    if text == NO_RESOURCE:
        return text
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21\x22\x24-\x7e]+", text):
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a resource, which is an absolute URI without fragment, or "
            f"`{NO_RESOURCE}`"
        )
    return text


def metadata_url(text: str) -> str:
    """The URL of a client metadata document (A-11)."""
    try:
        url, parts = Url.parse(text), urlsplit(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"the URL cannot be used: {quote(str(exc))}") from None
    is_safe = url.scheme == "https" or url.is_loopback
    if not is_safe or parts.path in ("", "/") or parts.fragment or "@" in parts.netloc:
        raise argparse.ArgumentTypeError(
            "the URL of a client metadata document begins with `https://` and has a path, and "
            "neither user nor fragment"
        )
    return text


def parameter(text: str) -> tuple[str, str]:
    """A `KEY=VALUE` for the authorize request."""
    key, equals, value = text.partition("=")
    if not equals or not key or not text.isprintable() or not key.strip() == key:
        raise argparse.ArgumentTypeError("what is given is not `KEY=VALUE`, as in `prompt=consent`")
    if key in _PARAMETERS_OF_OURS:
        raise argparse.ArgumentTypeError(f"`{key}` is set by {_PARAMETERS_OF_OURS[key]}")
    return key, value


def glob(text: str) -> str:
    """A pattern of names."""
    if not text:
        raise argparse.ArgumentTypeError(
            "the pattern is empty; a name is expected, or one with `*`, `?` or `[…]` in it"
        )
    return text


def path(text: str) -> str:
    """A file; `~` is the home directory also where no shell has seen it, as in a client's block."""
    return os.path.expanduser(text)


def command(text: str) -> tuple[str, ...]:
    """A command and its arguments."""
    try:
        words = tuple(split(text, sys.platform))
    except ValueError:
        raise argparse.ArgumentTypeError("a quote in the command is not closed") from None
    if not words or not words[0]:
        raise argparse.ArgumentTypeError("the command is empty")
    return words


def text(value: object, form: object) -> str:
    """What stands for a value on the command line, where `form` is the function that reads it."""
    if form is command:
        assert isinstance(value, tuple)
        return join(value, sys.platform)
    if form is parameter:
        assert isinstance(value, tuple)
        return "=".join(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)

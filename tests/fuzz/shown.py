"""What is shown of what others wrote: no secret, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from io import StringIO
from urllib.parse import quote as percent

from mcp_stdio import errors, jsonrpc
from mcp_stdio.errors import BadAnswer, quote
from mcp_stdio.log import Formatter
from mcp_stdio.redaction import HIDDEN, MIN_ENCODED, MIN_SECRET, Redactor, beginning, protect
from mcp_stdio.terminal import LiveLine
from tests.fuzz.target import Material, as_text, target
from tests.terminal import Screen

SECRET = "kn0wn-s3cret-value"
protect(SECRET)

WORDS = (
    *(b"kn0wn-s3cret-value", b"kn0wn-s3cret", b"-value", b"\x1b[31m", b"\x1b]8;;", b"\x07", b"\0"),
    *(b"\xc2\x9b", b"\xe2\x80\xae", b"\xe2\x80\x8b", b"\xc2\xad", b"\r", b"\n", b"\xff", b"\x7f"),
    *(b"Bearer ", b"Authorization: ", b'"access_token":"', b"https://u:p@h/?a=b", b"\\", b'"'),
    *(b"\xed\xa0\x80", b"\xf3\xa0\x80\x81", b"\xe2\x80\xa9", b"\xe3\x80\x80", b"Cookie=", b"'"),
)
SEEDS = (
    b"plain text of a server",
    b"\x1b[2Jred\r\nnext line kn0wn-s3cret-value",
    b'{"access_token":"abcdefgh","x":"Bearer abc.def"}',
)


def is_fit(text: str) -> bool:
    """Whether a terminal only shows it, and no secret is in it."""
    return text.isprintable() and SECRET not in text


@target(*SEEDS, b"kn0wn\xe2\x80\x8b-s3cret-value", words=WORDS)
def quoted(data: bytes) -> None:
    """A server's words in an error of ours are one line without secrets, also for the client."""
    for text in (as_text(data), data.decode("latin-1"), data.decode(errors="replace")):
        said = quote(text)
        assert is_fit(said)
        assert len(said) <= errors.MAX_QUOTE
        failure = jsonrpc.failure("1", BadAnswer(f"the server says `{text}`", hint=text))
        assert SECRET.encode() not in failure.raw
        assert failure.raw.isascii()
        assert b"\n" not in failure.raw


@target(*SEEDS, words=WORDS)
def logged(data: bytes) -> None:
    """A record in the log is one line, and its traceback lines of their own."""
    text = as_text(data)
    formatter = Formatter("mcp-stdio: %(label)s%(message)s")
    record = logging.LogRecord("x", logging.WARNING, "", 0, "said: %s", (text,), None)
    assert is_fit(formatter.format(record))
    try:
        raise BadAnswer(text)
    except BadAnswer as exc:
        trouble = (type(exc), exc, exc.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "said: %s", (text,), trouble)
    line, *traceback = formatter.format(record).split("\n")
    assert is_fit(line)
    assert all(each.startswith("    ") and is_fit(each) for each in traceback)
    for is_whole in (True, False):
        assert SECRET not in beginning(data, is_whole=is_whole)


@target(
    b"\x08s3cr/t+vbefore  after",
    b'\x14p\xc3\xa4ss "word" with\'\\all {}',
    words=(b"***", b"=", b"%", b'"', b"'", b"\\", b" ", b"\n", b"\xff", b"Bearer ", b"token="),
)
def hidden(data: bytes) -> None:
    """A known secret does not show, in whatever usual form it is written, wherever it stands."""
    material = Material(data)
    secret = as_text(material.part()).strip()
    around = material.text()
    if len(secret) < MIN_SECRET or HIDDEN[0] in secret:  # which may come to be anew by hiding it
        return
    redactor = Redactor()
    redactor.protect(secret)
    forms = [secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], json.dumps({"a": [secret]})]
    octets = secret.encode("utf-8", "surrogatepass")
    forms.append(percent(octets))
    if len(secret) >= MIN_ENCODED and len(octets) % 3 == 0:
        forms.append(b64encode(octets).decode())
    half = len(around) // 2
    for form in forms:
        shown = redactor.redact(around[:half] + form + around[half:])
        needle = secret if secret in form else form
        assert needle not in shown


@target(
    b"\5waiting, 5 s left\nwaiting, 4 s left\nopen this page",
    "\2\u65e5\u672c\u8a9e\n\u0301x".encode(),
    words=(b"\n", b"x" * 99, "\u65e5".encode(), "\u0301".encode(), "\U0001f600".encode(), b" "),
)
def drawn(data: bytes) -> None:
    """A line that is drawn anew leaves nothing of itself, whatever it said."""
    material = Material(data)
    choices = material.number(255)
    stream = StringIO()
    line = LiveLine(stream, is_live=True)
    told = []
    for at, text in enumerate(material.text().split("\n")):
        fit = quote(text)
        # The screen of the tests knows no characters of two columns.
        if not fit.isascii():
            continue
        if choices >> at % 8 & 1:
            line.tell(fit[:70])
            told.append(fit[:70].rstrip())
        else:
            line.draw(fit)
    line.clear()
    assert Screen(stream.getvalue()).rows == [*told, ""]

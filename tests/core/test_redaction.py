"""Secrets stay (P7): known values in every form, and what looks like a credential."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mcp_stdio.redaction import _PATTERNS, MAX_REPLACEABLE, MIN_SECRET, Redactor, redact

SECRET = "s3cr/t+v=lue~'\"\\ü&x"


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.protect(SECRET)
    return redactor


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        repr(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(quote(SECRET, safe="")),
        SECRET.upper(),
        # A page in HTML, by Python, by hand and by ESAPI; such a page in JSON, and the reverse.
        html.escape(SECRET),
        html.escape(SECRET).replace("&#x27;", "&apos;").replace("&quot;", "&#34;"),
        "".join(char if char.isalnum() else f"&#x{ord(char):x};" for char in SECRET),
        html.escape(html.escape(SECRET)),
        json.dumps(html.escape(SECRET)),
        html.escape(json.dumps(SECRET)),
        # JSON by PHP, .NET and Go; in JSON once more; JavaScript.
        json.dumps(SECRET).replace("/", "\\/"),
        "".join(f"\\u{ord(char):04X}" if char in "+&'\"ü" else char for char in SECRET).replace(
            "\\ü", "\\\\ü"
        ),
        json.dumps(SECRET).replace("&", "\\u0026").replace("=", "\\u003d"),
        json.dumps(json.dumps(SECRET)),
        "".join(char if char.isalnum() else f"\\x{ord(char):02x}" for char in SECRET),
        repr(SECRET.encode()),
        SECRET.encode().decode("latin-1"),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
        *(
            base64.b64encode(f"{user}:{SECRET}{after}".encode()).decode()
            for user in ("", "a", "ab", "abc")
            for after in ("", "x", "xy")
        ),
    ],
)
def test_a_known_secret_is_hidden_in_every_form(redactor: Redactor, form: str) -> None:
    hidden = redactor.redact(f"before {form} after")
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert "***" in hidden
    bare = form.strip("\"'=")
    for length in range(8, len(bare) + 1, 4):
        for at in range(2, len(bare) - length - 1):
            assert bare[at : at + length] not in hidden


def test_a_secret_is_hidden_in_the_middle_of_a_word(redactor: Redactor) -> None:
    assert redactor.redact(f"xx{SECRET}xx") == "xx***xx"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    redactor = Redactor()
    redactor.protect("token")
    redactor.protect("token-with-tail")
    assert redactor.redact("a token-with-tail, a token") == "a ***, a ***"


def test_a_secret_is_hidden_in_letters_of_the_other_case_unless_it_may_be_a_word() -> None:
    redactor = Redactor()
    redactor.protect("Demo")
    redactor.protect("Tk-9f3e-Qz")
    assert redactor.redact("a Demo, a demo, a tK-9F3E-qZ") == "a ***, a demo, a ***"


def test_no_cookie_pushes_a_token_out() -> None:
    """A server that sets cookies without end could otherwise have a token shown."""
    redactor = Redactor()
    redactor.protect_replaceable("access/token-1")
    for number in range(1000):
        redactor.protect_passing(f"cookie-{number}")
    assert redactor.redact("got access/token-1, access\\/token-1") == "got ***, ***"


def test_no_token_pushes_out_what_a_file_has_given() -> None:
    """It is read once, and sent for as long as the program runs."""
    redactor = Redactor()
    redactor.protect_supplied("key-from-a-file")
    for number in range(1000):
        redactor.protect_replaceable(f"token-number-{number}")
        redactor.protect_passing(f"cookie-number-{number}")
    for number in range(99):
        redactor.protect_supplied(f"another-key-of-it-{number}")
    assert redactor.redact("got key-from-a-file") == "got ***"


def test_tokens_are_forgotten_long_after_they_were_replaced() -> None:
    redactor = Redactor()
    for number in range(100):
        redactor.protect_replaceable(f"token/{number:03}")
    shown = redactor.redact(" ".join(f"token/{number:03}" for number in range(100))).split()
    assert shown == [f"token/{number:03}" for number in range(76)] + ["***"] * 24


@pytest.mark.parametrize(
    "text",
    ["\\" * 100_000, "&amp;#0" * 15_000, "%25" * 30_000, "&#38;" * 20_000, SECRET[:-1] * 5_000],
)
def test_no_text_makes_it_hard_to_find_a_secret(text: str) -> None:
    redactor = Redactor()
    for secret in (SECRET, "\\" * 20 + "a", "\"'" * 30, "&;" * 20, "+/=" * 30):
        redactor.protect(secret)
    begun = time.monotonic()
    redactor.redact_known(text)
    assert time.monotonic() - begun < 10  # a bound of liveness: it takes milliseconds


@pytest.mark.parametrize(
    "secret, text", [(";", "&#59;"), ("\\-", "\\\\\\-"), ("\\é", "\\\\\\u00e9")]
)
def test_no_secret_is_hard_to_find_where_it_may_be_spelled_in_many_ways(
    secret: str, text: str
) -> None:
    """A server gives sessions and cookies what values it likes."""
    redactor, times = Redactor(), 60 // len(secret)
    redactor.protect_passing(secret * times + "x")
    begun = time.monotonic()
    assert redactor.redact_known(text * times + " x") == text * times + " x"
    assert time.monotonic() - begun < 10  # a bound of liveness: it takes milliseconds
    assert redactor.redact_known(text * times + "x") == "***"


@pytest.mark.parametrize("secret", ["-" * 4000, "a/" * 2000, "\\" * 4000, "é-" * 2000])
def test_many_long_cookies_are_not_hard_to_find(secret: str) -> None:
    """A server sets as many as are remembered, and fills an error with what is nearly one."""
    redactor = Redactor()
    for number in range(50):
        redactor.protect_passing(f"{secret}{number:02}x")
    text = secret * 4 + "".join(f" {number:02}x" for number in range(50))
    begun = time.monotonic()
    assert redactor.redact_known(text) == text
    assert time.monotonic() - begun < 10  # a bound of liveness: it takes a tenth of a second
    value = f"{secret}07x"
    for form in (value, json.dumps(value), quote(value), quote(value, safe=""), html.escape(value)):
        assert redactor.redact_known(f"got {form}").replace('"', "") == "got ***"
    assert redactor.longest < 10 * len(secret)


def test_a_secret_in_use_is_not_pushed_out_by_those_that_come_and_go() -> None:
    redactor = Redactor()
    for number in range(10 * MAX_REPLACEABLE):
        redactor.protect_replaceable("the-client-s3cret")
        redactor.protect_replaceable(f"access-token-{number}")
        redactor.protect_passing(f"cookie-{number:08d}")
        assert redactor.redact(f"the-client-s3cret, access-token-{number}") == "***, ***"


@pytest.mark.parametrize("secret", ["", " ", "a", "abc", " abc\n"])
def test_a_trivially_short_value_is_not_protected(secret: str) -> None:
    redactor = Redactor()
    redactor.protect(secret)
    assert redactor.redact("abc abc") == "abc abc"


def test_a_word_that_a_server_sets_is_not_protected(redactor: Redactor) -> None:
    redactor.protect_passing("english")
    redactor.protect_passing("englishA")
    assert redactor.redact("in english, englishA") == "in english, ***"


def test_white_space_around_a_secret_is_not_part_of_it() -> None:
    redactor = Redactor()
    redactor.protect(" token-1\n")
    assert redactor.redact("token-1") == "***"


@given(st.text(min_size=MIN_SECRET), st.text(), st.text())
def test_no_protected_value_survives(secret: str, before: str, after: str) -> None:
    assume(len(secret.strip()) >= MIN_SECRET and not set(secret) <= {"*"})
    redactor = Redactor()
    redactor.protect(secret)
    assert secret.strip() not in redactor.redact(before + secret + after)


@pytest.mark.parametrize(
    "text, hidden",
    [
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("authorization:abc", "authorization:***"),
        ("Proxy-Authorization: Basic YTpi", "Proxy-Authorization: ***"),
        ("Authorization: Bearer abc\nAccept: x", "Authorization: ***\nAccept: x"),
        ("Authorization: *abc", "Authorization: ***"),
        ("{'Authorization': 'Bearer a b'}", "{'Authorization': '***'}"),
        ('{"cookie":"a=\\"b"}', '{"cookie":"***"}'),
        ("[(b'Set-Cookie', b'a=b; c')]", "[(b'Set-Cookie', b'***')]"),
        ("('Cookie', 'cut off", "('Cookie', '***'"),
        ("Cookie: a=b; c=d", "Cookie: ***"),
        ("Mcp-Session-Id: 123", "Mcp-Session-Id: ***"),
        ("MCP-Session-Id=123", "MCP-Session-Id=***"),
        ("mcp-param-region: us", "mcp-param-region: ***"),
        ("{'Mcp-Param-X': 'y', 'Accept': 'z'}", "{'Mcp-Param-X': '***', 'Accept': 'z'}"),
        ("X-Api-Key: 123", "X-Api-Key: ***"),
        ("got `Bearer abcdef` back", "got `Bearer ***` back"),
        ("bearer  a.b-c_d~e+f/g==", "bearer ***"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("Bearer token-1234", "Bearer ***"),
        ("https://user:pass@host/p", "https://***@host/p"),
        ("https://user:p@ss@host/p", "https://***@host/p"),
        ("https://token@host", "https://***@host"),
        ("socks5://u:p@host:1", "socks5://***@host:1"),
        ("https://host/p?a=1&b=2", "https://host/p?a=***&b=***"),
        ("https://host/p?a=1#frag", "https://host/p?a=***#***"),
        ("https://host/p?token", "https://host/p?***"),
        ("https://host/#access_token=x", "https://host/#access_token=***"),
        ("POST /mcp?key=abc HTTP/1.1", "POST /mcp?key=*** HTTP/1.1"),
        ('{"access_token":"abc","x":1}', '{"access_token":"***","x":1}'),
        ('{"access_token" : "a\\"b"}', '{"access_token" : "***"}'),
        ('{"refresh_token":"cut o', '{"refresh_token":"***"'),
        ('{"code":"abc"}', '{"code":"***"}'),
        ("{'client_secret': 'abc'}", "{'client_secret': '***'}"),
        ('{"clientSecret":"abc","idToken":"d"}', '{"clientSecret":"***","idToken":"***"}'),
        (r'"{\"id_token\":\"a\\\"b\",\"x\":1}"', r'"{\"id_token\":\"***\",\"x\":1}"'),
        ("Settings(token='abc', url='x')", "Settings(token='***', url='x')"),
        ("code=abc&code_verifier=def", "code=***&code_verifier=***"),
        ("grant_type=x&client_secret=abc", "grant_type=x&client_secret=***"),
        ("--bearer-token=abc", "--bearer-token=***"),
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str, hidden: str) -> None:
    assert redact(text) == hidden
    assert redact(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the `Authorization` header is missing",
        "a bearer token is needed",
        'WWW-Authenticate: Bearer realm="x", error="invalid_token"',
        "exit code=3",
        '{"code":-32601,"message":"no such method"}',
        '{"progressToken":1}',
        "https://host:8080/mcp/path",
        "http://[::1]:80/",
        "connected to host in 12 ms, session none",
        "really? a=b",
        "200 text/event-stream; charset=utf-8",
        '{"kind":"authorization","status":401}',
        '{"error": {"kind": "authorization", "status": "refused"}}',
        "{'grant': 'code', 'client_id': 'me'}",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


PIECES = st.sampled_from(
    [*"\"'\\:=/?&#;@, ", "://", "Bearer ", "Cookie", "token", "code", "pass", "a.b-c_1"]
)


@given(st.lists(PIECES | st.characters(), max_size=20).map("".join))
def test_a_pattern_is_left_out_only_where_it_cannot_match(text: str) -> None:
    for marks, pattern, _ in _PATTERNS:
        if marks:
            without = text.translate(dict.fromkeys(map(ord, marks)))
            assert re.search(pattern, without, re.IGNORECASE) is None


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    redact(text)


@pytest.mark.parametrize(
    "piece",
    ["a.", "\\", '\\"', "?a=", "Bearer ", "'", '"token":', "://", "cookie ", '\\"token\\":\\"'],
)
def test_redaction_takes_no_time_that_matters(piece: str) -> None:
    # Backtracking would take minutes here; this takes milliseconds.
    redact(piece * (100_000 // len(piece)))

"""What takes part in a sign-in: challenges, documents, tokens, the way back, the store."""

from __future__ import annotations

import json
import re
from math import inf
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import trio

from mcp_stdio.config import OAuth
from mcp_stdio.credentials import rules
from mcp_stdio.errors import RelayError
from mcp_stdio.http import Request
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import addresses, callback, discovery, login, redirect, registration, tokens
from mcp_stdio.oauth.challenge import challenges, parse
from mcp_stdio.oauth.commands import Command, Fetch, Fetched, ShowCode, Visit
from mcp_stdio.oauth.notice import Notice
from mcp_stdio.oauth.record import Record, Registration, Tokens
from tests.fuzz.target import Material, as_text, target
from tests.oauth import pump
from tests.oauth.pump import MCP, RESOURCE, SERVER, TOKENS, World

URL = Url.parse(MCP)
JSON_WORDS = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e999", b"NaN", b"0"),
    *(b'""', b"\\u0000", b"\\ud800", b"\\r\\n", b" ", b"\xff", b"9" * 400, b"\n"),
)


# Challenges


@target(
    b'Bearer resource_metadata="https://a.example/x", scope="a b", error="insufficient_scope"',
    b'Negotiate YWJj==, Basic realm="a, \\"b\\"", Bearer scope = s ,DPoP algs="ES256"',
    words=(
        *(b"Bearer ", b"Basic ", b"DPoP", b'scope="', b'="', b'"', b"\\", b", ", b",", b"=", b" "),
        *(b"\t", b"resource_metadata=", b"error=", b"==", b"/", b"YWJj=", b"\xc3\xa9", b"\n"),
    ),
)
def challenge(data: bytes) -> None:
    """Whatever a server writes is read; and read again from what the grammar makes of it."""
    text = as_text(data)
    found = challenges(text)
    assert challenges(written(found)) == found
    for scheme, parameters in found:
        assert scheme == scheme.lower()
        assert all(name == name.lower() for name in parameters)
    several = parse(text.split("\n"))
    said = text.replace("\\", "")
    assert (several.resource_metadata or "").replace("\\", "") in said
    assert not several.wants_more_scope or "insufficient_scope" in said


def written(found: list[tuple[str, dict[str, str]]]) -> str:
    """Challenges by the grammar of RFC 9110 section 11.6.1."""
    texts = []
    for scheme, parameters in found:
        quoted = {
            name: value.replace("\\", "\\\\").replace('"', '\\"')
            for name, value in parameters.items()
        }
        pairs = ", ".join(f'{name}="{value}"' for name, value in quoted.items())
        texts.append(f"{scheme} {pairs}".rstrip(" "))
    return ", ".join(texts)


# A sign-in with servers that answer anything


def seed(choices: bytes, *documents: Any) -> bytes:
    """Choices, and what is answered: documents, and the query of a redirect as it is."""
    written = (each if isinstance(each, str) else json.dumps(each) for each in documents)
    return choices + "\n".join(written).encode()


REGISTERED = {"client_id": "client-1", "client_secret": "se cret", "client_secret_expires_at": 0}
ON_A_DEVICE = {
    "device_code": "d-1",
    "user_code": "ABCD",
    "verification_uri": "https://as.example/device",
    "expires_in": 60,
    "interval": 5,
}
DEVICE_SERVER = {**SERVER, "device_authorization_endpoint": "https://as.example/code"}
STATUSES = (200, 201, 400, 401, 404, 429, 500, 302)


@target(
    seed(b"\0\0\0\0\0\0", RESOURCE, SERVER, REGISTERED, TOKENS, "code=code-1"),
    seed(b"\0\1\0\0\0\0", RESOURCE, DEVICE_SERVER, REGISTERED, TOKENS, ON_A_DEVICE),
    seed(b"\0\2\1\1\0\0", RESOURCE, SERVER, REGISTERED, TOKENS),
    seed(
        b"\1\0\0\0\0\0", RESOURCE, SERVER, REGISTERED, {**TOKENS, "id_token": "a.e30.c"}, "code=c"
    ),
    seed(
        b"\0\0\0\0\0\0", RESOURCE, SERVER, REGISTERED, {**TOKENS, "access_token": "a b"}, "code=c"
    ),
    seed(
        b"\0\0\0\0\0\0",
        RESOURCE,
        {
            **SERVER,
            "authorization_endpoint": "https://user@as.example/",
            "token_endpoint": "http://x",
        },
        REGISTERED,
    ),
    b"\0\0\0\0\0\1null\nnull\nnull\naccess_token=a&token_type=bearer&expires_in=5\ncode=c",
    words=(
        *JSON_WORDS,
        *(b"https://as.example", b"http://127.0.0.1", b"https://mcp.example/mcp", b"@", b"%0d%0a"),
        *(b'"error":"invalid_grant",', b'"access_token":"a",', b"issuer", b"_endpoint", b"scope"),
        *(
            b'"expires_in":',
            b'"interval":',
            b"slow_down",
            b"error=access_denied",
            b"&iss=",
            b"/../",
        ),
        *(b"none", b"client_secret_basic", b"client_secret_post", b"S256", b"Bearer", b"bearer"),
    ),
)
def sign_in(data: bytes) -> None:
    """Ends with tokens that can be sent, or a failure that says why; asks only where it may."""
    material = Material(data)
    oauth = OAuth(
        uses_id_token=material.flag(),
        grant=("authorization-code", "device-code", "client-credentials")[material.number(2)],
        client_id="given" if material.flag() else None,
        client_secret="s3cret" if material.flag() else None,
        timeout=120.0,
    )
    status, is_form = STATUSES[material.number(len(STATUSES) - 1)], material.flag()
    bodies = [*material.rest.split(b"\n"), b"", b"", b"", b"", b""]
    kind = "application/x-www-form-urlencoded" if is_form else "application/json"
    polls = 0

    def answer(command: Command) -> Any:
        nonlocal polls
        world.commands.append(command)
        match command:
            case Fetch(purpose=purpose):
                at = PURPOSES[purpose]
                polls += at == 3
                assert polls < 200
                is_document = at < 2
                return Fetched(200 if is_document else status, {"content-type": kind}, bodies[at])
            case Visit():
                return dict(parse_qsl(as_text(bodies[4]), keep_blank_values=True))
        return world.answer(command)

    world = World()
    flow = login.sign_in(oauth, MCP, None, Record(server_url=MCP))
    try:
        record = pump.drive(flow, answer)[1]
    except RelayError as exc:
        assert str(exc).isprintable()
        assert exc.hint is None or exc.hint.isprintable()
    else:
        assert record.tokens is not None
        shown = (rules.AUTHORIZATION, f"Bearer {record.tokens.bearer}")
        assert request_head(Request("POST", URL, (shown,), b"{}")).isascii()
        assert " " not in record.tokens.bearer
        assert Record.from_json(record.to_json()) == record
        _is_renewed(oauth, record, Fetched(status, {"content-type": kind}, bodies[3]))
    for command in world.commands:
        match command:
            case Fetch(url=url, headers=headers):
                _may_be_asked(url)
                request_head(Request("POST", Url.parse(url), headers, b"{}"))
            case Visit(url=url) | ShowCode(url=url):
                _may_be_asked(url)


PURPOSES = {
    discovery.READ_RESOURCE: 0,
    discovery.READ_SERVER: 1,
    registration.REGISTER: 2,
    tokens.SIGN_IN: 3,
    tokens.RENEW: 3,
    "get a code to sign in with": 4,
}


def _may_be_asked(url: str) -> None:
    assert url.isascii()
    assert url.isprintable()
    parts = urlsplit(url)
    assert parts.scheme == "https"
    assert "@" not in parts.netloc


def _is_renewed(oauth: OAuth, record: Record, fetched: Fetched) -> None:
    def answer(command: Command) -> Any:
        return fetched if isinstance(command, Fetch) else World().answer(command)

    try:
        renewed = pump.drive(login.refresh(oauth, MCP, record), answer)[1]
    except RelayError as exc:
        assert str(exc).isprintable()
    else:
        assert renewed.tokens is not None
        assert renewed.tokens.refresh_token is not None or oauth.grant == "client-credentials"


# The browser's way back

STATE = "st4te"
GOOD = b"GET /callback?code=c&state=st4te HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
FOUND = {"code": "c", "state": STATE}
PAGES = [page.raw for page in vars(callback).values() if isinstance(page, callback.Page)]


@target(
    b"GET /callback?code=c&state=st4te HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /callback?code=c&state=st4te HTTP/1.1\r\nHost: 127.0.0.1:~\r\n\r\n",
    b"GET /callback?code=c&state=st4te HTTP/1.1\r\nHost: evil.example:~\r\n\r\n",
    b"GET /callback?error=access_denied&state=other HTTP/1.1\r\nHost: localhost:~\r\nA: b\r\n\r\n",
    b"POST /callback HTTP/1.1\r\nHost: 127.0.0.1:~\r\nContent-Length: 5\r\n\r\nhello",
    words=(
        *(
            b"code=",
            b"&state=st4te",
            b"error=",
            b"&",
            b"~",
            b"Host: 127.0.0.1:~",
            b"Host: localhost",
        ),
        *(
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\0",
            b"GET ",
            b"HEAD ",
            b" HTTP/1.1",
            b" HTTP/1.0",
            b"%00",
        ),
        *(b"Transfer-Encoding: chunked", b"#", b"?", b"//", b"\x16\x03\x01", b"PRI * HTTP/2.0"),
    ),
)
def redirected(data: bytes) -> None:
    """Nothing but the browser that is waited for gets in, and nothing else keeps it out."""
    trio.run(_redirected, data)


async def _redirected(data: bytes) -> None:
    found: dict[str, str] = {}
    with trio.fail_after(60):
        async with await callback.listen() as listening, trio.open_nursery() as nursery:
            port = Url.parse(listening.redirect_uri).port
            said = data.replace(b"~", b"%d" % port)

            async def wait() -> None:
                found.update(await listening.redirected(STATE))
                await listening.tell(callback.SIGNED_IN)

            nursery.start_soon(wait)
            answer = await _asked(port, said)
            assert answer in (b"", *PAGES)
            if answer != callback.SIGNED_IN.raw:
                assert found == {}
                # Its own words are nowhere in what it is told.
                assert await _asked(port, GOOD % port) == callback.SIGNED_IN.raw
                assert found == FOUND
            assert found["state"] == STATE
            assert found.keys() & {"code", "error"}
    if answer == callback.SIGNED_IN.raw:
        assert said.startswith(b"GET /callback?")
        assert b"state=" in said or b"%" in said
        assert re.search(rb"(?i)\nhost:[ \t]*(127\.0\.0\.1|localhost):%d[ \t]*\r?\n" % port, said)


async def _asked(port: int, said: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    answer = b""
    try:
        await stream.send_all(said)
        await stream.send_eof()
        while some := await stream.receive_some():
            answer += some
    except trio.BrokenResourceError:
        pass  # what came besides the head was not read
    finally:
        await trio.aclose_forcefully(stream)
    return answer


@target(
    b"http://127.0.0.1:4711/callback?code=a%20b&state=s#x",
    b"'code=a&state=s\r\n&iss=https://as.example'",
    words=(b"?", b"#", b"&", b"=", b"code=", b"error=", b"state=", b"://", b"[", b"%", b"\n", b"<"),
)
def pasted(data: bytes) -> None:
    """What a person pastes is a redirect, or no answer at all."""
    try:
        found = redirect.pasted(as_text(data))
    except ValueError as exc:
        reason = str(exc)
        assert reason.startswith("it")
        return
    assert found.keys() & {"code", "error"}
    assert redirect.is_awaited(found, found.get("state", ""))
    assert not redirect.is_awaited(found, found.get("state", "") + "x")
    if found.get("state") == STATE:
        assert redirect.is_awaited(found, STATE)


# What is kept, and what addresses are


@target(
    Record(
        server_url=MCP,
        registrations={"https://as.example": Registration(client_id="c", client_secret="s")},
        tokens=Tokens(
            access_token="a",
            expires_at=5.0,
            issuer="https://as.example",
            client_id="c",
            token_endpoint="https://as.example/token",
        ),
    ).to_json(),
    b'{"version":1,"server_url":"u","registrations":{"i":{"client_id":"c","secret_expires_at":1e999}}}',
    Notice(pid=1, since=2.0, url="https://as.example/", in_vain_at=3.0).to_json(),
    words=(*JSON_WORDS, b'"version": 1', b'"tokens"', b'"registrations"', b'"expires_at": '),
)
def stored(data: bytes) -> None:
    """A file of the store is understood and can be written again, or is told apart as damaged."""
    try:
        record = Record.from_json(data)
    except ValueError:
        pass
    else:
        if record.server_url and record.profile and record.client_id != "":  # as is always so
            assert Record.from_json(record.to_json()) == record
        assert all(secret not in repr(record) for secret in record.secrets() if len(secret) > 9)
        times = [client.secret_expires_at for client in record.registrations.values()]
        times += [record.tokens.expires_at] if record.tokens is not None else []
        assert all(each is None or abs(pump.CLOCK - each) < inf for each in times)
    try:
        notice = Notice.from_json(data)
    except ValueError:
        return
    assert Notice.from_json(notice.to_json()) == notice
    assert isinstance(pump.CLOCK - notice.since, float)


@target(
    b"127.0.0.1",
    b"::ffff:169.254.169.254",
    b"0x7f.1",
    b"64:ff9b::7f00:1",
    b"fe80::1%eth0",
    words=(b":", b".", b"::", b"0x", b"0", b"127", b"ffff", b"%", b"2130706433", b"\0", b" "),
)
def host(data: bytes) -> None:
    """A host is an address that everybody reads as one, or a name."""
    text = as_text(data)
    literal = addresses.literal(text)
    if literal is not None:
        assert addresses.kind(literal) in addresses.Kind
        assert addresses.literal(literal) == literal
    try:
        addresses.kind(text)
    except ValueError:
        return
    assert literal is not None or "%" in text


@target(
    b"a.eyJleHAiOjV9.c",
    b"a.eyJleHAiOiIxZTMwOSJ9",
    words=(b".", b"=", b"eyJleHAiO", b"-", b"_", b"\xc3\xa9", b"W1tb"),
)
def id_token(data: bytes) -> None:
    """Says when it expires, or nothing."""
    expiry = tokens.expiry_of(as_text(data))
    assert expiry is None or 0 < expiry < float("inf")

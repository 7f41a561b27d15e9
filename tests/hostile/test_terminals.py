"""What a server says is shown, and does nothing to the terminal that it is shown on (P7, P8).

The server puts the same into everything that it can name: sequences that clear the screen, set a
title, disguise a link, turn the text around or begin a line that looks like one of ours.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from mcp_stdio import spec
from tests.faults.driver import LIMIT, Relay, command, environment, relaying
from tests.faults.server import (
    END,
    EVENTS,
    JSON,
    Behaviour,
    Server,
    Visit,
    chunk,
    dumps,
    http,
    serving,
    stream_head,
)

LINK = "\x1b]8;;https://evil.example\x1b\\a link\x1b]8;;\x07"
ARTS = (
    f"{LINK}\x1b[2J\x1b]0;title\x07\x9b31m\x90q\x9c\x08\x7f\x0c\x0b"  # C0 and C1
    "\u202egnp.exe\u2066\u200f\u200b\ufeff\u00ad\U000e0041"  # turned around, and not to be seen
    "\u2028\u2029\u0085\r\nmcp-stdio: error: a line of ours\r"
)
IN_A_HEADER = ARTS.replace("\r\n", "").replace("\r", "").replace("\x0b", "").replace("\x0c", "")
"""What HTTP lets through."""

NAMES = {"name": ARTS, "version": ARTS, "title": ARTS}


def artful(status: int, body: bytes, kind: str, *headers: str) -> Behaviour:
    async def behave(visit: Visit) -> None:
        if status != 200 and visit.received.rpc == "tools/call":
            visit.did_not_run()
        text = http(status, body.replace(b'"ID"', dumps(visit.id)), kind=kind, headers=headers)
        await visit.send(
            text.replace(b" Whatever\r\n", f" {IN_A_HEADER}\r\n".encode("latin-1", "replace"))
        )

    return behave


RAW = ARTS.encode() + b"\x9b2J\xff" + ARTS.encode("utf-16-le")
ERROR: dict[str, Any] = {"code": -32000, "message": ARTS, "data": {ARTS: ARTS}}

TOOLS: dict[str, Behaviour] = {
    **{
        f"status {status}": artful(status, RAW, f"text/plain; {IN_A_HEADER}")
        for status in (200, 202, 400, 401, 403, 404, 405, 429, 500, 503)
    },
    "an error": artful(500, dumps({"jsonrpc": "2.0", "id": "ID", "error": ERROR}), JSON),
    "a challenge": artful(
        401, b"", "text/plain", f'WWW-Authenticate: Bearer error="x", scope="{IN_A_HEADER}", '
        f'error_description="{IN_A_HEADER}"', f"WWW-Authenticate: {IN_A_HEADER}",
    ),
    "a redirect": artful(302, b"", "text/plain", f"Location: https://other.invalid/{IN_A_HEADER}"),
    "a coding": artful(200, b"x", JSON, f"Content-Encoding: {IN_A_HEADER}"),
    "a time": artful(503, b"", JSON, f"Retry-After: {IN_A_HEADER}", f"Server: {IN_A_HEADER}"),
    "no message": artful(200, dumps({ARTS: ARTS}), JSON),
    "no json": artful(200, RAW, JSON),
    "half a pair": artful(
        200, b'{"jsonrpc":"2.0","id":"ID","error":{"code":1,"message":"\\ud800\\u009b"}}', JSON
    ),
}  # fmt: skip


async def stream(visit: Visit) -> None:
    """Events of odd names, ids and contents."""
    odd = ARTS.replace("\r", "").replace("\n", "")
    said = [f": {odd}", f"event: {odd}", f"id: {odd}", f"data: {odd}", "", f"data: {odd}", "", ""]
    await visit.send(stream_head() + chunk("\n".join(said).encode()))
    asked = {"jsonrpc": "2.0", "id": ARTS, "method": ARTS, "params": {"message": ARTS}}
    await visit.send(chunk(b"data: " + dumps(asked) + b"\n\n"))
    await visit.send(chunk(b"data: " + dumps(visit.result()) + b"\n\n") + END)


def assert_harmless(text: str) -> None:
    assert all(char.isprintable() or char == "\n" for char in text), ascii(text)
    assert not any(
        line.lstrip().startswith("mcp-stdio: error: a line") for line in text.split("\n")
    )


def strings(value: object) -> Iterable[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from strings(item)
        case list():
            for item in value:
                yield from strings(item)


async def provoke(server: Server, relay: Relay) -> None:
    """Have all of it happen, and look at what the relay says by itself."""
    server.tools |= {**TOOLS, "stream": stream}
    for name in server.tools:
        answer = await relay.call(name)
        own = answer.get("error", {}).get("data")
        if isinstance(own, dict) and own.get("origin"):
            for text in strings(answer["error"]):
                assert_harmless(text)
    server.methods["notifications/roots/list_changed"] = artful(500, RAW, "text/html")
    await relay.notify("notifications/roots/list_changed")
    with trio.fail_after(LIMIT):
        await server.saw("notifications/roots/list_changed")
    await relay.lives()


def offering(version: str = spec.R4) -> Behaviour:
    async def welcome(visit: Visit) -> None:
        description = {
            "protocolVersion": version,
            "capabilities": {"tools": {ARTS: ARTS}, "resources": {}, "prompts": {}, ARTS: {}},
            "serverInfo": NAMES,
            "instructions": ARTS,
        }
        await visit.answer(description, f"{spec.SESSION_ID}: {visit.server.mint_session()}")

    return welcome


async def listed(visit: Visit) -> None:
    named = {**NAMES, "description": ARTS, "inputSchema": {"type": "object"}, "uri": ARTS}
    mirrored = {"properties": {"p": {"type": ARTS, spec.MIRRORED: ARTS}}}
    items = [named, {**named, "inputSchema": mirrored}]
    kind = visit.received.rpc.partition("/")[0]
    await visit.answer({kind: items, "nextCursor": ARTS})


async def test_a_log_is_lines_of_ours(tmp_path: Path) -> None:
    log = tmp_path / "log"
    methods = {spec.INITIALIZE: offering(), **dict.fromkeys(spec.LISTS, listed)}
    async with serving(methods=methods, is_judged=False) as server:
        options = ("-vv", "--log-file", str(log), "--timeout-read", "1", "--deny-tool", "x")
        async with relaying(server.url, *options) as relay:
            await provoke(server, relay)
            for method in spec.LISTS:
                await relay.ask(method)
    for said in relay.errors.decode(), log.read_text(encoding="utf-8"):
        assert "title" in said
        assert_harmless(said)


OPENINGS: dict[str, Behaviour] = {
    "well": offering(),
    "odd version": offering(ARTS),
    "page": artful(500, RAW, "text/html"),
    "answered with an error": artful(
        200, dumps({"jsonrpc": "2.0", "id": "ID", "error": ERROR}), JSON
    ),
    "stream": artful(200, b"data: " + RAW + b"\n\n", EVENTS),
    **{name: TOOLS[name] for name in ("a challenge", "a redirect", "an error")},
}


@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_connection_test_is_lines_of_ours(opening: str) -> None:
    methods = {spec.INITIALIZE: OPENINGS[opening], **dict.fromkeys(spec.LISTS, listed)}
    async with serving(methods=methods, is_judged=False) as server:
        await look_at_a_test_of(server.url)


async def test_who_a_certificate_is_for_is_lines_of_ours() -> None:
    """It is told also of one that is not trusted, so anybody may have issued it."""
    issuer = trustme.CA(organization_name=ARTS, organization_unit_name=ARTS)
    certificate = issuer.issue_cert("127.0.0.1", common_name="x\x1b[2J\u202e\x9by")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    async with serving(context=context) as server:
        said = await look_at_a_test_of(server.url)
    assert "the certificate is that of `x" in said


async def look_at_a_test_of(url: str) -> str:
    """What is said on standard error to a person."""
    said = ""
    for options in ("--test", "--json"), ("--test", "-vv"):
        with trio.fail_after(LIMIT):
            done = await trio.run_process(
                command(*options, "--timeout-read", "2", url),
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment(),
            )
        said = done.stderr.decode(errors="replace")  # whatever the locale makes of an ellipsis
        assert_harmless(said)
        if "--json" in options:
            assert done.stdout.isascii()
            json.loads(done.stdout)
        else:
            assert not done.stdout
    return said

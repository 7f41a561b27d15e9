"""No secret shows (P7): on standard error at any verbosity, in the log file, in the relay's errors.

The server does what it can to make it happen: it repeats every header it was sent, wherever a
server can write something.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from mcp_stdio import __version__, spec
from tests.claims.test_proxies import proxying
from tests.faults.driver import LANES, LIMIT, Relay, command, environment, opening, relaying
from tests.faults.server import (
    EVENTS,
    JSON,
    TOOL_CALL,
    Behaviour,
    Received,
    Server,
    Visit,
    http,
    never,
    server_description,
    serving,
    stream_head,
)

SECRET = "kJ8/xQ+2=zPw7~vNc"
"""It changes when it is percent-encoded or put in JSON, and its Base64 in the URL's alphabet."""


@dataclass(frozen=True)
class Source:
    """A place where a secret can come from; `url` is put together with the server's address.

    `FILE` among the options stands for a file with this `content`.
    """

    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    url: str = "http://{address}/mcp"
    content: str = ""

    def options_with(self, file: Path) -> list[str]:
        """The options, once the file is there."""
        file.write_text(self.content, encoding="utf-8")
        return [option.replace("FILE", file.as_posix()) for option in self.options]


QUOTED = urllib.parse.quote(SECRET, safe="")

PRINTS = (
    f'"{sys.executable}" -c "import sys; text = open(\'FILE\').read(); print(text); '
    "print('using', text, file=sys.stderr)\""
)
"""A command that talks too much."""

SOURCES = {
    "--bearer-token": Source(("--bearer-token", SECRET)),
    "MCP_BEARER_TOKEN": Source(env={"MCP_BEARER_TOKEN": SECRET}),
    "--bearer-token-file": Source(("--bearer-token-file", "FILE"), content=f"{SECRET}\n"),
    "--bearer-token-command": Source(("--bearer-token-command", PRINTS), content=SECRET),
    "--header-file": Source(("--header-file", "FILE"), content=f"X-Whatever: {SECRET}\n# x"),
    "--header-command": Source(("--header-command", PRINTS), content=f"X-Whatever:{SECRET}"),
    "-H Authorization": Source(("-H", f"Authorization: Digest {SECRET}")),
    "-H Authorization, bare": Source(("-H", f"Authorization: {SECRET}")),
    "-H X-Api-Key": Source(("-H", f"X-Api-Key: {SECRET}")),
    "-H with an unknown name": Source(("-H", f"X-Whatever:  {SECRET} ")),
    "-H with a variable": Source(("-H", "X-Whatever: ${KEY}"), {"KEY": SECRET}),
    "-H with a variable in it": Source(("-H", "X-Whatever: Key ${KEY}; v=1"), {"KEY": SECRET}),
    "-H Cookie": Source(("-H", f"Cookie: sid={SECRET}")),
    "password in the URL": Source(url=f"http://user:{QUOTED}@{{address}}/mcp"),
    "user in the URL": Source(url=f"http://{QUOTED}@{{address}}/mcp"),
    "query of the URL": Source(url=f"http://{{address}}/mcp?access={QUOTED}"),
    "bare query of the URL": Source(url=f"http://{{address}}/mcp?{QUOTED}"),
}

VERBOSITIES = ((), ("-v",), ("-vv",), ("-q",))


def forms(secret: str) -> Iterator[str]:
    """How a secret may look."""
    yield secret
    yield urllib.parse.quote(secret, safe="")
    yield urllib.parse.quote(secret)
    yield json.dumps(secret)[1:-1]
    yield in_html(secret)
    yield secret.swapcase()
    for prefix in "", "user:", "x:y", "z":
        encoded = base64.b64encode((prefix + secret).encode()).decode()
        # Without what depends on the neighbours.
        yield encoded[len(prefix) * 4 // 3 + 2 : -4]


def assert_hidden(secret: str, *texts: str) -> None:
    for text in texts:
        for form in forms(secret):
            assert form not in text
        # Nor a good part of it, as where a text is cut.
        for start in range(len(secret) - 8):
            assert secret[start : start + 8] not in text, text


def in_html(text: str) -> str:
    """The text as cautious templates put it in a page."""
    return "".join(c if c.isalnum() or c.isspace() else f"&#{ord(c)};" for c in text)


def echo(received: Received) -> bytes:
    """All that a request said, as careless servers repeat it."""
    lines = [f"{name}: {value}" for name, value in received.headers]
    plain = "\n".join([f"{received.method} {received.target}", *lines])
    others = [json.dumps(received.headers), repr(received.headers), in_html(plain)]
    return "\n".join([plain, *others, plain.swapcase()]).encode()


def echoing(
    status: int,
    kind: str,
    *,
    pad: int = 0,
    headers: tuple[str, ...] = (),
    spelled: Callable[[str], str] = str,
) -> Behaviour:
    """Answer with an echo; `pad` moves it to where a quotation of the text may be cut.

    The echo begins with the secret, `spelled` in some way.
    """

    async def behave(visit: Visit) -> None:
        if status in (401, 404) and visit.received.rpc == TOOL_CALL:
            visit.did_not_run()
        value = (visit.received.get("authorization") or "").partition(" ")[2]
        for name, text in visit.received.headers:
            if name.lower() in ("x-api-key", "x-whatever", "cookie", "mcp-session-id"):
                value += text
        filled = [header.replace("VALUE", value) for header in headers]
        body = b"x" * pad + spelled(value).encode() + b"\n" + echo(visit.received)
        await visit.send(http(status, body, kind=kind, headers=filled))

    return behave


ECHOES: dict[str, Behaviour] = {
    **{f"status {status}": echoing(status, "text/plain") for status in (400, 401, 403, 404, 500)},
    **{f"cut at {pad}": echoing(500, "text/plain", pad=pad) for pad in range(140, 200, 5)},
    "html": echoing(200, "text/html"),
    "escaped for html": echoing(500, "text/html", spelled=in_html),
    "other case": echoing(500, "text/plain", spelled=str.swapcase),
    "json": echoing(200, JSON),
    "stream": echoing(200, EVENTS),
    "no type": echoing(200, "VALUE"),
    "challenge": echoing(
        401,
        "text/plain",
        headers=('WWW-Authenticate: Bearer error="invalid_token", error_description="VALUE"',),
    ),
    "odd challenge": echoing(401, "text/plain", headers=("WWW-Authenticate: VALUE",)),
    "redirect": echoing(
        302, "text/plain", headers=("Location: http://other.invalid/VALUE?t=VALUE",)
    ),
    "relative redirect": echoing(302, "text/plain", headers=("Location: /x?token=VALUE#VALUE",)),
    "bad redirect": echoing(302, "text/plain", headers=("Location: http://[VALUE",)),
    "coding": echoing(200, JSON, headers=("Content-Encoding: VALUE",)),
    "type": echoing(200, "text/x-VALUE", headers=("Content-Type: VALUE",)),
}


async def _noise(visit: Visit) -> None:
    """Events that are none, with everything in them."""
    text = echo(visit.received).replace(b"\n", b" ")
    await visit.send(stream_head() + b"%x\r\ndata: %b\n\n\r\n" % (len(text) + 8, text))
    await visit.close()


async def provoke(server: Server, relay: Relay) -> list[str]:
    """Have everything happen that can be told of; gives the relay's own error answers."""
    server.tools |= ECHOES | {"noise": _noise, "silent": never}
    server.methods["notifications/roots/list_changed"] = echoing(500, "text/plain")
    answers = [await relay.call(name) for name in [*ECHOES, "noise", "silent"]]
    await relay.notify("notifications/roots/list_changed")
    with trio.fail_after(LIMIT):
        await server.saw("notifications/roots/list_changed")
    server.restart()
    server.methods[spec.INITIALIZE] = echoing(500, "text/plain")
    answers.append(await relay.call("echo"))
    del server.methods[spec.INITIALIZE]
    await relay.write(b"no json\n")
    server.kill()
    answers.append(await relay.call("echo"))
    return [json.dumps(a) for a in answers if a["error"].get("data", {}).get("origin")]


@pytest.mark.parametrize("verbosity", VERBOSITIES)
async def test_a_secret_the_user_gave_shows_nowhere(
    verbosity: tuple[str, ...], tmp_path: Path
) -> None:
    async def one(source: Source, log: Path) -> None:
        async with serving(is_judged=False) as server:
            url = source.url.format(address=f"127.0.0.1:{server.port}")
            server.path = url.partition(str(server.port))[2]
            options = (*verbosity, "--log-file", str(log), "--timeout-read", "1")
            options += tuple(source.options_with(log.with_suffix(".secret")))
            async with relaying(url, *options, env=source.env) as relay:
                answers = await provoke(server, relay)
            assert len(answers) > len(ECHOES)
            heads = [str((received.target, received.headers)) for received in server.received]
            assert any(form in head for head in heads for form in (SECRET, QUOTED, "Basic"))
            assert_hidden(SECRET, relay.errors.decode(), log.read_text(encoding="utf-8"), *answers)

    async with trio.open_nursery() as nursery:
        for number, source in enumerate(SOURCES.values()):
            nursery.start_soon(one, source, tmp_path / f"{number}.log")


async def test_secrets_that_the_server_gives_show_nowhere(tmp_path: Path) -> None:
    """The session id and cookies, both repeated by the server."""
    session = "Mx3/bQ+8~rTd5-Hw"
    cookie = "Vz6/nG+4~kLs9-Jy"

    async def welcome(visit: Visit) -> None:
        visit.server.sessions.append(session)
        headers = (f"{spec.SESSION_ID}: {session}", f"Set-Cookie: lb={cookie}; Path=/")
        await visit.answer(server_description(), *headers)

    log = tmp_path / "log"
    async with serving(methods={spec.INITIALIZE: welcome}, is_judged=False) as server:
        async with relaying(server.url, "-vv", "--log-file", str(log)) as relay:
            server.tools |= ECHOES | {"noise": _noise}
            answers = [await relay.call(name) for name in [*ECHOES, "noise"]]
        assert server.received[-1].get(spec.SESSION_ID) == session
        assert server.received[-1].get("cookie") == f"lb={cookie}"
        own = [json.dumps(a) for a in answers if a["error"].get("data", {}).get("origin")]
        assert len(own) >= len(ECHOES)
        for secret in session, cookie:
            assert_hidden(secret, relay.errors.decode(), log.read_text(encoding="utf-8"), *own)


async def test_credentials_of_a_proxy_show_nowhere(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ("-vv", "--log-file", str(log))
    async with serving(is_judged=False) as server, proxying(credentials=f"me:{QUOTED}") as proxy:
        for url in proxy.url, proxy.url.replace("@", "x@"), f"http://me:{QUOTED}@127.0.0.1:9":
            env = {"HTTP_PROXY": url}
            async with relaying(server.url, *options, env=env, initialize=False) as relay:
                answer = await relay.ask(spec.INITIALIZE, opening())
                if "error" not in answer:
                    server.tools["echo"] = echoing(500, "text/plain")
                    answer = await relay.call("echo")
            assert_hidden(
                SECRET, relay.errors.decode(), log.read_text(encoding="utf-8"), json.dumps(answer)
            )


URL = "http://127.0.0.1:9/mcp"

MISTAKES = {
    "two credentials": ("--bearer-token", SECRET, "-H", f"Authorization: {SECRET}", URL),
    "a token of two words": ("--bearer-token", f"Bearer {SECRET}", URL),
    "an unknown option": (f"--bearer-tokn={SECRET}", URL),
    "an unknown option and a word": ("--bearer-tokn", SECRET, URL),
    "an option without a value": ("--bearer-token", SECRET, "--timeout-read", URL),
    "no colon": ("-H", f"Authorization Bearer {SECRET}", URL),
    "no quotes": ("-H", "Authorization:", "Bearer", SECRET, URL),
    "no name": ("-H", f": {SECRET}", URL),
    "a name with a space": ("-H", f"X Api Key {SECRET}: x", URL),
    "a header of the protocol": ("-H", f"Mcp-Session-Id: {SECRET}", URL),
    "a line break": ("-H", f"X-Api-Key: {SECRET}\nX: y", URL),
    "an unknown variable": ("-H", f"X-Api-Key: {SECRET}${{NOT_SET}}", URL),
    "an open variable": ("-H", f"X-Api-Key: ${{{SECRET}", URL),
    "a bad port": (f"http://user:{QUOTED}@127.0.0.1:99999/mcp",),
    "a bad scheme": (f"ftp://user:{QUOTED}@127.0.0.1/mcp",),
    "a bad host": (f"http://user:{QUOTED}@[::1/mcp",),
    "no scheme": (f"user:{QUOTED}@127.0.0.1/mcp?token={QUOTED}",),
    "oauth as well": ("--oauth", "--bearer-token", SECRET, URL),
    "a parameter without a name": ("--oauth", "--oauth-param", f"={SECRET}", URL),
    "a parameter of the protocol": ("--oauth", "--oauth-param", f"state={SECRET}", URL),
    "a command that is none": ("--bearer-token-command", f"/nowhere/x {SECRET}", URL),
    "a command with an open quote": ("--header-command", f"echo '{SECRET}", URL),
    "a missing file": ("--bearer-token", SECRET, "--cacert", "/nowhere", URL),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_complaints_about_the_command_line_keep_secrets(name: str) -> None:
    result = await trio.run_process(
        command("-vv", *MISTAKES[name]),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment(),
    )
    assert result.returncode == 2, result.stderr
    assert b"error: " in result.stderr
    assert_hidden(SECRET, result.stdout.decode(), result.stderr.decode())


async def test_tracebacks_keep_secrets() -> None:
    """Of what nobody caught, in the program, in a thread, in what the interpreter tidies up."""
    script = f"""
import threading
from mcp_stdio import log
secret = {SECRET!r}
log.protect(secret)
log.setup(2)
class Untidy:
    def __del__(self):
        raise ValueError(f"from __del__: {{secret}}")
Untidy()
def run():
    raise ValueError({{"Authorization": "Bearer " + secret}})
thread = threading.Thread(target=run)
thread.start()
thread.join()
try:
    raise OSError(f"connecting to http://user:{{secret}}@host/")
except OSError as exc:
    raise ExceptionGroup(secret, [ValueError(secret)]) from exc
"""
    result = await trio.run_process(
        [command()[0], "-c", script], capture_stderr=True, check=False, env=environment()
    )
    said = result.stderr.decode()
    assert said.count("Traceback") >= 3
    assert said.count("***") >= 5
    # The script itself is not shown, for it has no file.
    assert_hidden(SECRET, said)


@pytest.mark.parametrize("options", [("--test", "--json"), ("--test", "-vv")])
async def test_a_connection_test_keeps_secrets(options: tuple[str, ...], tmp_path: Path) -> None:
    async def one(source: Source, file: Path) -> None:
        given = source.options_with(file)
        async with serving(is_judged=False) as server:
            url = source.url.format(address=f"127.0.0.1:{server.port}")
            server.path = url.partition(str(server.port))[2]
            for behaviour in None, echoing(500, "text/plain"), ECHOES["redirect"]:
                if behaviour is not None:
                    server.methods[spec.INITIALIZE] = behaviour
                with trio.fail_after(LIMIT):
                    result = await trio.run_process(
                        command(*options, *given, url),
                        capture_stdout=True,
                        capture_stderr=True,
                        check=False,
                        env=environment(source.env),
                    )
                assert (result.returncode == 0) == (behaviour is None), result
                assert_hidden(SECRET, result.stdout.decode(), result.stderr.decode())

    async with trio.open_nursery() as nursery:
        for number, source in enumerate(SOURCES.values()):
            nursery.start_soon(one, source, tmp_path / str(number))


async def test_a_secret_in_messages_shows_nowhere(tmp_path: Path) -> None:
    """The token that the user gave, and tokens of a kind, within JSON both ways."""
    other = "Gh5/wE+1~oXc8-Zb"
    log = tmp_path / "log"

    async def repeat(visit: Visit) -> None:
        text = json.dumps({"token": SECRET, "access_token": other})
        await visit.answer({"content": [{"type": "text", "text": text}], "is": SECRET})

    async with serving(tools={"repeat": repeat}, is_judged=False) as server:
        options = ("-vv", "--log-file", str(log), "--bearer-token", SECRET)
        async with relaying(server.url, *options) as relay:
            await relay.call("repeat", secret=SECRET, access_token=other, nested=json.dumps(SECRET))
        for text in relay.errors.decode(), log.read_text(encoding="utf-8"):
            assert "request tools/call" in text
            assert_hidden(SECRET, text)
            assert_hidden(other, text)


async def test_the_log_file_gets_information_though_standard_error_is_quiet(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving() as server:
        async with relaying(server.url, "-q", "--log-file", str(log)) as relay:
            server.tools["fails"] = echoing(500, "text/plain")
            await relay.call("fails")
    assert relay.errors == b""
    assert f" NOTICE mcp_stdio.serving: version {__version__} relays to " in log.read_text(
        encoding="utf-8"
    )
    assert " INFO mcp_stdio." in log.read_text(encoding="utf-8")
    assert " DEBUG " not in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("lane", LANES)
async def test_the_wire_is_told_with_two_v(lane: str) -> None:
    async with serving() as server:
        async with relaying(server.url, "-vv", env=LANES[lane]) as relay:
            await relay.lives()
            await relay.lives()
        said = relay.errors.decode()
    for text in (
        f"debug: #1 > POST {server.url}, ",
        "> Content-Type: application/json",
        "on a new connection",
        "on a kept connection",
        "client: request tools/call 3, ",
        "to client: response 3, ",
    ):
        assert text in said

"""Each failure says why, and what to do (P8): to the client and on standard error alike.

What users meet most is made to happen for real. The words are compared whole, for they are what a
person has; `{}` stands for the server's host and port.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from mcp_stdio import spec
from mcp_stdio.cli.arguments import SEE_HELP, parse
from mcp_stdio.cli.settings import order
from mcp_stdio.errors import (
    AskedInVain,
    ConnectionLost,
    InvalidGrant,
    RelayError,
    SignInPending,
    TooDeep,
    UsageFailure,
)
from mcp_stdio.oauth.answers import declined
from tests.claims.test_proxies import proxying
from tests.faults.driver import command, environment, opening, relaying
from tests.faults.server import (
    JSON,
    Behaviour,
    Server,
    Visit,
    hang_up,
    http,
    never,
    serving,
)

ENDPOINT = "check that the URL is that of an MCP server; its path is often `/mcp`"
BREAKS = "the server breaks the protocol here: tell who runs it, with what `-vv` shows"
LOG = "the log of the server may tell why; `-vv` shows what it was sent"
INSECURE = "`--insecure` goes without any check, for tests only"
PROXY = (
    "check `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` or the system's proxy settings; a host "
    "named in `NO_PROXY` is reached without a proxy"
)
UNKNOWN = "whether the call ran is unknown: check its effect before you call again"


def says(
    status: int, body: bytes = b"", *headers: str, kind: str | None = "text/plain"
) -> Behaviour:
    async def behave(visit: Visit) -> None:
        await visit.send(http(status, body, kind=kind, headers=headers))

    return behave


@dataclass(frozen=True)
class Case:
    """How the server answers, and what comes of it."""

    behaviour: Behaviour
    message: str
    hint: str
    options: tuple[str, ...] = ()


SERVERS = {
    "401 without a credential": Case(
        says(401, b"", 'WWW-Authenticate: Bearer realm="x"'),
        'the server wants a credential (401): Bearer realm="x"',
        "sign in with `--oauth`, or give a token with `MCP_BEARER_TOKEN`",
    ),
    "401 with a credential": Case(
        says(401, b"expired", 'WWW-Authenticate: Bearer error="invalid_token"'),
        'the server refuses the credential (401): Bearer error="invalid_token"; expired',
        "what was given is wrong, has expired or is for another server; give another token with "
        "`MCP_BEARER_TOKEN`, or sign in with `--oauth`",
        ("--bearer-token", "t0k3n-of-mine"),
    ),
    "401 with a credential in a header of one's own": Case(
        says(401, b"who are you?"),
        "the server wants a credential, or another one (401): who are you?",
        "`X-Api-Key`, `X-Tenant` may be wrong or expired, or not what the server looks at; else "
        "sign in with `--oauth`, or give a token with `MCP_BEARER_TOKEN`",
        ("-H", "X-Api-Key: k3y-of-mine", "-H", "X-Tenant: me", "-H", "Accept-Language: de"),
    ),
    "403 with a credential in a header of one's own": Case(
        says(403, b"not you"),
        "the server refuses access (403): not you",
        "`X-Api-Key` may be wrong or lack a permission; else sign in with `--oauth`, or give a "
        "token with `MCP_BEARER_TOKEN`",
        ("-H", "X-Api-Key: k3y-of-mine"),
    ),
    "401 with a header that is no credential": Case(
        says(401),
        "the server wants a credential (401)",
        "sign in with `--oauth`, or give a token with `MCP_BEARER_TOKEN`",
        ("-H", "User-Agent: me"),
    ),
    "403": Case(
        says(403, b"not you"),
        "the server refuses access (403): not you",
        "the credential may lack a permission; ask who runs the server for it",
        ("--bearer-token", "t0k3n-of-mine"),
    ),
    "403 scope": Case(
        says(403, b"", 'WWW-Authenticate: Bearer error="insufficient_scope", scope="a:write"'),
        'the server refuses access (403): Bearer error="insufficient_scope", scope="a:write"',
        "the token lacks a scope; get one that has it, or sign in for it with "
        "`--oauth --oauth-scope 'a:write'`",
        ("--bearer-token", "t0k3n-of-mine"),
    ),
    "400": Case(says(400, b"bad"), "the server answered with status 400: bad", LOG),
    "404": Case(
        says(404, b"Not Found"),
        "the server answered with status 404: Not Found",
        "check the path of the URL; MCP endpoints are often at `/mcp`",
    ),
    "405": Case(
        says(405),
        "the server answered with status 405",
        "the URL takes no POST; check its path, MCP endpoints are often at `/mcp`",
    ),
    "406": Case(
        says(406),
        "the server answered with status 406",
        "the URL has no answer in the forms of MCP; check that it is that of an MCP server",
    ),
    "415": Case(
        says(415),
        "the server answered with status 415",
        "the URL takes no JSON; check that it is that of an MCP server",
    ),
    "429": Case(
        says(429, b"", "Retry-After: 100"),
        "the server answered with status 429",
        "the server limits the rate; try again later",
    ),
    "500": Case(says(500, b"\x1b[2Joops\n"), "the server answered with status 500: [2Joops", LOG),
    "503": Case(
        says(503),
        "the server answered with status 503",
        "the server is not available; try again later",
    ),
    "a page": Case(
        says(200, b"<title>Sign in</title>", kind="text/html"),
        "the server answered 200 with text/html instead of JSON or an event stream: "
        "<title>Sign in</title>",
        "a web page is there: check the path of the URL, which is often `/mcp`, and whether a "
        "sign-in page stands in between",
    ),
    "a redirect": Case(
        says(302, b"", "Location: https://elsewhere.example/mcp"),
        "the server redirects to `https://elsewhere.example/mcp` (status 302)",
        "use `https://elsewhere.example/mcp` as the URL if you trust it",
    ),
    "a redirect to a sign-in page": Case(
        says(302, b"", "Location: /login?next=/mcp"),
        "the server redirects to `http://{}/login` (status 302)",
        "a sign-in in a browser seems to stand before the server: sign in with `--oauth`, give a "
        "token with `MCP_BEARER_TOKEN`, or ask who runs it how programs get in",
    ),
    "nothing": Case(says(200), "the server's answer is empty (status 200)", ENDPOINT),
    "no JSON": Case(
        says(200, b'{"a":', kind=JSON),
        "the server's answer is no JSON-RPC message: not valid JSON: Expecting value at 5",
        BREAKS,
    ),
    "too much": Case(
        says(200, b'{"a":"' + b"x" * 9000 + b'"}', kind=JSON),
        "the server's answer is larger than 5000 bytes",
        "raise `--max-message-size` if such messages are wanted",
        ("--max-message-size", "5000"),
    ),
    "silence": Case(
        never,
        "the server was silent for 1 s",
        "raise `--timeout-read` if the server needs longer",
        ("--timeout-read", "1"),
    ),
    "a connection that is cut": Case(
        hang_up,
        "`{}` closed the connection without an answer",
        "if the server wants TLS, write `https://`",
    ),
}


def line(method: str, message: str, hint: str) -> str:
    """What standard error says, after its level."""
    return f": `{method}` failed: {message}; hint: {hint}\n"


async def test_an_opening_that_fails_is_explained_to_the_client_and_on_stderr() -> None:
    found: dict[str, tuple[str, str, bool]] = {}
    expected: dict[str, tuple[str, str, bool]] = {}

    async def one(name: str, case: Case) -> None:
        async with serving(is_judged=False) as server:
            server.methods |= {spec.INITIALIZE: case.behaviour, "GET": case.behaviour}
            async with relaying(server.url, *case.options, initialize=False) as relay:
                error = (await relay.ask(spec.INITIALIZE, opening()))["error"]
            message = case.message.format(f"127.0.0.1:{server.port}")
            expected[name] = message, case.hint, True
            told = f"warning{line(spec.INITIALIZE, message, case.hint)}" in relay.errors.decode()
            found[name] = error["message"], error["data"]["hint"], told

    async with trio.open_nursery() as nursery:
        for name, case in SERVERS.items():
            nursery.start_soon(one, name, case)
    assert found == expected


async def test_a_connection_test_explains_with_the_same_words() -> None:
    """But for what it finds out besides: it also looks where else the server may be."""
    differing: dict[str, str] = {}

    async def one(name: str, case: Case) -> None:
        async with serving(is_judged=False) as server:
            everything = (spec.INITIALIZE, spec.DISCOVER, spec.PING, "GET")
            server.methods |= dict.fromkeys(everything, case.behaviour)
            done = await trio.run_process(
                command("--test", *case.options, server.url),
                capture_stderr=True,
                check=False,
                env=environment(),
            )
        said = done.stderr.decode()
        message = case.message.format(f"127.0.0.1:{server.port}")
        has_hint = case.hint in said or "no MCP server answers at `/sse` either" in said
        if message not in said or not has_hint or done.returncode == 0:
            differing[name] = said

    async with trio.open_nursery() as nursery:
        for name, case in SERVERS.items():
            nursery.start_soon(one, name, case)
    assert differing == {}


async def test_a_call_that_fails_is_explained_to_the_client_and_with_v_on_stderr() -> None:
    for options in (), ("-v",):
        async with serving(tools={"cut": hang_up, "page": SERVERS["a page"].behaviour}) as server:
            async with relaying(server.url, *options) as relay:
                errors = [(await relay.call(name))["error"] for name in ("cut", "page")]
            said = relay.errors.decode()
            assert [error["data"]["hint"] for error in errors] == [UNKNOWN, SERVERS["a page"].hint]
            for error in errors:
                told = line("tools/call", error["message"], error["data"]["hint"])
                assert (told in said) == bool(options)


async def test_what_has_no_answer_is_explained_on_stderr() -> None:
    name = "notifications/roots/list_changed"
    async with serving(methods={name: says(500, b"oops")}) as server:
        async with relaying(server.url) as relay:
            await relay.notify(name)
            await server.saw(name)
            await relay.lives()
    assert (
        "warning: could not deliver a notification: the server answered with status 500: oops; "
        f"hint: {LOG}\n"
    ) in relay.errors.decode()


# The network


@dataclass(frozen=True)
class Way:
    """A way that leads nowhere: the URL, and the relay's options and environment."""

    url: str
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


async def explained(way: Way) -> tuple[str, str]:
    """What the client hears of it; the same has been said on standard error."""
    async with relaying(way.url, *way.options, env=way.env, initialize=False) as relay:
        error = (await relay.ask(spec.INITIALIZE, opening()))["error"]
    message, hint = error["message"], error["data"]["hint"]
    assert f"warning{line(spec.INITIALIZE, message, hint)}" in relay.errors.decode()
    return message, hint


@asynccontextmanager
async def listening(reply: bytes | None) -> AsyncIterator[int]:
    """A server that says the same to whatever it hears, or nothing; its port."""

    async def converse(client: trio.SocketStream) -> None:
        async with client:
            await client.receive_some()
            if reply is None:
                await trio.sleep_forever()
            else:
                await client.send_all(reply)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, converse, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def secured(certificate: trustme.LeafCert) -> AbstractAsyncContextManager[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return serving(context=context, is_judged=False)


async def test_a_server_that_is_not_reached_is_explained(
    authority: trustme.CA, authority_file: Path
) -> None:
    found: dict[str, tuple[str, str]] = {}

    async def one(name: str, way: Way) -> None:
        found[name] = await explained(way)

    trusting = ("--cacert", str(authority_file))
    moments = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2020, 2021)]
    expired = authority.issue_cert("127.0.0.1", not_before=moments[0], not_after=moments[1])
    async with (
        serving(is_down=True) as down,
        secured(authority.issue_cert("127.0.0.1")) as private,
        secured(expired) as old,
        secured(authority.issue_cert("other.example")) as other,
        listening(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as talking,
        listening(None) as mute,
        proxying(refuses_with=403) as forbidding,
        proxying(credentials="me:password-of-mine") as asking,
    ):
        long = "a" * 64
        far = "https://far.example/mcp"
        nobody = {"HTTPS_PROXY": f"http://{asking.address}"}
        ways = {
            "no name": Way(f"http://{long}.example/mcp"),
            "refused": Way(down.url),
            "private": Way(private.url),
            "old": Way(old.url, trusting),
            "other": Way(other.url, trusting),
            "https on http": Way(f"https://127.0.0.1:{talking}/mcp"),
            "mute": Way(f"https://127.0.0.1:{mute}/mcp", ("--timeout-connect", "0.5")),
            "http on https": Way(private.url.replace("https:", "http:")),
            "proxy 403": Way(far, env={"HTTPS_PROXY": forbidding.url}),
            "proxy 407": Way(far, env=nobody),
            "no proxy": Way(far, env={"HTTPS_PROXY": f"http://127.0.0.1:{down.port}"}),
        }
        async with trio.open_nursery() as nursery:
            for name, way in ways.items():
                nursery.start_soon(one, name, way)

        def unaccepted(url: str) -> str:
            return f"the certificate of `{url.split('/')[2]}` is not accepted: "

        # The system's and OpenSSL's own words differ from one to the next.
        words = {"no name": ": ", "private": ": ", "old": ": ", "other": ": ", "no proxy": ": "}
        begun = {
            name: (message.rpartition(words[name])[0] + ": " if name in words else message, hint)
            for name, (message, hint) in found.items()
        }
        expected = {
            "no name": (
                f"the host name `{long}.example` cannot be resolved: ",
                "check the spelling of the URL and the network connection of this machine",
            ),
            "refused": (
                f"`127.0.0.1` refused the connection on port {down.port}",
                "check that the server is running and that the port is right",
            ),
            "private": (
                unaccepted(private.url),
                "if you trust its issuer, name the issuer's certificate with `--cacert FILE`; "
                + INSECURE,
            ),
            "old": (
                unaccepted(old.url),
                f"its owner has to renew it, or this machine's clock is wrong; {INSECURE}",
            ),
            "other": (
                unaccepted(other.url),
                f"use the host name that the certificate was issued for; {INSECURE}",
            ),
            "https on http": (
                f"`127.0.0.1:{talking}` does not speak TLS",
                "if the server is meant to be used without encryption, write `http://`",
            ),
            "mute": (
                f"the TLS handshake with `127.0.0.1:{mute}` was not over within 0.5 s",
                "check that the port speaks TLS, or raise `--timeout-connect`",
            ),
            "http on https": (
                f"`127.0.0.1:{private.port}` closed the connection without an answer",
                "if the server wants TLS, write `https://`",
            ),
            "proxy 403": (
                (
                    f"the proxy `{forbidding.address}` refused to connect to `far.example` "
                    "(status 403)"
                ),
                (
                    "the proxy does not allow this host; ask who runs it, or name the host in "
                    "`NO_PROXY`"
                ),
            ),
            "proxy 407": (
                f"the proxy `{asking.address}` refused to connect to `far.example` (status 407)",
                (
                    "put `user:password@` before the host in the proxy's variable, such as "
                    "`HTTPS_PROXY`"
                ),
            ),
            "no proxy": (f"no connection to the proxy `127.0.0.1:{down.port}`: ", PROXY),
        }
    assert begun == expected


# What is about signing in, and what never leaves


DENIED = {"error": "access_denied", "error_description": "The user said no"}


@pytest.mark.parametrize(
    "failure, explanation",
    [
        (
            SignInPending("https://as.example/authorize"),
            "nobody has signed in yet; sign in, then try again: https://as.example/authorize",
        ),
        (
            SignInPending(""),
            (
                "nobody has signed in yet; a sign-in is under way, perhaps in another window; try "
                "again when it is done"
            ),
        ),
        (
            declined(DENIED, "sign in"),
            (
                "could not sign in: access_denied: The user said no; hint: the sign-in was "
                "cancelled or not allowed; try again when it is"
            ),
        ),
        (
            declined({"error": "server_error"}, "sign in"),
            "could not sign in: server_error; hint: try again later",
        ),
        (
            AskedInVain(AskedInVain(InvalidGrant("it is dead")).failure),
            (
                "the last sign-in failed, and the next one is not tried yet: it is dead; hint: try "
                "again in a minute; sign in anew with `mcp-stdio login URL`"
            ),
        ),
        (
            InvalidGrant("could not renew the token: invalid_grant"),
            (
                "could not renew the token: invalid_grant; hint: sign in anew with "
                "`mcp-stdio login URL`"
            ),
        ),
        (
            ConnectionLost("the answer of `h` broke off"),
            f"the answer of `h` broke off; hint: {UNKNOWN}",
        ),
        (
            TooDeep(),
            "the message is nested too deeply to be changed; hint: nest it less deeply",
        ),
    ],
)
def test_a_failure_explains_itself_in_one_line(failure: RelayError, explanation: str) -> None:
    assert failure.explanation == explanation


@pytest.mark.parametrize(
    "words, cause, hint",
    [
        ("", "the URL of the server is missing", "as in `mcp-stdio https://example.com/mcp`"),
        (
            "example.com/mcp",
            "`example.com/mcp` is neither a URL nor a command",
            "did you mean `https://example.com/mcp`?",
        ),
        ("--no-such http://h/", "unknown option `--no-such`", SEE_HELP),
        (
            "--timeout-read never http://h/",
            (
                "`--timeout-read`: `never` is not a duration, which is a number of seconds from 0 "
                "on, such as `30` or `2.5`"
            ),
            SEE_HELP,
        ),
        (
            "--oauth --bearer-token abcdef http://127.0.0.1/",
            "two credentials were given: `--bearer-token` and `--oauth`",
            "leave one of them out",
        ),
        (
            "-H X-Key:${NOT_SET} http://h/",
            "`-H 'X-Key: …'` names the variable `NOT_SET`, which is not set",
            "set it, or write `$${` for a plain `${`",
        ),
        (
            "--oauth http://far.example/",
            "`--oauth`: a token is never sent unencrypted to another machine, `far.example`",
            "use the `https://` URL of the server",
        ),
        (
            "--bearer-token-file /no/such http://h/",
            "`--bearer-token-file`: `/no/such` cannot be read",
            "name a file that exists and that you may read",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_explained(words: str, cause: str, hint: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        order(parse(words.split()), {})
    assert (str(caught.value), caught.value.hint) == (cause, hint)

"""For each common failure one that really happens, and what a person then sees of it.

The texts stand here as they are printed: whoever changes a cause or a hint reads it once more as
somebody does whose server is not reached.
"""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trustme
from cryptography import x509

from mcp_stdio.demo.server import Server
from tests.diagnose.seen import (
    AFTER_PROTOCOL,
    ARRIVED,
    ASKED_FOR_NOTHING,
    JSON,
    examined,
    http,
    not_reached,
)
from tests.http.proxy import ForwardProxy
from tests.http.raw_server import Peer, RawServer, Script, saying, serve


async def free_port() -> int:
    """A port on which nobody listens."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


# The way there


async def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("junk")
    seen = await examined("https://127.0.0.1:9/mcp", "--cacert", str(file))
    assert seen.code == 2
    assert "".join(seen.text.splitlines(keepends=True)[1:]) == (
        f"FAILED  settings    `--cacert {file}` holds no certificate in PEM format\n"
        "        hint        it should contain `-----BEGIN CERTIFICATE-----`\n"
        f"{not_reached('name', 'proxy', 'TCP', 'TLS', 'HTTP', 'credential')}"
        "failed at `settings`, exit code 2\n"
    )


async def test_a_name_that_does_not_exist() -> None:
    seen = await examined("http://no-such-host.invalid/mcp")
    assert seen.code == 3
    lines = seen.text.splitlines()
    assert lines[:2] == [
        "mcp-stdio VERSION tests http://no-such-host.invalid/mcp",
        "ok      settings    no credential; time-outs 10 s to connect and 120 s for an answer",
    ]
    # How the system calls it differs.
    assert lines[2].startswith(
        "FAILED  name        the host name `no-such-host.invalid` cannot be resolved: "
    )
    assert "".join(f"{line}\n" for line in lines[3:]) == (
        "        hint        check the spelling of the URL and the network connection of this "
        "machine\n"
        f"{not_reached('proxy', 'TCP', 'HTTP', 'credential')}"
        "failed at `name`, exit code 3\n"
    )


async def test_nobody_listens() -> None:
    seen = await examined(f"http://127.0.0.1:{await free_port()}/mcp")
    assert seen.code == 3
    assert seen.body == (
        "ok      name        `127.0.0.1` is an address already\n"
        "ok      proxy       none is set\n"
        "FAILED  TCP         `127.0.0.1` refused the connection on port PORT\n"
        "        hint        check that the server is running and that the port is right\n"
        f"{not_reached('HTTP', 'credential')}"
        "failed at `TCP`, exit code 3\n"
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_wants_a_password(nursery: trio.Nursery, scheme: str) -> None:
    proxy = ForwardProxy(credentials="user:password")
    await nursery.start(proxy.serve)
    env = {f"{scheme}_proxy": f"http://{proxy.address}"}
    seen = await examined(f"{scheme}://example.com/mcp", env=env)
    assert seen.code == 3
    tls = ["TLS"] if scheme == "https" else []
    assert seen.body == (
        "ok      name        left to the proxy\n"
        f"FAILED  proxy       the proxy `{proxy.address}` refused to connect to `example.com` "
        "(status 407)\n"
        "        hint        put `user:password@` before the host in the proxy's variable, such as "
        "`HTTPS_PROXY`\n"
        f"{not_reached(*tls, 'HTTP', 'credential')}"
        "failed at `proxy`, exit code 3\n"
    )
    nursery.cancel_scope.cancel()


async def test_a_proxy_that_does_not_allow_the_host(nursery: trio.Nursery) -> None:
    proxy = ForwardProxy(refuses_with=403)
    await nursery.start(proxy.serve)
    seen = await examined("https://example.com/mcp", env={"https_proxy": proxy.url})
    assert seen.code == 3
    assert seen.body == (
        "ok      name        left to the proxy\n"
        f"FAILED  proxy       the proxy `{proxy.address}` refused to connect to `example.com` "
        "(status 403)\n"
        "        hint        the proxy does not allow this host; ask who runs it, or name the host "
        "in `NO_PROXY`\n"
        f"{not_reached('TLS', 'HTTP', 'credential')}"
        "failed at `proxy`, exit code 3\n"
    )
    assert len(proxy.asked) == 1, "somebody is waiting to hear why, so it is not tried again"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "status, cause",
    [(403, "refuses access (403)"), *((s, f"answered with status {s}") for s in (502, 503, 504))],
)
async def test_a_proxy_that_may_have_answered_itself(
    nursery: trio.Nursery, status: int, cause: str
) -> None:
    """In plain http nothing tells whose answer it is."""
    proxy = ForwardProxy(refuses_with=status)
    await nursery.start(proxy.serve)
    seen = await examined("http://example.com/mcp", env={"http_proxy": proxy.url})
    assert f"  the server or the proxy `{proxy.address}` {cause}\n" in seen.text
    around = "; or, if it is the proxy that refuses, name the host in `NO_PROXY`"
    assert seen.told("hint").endswith(around), seen.text
    nursery.cancel_scope.cancel()


async def test_a_proxy_that_hangs_up(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    proxy = await answered(nursery, script)
    address = proxy.url().authority
    env = {"http_proxy": f"http://{address}"}
    seen = await examined("http://example.com/mcp", env=env)
    assert seen.code == 3
    cause = (
        "the connection to the proxy `127.0.0.1:PORT`, which was to pass the request on to "
        "`example.com`, broke before it answered: "
    )
    assert cause.replace("127.0.0.1:PORT", address) in seen.text
    assert seen.told("hint") == ": ask who runs the proxy, or name the host in `NO_PROXY`"
    nursery.cancel_scope.cancel()


async def test_a_proxy_that_is_not_there() -> None:
    port = await free_port()
    seen = await examined("https://example.com/mcp", env={"all_proxy": f"http://127.0.0.1:{port}"})
    assert seen.code == 3
    assert seen.body == (
        "ok      name        left to the proxy\n"
        f"FAILED  proxy       no connection to the proxy `127.0.0.1:{port}`: Connection refused\n"
        "        hint        check `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` or the system's "
        "proxy settings; a host named in `NO_PROXY` is reached without a proxy\n"
        f"{not_reached('TLS', 'HTTP', 'credential')}"
        "failed at `proxy`, exit code 3\n"
    )


# TLS


async def serving(nursery: trio.Nursery, certificate: trustme.LeafCert) -> RawServer:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    server: RawServer = await nursery.start(serve, saying(), context)
    return server


def refused_at_tls(words: str, hint: str, shown: str) -> str:
    return (
        f"{ARRIVED}"
        f"FAILED  TLS         the certificate of `127.0.0.1:PORT` is not accepted: {words}\n"
        f"        found       the certificate is that of {shown}\n"
        f"        hint        {hint}; `--insecure` goes without any check, for tests only\n"
        f"{not_reached('HTTP', 'credential')}"
        "failed at `TLS`, exit code 4\n"
    )


def trusted_name(authority: trustme.CA) -> str:
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    return " ".join(str(part.value) for part in issuer)


async def test_a_private_authority(nursery: trio.Nursery, authority: trustme.CA) -> None:
    seen = await examined((await serving(nursery, authority.issue_cert("127.0.0.1"))).url())
    assert seen.code == 4
    assert seen.body == refused_at_tls(
        "unable to get local issuer certificate",
        "if you trust its issuer, name the issuer's certificate with `--cacert FILE`",
        f"`127.0.0.1`, for `127.0.0.1`, issued by {trusted_name(authority)}, valid from "
        "2000-01-01 to 3000-01-01",
    )


async def test_a_certificate_that_has_expired(
    nursery: trio.Nursery, authority: trustme.CA, authority_file: Path
) -> None:
    expired = authority.issue_cert(
        "127.0.0.1",
        not_before=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        not_after=datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC),
    )
    server = await serving(nursery, expired)
    seen = await examined(server.url(), "--cacert", str(authority_file))
    assert seen.code == 4
    assert seen.body == refused_at_tls(
        "certificate has expired",
        "its owner has to renew it, or this machine's clock is wrong",
        f"`127.0.0.1`, for `127.0.0.1`, issued by {trusted_name(authority)}, valid from "
        "2020-01-01 to 2021-01-01",
    )


async def test_a_certificate_for_another_host(
    nursery: trio.Nursery, authority: trustme.CA, authority_file: Path
) -> None:
    server = await serving(nursery, authority.issue_cert("example.com"))
    seen = await examined(server.url(), "--cacert", str(authority_file))
    assert seen.code == 4
    assert seen.body == refused_at_tls(
        "IP address mismatch, certificate is not valid for '127.0.0.1'.",
        "use the host name that the certificate was issued for",
        f"`example.com`, for `example.com`, issued by {trusted_name(authority)}, valid from "
        "2000-01-01 to 3000-01-01",
    )


async def test_a_certificate_that_a_program_wants_to_know(
    nursery: trio.Nursery, authority: trustme.CA
) -> None:
    hosts = [f"h{number}.example" for number in range(6)]
    server = await serving(nursery, authority.issue_cert(*hosts))
    found = json.loads((await examined(server.url(), "--json")).done.stdout)
    assert {**found["tls"], "days_left": 0} == {
        "subject": "h0.example",
        "names": hosts,
        "issuer": trusted_name(authority),
        "valid_from": "2000-01-01",
        "valid_to": "3000-01-01",
        "days_left": 0,
    }
    (failed,) = [stage for stage in found["stages"] if stage["status"] == "failed"]
    assert "`h3.example` and 2 more, issued by " in failed["found"]


async def test_a_certificate_behind_a_tunnel(nursery: trio.Nursery, authority: trustme.CA) -> None:
    proxy = ForwardProxy()
    await nursery.start(proxy.serve)
    server = await serving(nursery, authority.issue_cert("example.com"))
    seen = await examined(server.url(), env={"https_proxy": proxy.url})
    assert seen.code == 4
    assert seen.told("found").startswith(": the certificate is that of `example.com`, for ")
    assert {asked.method for asked in proxy.asked} == {"CONNECT"}
    nursery.cancel_scope.cancel()


async def test_a_server_without_tls(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server().serve)
    seen = await examined(url.replace("http", "https"))
    assert seen.code == 4
    assert seen.told("TLS").startswith("FAILED: `127.0.0.1:PORT` ")


# What the server says


async def answered(nursery: trio.Nursery, response: bytes | Script) -> RawServer:
    """A server that answers everything so, on connections that it keeps."""

    async def script(peer: Peer) -> None:
        assert isinstance(response, bytes)
        while await peer.request():
            await peer.send(response)

    server: RawServer = await nursery.start(
        serve, script if isinstance(response, bytes) else response
    )
    return server


@pytest.fixture
async def protected(nursery: trio.Nursery) -> AsyncIterator[str]:
    """The URL of a server that wants a token."""
    yield await nursery.start(Server(token="t0k3n").serve)
    nursery.cancel_scope.cancel()


SAID = (
    'Bearer realm="demo"; '
    '{"jsonrpc":"2.0","error":{"code":-32600,"message":"a valid token is needed"}}'
)


async def test_401_without_a_credential(protected: str) -> None:
    seen = await examined(protected)
    assert seen.code == 5
    assert seen.body == (
        f"{ARRIVED}"
        "ok      HTTP        status 401, application/json\n"
        f"FAILED  credential  the server wants a credential (401): {SAID}\n"
        "        hint        sign in with `--oauth`, or give a token with `MCP_BEARER_TOKEN`\n"
        f"{not_reached()}"
        "failed at `credential`, exit code 5\n"
    )


@pytest.mark.parametrize(
    "options, env, source",
    [
        (("--bearer-token", "0ld-t0k3n"), {}, "--bearer-token"),
        ((), {"MCP_BEARER_TOKEN": "0ld-t0k3n"}, "MCP_BEARER_TOKEN"),
        (("-H", "Authorization: Bearer 0ld-t0k3n"), {}, "-H Authorization"),
    ],
)
async def test_401_with_a_credential(
    protected: str, options: tuple[str, ...], env: dict[str, str], source: str
) -> None:
    seen = await examined(protected, *options, env=env)
    assert seen.code == 5
    assert seen.told("settings").startswith(f"ok: credential of `{source}`; ")
    assert seen.body == (
        f"{ARRIVED}"
        "ok      HTTP        status 401, application/json\n"
        f"FAILED  credential  the server refuses the credential (401): {SAID}\n"
        "        hint        what was given is wrong, has expired or is for another server; give "
        "another token with `MCP_BEARER_TOKEN`, or sign in with `--oauth`\n"
        f"{not_reached()}"
        "failed at `credential`, exit code 5\n"
    )
    assert "0ld-t0k3n" not in seen.done.stderr


@pytest.mark.parametrize(
    "challenge, hint",
    [
        ('Basic realm="a, b"', "the server wants a user and a password: give them with "),
        ("Basic", "the server wants a user and a password: give them with "),
        ('Basic realm="a", Bearer realm="b"', "sign in with `--oauth`"),
        ('Bearer realm="Basic x"', "sign in with `--oauth`"),
    ],
)
async def test_401_that_wants_a_password(nursery: trio.Nursery, challenge: str, hint: str) -> None:
    server = await answered(
        nursery, http("401 Unauthorized", "no", f"WWW-Authenticate: {challenge}")
    )
    seen = await examined(server.url())
    assert seen.told("hint").startswith(f": {hint}"), seen.text


@pytest.mark.parametrize(
    "scope, named",
    [('scope="a b:c"', "'a b:c'"), ('scope="`x`"', "SCOPE"), ("realm=r", "SCOPE")],
)
async def test_403_for_want_of_a_scope_without_a_token(
    nursery: trio.Nursery, scope: str, named: str
) -> None:
    challenge = f'WWW-Authenticate: Bearer error="insufficient_scope", {scope}'
    server = await answered(nursery, http("403 Forbidden", "no", challenge))
    seen = await examined(server.url())
    assert seen.told("hint") == (
        f": sign in with `--oauth --oauth-scope {named}`, or give a token with `MCP_BEARER_TOKEN`"
    )


async def test_403_for_want_of_a_scope(nursery: trio.Nursery) -> None:
    challenge = 'WWW-Authenticate: Bearer error="insufficient_scope", scope="mcp:write"'
    server = await answered(nursery, http("403 Forbidden", "no", challenge))
    seen = await examined(server.url(), "--bearer-token", "t0k3n-1")
    assert seen.code == 5
    assert seen.body == (
        f"{ARRIVED}"
        "ok      HTTP        status 403, no content type\n"
        "FAILED  credential  the server refuses access (403): Bearer "
        'error="insufficient_scope", scope="mcp:write"; no\n'
        "        hint        the token lacks a scope; get one that has it, or sign in for it with "
        "`--oauth --oauth-scope 'mcp:write'`\n"
        f"{not_reached()}"
        "failed at `credential`, exit code 5\n"
    )


async def test_a_credential_that_cannot_be_had(nursery: trio.Nursery, tmp_path: Path) -> None:
    """It is read before anything is sent, and still the connection is told of first."""
    token = tmp_path / "token"
    token.write_text("two words")
    server = await answered(nursery, http("200 OK"))
    seen = await examined(server.url(), "--bearer-token-file", str(token))
    assert seen.code == 5
    assert seen.body.startswith(
        f"{ARRIVED}FAILED  credential  `--bearer-token-file` gives no token\n"
    ), seen.text


async def test_even_a_connection_that_takes_longer(
    nursery: trio.Nursery, server_context: ssl.SSLContext, tmp_path: Path
) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep(1.0)
            secure = trio.SSLStream(stream, server_context, server_side=True)
            await secure.do_handshake()
            await stream.receive_some()

    listeners = await nursery.start(trio.serve_tcp, greet, 0)
    port = listeners[0].socket.getsockname()[1]
    token = tmp_path / "token"
    token.write_text("two words")
    url = f"https://127.0.0.1:{port}/mcp"
    seen = await examined(url, "--insecure", "--bearer-token-file", str(token))
    assert seen.code == 5
    assert list(seen.stages) == ["settings", "name", "proxy", "TCP", "TLS", "credential"], seen.text
    nursery.cancel_scope.cancel()


async def test_a_wrong_path_and_the_right_one(nursery: trio.Nursery) -> None:
    server = Server()
    url = await nursery.start(server.serve)
    seen = await examined(url.replace("/mcp", "/api/v2"))
    assert seen.code == 6
    assert seen.body == (
        f"{ARRIVED}"
        "ok      HTTP        status 404, text/plain\n"
        f"{ASKED_FOR_NOTHING}"
        "FAILED  protocol    the server answered with status 404: MCP is spoken at /mcp\n"
        "        hint        `http://127.0.0.1:PORT/mcp` answers as MCP: use that URL\n"
        f"{AFTER_PROTOCOL}"
        "failed at `protocol`, exit code 6\n"
    )
    assert server.sessions == {}
    methods = {(each.method, each.target) for each in server.requests}
    assert methods == {
        *(("POST", target) for target in ("/api/v2", "/mcp", "/sse", "/api/v2/mcp", "/api/v2/sse")),
        *(("GET", target) for target in ("/api/v2", "/sse", "/api/v2/mcp", "/api/v2/sse")),
    }
    nursery.cancel_scope.cancel()


async def test_a_wrong_path_where_the_right_one_is_protected(protected: str) -> None:
    seen = await examined(protected.replace("/mcp", ""))
    assert seen.code == 6
    assert seen.told("hint") == (
        ": `http://127.0.0.1:PORT/mcp` asks for a credential: use that URL, with `--oauth` or a "
        "token"
    )


async def test_a_wrong_path_and_no_right_one(nursery: trio.Nursery) -> None:
    server = await answered(nursery, http("404 Not Found", "nothing here"))
    seen = await examined(server.url("/mcp"))
    assert seen.code == 6
    assert seen.body == (
        f"{ARRIVED}"
        "ok      HTTP        status 404, no content type\n"
        f"{ASKED_FOR_NOTHING}"
        "FAILED  protocol    the server answered with status 404: nothing here\n"
        "        hint        no MCP server answers at `/sse` either: ask who runs it for its URL\n"
        f"{AFTER_PROTOCOL}"
        "failed at `protocol`, exit code 6\n"
    )


@pytest.mark.parametrize("option", ["--transport sse", "--protocol-era modern"])
async def test_a_setting_may_be_wrong_instead_of_the_path(
    nursery: trio.Nursery, option: str
) -> None:
    server = await answered(nursery, http("404 Not Found", "nothing here"))
    seen = await examined(server.url("/mcp"), *option.split())
    assert seen.code == 6
    assert seen.told("hint").endswith(f"; or leave out `{option}`")
    assert "no MCP server" not in seen.text


async def test_406(nursery: trio.Nursery) -> None:
    server = await answered(nursery, http("406 Not Acceptable", "no"))
    seen = await examined(server.url("/mcp"))
    assert seen.code == 6
    assert seen.body == (
        f"{ARRIVED}"
        "ok      HTTP        status 406, no content type\n"
        f"{ASKED_FOR_NOTHING}"
        "FAILED  protocol    the server answered with status 406: no\n"
        "        hint        the URL has no answer in the forms of MCP; check that it is that of "
        "an MCP server\n"
        f"{AFTER_PROTOCOL}"
        "failed at `protocol`, exit code 6\n"
    )


@pytest.mark.parametrize("status", ["406 Not Acceptable", "415 Unsupported"])
async def test_an_mcp_server_that_refuses_the_form_of_a_message(
    nursery: trio.Nursery, status: str
) -> None:
    """Its words in JSON-RPC are about HTTP, and ours were right when they left."""
    error = '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Not Acceptable: x"}}'
    seen = await examined((await answered(nursery, http(status, error, JSON))).url("/mcp"))
    assert seen.code == 6
    assert "".join(seen.body.splitlines(keepends=True)[5:]) == (
        f"FAILED  protocol    the server answered with status {status[:3]}: Not Acceptable: x\n"
        "        hint        what MCP wants was sent; a proxy or gateway before the server may "
        "have changed the `Accept` or `Content-Type` header\n"
        f"{AFTER_PROTOCOL}"
        "failed at `protocol`, exit code 6\n"
    )


async def test_a_page_instead_of_mcp(nursery: trio.Nursery) -> None:
    page = http("200 OK", "<h1>Welcome</h1>", "Content-Type: text/html", "Server: nginx")
    server = await answered(nursery, page)
    seen = await examined(server.url("/"))
    assert seen.code == 6
    assert seen.body == (
        f"{ARRIVED}"
        "ok      HTTP        status 200, text/html, from `nginx`\n"
        f"{ASKED_FOR_NOTHING}"
        "FAILED  protocol    the server answered 200 with text/html instead of JSON or an event "
        "stream: <h1>Welcome</h1>\n"
        "        hint        a web page is there: check the path of the URL, which is often "
        "`/mcp`, and whether a sign-in page stands in between; no MCP server answers at `/mcp`, "
        "`/sse` either: ask who runs it for its URL\n"
        f"{AFTER_PROTOCOL}"
        "failed at `protocol`, exit code 6\n"
    )


async def test_a_server_that_says_nothing(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.hung_up()

    server = await answered(nursery, script)
    seen = await examined(server.url(), "--timeout-read", "0.3")
    assert seen.code == 3
    assert seen.body == (
        f"{ARRIVED}"
        "FAILED  HTTP        the server was silent for 0.3 s\n"
        "        hint        raise `--timeout-read` if the server needs longer\n"
        f"{not_reached('credential')}"
        "failed at `HTTP`, exit code 3\n"
    )


async def test_a_server_that_hangs_up(nursery: trio.Nursery) -> None:
    seen = await examined((await nursery.start(serve, saying(b""))).url())
    assert seen.code == 3
    assert seen.told("HTTP") == "FAILED: `127.0.0.1:PORT` closed the connection without an answer"


async def test_what_is_not_http(nursery: trio.Nursery) -> None:
    seen = await examined((await nursery.start(serve, saying(b"SSH-2.0-OpenSSH\r\n"))).url())
    assert seen.code == 6
    assert seen.told("HTTP") == "FAILED: the answer of `127.0.0.1:PORT` is not HTTP"


async def test_a_redirect_elsewhere(nursery: trio.Nursery) -> None:
    response = http("302 Found", "", "Location: https://example.com/api?next=1")
    seen = await examined((await answered(nursery, response)).url())
    assert seen.code == 6
    assert seen.told("HTTP").startswith("FAILED: ")
    assert "`https://example.com/api`" in seen.told("HTTP")
    assert seen.told("hint") == ": use `https://example.com/api` as the URL if you trust it"


@pytest.mark.parametrize(
    "status, hint",
    [
        ("500 Oops", "the log of the server may tell why; `-vv` shows what it was sent"),
        ("503 Later", "the server is not available; try again later"),
    ],
)
async def test_a_server_with_a_fault(nursery: trio.Nursery, status: str, hint: str) -> None:
    server = await answered(nursery, http(status, "sorry"))
    seen = await examined(server.url())
    assert seen.code == 7
    number = status.partition(" ")[0]
    assert seen.body == (
        f"{ARRIVED}"
        f"ok      HTTP        status {number}, no content type\n"
        f"{ASKED_FOR_NOTHING}"
        f"FAILED  protocol    the server answered with status {number}: sorry\n"
        f"        hint        {hint}\n"
        f"{AFTER_PROTOCOL}"
        "failed at `protocol`, exit code 7\n"
    )


async def test_a_server_that_refuses_in_json_rpc(nursery: trio.Nursery) -> None:
    error = '{"jsonrpc":"2.0","error":{"code":-32600,"message":"we are\\nclosed"}}'
    seen = await examined((await answered(nursery, http("400 Bad", error, JSON))).url())
    assert seen.code == 7
    assert seen.told("protocol") == (
        "FAILED: `initialize` was answered with error -32600: we are closed"
    )


async def test_what_the_server_repeats_of_a_secret_is_not_shown(nursery: trio.Nursery) -> None:
    answer = http("500 Oops", "the key k3y-of-mine is odd", "Content-Type: text/plain")
    server = await answered(nursery, answer)
    for options in ([], ["--json"]):
        seen = await examined(server.url(), *options, "-H", "X-Key: k3y-of-mine")
        assert seen.code == 7
        printed = seen.done.stdout + seen.done.stderr
        assert "is odd" in printed
        assert "`X-Key`" in printed
        assert "k3y-of-mine" not in printed

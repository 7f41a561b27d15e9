"""Servers of somebody else that work: every stage passes, and says what kind of server it is."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio

from mcp_stdio import shaping
from mcp_stdio.demo.server import Server
from mcp_stdio.diagnose import peer
from mcp_stdio.diagnose.facts import FAULT
from mcp_stdio.errors import BadAnswer
from tests.diagnose.seen import ARRIVED, ASKED_FOR_NOTHING, JSON, examined, http
from tests.http.proxy import ForwardProxy
from tests.http.raw_server import Peer as RawPeer
from tests.http.raw_server import serve
from tests.peers.process import Peer
from tests.peers.tls import serve_tls

LEGACY = "the server shakes hands (legacy era), over {}; modern clients are bridged"
BOTH = "the server speaks both eras, up to 2026-07-28, over Streamable HTTP"
MODERN = (
    "the server is stateless (modern era, 2026-07-28), over Streamable HTTP; clients that shake "
    "hands are bridged"
)

EVERYTHING = (
    "mcp-servers/everything 2.0.0, MCP 2025-11-25, {}, offers completions, logging, prompts, "
    "resources, tasks, tools"
)
SDK = "MCP 2025-11-25, with a session, offers completions, experimental, logging, prompts, "
SDK2 = "sdk2-peer 1, MCP 2025-11-25, {}, offers completions, logging, prompts, resources, tools"

Row = tuple[str, ...]

SERVERS: dict[str, Row] = {
    "everything": (
        "status 200, text/event-stream",
        LEGACY.format("Streamable HTTP"),
        EVERYTHING.format("with a session"),
        *("13 tools", "7 resources", "4 prompts"),
        "open: the server can speak by itself",
        "the session is over",
    ),
    "everything_sse": (
        "status 404, text/html",
        LEGACY.format("HTTP+SSE"),
        EVERYTHING.format("without session"),
        *("13 tools", "7 resources", "4 prompts"),
        "the event stream brings everything",
        "the event stream is closed",
    ),
    "sdk_server": (
        "status 200, text/event-stream, from `uvicorn`",
        LEGACY.format("Streamable HTTP"),
        f"sdk-peer 1.30.0, {SDK}resources, tools",
        *("10 tools", "1 resource", "1 prompt"),
        "open: the server can speak by itself",
        "the session is over",
    ),
    "sdk_server_stateless": (
        "status 200, text/event-stream, from `uvicorn`",
        LEGACY.format("Streamable HTTP"),
        f"sdk-peer 1.30.0, {SDK.replace('with a', 'without')}resources, tools",
        *("10 tools", "1 resource", "1 prompt"),
        "open: the server can speak by itself",
        "there is no session to end",
    ),
    "sdk_server_sse": (
        "status 405, text/plain, from `uvicorn`",
        LEGACY.format("HTTP+SSE"),
        f"sdk-peer 1.30.0, {SDK.replace('with a', 'without')}resources, tools",
        *("10 tools", "1 resource", "1 prompt"),
        "the event stream brings everything",
        "the event stream is closed",
    ),
    "dual_server": (
        "status 200, text/event-stream, from `uvicorn`",
        BOTH,
        SDK2.format("with a session"),
        *("14 tools", "1 resource", "1 prompt"),
        "open: the server can speak by itself",
        "the session is over",
    ),
    "modern_server": (
        "status 400, application/json, from `uvicorn`",
        MODERN,
        SDK2.format("without session"),
        *("14 tools", "1 resource", "1 prompt"),
        "open: the server can speak by itself",
        "there is no session to end",
    ),
    "mute_server": (
        "status 200, text/event-stream, from `uvicorn`",
        LEGACY.format("Streamable HTTP").replace("era)", "era) as far as is known"),
        SDK2.format("with a session"),
        *("14 tools", "1 resource", "1 prompt"),
        "open: the server can speak by itself",
        "the session is over",
    ),
}
"""What is told of HTTP, and then from the protocol on."""

NAMES = ("protocol", "initialize", "tools", "resources", "prompts", "listening", "farewell")


def version_free(text: str) -> str:
    """Without what moves: the versions, and the tools that other tests have had a server add."""
    text = re.sub(r"(sdk-peer|everything) \d+\.\d+\.\d+", r"\1 VERSION", text)
    return re.sub(r"\d+ tools", "SOME tools", text)


@pytest.mark.parametrize("name", SERVERS)
async def test_every_stage_passes(name: str, request: pytest.FixtureRequest) -> None:
    server: Peer = request.getfixturevalue(name)
    seen = await examined(server.url)
    answer, *rest = SERVERS[name]
    path = server.url.rpartition("/")[2]
    assert version_free(seen.text) == version_free(
        f"mcp-stdio VERSION tests http://127.0.0.1:PORT/{path}\n"
        "ok      settings    no credential; time-outs 10 s to connect and 120 s for an answer\n"
        f"{ARRIVED}"
        f"ok      HTTP        {answer}\n"
        f"{ASKED_FOR_NOTHING}"
        + "".join(f"ok      {n:<10}  {found}\n" for n, found in zip(NAMES, rest, strict=True))
        + "the server can be used: everything went well, in TIME\n"
    )
    assert seen.done.stdout == ""
    assert seen.code == 0


async def test_a_modern_server_that_may_not_be_bridged(modern_server: Peer) -> None:
    seen = await examined(modern_server.url, "--bridge", "never")
    assert seen.code == 1
    assert "; `--bridge never`; " in seen.told("settings")
    assert seen.told("protocol") == (
        "FAILED: the server speaks 2026-07-28 only, and `--bridge never` keeps away from it "
        "clients that open with `initialize`"
    )
    assert seen.told("hint") == (
        ": leave out `--bridge never`, or use a client that speaks the same"
    )


async def test_a_legacy_server_that_is_to_be_modern(sdk_server: Peer) -> None:
    seen = await examined(sdk_server.url, "--protocol-era", "modern")
    assert seen.code == 6
    assert seen.told("protocol").startswith(
        "FAILED: the server does not answer as one of the modern era does: error -32600: "
    )
    assert seen.told("hint") == ": leave out `--protocol-era modern`"


@pytest.mark.parametrize(
    "options, told",
    [
        (["--protocol-era", "modern"], MODERN),
        (["--protocol-era", "legacy"], LEGACY.format("Streamable HTTP")),
        (["--bridge", "never"], BOTH),
        (["--no-merge-pages"], BOTH),
    ],
)
async def test_the_settings_count(dual_server: Peer, options: list[str], told: str) -> None:
    seen = await examined(dual_server.url, *options)
    assert seen.code == 0
    assert seen.told("protocol") == f"ok: {told}"
    assert re.fullmatch(r"ok: \d+ tools", seen.told("tools"))


async def test_tools_that_the_client_is_not_to_see_are_not_counted(dual_server: Peer) -> None:
    seen = await examined(dual_server.url, "--allow-tool", "e*", "--deny-tool", "elicit*")
    assert seen.code == 0
    assert "; `--allow-tool e*`; `--deny-tool elicit*`; " in seen.told("settings")
    assert seen.told("tools") == "ok: 1 tool"


async def test_http_sse_where_its_transport_is_named(sdk_server_sse: Peer) -> None:
    seen = await examined(sdk_server_sse.url, "--transport", "sse", "--bridge", "never")
    assert seen.code == 0
    assert seen.told("HTTP") == "ok: status 200, text/event-stream, from `uvicorn`"
    assert seen.told("protocol") == "ok: the server shakes hands (legacy era), over HTTP+SSE"


async def test_an_http_sse_server_is_found_beside_a_wrong_path(sdk_server_sse: Peer) -> None:
    seen = await examined(sdk_server_sse.url.replace("/sse", "/mcp"))
    assert seen.code == 6
    assert seen.told("hint") == (
        ": `http://127.0.0.1:PORT/sse` answers as MCP over HTTP+SSE: use that URL"
    )


# TLS and proxies


@pytest.fixture
async def behind_tls(
    nursery: trio.Nursery, sdk_server: Peer, server_context: ssl.SSLContext
) -> str:
    """The URL of the SDK's server with a certificate of a private authority."""
    port = await nursery.start(serve_tls, sdk_server.port, server_context)
    return f"https://localhost:{port}/mcp"


async def test_what_is_told_of_tls(behind_tls: str, authority_file: Path) -> None:
    seen = await examined(behind_tls, "--cacert", str(authority_file))
    assert seen.code == 0, seen.text
    assert re.fullmatch(r"ok: `localhost` is (127\.0\.0\.1|::1)(, .*)?", seen.told("name"))
    assert re.fullmatch(
        r"ok: TLSv1\.\d, [\w-]+; certificate of `localhost`, issued by trustme \S+ Testing CA \S+, "
        rf"\d+ days left; trusted by this system or `--cacert {re.escape(str(authority_file))}`",
        seen.told("TLS"),
    )
    assert list(seen.stages) == [
        *("settings", "name", "proxy", "TCP", "TLS", "HTTP", "credential", "protocol"),
        *("initialize", "tools", "resources", "prompts", "listening", "farewell"),
    ]


async def test_without_any_check_that_is_said(behind_tls: str) -> None:
    seen = await examined(behind_tls, "--insecure")
    assert seen.code == 0
    assert re.fullmatch(
        r"ok: TLSv1\.\d, [\w-]+; the certificate was not looked at; anybody is trusted "
        r"\(`--insecure`\)",
        seen.told("TLS"),
    )


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> ForwardProxy:
    proxy = ForwardProxy()
    await nursery.start(proxy.serve)
    return proxy


async def test_through_a_tunnel(behind_tls: str, authority_file: Path, proxy: ForwardProxy) -> None:
    env = {"https_proxy": f"http://localhost:{proxy.port}"}
    seen = await examined(behind_tls, "--cacert", str(authority_file), env=env)
    assert seen.code == 0, seen.text
    assert seen.told("name") == "ok: left to the proxy"
    assert seen.told("proxy") == f"ok: `localhost:{proxy.port}` connects to `localhost:PORT`"
    assert "certificate of `localhost`" in seen.told("TLS")
    assert "TCP" not in seen.stages


async def test_through_a_proxy_that_reads_along(sdk_server: Peer, proxy: ForwardProxy) -> None:
    seen = await examined(sdk_server.url, env={"http_proxy": proxy.url})
    assert seen.code == 0, seen.text
    assert list(seen.stages)[:4] == ["settings", "name", "proxy", "HTTP"]
    assert seen.told("proxy") == f"ok: `{proxy.address}` takes requests for `127.0.0.1:PORT`"


async def test_where_no_proxy_applies(sdk_server: Peer, proxy: ForwardProxy) -> None:
    url = sdk_server.url.replace("127.0.0.1", "localhost")
    seen = await examined(url, env={"http_proxy": proxy.url, "no_proxy": "localhost"})
    assert seen.code == 0, seen.text
    assert seen.told("proxy") == "ok: none applies to `localhost`"
    assert seen.told("TCP") == "ok: connected to 127.0.0.1, port PORT"
    assert proxy.asked == []


# Small servers


async def test_the_credential_that_was_accepted(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server(token="t0k3n").serve)
    seen = await examined(url, env={"MCP_BEARER_TOKEN": "t0k3n"})
    assert seen.code == 0
    assert seen.told("credential") == "ok: bearer token of `MCP_BEARER_TOKEN`: accepted"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "options, told",
    [
        (("-H", "X-Api-Key: k3y", "-H", "User-Agent: me"), "`X-Api-Key`: accepted"),
        (("-H", "User-Agent: me"), "none is sent, and none is asked for"),
        (("--header-file", "FILE"), "headers of `--header-file`: accepted"),
        (
            ("-H", "X-Api-Key: k3y", "--bearer-token", "t0k3n-1"),
            "bearer token of `--bearer-token`: accepted",
        ),
    ],
)
async def test_a_credential_in_a_header_of_one_s_own(
    nursery: trio.Nursery, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    file = tmp_path / "headers"
    file.write_text("X-Api-Key: k3y")
    url = await nursery.start(Server().serve)
    words = [str(file) if word == "FILE" else word for word in options]
    assert (await examined(url, *words)).told("credential") == f"ok: {told}"
    nursery.cancel_scope.cancel()


async def test_nothing_is_run_and_no_session_is_left(nursery: trio.Nursery) -> None:
    server = Server()
    url = await nursery.start(server.serve)
    assert (await examined(url)).code == 0
    assert server.sessions == {}
    assert server.executions == type(server.executions)()
    assert {request.target for request in server.requests} == {"/mcp"}
    nursery.cancel_scope.cancel()


async def test_a_server_that_offers_nothing_is_fine(nursery: trio.Nursery) -> None:
    result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "bare"}}
    methods: list[str] = []

    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            methods.append(request.method)
            message = json.loads(request.body) if request.body else {}
            if message.get("method") == "initialize":
                answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                await peer.send(http("200 OK", json.dumps(answer), JSON))
            elif "id" in message:
                await peer.send(http("400 Bad Request"))
            else:
                await peer.send(http("202 Accepted" if request.body else "405 No"))

    server = await nursery.start(serve, script)
    seen = await examined(server.url())
    assert seen.code == 0, seen.text
    assert seen.body.splitlines()[6:] == [
        "ok      initialize  bare, MCP 2025-06-18, without session, offers nothing",
        "ok      listening   not offered (status 405)",
        "ok      farewell    there is no session to end",
        "the server can be used: everything went well, in TIME",
    ]
    assert "DELETE" not in methods


async def test_a_failure_half_way_ends_the_session(nursery: trio.Nursery) -> None:
    ended = trio.Event()

    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            message = json.loads(request.body) if request.body else {}
            if request.method == "DELETE":
                assert request.get_all("mcp-session-id") == ["s-1"]
                ended.set()
                await peer.send(http("204 Gone"))
            elif message.get("method") == "initialize":
                result = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}, "prompts": {}},
                    "serverInfo": {"name": "half"},
                }
                answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                await peer.send(http("200 OK", json.dumps(answer), JSON, "Mcp-Session-Id: s-1"))
            elif message.get("method") == "tools/list":
                error = {"code": -32603, "message": "no such table: tools"}
                answer = {"jsonrpc": "2.0", "id": message["id"], "error": error}
                await peer.send(http("200 OK", json.dumps(answer), JSON))
            else:
                await peer.send(http("400 No" if "id" in message else "202 Accepted"))

    seen = await examined((await nursery.start(serve, script)).url())
    assert seen.code == 7
    assert "".join(seen.body.splitlines(keepends=True)[7:]) == (
        "FAILED  tools       `tools/list` was answered with error -32603: no such table: tools\n"
        "        hint        the server's own log may tell more\n"
        "-       skipped     resources, prompts, listening, farewell\n"
        "failed at `tools`, exit code 7\n"
    )
    assert ended.is_set()


@pytest.mark.parametrize("options", [[], ["--no-merge-pages"]])
async def test_a_revision_that_nobody_knows_and_a_list_that_the_server_does_not(
    nursery: trio.Nursery, options: list[str]
) -> None:
    """A fault of the server that keeps nobody from using the rest of it."""

    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            message = json.loads(request.body) if request.body else {}
            answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message.get("id")}
            if message.get("method") == "initialize":
                answer["result"] = {
                    "protocolVersion": "1999-01-01",
                    "capabilities": {"tools": {}, "prompts": {}},
                    "serverInfo": {"name": "old"},
                }
            elif message.get("method") == "prompts/list":
                answer["result"] = {"prompts": [{"name": "p"}]}
            else:
                answer["error"] = {"code": -32601, "message": "what?"}
            if "id" in message:
                await peer.send(http("200 OK", json.dumps(answer), JSON))
            else:
                await peer.send(http("202 Accepted" if request.body else "405 No"))

    url = (await nursery.start(serve, script)).url()
    seen = await examined(url, *options)
    assert seen.code == 0
    assert "".join(seen.body.splitlines(keepends=True)[6:]) == (
        "ok      initialize  old, MCP 1999-01-01 (a revision that clients may not know), without "
        "session, offers prompts, tools\n"
        "ok      tools       the server announces tools and does not know `tools/list`: error "
        "-32601: what?\n"
        "        hint        the server breaks the protocol here: tell who runs it\n"
        "ok      prompts     1 prompt\n"
        "ok      listening   not offered (status 405)\n"
        "ok      farewell    there is no session to end\n"
        "the server can be used, but see `tools`, in TIME\n"
    )
    found = json.loads((await examined(url, "--json", *options)).done.stdout)
    assert (found["ok"], found["tools"], found["prompts"]) == (True, 0, 1)
    assert [stage["name"] for stage in found["stages"] if "hint" in stage] == ["tools"]


async def test_a_list_that_is_none_is_no_matter_of_the_path(nursery: trio.Nursery) -> None:
    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            message = json.loads(request.body) if request.body else {}
            result: dict[str, Any] = {"tools": "many"}
            if message.get("method") == "initialize":
                result = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "odd"},
                }
            if "id" in message:
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                await peer.send(http("200 OK", json.dumps(answer), JSON))
            else:
                await peer.send(http("202 Accepted" if request.body else "405 No"))

    seen = await examined((await nursery.start(serve, script)).url())
    assert seen.code == 6
    assert seen.told("tools") == (
        "FAILED: the server's answer to `tools/list` holds no list of tools"
    )
    assert seen.told("hint") == f": {BadAnswer.usual_hint}"


async def test_a_redirect_that_is_followed(nursery: trio.Nursery) -> None:
    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            if request.target == "/old":
                await peer.send(http("307 Moved", "", "Location: /new"))
            else:
                await peer.send(http("410 Gone", "no"))

    seen = await examined((await nursery.start(serve, script)).url("/old"))
    assert seen.told("HTTP") == "ok: status 410, no content type, after a redirect"


@pytest.mark.parametrize(
    "where, told",
    [
        ("/new", "ok: open: the server can speak by itself"),
        (
            "http://elsewhere.invalid/",
            "ok: not open: the server redirects to `http://elsewhere.invalid/` (status 307)",
        ),
    ],
)
async def test_a_listening_stream_behind_a_redirect(
    nursery: trio.Nursery, where: str, told: str
) -> None:
    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            message = json.loads(request.body) if request.body else {}
            if request.method == "GET" and request.target == "/mcp":
                await peer.send(http("307 Moved", "", f"Location: {where}"))
            elif request.method == "GET":
                head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n"
                await peer.send(head.encode())
                await peer.hung_up()
            elif message.get("method") == "initialize":
                result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                await peer.send(http("200 OK", json.dumps(answer), JSON))
            else:
                await peer.send(http("400 No" if "id" in message else "202 Accepted"))

    seen = await examined((await nursery.start(serve, script)).url("/mcp"))
    assert seen.told("listening") == told


@pytest.mark.parametrize(
    "status, told",
    [
        ("204 Gone", "the session is over"),
        ("404 Unknown", "the session is over"),
        ("405 No", "the server does not let a client end its session"),
        ("500 Oops", "the session was not ended (status 500)"),
    ],
)
async def test_how_a_session_ends(nursery: trio.Nursery, status: str, told: str) -> None:
    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            message = json.loads(request.body) if request.body else {}
            if request.method == "DELETE":
                await peer.send(http(status))
            elif message.get("method") == "initialize":
                result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                await peer.send(http("200 OK", json.dumps(answer), JSON, "Mcp-Session-Id: s-1"))
            elif "id" in message:
                await peer.send(http("400 No"))
            else:
                await peer.send(http("202 Accepted" if request.body else "405 No"))

    seen = await examined((await nursery.start(serve, script)).url())
    assert seen.told("farewell") == f"ok: {told}"


@pytest.mark.parametrize("options", [[], ["--no-merge-pages"]])
async def test_all_pages_of_a_list_are_counted(nursery: trio.Nursery, options: list[str]) -> None:
    async def script(peer: RawPeer) -> None:
        while (request := await peer.request()) is not None:
            message = json.loads(request.body) if request.body else {}
            method = message.get("method")
            if method == "initialize":
                result: dict[str, Any] = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "pages", "version": "1"},
                }
            elif method == "tools/list":
                page = int(message.get("params", {}).get("cursor", "0"))
                result = {"tools": [{"name": f"t{page}", "inputSchema": {"type": "object"}}] * 2}
                if page < 2:
                    result["nextCursor"] = str(page + 1)
            else:
                await peer.send(http("202 Accepted" if "id" not in message else "400 No"))
                continue
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            await peer.send(http("200 OK", json.dumps(answer), JSON))

    server = await nursery.start(serve, script)
    seen = await examined(server.url(), *options)
    assert seen.told("tools") == ("ok: 6 tools on 3 pages" if options else "ok: 6 tools")


@pytest.mark.parametrize(
    "step, options, told",
    [
        (0, ["--no-merge-pages"], "ok: 4 tools on 2 pages; the server's pages begin again"),
        (1, ["--no-merge-pages"], "ok: 200 tools on 100 pages; the server's pages do not end"),
        (0, [], "ok: 4 tools; the pages of `tools/list` go in circles"),
        (1, [], "ok: 398 tools on 100 pages; the server's pages do not end"),
    ],
)
async def test_pages_without_an_end(
    nursery: trio.Nursery, step: int, options: list[str], told: str
) -> None:
    asked = 0

    async def script(peer: RawPeer) -> None:
        nonlocal asked
        while (request := await peer.request()) is not None:
            message = json.loads(request.body) if request.body else {}
            method = message.get("method")
            if method == "initialize":
                result: dict[str, Any] = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "pages", "version": "1"},
                }
            elif method == "tools/list":
                asked += 1
                page = int(message.get("params", {}).get("cursor", "0"))
                tool = {"name": f"t{asked}", "inputSchema": {"type": "object"}}
                result = {"tools": [tool] * 2, "nextCursor": str(page + step)}
            else:
                await peer.send(http("202 Accepted" if "id" not in message else "400 No"))
                continue
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            await peer.send(http("200 OK", json.dumps(answer), JSON))

    seen = await examined((await nursery.start(serve, script)).url(), *options)
    assert seen.code == 0, seen.text
    assert seen.told("tools") == told
    assert asked < 2 * shaping.MAX_PAGES == 2 * peer.MAX_PAGES
    assert seen.told("hint") == f": {FAULT}"
    assert "warning: " not in seen.text
    assert seen.text.endswith("\nthe server can be used, but see `tools`, in TIME\n")


# For machines


async def test_one_object_and_nothing_else(sdk_server: Peer) -> None:
    seen = await examined(sdk_server.url, "--json")
    assert (seen.code, seen.done.stderr) == (0, "")
    assert seen.done.stdout.count("\n") == 1
    found = json.loads(seen.done.stdout)
    stages = found.pop("stages")
    assert [stage["status"] for stage in stages] == ["ok"] * len(stages)
    assert found.pop("server")["name"] == "sdk-peer"
    assert found == {
        "url": sdk_server.url,
        "ok": True,
        "exit_code": 0,
        "proxy": None,
        "address": "127.0.0.1",
        "http": {
            "status": 200,
            "media_type": "text/event-stream",
            "server": "uvicorn",
            "redirects": 0,
        },
        "credential": {"sent": None, "challenged": False},
        "protocol": {"eras": ["legacy"], "transport": "Streamable HTTP", "bridged": False},
        "protocol_version": "2025-11-25",
        "capabilities": [
            *("completions", "experimental", "logging"),
            *("prompts", "resources", "tools"),
        ],
        "session": True,
        "tools": 10,
        "resources": 1,
        "prompts": 1,
        "listening": True,
    }


async def test_the_facts_of_tls_for_machines(behind_tls: str, authority_file: Path) -> None:
    seen = await examined(behind_tls, "--json", "--cacert", str(authority_file))
    tls = json.loads(seen.done.stdout)["tls"]
    assert tls["subject"] == "localhost"
    assert tls["names"] == ["localhost", "127.0.0.1"]
    assert tls["issuer"].startswith("trustme ")
    assert tls["days_left"] > 0
    assert tls["version"].startswith("TLSv1.")


async def test_notes_go_into_the_object(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server().serve)
    env = {"MCP_BEARER_TOKEN": "t0k3n-1"}
    seen = await examined(url, "--json", "--bearer-token", "t0k3n-2", env=env)
    assert (seen.code, seen.done.stderr) == (0, "")
    (note,) = json.loads(seen.done.stdout)["notes"]
    assert note == "`MCP_BEARER_TOKEN` is not used, because of `--bearer-token`"
    seen = await examined(url, "--bearer-token", "t0k3n-2", env=env)
    assert f"mcp-stdio: warning: {note}\n" in seen.done.stderr
    nursery.cancel_scope.cancel()


async def test_warnings_are_for_a_person(nursery: trio.Nursery, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("X-Tenant: one")
    options = ["-H", "X-Tenant: two", "--header-file", str(file)]
    url = await nursery.start(Server().serve)
    seen = await examined(url, *options)
    assert seen.code == 0
    assert "warning: `X-Tenant` is what `--header-file` gives" in seen.text
    seen = await examined(url, "--json", *options)
    assert (seen.code, seen.done.stderr) == (0, "")
    nursery.cancel_scope.cancel()


async def test_a_failure_for_machines(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server(token="t0k3n-1").serve)
    seen = await examined(url, "--json", "--bearer-token", "t0k3n-2")
    assert (seen.code, seen.done.stderr) == (5, "")
    found = json.loads(seen.done.stdout)
    assert (found["ok"], found["exit_code"]) == (False, 5)
    (failed,) = [stage for stage in found["stages"] if stage["status"] == "failed"]
    assert failed["name"] == "credential"
    assert "401" in failed["cause"]
    assert failed["hint"]
    assert [stage["name"] for stage in found["stages"] if stage["status"] == "skipped"] == [
        *("protocol", "initialize", "tools", "resources", "prompts", "listening", "farewell"),
    ]
    assert "t0k3n" not in seen.done.stdout
    nursery.cancel_scope.cancel()

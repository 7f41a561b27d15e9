"""Every kind of client in front of every kind of server, with the parts as they are assembled.

The matrix of eras (protocol.md 2.1, D-A to D-E, D-1) and the sequences real clients probe with.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc
from mcp_stdio.assembly import assemble
from mcp_stdio.config import Config
from mcp_stdio.errors import AuthorizationFailed, CannotBridge, TimedOut, Unreachable
from tests.upstream.fakes import (
    FOREVER,
    INITIALIZE,
    URL,
    Answer,
    Asked,
    Client,
    Reply,
    Seen,
    Server,
    error,
    event,
    events,
    result,
    unreachable,
)
from tests.upstream.modern import META, TAG, params
from tests.upstream.sse_server import SseServer

CALL = "tools/call"
LIST = "tools/list"
DISCOVER = "server/discover"
INITIALIZED = "notifications/initialized"
LISTEN = "subscriptions/listen"
DISCOVERED = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "private",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fake", "version": "1"}},
}


def is_modern(seen: Seen) -> bool:
    return seen.header("MCP-Protocol-Version") == "2026-07-28"


class LegacyServer(Server):
    """Knows only the handshake: 400 without a session, as the SDKs have it."""

    def _default(self, seen: Seen) -> Any:
        if seen.rule != "initialize" and seen.header("Mcp-Session-Id") is None:
            return error(seen, -32600, "Bad Request: Missing session ID", 400)
        return super()._default(seen)


class ModernServer(Server):
    """Knows only 2026-07-28."""

    def _default(self, seen: Seen) -> Any:
        if seen.request.method != "POST":
            return Reply(405, media_type=None)
        if not is_modern(seen):
            return error(seen, -32022, "Unsupported protocol version", 400)
        return answered(seen)


class DualServer(LegacyServer):
    """Knows both, and tells them apart by the header alone."""

    def _default(self, seen: Seen) -> Any:
        return answered(seen) if is_modern(seen) else super()._default(seen)


def answered(seen: Seen) -> Answer:
    """What a modern server says by itself."""
    match seen.rule:
        case "server/discover":
            return result(seen, DISCOVERED)
        case "subscriptions/listen":
            about = {"_meta": {TAG: seen.id}, "notifications": {}}
            told = {"method": "notifications/subscriptions/acknowledged", "params": about}
            return events(told, FOREVER)
        case _ if "id" in seen.message:
            return result(seen, {"resultType": "complete", "by": "modern"})
    return Reply(202, media_type=None)


@asynccontextmanager
async def relayed(server: Server, **settings: Any) -> AsyncIterator[Client]:
    """A client in front of all that a relay has; nothing has been sent yet."""
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            config = Config(url=str(URL), **settings)
            client.upstream = assemble(config, server, nursery, client.emit)
            yield client
            nursery.cancel_scope.cancel()


def posts(server: Server) -> list[str]:
    return [rule for rule in server.order() if rule not in ("GET", "DELETE")]


async def asked(client: Client, method: str, parameters: Any = None) -> Asked:
    await client.done(asked := client.ask(method, parameters))
    return asked


SERVERS = {"legacy": LegacyServer, "dual": DualServer, "modern": ModernServer}


# A client that shakes hands


@pytest.mark.parametrize("kind", [LegacyServer, DualServer])
async def test_hands_are_shaken_without_a_detour(
    autojump_clock: MockClock, kind: type[Server]
) -> None:
    server = kind()
    async with relayed(server) as client:
        await client.shake_hands()
        assert (await asked(client, CALL, {"name": "x"})).result == {}
    assert posts(server) == ["initialize", INITIALIZED, CALL]


async def test_a_legacy_client_and_a_modern_server(autojump_clock: MockClock) -> None:
    server = ModernServer()
    async with relayed(server) as client:
        opening = await client.shake_hands()
        assert opening.result["protocolVersion"] == "2025-11-25"
        assert opening.result["serverInfo"] == {"name": "fake", "version": "1"}
        assert (await asked(client, CALL, {"name": "x"})).result == {"by": "modern"}
        assert (await asked(client, "ping")).result == {}
    assert posts(server) == ["initialize", DISCOVER, CALL]
    assert all(is_modern(seen) for seen in server.seen[1:])


async def test_a_legacy_client_and_an_sse_server(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with relayed(server) as client:
        opening = await client.shake_hands()
        assert opening.result["serverInfo"] == {"name": "fake", "version": "1"}
        assert (await asked(client, CALL, {"name": "x"})).result == {}
    assert posts(server) == ["initialize", DISCOVER, "initialize", INITIALIZED, CALL]


@pytest.mark.parametrize("transport", ["auto", "streamable-http"])
async def test_a_server_that_refuses_everything(autojump_clock: MockClock, transport: str) -> None:
    server = Server(initialize=Reply(404, [b"no such page"], "text/plain"))
    server.rules |= {DISCOVER: Reply(404), "GET": Reply(404)}
    async with relayed(server, transport=transport) as client:
        opening = await asked(client, "initialize", {"protocolVersion": "2025-11-25"})
        assert opening.failure is not None
        assert opening.failure.status == 404
        assert "no such page" in str(opening.failure)
    assert server.order().count("GET") == (transport == "auto")


@pytest.mark.parametrize("attempt", range(10))
async def test_a_ping_before_the_handshake_does_not_hold_it_up(
    autojump_clock: MockClock, attempt: int
) -> None:
    """P4: trio runs what has become ready in random order, so one attempt shows little."""
    async with relayed(LegacyServer()) as client:
        sent = [client.ask("ping"), client.ask("initialize", INITIALIZE)]
        sent += [client.tell(INITIALIZED), client.ask(LIST), client.ask("ping"), client.ask(LIST)]
        await client.done(*sent)
        assert [each.failure for each in sent] == 6 * [None]
        assert sent[3].result == sent[5].result == {}


@pytest.mark.parametrize("kind", [LegacyServer, DualServer])
async def test_a_server_that_pings_before_it_opens(
    autojump_clock: MockClock, kind: type[Server]
) -> None:
    answered_ping = trio.Event()
    server = kind()

    def stream(seen: Seen) -> Reply:
        plain = server.opened(seen)
        [body] = plain.body
        assert isinstance(body, bytes)
        said = event({"id": "p", "method": "ping"}), answered_ping, event(body.decode())
        return Reply(body=said, media_type="text/event-stream", headers=plain.headers)

    def take(seen: Seen) -> Reply:
        answered_ping.set()
        return Reply(202, media_type=None)

    server.rules |= {"initialize": stream, "response": take}
    async with relayed(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        await wait_all_tasks_blocked()
        await client.done(client.reply("p"), opening)
        assert opening.took == 0
        assert "result" in opening.answer


# A client that does not


@pytest.mark.parametrize("kind", [ModernServer, DualServer])
async def test_a_modern_client_is_at_home(autojump_clock: MockClock, kind: type[Server]) -> None:
    server = kind()
    async with relayed(server) as client:
        assert (await asked(client, DISCOVER, params())).result == DISCOVERED
        assert (await asked(client, CALL, params(name="x"))).result["by"] == "modern"
    assert server.order() == [DISCOVER, CALL]


async def test_a_client_of_both_eras_falls_back(autojump_clock: MockClock) -> None:
    """D-1."""
    server = LegacyServer()
    async with relayed(server) as client:
        probe = await asked(client, DISCOVER, params())
        assert probe.answer["error"]["code"] == -32601
        await client.shake_hands()
        assert (await asked(client, CALL, {"name": "x"})).result == {}
    assert posts(server) == [DISCOVER, "initialize", INITIALIZED, CALL]


@pytest.mark.parametrize("bridge, probes", [("auto", 1), ("always", 1)])
async def test_a_modern_client_and_a_legacy_server(
    autojump_clock: MockClock, bridge: str, probes: int
) -> None:
    server = LegacyServer()
    async with relayed(server, bridge=bridge) as client:
        called = await asked(client, CALL, params(name="x"))
        assert called.result["resultType"] == "complete"
        assert called.result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "fake"
        await asked(client, LIST, params())
    assert posts(server) == [*probes * [DISCOVER], "initialize", INITIALIZED, CALL, LIST]
    assert server.got("initialize")[0].message["params"]["capabilities"] == {}  # B-51


async def test_a_probe_is_bridged_on_request(autojump_clock: MockClock) -> None:
    server = LegacyServer()
    async with relayed(server, bridge="always") as client:
        probe = await asked(client, DISCOVER, params())
        assert probe.result["supportedVersions"] == ["2026-07-28"]
        assert (await asked(client, CALL, params(name="x"))).result["resultType"] == "complete"
    assert posts(server) == [DISCOVER, "initialize", INITIALIZED, CALL]


async def test_a_modern_client_and_an_sse_server(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with relayed(server) as client:
        called = await asked(client, CALL, params(name="x"))
        assert called.result["resultType"] == "complete"
    assert posts(server) == [DISCOVER, "initialize", "initialize", INITIALIZED, CALL]


# Sequences of real clients


@pytest.mark.parametrize("kind", SERVERS)
async def test_discover_and_initialize_at_once(autojump_clock: MockClock, kind: str) -> None:
    server = SERVERS[kind]()
    async with relayed(server) as client:
        probe = client.ask(DISCOVER, params())
        await client.shake_hands()
        called = await asked(client, CALL, {"name": "x"})
        await client.done(probe)
        if kind == "legacy":
            assert probe.answer["error"]["code"] == -32601
        else:
            assert probe.result == DISCOVERED
        assert called.result == ({"by": "modern"} if kind == "modern" else {})


@pytest.mark.parametrize("kind", ["dual", "modern"])
async def test_initialize_after_a_good_discover(autojump_clock: MockClock, kind: str) -> None:
    server = SERVERS[kind]()
    async with relayed(server) as client:
        await asked(client, DISCOVER, params())
        await client.shake_hands()
        assert (await asked(client, LIST)).answer
        assert (await asked(client, LIST, params())).result["by"] == "modern"
        sent = server.got(LIST)
        assert [is_modern(seen) for seen in sent] == [kind == "modern", True]


@pytest.mark.parametrize("kind", SERVERS)
async def test_modern_requests_without_discover(autojump_clock: MockClock, kind: str) -> None:
    server = SERVERS[kind]()
    async with relayed(server) as client:
        calls = [client.ask(CALL, params(name="x", n=number)) for number in range(10)]
        await client.done(*calls)
        assert {each.result["resultType"] for each in calls} == {"complete"}
    sent = [seen.message["params"]["n"] for seen in server.got(CALL)]
    assert sorted(sent) == list(range(10))
    assert posts(server)[0] == DISCOVER
    assert posts(server).count(DISCOVER) == 1


@pytest.mark.parametrize("kind", [LegacyServer, DualServer])
async def test_a_discover_that_is_never_answered(
    autojump_clock: MockClock, kind: type[Server]
) -> None:
    """The client falls back after its own time-out; the probe gets its answer afterwards."""
    server = kind(**{DISCOVER: Reply(before=[FOREVER])})
    async with relayed(server) as client:
        probe = client.ask(DISCOVER, params())
        await trio.sleep(10)
        await client.shake_hands()
        assert (await asked(client, CALL, {"name": "x"})).result == {}
        await client.done(probe)
        assert probe.answer["error"]["code"] == -32601
        assert probe.took < 15


async def test_a_discover_that_the_client_gives_up(autojump_clock: MockClock) -> None:
    server = LegacyServer(**{DISCOVER: Reply(before=[FOREVER])})
    async with relayed(server) as client:
        probe = client.ask(DISCOVER, params())
        await wait_all_tasks_blocked()
        client.cancel(probe)
        await client.done(probe)
        assert probe.emitted == []
        await client.shake_hands()
        assert (await asked(client, CALL, {"name": "x"})).result == {}


async def test_both_kinds_of_message_in_one_process(autojump_clock: MockClock) -> None:
    """S-19."""
    server = DualServer()
    async with relayed(server) as client:
        await client.shake_hands()
        both = [client.ask(LIST), client.ask(LIST, params())]
        await client.done(*both)
        assert [each.answer["result"] for each in both] == [
            {},
            {"resultType": "complete", "by": "modern"},
        ]


# What is of no era


async def test_a_request_that_says_nothing_of_itself(autojump_clock: MockClock) -> None:
    """2.2: -32602 telling both ways; `ping` is answered."""
    server = LegacyServer()
    async with relayed(server) as client:
        refused = (await asked(client, CALL, {"name": "x"})).answer["error"]
        assert refused["code"] == -32602
        assert "initialize" in refused["message"]
        assert "protocolVersion" in refused["message"]
        assert (await asked(client, "ping")).result == {}
        await client.done(client.tell("notifications/x"), client.reply(1))
    assert server.seen == []


async def test_to_a_modern_server_it_goes_as_it_is(autojump_clock: MockClock) -> None:
    """S-11: the server validates."""
    server = ModernServer()
    async with relayed(server) as client:
        await asked(client, DISCOVER, params())
        refused = await asked(client, CALL, {"name": "x"})
        assert refused.answer["error"]["code"] == -32022


# Accidents


@pytest.mark.parametrize(
    "accident, failure",
    [
        (Reply(503, headers=(("retry-after", "100"),)), None),
        (Reply(500), None),
        (Reply(401), AuthorizationFailed),
        (Reply(403), AuthorizationFailed),
        (Reply(before=[FOREVER]), TimedOut),
        (unreachable(), Unreachable),
    ],
    ids=["503", "500", "401", "403", "time-out", "unreachable"],
)
@pytest.mark.parametrize("kind", ["legacy", "modern"])
@pytest.mark.parametrize("is_modern_client", [False, True])
async def test_an_accident_decides_no_era(
    autojump_clock: MockClock,
    kind: str,
    is_modern_client: bool,
    accident: Answer,
    failure: type[Exception] | None,
) -> None:
    """A 5xx, a time-out or a 401 is reported; the next message finds out as if it was the first."""
    server = SERVERS[kind]()
    server.rules = {"initialize": accident, DISCOVER: accident}
    async with relayed(server) as client:
        if is_modern_client:
            first = await asked(client, CALL, params(name="x"))
        else:
            first = await asked(client, "initialize", {"protocolVersion": "2025-11-25"})
        if failure is not TimedOut or not is_modern_client:
            assert first.failure is not None
            assert failure is None or isinstance(first.failure, failure)
        assert DISCOVER not in posts(server) or is_modern_client
        server.rules.clear()
        await trio.sleep(60)
        if is_modern_client:
            assert (await asked(client, LIST, params())).result["resultType"] == "complete"
        else:
            assert "result" in (await asked(client, LIST)).answer


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_an_error_of_an_accident_decides_no_era_either(
    autojump_clock: MockClock, status: int
) -> None:
    """D-D: also with a JSON-RPC error in its body."""
    server = DualServer(**{DISCOVER: lambda seen: error(seen, -32603, "hiccup", status)})
    async with relayed(server) as client:
        called = await asked(client, CALL, params(name="x"))
        assert called.failure is not None
        assert "hiccup" in str(called.failure)
        assert "relay-" not in str(called.failure)
        assert CALL not in posts(server)
        server.rules.clear()
        assert (await asked(client, CALL, params(name="x"))).result["by"] == "modern"


@pytest.mark.parametrize("settings", [{}, {"protocol_era": "modern"}])
@pytest.mark.parametrize("status, code", [(500, -32603), (403, -32000), (400, -32021)])
async def test_what_a_bridged_handshake_is_told_comes_under_its_own_id(
    autojump_clock: MockClock, status: int, code: int, settings: dict[str, Any]
) -> None:
    """S-6, T-15, B-32: the server's error to our own discover, with code and data."""
    server = ModernServer()
    server.rules[DISCOVER] = lambda seen: error(seen, code, "hiccup", status)
    async with relayed(server, **settings) as client:
        await client.done(opening := client.ask("initialize", INITIALIZE, id=0))
        if settings or code == -32021:
            assert opening.answer["id"] == 0
            assert opening.answer["error"]["code"] == code
        else:  # nothing is proven: the first answer counts
            assert opening.answer["error"]["code"] == -32022
        server.rules.clear()
        await client.shake_hands()
        server.rules[DISCOVER] = lambda seen: error(seen, code, "hiccup", status)
        await client.done(again := client.ask("initialize", INITIALIZE, id="again"))
        assert again.answer["id"] == "again"
        assert "error" in again.answer


async def test_a_modern_server_that_answers_no_discover(autojump_clock: MockClock) -> None:
    """It says what it is when it meets the handshake that is tried instead (D-D)."""
    server = ModernServer(**{DISCOVER: Reply(before=[FOREVER])})
    unsupported = {"supported": ["2026-07-28"], "requested": "2025-11-25"}

    def refuse(seen: Seen) -> Reply:
        body = {"code": -32022, "message": "Unsupported protocol version", "data": unsupported}
        return Reply(400, [json.dumps({"jsonrpc": "2.0", "id": seen.id, "error": body}).encode()])

    server.rules["initialize"] = refuse
    async with relayed(server) as client:
        called = await asked(client, CALL, params(name="x"))
        assert called.result["by"] == "modern"
        assert called.took == 10


# Eras that change


async def test_a_listen_stream_ends_when_the_way_to_the_server_changes(
    autojump_clock: MockClock,
) -> None:
    server = LegacyServer()
    async with relayed(server) as client:
        await asked(client, LIST, params())
        listen = client.ask(LISTEN, params(notifications={"toolsListChanged": True}), id="l")
        await wait_all_tasks_blocked()
        server.__class__ = ModernServer  # type: ignore[assignment]
        server.forget()
        assert (await asked(client, LIST, params())).result["by"] == "modern"
        await client.done(listen)
        assert listen.result["resultType"] == "complete"
        assert [each.method for each in listen.emitted][-2:] == ["", "notifications/cancelled"]


async def test_a_server_that_becomes_modern_under_a_session(autojump_clock: MockClock) -> None:
    server = LegacyServer()
    async with relayed(server) as client:
        await client.shake_hands()
        await asked(client, CALL, {"name": "x"})
        server.rules = dict.fromkeys(["initialize", CALL], modern_only)
        server.rules[DISCOVER] = lambda seen: result(seen, DISCOVERED)
        server.rules["GET"] = Reply(405, media_type=None)
        assert (await asked(client, CALL, {"name": "x"})).result == {"by": "modern"}


@pytest.mark.parametrize("status", [200, 400, 404])
async def test_a_server_that_becomes_modern_and_forgets_its_sessions(
    autojump_clock: MockClock, status: int
) -> None:
    """The session is lost, and the `initialize` played again is refused."""
    server = LegacyServer()
    async with relayed(server) as client:
        await client.shake_hands()

        def refuse(seen: Seen) -> Any:
            return error(seen, -32601, "Method not found", status)

        server.rules["initialize"] = refuse
        server.rules[DISCOVER] = lambda seen: result(seen, DISCOVERED)
        server.rules[LIST] = modern_only
        server.forget()
        listed = await asked(client, LIST)
        assert "result" in listed.answer
        assert posts(server)[-2:] == [DISCOVER, LIST]
        assert is_modern(server.got(LIST)[-1])


def modern_only(seen: Seen) -> Any:
    if is_modern(seen):
        return answered(seen)
    return error(seen, -32022, "Unsupported protocol version", 400)


async def test_a_server_that_becomes_legacy_under_a_modern_client(
    autojump_clock: MockClock,
) -> None:
    server = DualServer()
    async with relayed(server) as client:
        await asked(client, DISCOVER, params())
        assert (await asked(client, LIST, params())).result["by"] == "modern"
        server.__class__ = LegacyServer  # type: ignore[assignment]
        listed = await asked(client, LIST, params())
        assert listed.result["resultType"] == "complete"
        assert "by" not in listed.result


@pytest.mark.parametrize(
    "kind, settings, code",
    [
        ("modern", {"protocol_era": "modern"}, -32000),
        ("legacy", {"protocol_era": "legacy"}, -32021),
        ("legacy", {"protocol_era": "legacy", "transport": "streamable-http"}, -32021),
    ],
)
async def test_what_the_user_says_leaves_nothing_to_look_for(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    settings: dict[str, Any],
    code: int,
) -> None:
    server = SERVERS[kind]()
    async with relayed(server, **settings) as client:
        await client.shake_hands()
        await wait_all_tasks_blocked()  # the listening stream is asked for on the way
        before = len(server.seen)
        server.rules[CALL] = lambda seen: error(seen, code)
        called = await asked(client, CALL, {"name": "x"})
        assert called.answer["error"]["code"] == code
        assert called.took == 0
        assert [seen.rule for seen in server.seen[before:]] == [CALL]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_server_declared_legacy_is_never_asked_to_discover(
    autojump_clock: MockClock,
) -> None:
    server = LegacyServer()
    async with relayed(server, protocol_era="legacy") as client:
        await asked(client, LIST, params())
        server.rules[CALL] = lambda seen: error(seen, -32022)
        await asked(client, CALL, params(name="x"))
    assert DISCOVER not in posts(server)


async def test_an_answer_stays_where_nothing_crosses(autojump_clock: MockClock) -> None:
    server = DualServer()
    async with relayed(server, bridge="never") as client:
        await asked(client, DISCOVER, params())
        server.rules |= {CALL: lambda seen: error(seen, -32600), DISCOVER: Reply(404)}
        called = await asked(client, CALL, params(name="x"))
        assert called.answer["error"]["code"] == -32600


async def test_a_probe_of_our_own_repeats_what_the_client_wrote(
    autojump_clock: MockClock,
) -> None:
    """P3."""
    server = ModernServer()
    raw = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"x":1,'
        '"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        '"io.modelcontextprotocol/clientCapabilities":{"experimental":{"n":1e400}}}}}'
    )
    async with relayed(server) as client:
        await client.done(listed := client.put(jsonrpc.parse(raw.encode())))
        assert listed.failure is None
    [probe] = server.got(DISCOVER)
    assert b'"io.modelcontextprotocol/clientCapabilities":{"experimental":{"n":1e400}}' in (
        probe.request.body
    )
    assert b'"x"' not in probe.request.body


# What the user says


async def test_era_legacy_is_never_asked(autojump_clock: MockClock) -> None:
    server = LegacyServer()
    async with relayed(server, protocol_era="legacy") as client:
        probe = await asked(client, DISCOVER, params())
        assert probe.answer["error"]["code"] == -32601
        assert (await asked(client, CALL, params(name="x"))).result["resultType"] == "complete"
    assert posts(server) == ["initialize", INITIALIZED, CALL]


async def test_era_modern_is_never_asked(autojump_clock: MockClock) -> None:
    server = ModernServer()
    async with relayed(server, protocol_era="modern") as client:
        assert (await asked(client, CALL, params(name="x"))).result["by"] == "modern"
        await client.shake_hands()
        assert (await asked(client, CALL, {"name": "x"})).result == {"by": "modern"}
    assert posts(server) == [CALL, DISCOVER, CALL]


async def test_transport_sse_needs_no_refusal(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with relayed(server, transport="sse") as client:
        probe = await asked(client, DISCOVER, params())
        assert probe.answer["error"]["code"] == -32601
        await client.shake_hands()
        assert (await asked(client, CALL, {"name": "x"})).result == {}
    assert posts(server) == ["initialize", INITIALIZED, CALL]


async def test_nothing_is_bridged_for_a_legacy_client(autojump_clock: MockClock) -> None:
    """S-21: the refusal names the server's versions and the switch."""
    server = ModernServer()
    async with relayed(server, bridge="never") as client:
        opening = await asked(client, "initialize", {"protocolVersion": "2025-06-18"})
        refused = opening.answer["error"]
        assert refused["code"] == -32602
        assert "2026-07-28" in refused["message"]
        assert "--bridge" in refused["message"]
        assert refused["data"] == {"supported": ["2026-07-28"], "requested": "2025-06-18"}
        assert (await asked(client, DISCOVER, params())).result == DISCOVERED


async def test_nothing_is_bridged_for_a_modern_client(autojump_clock: MockClock) -> None:
    server = LegacyServer()
    async with relayed(server, bridge="never") as client:
        called = await asked(client, CALL, params(name="x"))
        assert isinstance(called.failure, CannotBridge)
        await client.shake_hands()
        assert (await asked(client, CALL, {"name": "x"})).result == {}


async def test_lists_are_whole_in_either_era(autojump_clock: MockClock) -> None:
    """The pages of a modern list are merged as well, and invalid tools are left out of each."""

    def pages(seen: Seen) -> Reply:
        cursor = seen.message["params"].get("cursor")
        good = {"name": f"tool {cursor}", "inputSchema": {"type": "object"}}
        annotated = {"a": {"type": "object", "x-mcp-header": "A"}}
        bad = good | {"inputSchema": {"type": "object", "properties": annotated}}
        more = {} if cursor == "2" else {"nextCursor": "1" if cursor is None else "2"}
        return result(seen, {"resultType": "complete", "tools": [bad, good]} | more)

    server = DualServer(**{LIST: pages})
    async with relayed(server) as client:
        await asked(client, DISCOVER, params())
        listed = await asked(client, LIST, {"_meta": META})
        assert [tool["name"] for tool in listed.result["tools"]] == [
            "tool None",
            "tool 1",
            "tool 2",
        ]
        assert "nextCursor" not in listed.result

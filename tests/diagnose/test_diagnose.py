"""`--test`: which stage tells what, and which exit code it ends with."""

from __future__ import annotations

import json
import ssl

import pytest
import trio

from mcp_stdio.config import Config
from mcp_stdio.demo.server import Server
from mcp_stdio.diagnose import examine
from mcp_stdio.diagnose.report import Report, Stage, as_object, as_text, exit_code
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    ProxyFailure,
    Refused,
    RelayError,
    TimedOut,
    TlsFailure,
    Unreachable,
    UsageFailure,
)
from mcp_stdio.http import Exchange, Head, Lane, Request
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from tests.cli.command import interrupt, run, start
from tests.http.raw_server import Peer, saying, serve

LIMIT = 30.0


def ignore(_: Stage) -> None:
    pass


async def examined(url: str, *headers: tuple[str, str]) -> Report:
    with trio.fail_after(LIMIT):
        config = Config(url=url, headers=headers, timeout_read=LIMIT)
        return await examine(config, open_client(config), ignore)


def statuses(report: Report) -> dict[str, str]:
    return {stage.name: stage.status for stage in report.stages}


def failure(report: Report) -> Stage:
    (stage,) = [stage for stage in report.stages if stage.status == "failed"]
    assert stage.cause
    assert stage.hint
    return stage


def http(status: str, body: str = "", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


JSON = "Content-Type: application/json"


async def test_a_good_server_passes_every_stage(nursery: trio.Nursery) -> None:
    server = Server()
    report = await examined(await nursery.start(server.serve))
    assert report.exit_code == 0
    assert list(statuses(report).items()) == [
        ("connect", "ok"),
        ("initialize", "ok"),
        ("tools", "ok"),
        ("farewell", "ok"),
    ]
    assert all(stage.seconds is not None and stage.seconds >= 0 for stage in report.stages)
    assert report.facts == {
        "server": {"name": "mcp-stdio-demo", "version": "0.1.0"},
        "protocol_version": "2025-11-25",
        "capabilities": ["logging", "prompts", "resources", "tools"],
        "session": True,
        "tools": 5,
    }
    assert server.sessions == {}
    assert server.executions == type(server.executions)()
    assert {request.target for request in server.requests} == {"/mcp"}


async def test_the_credential_is_sent(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server(token="t0k3n").serve)
    assert (await examined(url, ("Authorization", "Bearer t0k3n"))).exit_code == 0
    report = await examined(url)
    assert report.exit_code == 5
    assert "MCP_BEARER_TOKEN" in (failure(report).hint or "")


async def test_a_server_without_session_and_tools_is_fine(nursery: trio.Nursery) -> None:
    result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "bare"}}
    methods: list[str] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            methods.append(request.method)
            id = json.loads(request.body).get("id") if request.body else None
            if id is not None:
                answer = json.dumps({"jsonrpc": "2.0", "id": id, "result": result})
                await peer.send(http("200 OK", answer, JSON))
            else:
                await peer.send(http("202 Accepted" if request.body else "405 No"))

    server = await nursery.start(serve, script)
    report = await examined(str(server.url()))
    assert report.exit_code == 0
    assert report.facts["session"] is False
    assert [stage.found for stage in report.stages[1:]] == [
        "bare, MCP 2025-06-18, without session, offers nothing",
        "none are offered",
        "there is no session to end",
    ]
    assert "DELETE" not in methods


async def test_nobody_listening() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    report = await examined(f"http://127.0.0.1:{port}/mcp")
    assert report.exit_code == 3
    assert failure(report).name == "connect"
    assert list(statuses(report).values()) == ["failed", "skipped", "skipped", "skipped"]


async def test_a_name_that_does_not_exist() -> None:
    report = await examined("http://no-such-host.invalid/mcp")
    assert (report.exit_code, failure(report).name) == (3, "connect")


async def test_a_server_without_tls(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server().serve)
    report = await examined(url.replace("http", "https"))
    assert (report.exit_code, failure(report).name) == (4, "connect")


async def test_a_certificate_that_nobody_trusts(
    nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    server = await nursery.start(serve, saying(), server_context)
    report = await examined(str(server.url()))
    assert (report.exit_code, failure(report).name) == (4, "connect")
    assert "--cacert" in (failure(report).hint or "")


@pytest.mark.parametrize(
    "response, code",
    [
        (http("200 OK", "<html>", "Content-Type: text/html"), 6),
        (http("200 OK", "{}", JSON), 6),
        (http("200 OK", '{"jsonrpc":"2.0","id":"other","result":{}}', JSON), 6),
        (http("404 Not Found", "nothing here"), 6),
        (http("405 Method Not Allowed"), 6),
        (b"SSH-2.0-OpenSSH\r\n", 6),
        (http("401 Unauthorized", "", "WWW-Authenticate: Bearer"), 5),
        (http("403 Forbidden", "no"), 5),
        (http("500 Oops", "oops"), 7),
        (http("400 Bad", '{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}', JSON), 7),
        (b"", 3),
    ],
)
async def test_what_is_wrong_with_an_answer_decides_the_code(
    nursery: trio.Nursery, response: bytes, code: int
) -> None:
    server = await nursery.start(serve, saying(response))
    report = await examined(str(server.url()))
    stage = next(stage for stage in report.stages if stage.status == "failed")
    assert (report.exit_code, stage.name) == (code, "initialize"), stage
    assert statuses(report)["connect"] == "ok"
    assert statuses(report)["tools"] == "skipped"


class BrokenLane(Lane):
    """A lane on which each request fails, when it is sent or when its answer is waited for."""

    def __init__(self, failure: RelayError, *, at_once: bool) -> None:
        self.failure = failure
        self.at_once = at_once
        self.requests = 0

    def is_ready(self, request: Request) -> bool:
        return False

    async def send(self, request: Request) -> Exchange:
        self.requests += 1
        if self.at_once:
            raise self.failure
        return BrokenExchange(self.failure)

    async def prepare(self, url: Url) -> None:
        pass

    def drop_idle(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class BrokenExchange(Exchange):
    def __init__(self, failure: RelayError) -> None:
        self.failure = failure

    async def head(self) -> Head:
        raise self.failure

    async def receive_some(self) -> bytes:
        raise self.failure

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    "failed, is_proxied, at_once, stage",
    [
        (Unreachable("?"), False, True, "connect"),
        (ProxyFailure("?"), True, False, "connect"),
        (UsageFailure("?"), False, True, "connect"),
        (BadAnswer("?"), False, False, "initialize"),
        (BadAnswer("?"), True, False, "initialize"),
    ],
)
async def test_a_failure_belongs_to_a_stage_and_is_not_repeated(
    failed: RelayError, is_proxied: bool, at_once: bool, stage: str
) -> None:
    lane = BrokenLane(failed, at_once=at_once)
    with trio.fail_after(LIMIT):
        report = await examine(Config(url="http://h/"), lane, ignore, is_proxied=is_proxied)
    assert [it.name for it in report.stages if it.status == "failed"] == [stage]
    assert [it.name for it in report.stages] == ["connect", "initialize", "tools", "farewell"]
    assert lane.requests == 1


@pytest.mark.parametrize(
    "failed, code",
    [
        (RelayError("?"), 1),
        (UsageFailure("?"), 2),
        (Unreachable("?"), 3),
        (TimedOut("?"), 3),
        (ConnectionLost("?"), 3),
        (TlsFailure("?"), 4),
        (AuthorizationFailed("?"), 5),
        (BadAnswer("?"), 6),
        (Refused("?", status=400), 6),
        (Refused("?", status=404), 6),
        (Refused("?", status=429), 7),
        (Refused("?", status=503), 7),
    ],
)
def test_exit_codes(failed: RelayError, code: int) -> None:
    assert exit_code(failed) == code


def test_text_for_readers() -> None:
    assert as_text(Stage("connect", "ok", "h:1 with TLS", 0.0123)) == (
        "ok      connect     h:1 with TLS  (12 ms)"
    )
    assert as_text(Stage("tools", "failed", "", 1.0, "cause", "do it")) == (
        "FAILED  tools       cause  (1000 ms)\n        hint        do it"
    )
    assert as_text(Stage("tools", "skipped")) == "-       tools"


def test_an_object_for_machines() -> None:
    report = Report("https://h/", ignore)
    report.passed("connect", "h:443", 0.0015)
    report.failed("initialize", BadAnswer("cause", hint="hint"), 1.0)
    report.skipped("tools")
    assert as_object(report) == {
        "url": "https://h/",
        "ok": False,
        "exit_code": 6,
        "stages": [
            {"name": "connect", "status": "ok", "found": "h:443", "ms": 1.5},
            {
                "name": "initialize",
                "status": "failed",
                "ms": 1000.0,
                "cause": "cause",
                "hint": "hint",
            },
            {"name": "tools", "status": "skipped"},
        ],
    }


async def test_as_a_process_it_prints_lines_or_one_object(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server(token="t0k3n-1").serve)
    plain = await trio.to_thread.run_sync(run, "test", "--bearer-token", "t0k3n-1", url)
    assert (plain.returncode, plain.stdout) == (0, "")
    assert [line.split()[:2] for line in plain.stderr.splitlines()[1:]] == [
        ["ok", "connect"],
        ["ok", "initialize"],
        ["ok", "tools"],
        ["ok", "farewell"],
    ]
    done = await trio.to_thread.run_sync(run, url, "--test", "--json", "--bearer-token", "t0k3n-2")
    assert done.returncode == 5
    assert done.stderr == ""
    assert json.loads(done.stdout)["exit_code"] == 5
    assert done.stdout.count("\n") == 1
    assert "t0k3n" not in plain.stderr + done.stdout


async def test_what_the_server_repeats_of_a_secret_is_not_shown(nursery: trio.Nursery) -> None:
    answer = http("500 Oops", "the key k3y-of-mine is odd", "Content-Type: text/plain")
    server = await nursery.start(serve, saying(answer))
    for options in (["--test"], ["--test", "--json"]):
        arguments = [*options, "-H", "X-Key: k3y-of-mine", str(server.url())]
        done = await trio.to_thread.run_sync(run, *arguments)
        assert done.returncode == 7
        assert "is odd" in done.stdout + done.stderr
        assert "k3y-of-mine" not in done.stdout + done.stderr


async def test_an_interrupt_ends_it_quietly_with_130(nursery: trio.Nursery) -> None:
    has_come = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        has_come.set()
        await peer.hung_up()

    server = await nursery.start(serve, script)
    process = start("test", str(server.url()))
    try:
        with trio.fail_after(LIMIT):
            await has_come.wait()
            interrupt(process)
            _, errors = await trio.to_thread.run_sync(process.communicate)
        assert process.returncode == 130
        assert b"Traceback" not in errors
    finally:
        process.kill()
        process.wait()

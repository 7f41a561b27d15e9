"""`mcp-stdio demo` as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cli.command import LIMIT, interrupt, run, start


@pytest.fixture(scope="module")
def shown() -> subprocess.CompletedProcess[str]:
    # A proxy where nobody is, to see that the demo does not care.
    return run("demo", env={"HTTP_PROXY": "http://127.0.0.1:9", "MCP_BEARER_TOKEN": "t0k3n"})


def test_the_demo_ends_well(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stderr == ""


@pytest.mark.parametrize(
    "line",
    [
        '  ->    {"jsonrpc":"2.0","id":1,"method":"initialize"',
        "  http  POST initialize => 200 application/json",
        '  <-    {"jsonrpc":"2.0","id":1,"result":{"protocolVersion"',
        "  http  POST notifications/initialized => 202",
        "  http  GET => 200 text/event-stream",
        '  ->    {"jsonrpc":"2.0","id":2,"method":"tools/list"',
        "Its tools are echo, add, countdown, ask, wait",
        '  <-    {"jsonrpc":"2.0","method":"notifications/progress"',
        '  <-    {"jsonrpc":"2.0","id":3,"result"',
        '  <-    {"jsonrpc":"2.0","id":"question-1","method":"elicitation/create"',
        '  ->    {"jsonrpc":"2.0","id":"question-1","result":{"action":"accept"',
        "  http  POST (an answer) => 202",
        '  ->    {"jsonrpc":"2.0","method":"notifications/cancelled"',
        "  http  POST notifications/cancelled => 202",
        "  http  DELETE => 204",
    ],
)
def test_both_sides_of_the_conversation_are_shown(
    shown: subprocess.CompletedProcess[str], line: str
) -> None:
    assert any(each.startswith(line) for each in shown.stdout.splitlines()), shown.stdout


def test_the_cancelled_call_is_not_answered(shown: subprocess.CompletedProcess[str]) -> None:
    assert '<-    {"jsonrpc":"2.0","id":5' not in shown.stdout


def test_serve_prints_a_configuration_that_works_until_it_is_interrupted() -> None:
    server = start("demo", "--serve")
    try:
        assert server.stdout is not None
        text = ""
        while "\n}\n" not in text:
            line = server.stdout.readline().decode()
            assert line, "the server ended early"
            text += line
        demo = json.loads(text[text.index("{") :])["mcpServers"]["demo"]
        url = demo["args"][-1]
        assert url in text.partition("{")[0]
        assert run("test", url).returncode == 0
        interrupt(server)
        _, errors = server.communicate(timeout=LIMIT)
        assert (server.returncode, errors) == (0, b"")
    finally:
        server.kill()
        server.wait()

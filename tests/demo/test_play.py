"""The demo's conversation when the relay does not do its part: a word about it, in bounded time."""

from __future__ import annotations

import sys

import pytest
import trio
import trio.testing

from mcp_stdio.demo.play import DemoFailed, environment, play


async def failure(code: str) -> str:
    """Play with a relay that is a line of Python; the failure's text."""
    shown: list[str] = []
    with pytest.RaisesGroup(DemoFailed, flatten_subgroups=True) as caught:
        await play(shown.append, lambda url: [sys.executable, "-c", code, url])
    assert any(line.startswith("  ->") for line in shown)
    return str(caught.value.exceptions[0])


@pytest.mark.parametrize(
    "code",
    ["pass", "import sys; sys.stdin.readline()", "import sys; sys.exit(1)"],
)
async def test_a_relay_that_ends_early(code: str) -> None:
    with trio.fail_after(30):
        assert "the relay ended too early" in await failure(code)


async def test_a_relay_that_never_answers(autojump_clock: trio.testing.MockClock) -> None:
    text = await failure("import time; time.sleep(60)")
    assert trio.current_time() < 60
    assert text == "`initialize` was not answered within 20 s"


async def test_a_relay_that_writes_nonsense() -> None:
    with trio.fail_after(30):
        text = await failure("import sys; sys.stdin.readline(); print('hello')")
        assert "something that is no message" in text


async def test_a_relay_that_answers_with_an_error() -> None:
    answer = '{"jsonrpc":"2.0","id":1,"error":{"code":-33001,"message":"no"}}'
    with trio.fail_after(30):
        text = await failure(f"import sys; sys.stdin.readline(); print({answer!r})")
        assert text == "`initialize` was answered with an error"


def test_the_relay_gets_no_token_and_no_proxy_for_the_demo() -> None:
    given = {"MCP_BEARER_TOKEN": "t0k3n", "HTTP_PROXY": "http://p", "no_proxy": "x", "OTHER": "1"}
    got = environment(given)
    assert "MCP_BEARER_TOKEN" not in got
    assert got["NO_PROXY"] == got["no_proxy"] == "127.0.0.1"
    assert got["OTHER"] == "1"

"""Neither `Authorization` nor any custom header follows a redirect to where it does not belong.

That is another origin, or plain http after https; there, not even a connection is made.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio

from mcp_stdio import spec
from tests.faults.driver import LANES, LIMIT, NOT_UNDERSTOOD, opening, relaying
from tests.faults.server import answering, http, serving, well

SECRETS = ("-H", "Authorization: Bearer s3cr3t", "-H", "X-Api-Key: k3y", "-H", "Cookie: c=00kie")
STATUSES = (301, 302, 303, 307, 308)


@pytest.mark.parametrize("lane", LANES)
async def test_nothing_follows_a_redirect_to_another_origin(lane: str) -> None:
    async with serving() as server, serving(is_judged=False) as stranger:
        for where in stranger.url, stranger.url.replace("127.0.0.1", "localhost"):
            redirect = [
                answering(http(status, headers=[f"Location: {where}", "Set-Cookie: a=b"]))
                for status in STATUSES
            ]
            for behaviour in redirect:
                server.methods = {spec.INITIALIZE: behaviour}
                async with relaying(
                    server.url, *SECRETS, env=LANES[lane], initialize=False
                ) as relay:
                    error = (await relay.ask(spec.INITIALIZE, opening()))["error"]
                    assert error["code"] == NOT_UNDERSTOOD
                    assert where in error["message"]
        assert stranger.connections == 0


@pytest.mark.parametrize("lane", LANES)
async def test_nothing_follows_later_redirects_of_any_request(lane: str) -> None:
    async with serving() as server, serving(is_judged=False) as stranger:
        for status in STATUSES:
            redirect = answering(http(status, headers=[f"Location: {stranger.url}"]))
            server.methods = {
                "GET": redirect,
                "DELETE": redirect,
                "tools/list": redirect,
                "notifications/roots/list_changed": redirect,
            }
            server.tools = {"moved": redirect}
            async with relaying(server.url, *SECRETS, env=LANES[lane]) as relay:
                assert "error" in await relay.ask("tools/list")
                assert "error" in await relay.call("moved")
                await relay.notify("notifications/roots/list_changed")
                await relay.lives()
                with trio.fail_after(LIMIT):
                    await server.saw("GET")
            server.runs.clear()  # the ids begin anew with each relay
        assert len(server.requests("DELETE")) == len(STATUSES)
        assert stranger.connections == 0


@pytest.mark.parametrize("lane", LANES)
async def test_nothing_follows_a_redirect_from_https_to_http(
    lane: str, server_context: ssl.SSLContext, authority_file: Path
) -> None:
    env = {"HTTP_PROXY": "http://127.0.0.1:9"} if lane == "proxied" else {}
    async with serving(context=server_context) as server, serving(is_judged=False) as plain:
        server.tools = {
            str(status): answering(http(status, headers=[f"Location: {plain.url}"]))
            for status in STATUSES
        }
        options = ("--cacert", str(authority_file), *SECRETS)
        async with relaying(server.url, *options, env=env) as relay:
            for status in STATUSES:
                error = (await relay.call(str(status)))["error"]
                assert error["code"] == NOT_UNDERSTOOD
                assert "from https" in error["message"]
            await relay.lives()
        assert plain.connections == 0


@pytest.mark.parametrize("lane", LANES)
async def test_all_of_it_follows_a_redirect_from_http_to_https_of_the_same_host(
    lane: str, server_context: ssl.SSLContext, authority_file: Path
) -> None:
    proxied = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    env = proxied if lane == "proxied" else {}
    async with serving(context=server_context) as secure, serving(is_judged=False) as plain:
        redirect = answering(http(308, headers=[f"Location: {secure.url}"]), runs=False)
        for rpc in spec.INITIALIZE, spec.INITIALIZED, "tools/call", "GET", "DELETE":
            plain.methods[rpc] = redirect
        plain.has_sessions = False
        secure.methods[spec.INITIALIZE] = well
        options = ("--cacert", str(authority_file), *SECRETS)
        async with relaying(plain.url, *options, env=env) as relay:
            await relay.lives()
        assert secure.requests("DELETE")
        for received in secure.received:
            assert received.get("authorization") == "Bearer s3cr3t"
            assert received.get("x-api-key") == "k3y"

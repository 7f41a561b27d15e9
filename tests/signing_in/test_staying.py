"""Who has signed in once stays signed in: over restarts, expiry, rotation, and side by side."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.peers import browsers
from tests.process import INITIALIZE, LIMIT, Relay, command, environment
from tests.signing_in.conftest import PATIENT, Machine, Site
from tests.signing_in.talk import call, opened, until

REFRESHED = "issued refresh_token"
SIGNED_IN = "issued authorization_code"


async def start(stack: AsyncExitStack, machine: Machine, count: int, *browser: str) -> list[Relay]:
    """So many relays at once."""
    return [
        await stack.enter_async_context(machine.relay(*PATIENT, browser=browsers.plain(*browser)))
        for _ in range(count)
    ]


async def all_opened(relays: list[Relay]) -> None:
    """Let all of them shake hands at the same time."""
    async with trio.open_nursery() as nursery:
        for relay in relays:
            nursery.start_soon(opened, relay)


async def test_a_restart_opens_no_window(machine: Machine, site: Site) -> None:
    """A-43: what was kept is used from the first message on."""
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
    assert len(machine.windows) == 1
    site.forget()
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
        assert await call(relay) == "hello"
    assert len(machine.windows) == 1
    assert "passed initialize" in site.served()
    assert not site.served("bare")
    assert not site.told("issued")


async def test_what_login_has_kept_is_used(machine: Machine, site: Site) -> None:
    await machine.sign_in()
    async with machine.relay(browser=browsers.plain()) as relay:
        await opened(relay)
    assert not machine.windows
    assert site.served()[0] == "passed initialize"


async def test_tokens_that_expire_soon_are_renewed_in_time(machine: Machine, site: Site) -> None:
    """A-32: no call fails, and none even meets a token that is too old."""
    site.control("lifetime/3")
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
        for _ in range(6):
            assert await call(relay) == "hello"
            await trio.sleep(0.8)
    # Nor is there one with every call: a short life is no reason for a long margin.
    assert 1 <= len(site.told(REFRESHED)) <= 4
    assert not site.told("refused")
    assert not site.served("stale tools/call")
    assert len(machine.windows) == 1


async def test_a_token_that_has_become_void_is_renewed_and_the_call_made_again(
    machine: Machine, site: Site
) -> None:
    """A-32, A-33: calls that run side by side share one renewal."""
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
        site.control("expire")
        params = {"name": "echo", "arguments": {"text": "hello"}}
        ids = {await relay.request("tools/call", params) for _ in range(5)}
        while ids:
            answer = await relay.read()
            if answer.get("id") in ids:
                ids.remove(answer["id"])
                assert "result" in answer
    assert len(site.told(REFRESHED)) == 1
    assert len(site.served("passed tools/call")) == 5
    assert len(machine.windows) == 1


async def test_relays_side_by_side_refresh_once(machine: Machine, site: Site) -> None:
    """A-33: a refresh token is used up by its first use, and its second one kills the grant."""
    await machine.sign_in()
    site.control("expire")
    async with AsyncExitStack() as stack:
        relays = await start(stack, machine, 4)
        await all_opened(relays)
        for relay in relays:
            assert await call(relay) == "hello"
    assert len(site.told(REFRESHED)) == 1
    assert not site.told("refused")
    assert not site.told("revoked")
    assert not machine.windows


async def test_relays_that_run_already_refresh_once(machine: Machine, site: Site) -> None:
    """The same when each of them holds the old token in memory."""
    await machine.sign_in()
    async with AsyncExitStack() as stack:
        relays = await start(stack, machine, 4)
        await all_opened(relays)
        for round in (1, 2):
            site.control("expire")
            async with trio.open_nursery() as nursery:
                for relay in relays:
                    nursery.start_soon(call, relay)
            assert len(site.told(REFRESHED)) == round
    assert not site.told("refused")
    assert not site.told("revoked")
    assert not machine.windows


async def test_the_second_relay_waits_for_the_sign_in_of_the_first(
    machine: Machine, site: Site
) -> None:
    """One window per server, profile and machine."""
    async with AsyncExitStack() as stack:
        relays = await start(stack, machine, 2, "--delay", "1.5")
        await all_opened(relays)
        for relay in relays:
            assert await call(relay) == "hello"
    assert len(machine.windows) == 1
    assert len(site.told("registered")) == 1
    assert len(site.told(SIGNED_IN)) == 1


async def test_profiles_are_accounts_of_their_own(machine: Machine, site: Site) -> None:
    await machine.sign_in()
    other = ("--oauth-profile", "other", *PATIENT)
    async with machine.relay(*other, browser=browsers.plain()) as relay:
        await opened(relay)
    assert len(machine.windows) == 1


async def test_a_revoked_grant_means_one_new_window(machine: Machine, site: Site) -> None:
    """A-32: `invalid_grant` is the end of the refresh token; the call waits and is made."""
    await machine.sign_in()
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
        site.control("revoke")
        assert await call(relay) == "hello"
        assert await call(relay) == "hello"
    assert site.told("refused") == ["refused refresh_token invalid_grant: refresh token not found"]
    assert len(machine.windows) == 1
    assert not site.told("registered")


async def test_a_client_that_is_not_known_any_more_registers_anew(
    machine: Machine, site: Site
) -> None:
    """`invalid_client`: a dead client id is not replayed for ever."""
    await machine.sign_in()
    site.control("forget")
    site.control("revoke")
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
    assert len(site.told("registered")) == 1
    assert len(site.told(SIGNED_IN)) == 1
    assert len(machine.windows) == 1


async def test_a_tool_that_needs_more_gets_more(machine: Machine, site: Site) -> None:
    """A-40: the scopes asked for before and those of the challenge, in one new window."""
    await machine.sign_in()
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
        assert await call(relay, "write", "a note") == "written: a note"
        assert await call(relay) == "hello"
    assert site.served("short") == ["short tools/call write"]
    (issued,) = site.told(SIGNED_IN)
    assert "mcp:read" in issued
    assert "mcp:write" in issued
    assert len(machine.windows) == 1


async def test_a_machine_signs_in_by_its_secret(machine: Machine, site: Site) -> None:
    """A-14, A-60: Basic with both parts form-encoded; no window, no registration."""
    env = {"MCP_OAUTH_CLIENT_ID": "machine", "MCP_OAUTH_CLIENT_SECRET": "a secret: with + signs"}
    options = ("--oauth-grant", "client-credentials")
    async with machine.relay(*options, browser=browsers.plain(), env=env) as relay:
        await opened(relay)
        assert await call(relay) == "hello"
    assert site.told("issued") == [
        f"issued client_credentials scope=mcp:read resource={site.url}",
    ]
    assert not site.told("registered")
    assert not machine.windows


async def test_a_client_registered_beforehand_is_not_registered(
    machine: Machine, site: Site
) -> None:
    """A-10; its redirect URI has no port, as RFC 8252 section 7.3 has it."""
    options = ("--client-id", "known-desktop", *PATIENT)
    async with machine.relay(*options, browser=browsers.plain()) as relay:
        await opened(relay)
    assert not site.told("registered")
    assert len(machine.windows) == 1


async def test_the_older_transport_is_signed_in_to_as_well(sse_site: Site, tmp_path: Path) -> None:
    """HTTP+SSE: its stream and its messages carry the token."""
    machine = Machine(tmp_path, sse_site)
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
        assert await call(relay) == "hello"
    assert sse_site.served("bare") == ["bare initialize"]
    assert "passed GET" in sse_site.served()
    assert len(machine.windows) == 1


async def test_login_meets_a_relay_that_waits_for_somebody(machine: Machine, site: Site) -> None:
    """It shows the relay's page, and whoever uses that has signed in for both."""
    browser = browsers.plain("--leave")
    async with machine.relay(*PATIENT, browser=browser) as relay, trio.open_nursery() as nursery:
        await relay.request("initialize", INITIALIZE)
        (window,) = await until(lambda: machine.windows)
        told = machine.home / "told"
        told.touch()

        async def login() -> None:
            with trio.fail_after(LIMIT), told.open("wb") as file:
                env = environment(machine.env(browser))
                await trio.run_process(command(site.url, "login"), stderr=file, env=env)

        nursery.start_soon(login)
        await until(lambda: window in told.read_text(encoding="utf-8"))
        assert str(relay.pid) in told.read_text(encoding="utf-8")
        elsewhere = [*map(str, browsers.plain()), "--log", str(machine.log), window]
        await trio.run_process(elsewhere)
    assert "signed in\n" in told.read_text(encoding="utf-8")
    assert site.told(SIGNED_IN) != []
    assert len(site.told("issued")) == 1


async def test_a_relay_that_is_killed_leaves_its_sign_in_to_another(
    machine: Machine, site: Site
) -> None:
    browser = browsers.plain("--leave")
    options = ("--oauth-start-wait", "1")
    async with machine.relay(*options, browser=browser) as first:
        await first.request("initialize", INITIALIZE)
        await until(lambda: machine.windows)
        async with machine.relay(*options, browser=browsers.plain("--delay", "1")) as second:
            answer = await second.ask("initialize", INITIALIZE)
            assert machine.windows[0] in answer["result"]["instructions"]
            await second.send(method="notifications/initialized")
            assert len(machine.windows) == 1
            first.kill()
            with trio.fail_after(LIMIT):
                assert "list_changed" in (await second.read())["method"]
            assert await call(second) == "hello"
    assert len(machine.windows) == 2


async def test_logout_revokes_and_forgets(machine: Machine, site: Site) -> None:
    """RFC 7009 where it is offered; then the next relay has to ask."""
    code, _, said = await machine.run("login")
    assert code == 0, said
    code, shown, _ = await machine.run("status")
    assert code == 0
    assert site.issuer in shown
    assert "mcp:read" in shown

    code, _, said = await machine.run("logout")
    assert code == 0, said
    assert site.told("revoked grant")
    code, shown, _ = await machine.run("status")
    assert "mcp:read" not in shown
    async with machine.relay(*PATIENT, browser=browsers.plain()) as relay:
        await opened(relay)
    assert len(machine.windows) == 2
    assert len(site.told("registered")) == 2


@pytest.mark.parametrize("is_signed_in", [True, False])
async def test_status_can_be_read_by_programs(
    machine: Machine, site: Site, is_signed_in: bool
) -> None:
    if is_signed_in:
        await machine.sign_in()
    _, shown, _ = await machine.run("status", "--json")
    json.loads(shown)
    assert (site.issuer in shown) == is_signed_in
    assert (site.url in shown) or not is_signed_in

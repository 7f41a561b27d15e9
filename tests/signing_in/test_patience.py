"""Nobody waits for a sign-in that takes its time: the relay answers in the server's place."""

from __future__ import annotations

import trio

from tests.peers import browsers
from tests.process import INITIALIZE, LIMIT, Relay
from tests.signing_in.conftest import Machine, Site
from tests.signing_in.talk import Json, call, failure, opened, until

HASTY = ("--oauth-start-wait", "0.5")

CHANGED = {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}


async def stood_in(relay: Relay, machine: Machine) -> Json:
    """Shake hands with the relay itself."""
    answer = await relay.ask("initialize", INITIALIZE)
    assert "result" in answer, f"{answer}\n{relay.errors}"
    await relay.send(method="notifications/initialized")
    result: Json = answer["result"]
    assert result["serverInfo"]["name"] != "sdk-peer"
    return result


async def test_initialize_is_answered_while_nobody_signs_in(machine: Machine, site: Site) -> None:
    async with machine.relay(*HASTY, browser=browsers.plain("--leave")) as relay:
        result = await stood_in(relay, machine)
        assert result["protocolVersion"] == INITIALIZE["protocolVersion"]
        assert {"tools", "prompts", "resources"} <= result["capabilities"].keys()
        assert all(
            result["capabilities"][kind]["listChanged"] is True
            for kind in ("tools", "prompts", "resources")
        )
        (window,) = machine.windows
        assert window in result["instructions"]

        for kind in ("tools", "prompts", "resources"):
            listed = await relay.ask(f"{kind}/list")
            assert listed["result"][kind] == []
        error = failure(await relay.ask("tools/call", {"name": "echo", "arguments": {}}))
        assert window in str(error)

        await relay.close_stdin()
        assert await relay.wait() == 0
    assert site.served()[0] == "bare initialize"
    assert not site.served("passed")
    assert len(machine.windows) == 1


async def test_a_late_sign_in_is_told_to_the_client(machine: Machine, site: Site) -> None:
    """The real handshake happens then, with the client's own parameters."""
    async with machine.relay(*HASTY, browser=browsers.plain("--delay", "2")) as relay:
        await stood_in(relay, machine)
        assert (await relay.ask("tools/list"))["result"]["tools"] == []
        heard: set[str] = set()
        with trio.fail_after(LIMIT):
            while "notifications/tools/list_changed" not in heard:
                heard.add((await relay.read())["method"])
        tools = (await relay.ask("tools/list"))["result"]["tools"]
        assert "echo" in {tool["name"] for tool in tools}
        assert await call(relay) == "hello"
    assert heard <= CHANGED
    assert site.served("passed")[:2] == ["passed initialize", "passed notifications/initialized"]
    assert len(machine.windows) == 1


async def test_a_sign_in_by_hand_is_told_to_a_client_that_says_nothing(
    machine: Machine, site: Site
) -> None:
    """When the relay's own came to nothing; the client is told as it is of its own."""
    options = (*HASTY, "--oauth-timeout", "1")
    async with machine.relay(*options, browser=browsers.plain("--leave")) as relay:
        await stood_in(relay, machine)
        await until(lambda: "nobody has signed in within 1 s" in relay.errors)
        await machine.sign_in()
        with trio.fail_after(LIMIT):
            assert (await relay.read())["method"] in CHANGED
        assert await call(relay) == "hello"
    assert site.served("passed")[:2] == ["passed initialize", "passed notifications/initialized"]


async def test_a_call_that_meets_a_sign_in_is_told_where_to_go(
    machine: Machine, site: Site
) -> None:
    """The same patience in mid-session; once somebody has signed in, calls work again."""
    await machine.sign_in()
    async with machine.relay(*HASTY, browser=browsers.plain("--delay", "2")) as relay:
        await opened(relay)
        site.control("revoke")
        error = failure(await relay.ask("tools/call", {"name": "echo", "arguments": {}}))
        (window,) = machine.windows
        assert window in str(error)
        await until(lambda: site.told("issued authorization_code"))
        assert await call(relay) == "hello"
    assert len(machine.windows) == 1


async def test_a_client_without_a_handshake_is_told_where_to_go(
    machine: Machine, site: Site
) -> None:
    """A `server/discover` has no stand-in: its answer would be kept."""
    prefix = "io.modelcontextprotocol/"
    meta = {
        f"{prefix}protocolVersion": "2026-07-28",
        f"{prefix}clientInfo": INITIALIZE["clientInfo"],
        f"{prefix}clientCapabilities": {},
    }
    async with machine.relay(*HASTY, browser=browsers.plain("--leave")) as relay:
        error = failure(await relay.ask("server/discover", {"_meta": meta}))
        (window,) = machine.windows
        assert window in str(error)
    assert not site.served("passed")


async def test_without_a_browser_the_address_is_on_standard_error(
    machine: Machine, site: Site
) -> None:
    """A-24, A-41: nothing is opened; whoever reads the address may open it anywhere on here."""
    options = ("--oauth-no-browser", *HASTY)
    async with machine.relay(*options, browser=browsers.plain()) as relay:
        result = await stood_in(relay, machine)
        assert f"{site.issuer}/auth?" in relay.errors
        assert f"{site.issuer}/auth?" in result["instructions"]
    assert not machine.windows

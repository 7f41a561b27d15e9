"""A real Chromium on the pages of a real authorization server."""

from __future__ import annotations

import re
import urllib.parse

import trio

from tests.peers.browsers import Command
from tests.process import INITIALIZE
from tests.signing_in.conftest import PATIENT, Machine, Site
from tests.signing_in.talk import call, failure, opened, until


def query(url: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, strict_parsing=True))


async def test_the_first_message_signs_in(machine: Machine, site: Site, chromium: Command) -> None:
    """A-1 to A-3, A-5, A-12, A-15, A-17, A-18, A-22: the challenge comes first, then one window."""
    async with machine.relay(*PATIENT, browser=chromium) as relay:
        await opened(relay)
        assert await call(relay) == "hello"
        (page,) = await until(lambda: machine.ended)
        said = relay.errors
        await relay.close_stdin()
        assert await relay.wait() == 0

    assert site.served()[:2] == ["bare initialize", "GET /.well-known/oauth-protected-resource/mcp"]
    # from then on each request has the token, the stream's and the farewell too.
    assert site.served("bare") == ["bare initialize"]
    assert not site.served("stale")
    assert {"passed GET", "passed DELETE"} <= set(site.served("passed"))
    assert site.told("asks") == ["asks login", "asks consent"]
    assert site.told("issued") == [
        f"issued authorization_code scope=mcp:read resource={site.url}",
    ]
    (window,) = machine.windows
    assert window in said
    asked = query(window)
    assert asked["resource"] == site.url
    assert asked["code_challenge_method"] == "S256"
    assert "prompt" not in asked

    assert page.address.startswith(asked["redirect_uri"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", asked["redirect_uri"])
    # The last page says something, and nothing that came with the redirect.
    assert "The sign-in has worked" in page.text
    assert not any(value in page.text for value in query(page.address).values())


async def test_a_user_who_says_no_is_taken_at_their_word(
    machine: Machine, site: Site, chromium: Command
) -> None:
    """The message that met the sign-in fails with the reason; the next one opens no window."""
    async with machine.relay(*PATIENT, browser=[*chromium, "--deny"]) as relay:
        error = failure(await relay.ask("initialize", INITIALIZE))
        assert "access_denied" in str(error) or "denied" in str(error), error
        failure(await relay.ask("initialize", INITIALIZE))
        (page,) = await until(lambda: machine.ended)
        assert "The sign-in has not worked" in page.text
        assert "access_denied" not in page.text
    assert site.told("authorization") == [
        "authorization access_denied: End-User aborted interaction"
    ]
    assert not site.told("issued")
    assert len(machine.windows) == 1


async def test_a_closed_window_ends_with_the_time_for_a_sign_in(
    machine: Machine, site: Site, chromium: Command
) -> None:
    options = ("--oauth-timeout", "3", *PATIENT)
    async with machine.relay(*options, browser=[*chromium, "--leave"]) as relay:
        failure(await relay.ask("initialize", INITIALIZE))
        relay_lives = relay.is_alive
    assert relay_lives
    assert not site.told("issued")
    assert len(machine.windows) == 1


async def test_a_device_is_let_in_from_a_browser_elsewhere(
    machine: Machine, site: Site, chromium: Command
) -> None:
    """RFC 8628: standard error shows where to go, and nothing is opened here."""
    async with machine.relay("--oauth-device", *PATIENT, browser=chromium) as relay:
        id = await relay.request("initialize", INITIALIZE)
        complete = re.compile(rf"{re.escape(site.issuer)}/device\S*user_code=[\w-]+")
        shown = await until(lambda: complete.search(relay.errors))
        assert shown is not None
        assert not machine.windows
        elsewhere = [*map(str, chromium), "--log", str(machine.log), shown[0]]
        await trio.run_process(elsewhere)
        answer = await relay.answer_to(id)
        assert answer["result"]["serverInfo"]["name"] == "sdk-peer", relay.errors
    (page,) = machine.ended
    assert "was successful" in page.text
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    assert site.told("issued") == [f"issued {grant} scope=mcp:read resource={site.url}"]

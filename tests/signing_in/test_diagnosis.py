"""`--test` in front of a server that a real authorization server protects."""

from __future__ import annotations

import json
import re

import pytest

from tests.peers import browsers
from tests.signing_in.conftest import Machine, Site


def told(said: str, stage: str) -> str:
    """What is told of a stage, its mark first, without its time."""
    (line,) = [line for line in said.splitlines() if line[8:].startswith(f"{stage:<10}  ")]
    return re.sub(r"  \([\d.]+ m?s\)$", "", f"{line[:6].rstrip()}: {line[20:]}")


async def test_without_a_sign_in_the_challenge_is_quoted(machine: Machine, site: Site) -> None:
    code, printed, said = await machine.run("test")
    assert (code, printed) == (5, "")
    assert told(said, "HTTP") == "ok: status 401, application/json, from `uvicorn`"
    cause = told(said, "credential")
    assert cause.startswith('FAILED: the server wants a credential (401): Bearer scope="mcp:read"')
    assert told(said, "hint").startswith(": sign in with `--oauth`")
    assert site.told("asks") == []
    assert machine.windows == []


async def test_it_signs_in_and_waits_for_that(machine: Machine, site: Site) -> None:
    code, printed, said = await machine.run("test", "--oauth")
    assert (code, printed) == (0, ""), said
    assert told(said, "settings").startswith("ok: credential of `--oauth`; ")
    assert told(said, "credential") == (
        "ok: bearer token of a sign-in (`--oauth`): accepted, after the server had asked for one"
    )
    assert told(said, "tools") == "ok: 11 tools"
    assert told(said, "listening") == "ok: open: the server can speak by itself"
    assert told(said, "farewell") == "ok: the session is over"
    (window,) = machine.windows
    assert window in said
    assert not any(secret in said for secret in site.secrets)


async def test_a_sign_in_that_is_kept_is_used(machine: Machine, site: Site) -> None:
    await machine.sign_in()
    code, _, said = await machine.run("test", "--oauth")
    assert code == 0, said
    assert told(said, "HTTP").startswith("ok: status 200, ")
    assert told(said, "credential") == "ok: bearer token of a sign-in (`--oauth`): accepted"
    assert machine.windows == []
    assert site.served("bare") == []


async def test_a_program_gets_its_object_and_a_person_the_page(machine: Machine) -> None:
    code, printed, said = await machine.run("test", "--oauth", "--json")
    assert code == 0, said
    found = json.loads(printed)
    assert found["credential"] == {
        "sent": "bearer token of a sign-in (`--oauth`)",
        "challenged": True,
    }
    (window,) = machine.windows
    assert window in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "options, more",
    [
        ((), "; `--oauth-device` where no browser is"),
        (("--oauth-device",), ""),
        # The messages of a relay would not be held for as long as that.
        (("--timeout-read", "1.5"), "; `--oauth-device` where no browser is"),
    ],
)
async def test_a_sign_in_that_nobody_finishes_is_over(
    machine: Machine, options: tuple[str, ...], more: str
) -> None:
    """The page has died with it, so it is no place to go to any more."""
    words = ("test", "--oauth", "--oauth-timeout", "2", *options)
    code, _, said = await machine.run(*words, browser=browsers.plain("--leave"))
    assert code == 5, said
    cause = told(said, "credential")
    assert cause == "FAILED: nobody signed in within 2 s (`--oauth-timeout`)"
    hint = ": run `mcp-stdio login URL`, or test again and open the page"
    assert told(said, "hint") == hint + more


async def test_a_sign_in_may_take_longer_than_a_message(machine: Machine) -> None:
    words = ("test", "--oauth", "--timeout-read", "2")
    code, _, said = await machine.run(*words, browser=browsers.plain("--delay", "3"))
    assert code == 0, said
    assert told(said, "tools") == "ok: 11 tools"

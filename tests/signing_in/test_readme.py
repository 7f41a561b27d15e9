"""The recipes of the README that sign in, at a real authorization server.

Its clients take the place of those that a reader would have registered.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import pytest
import trio

from tests.peers import browsers
from tests.process import LIMIT, environment
from tests.readme.test_commands import SERVERS, SIGNS_IN, of_ours, split
from tests.signing_in.conftest import Machine, Site

MACHINE, DESKTOP = "machine", "known-desktop"
SECRET = "a secret: with + signs"

ELSEWHERE = ("--oauth-device", "--oauth-no-browser")
"""With these it opens no window: the user takes the address that it shows to a browser."""


def recipes() -> list[str]:
    return [line for line in of_ours() if any(word in SIGNS_IN for word in split(line)[1])]


@pytest.mark.parametrize("command", recipes())
async def test_a_recipe_signs_in(command: str, machine: Machine, site: Site) -> None:
    for named in SERVERS:
        command = command.replace(named, site.url)
    variables, (_, *words) = split(command)
    client = MACHINE if "client-credentials" in words else DESKTOP
    words = [client if word == "ID" else word for word in words]
    # A desktop's client has no secret here.
    variables.pop("MCP_OAUTH_CLIENT_SECRET", None)
    if client == MACHINE:
        variables["MCP_OAUTH_CLIENT_SECRET"] = SECRET
    code, said = await performed(words, machine, variables)
    assert code == 0, said
    assert site.told("issued"), said
    # Where no window is to be opened here, this is the browser elsewhere.
    assert len(machine.windows) == (client == DESKTOP)
    assert ("tools" if "test" in words else "signed in") in said


async def performed(
    words: list[str], machine: Machine, variables: Mapping[str, str]
) -> tuple[int, str]:
    """Run it, and take the address that it shows to a browser if it opens none itself."""
    said = ""
    env = environment(machine.env(browsers.plain(), variables))
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process, stderr=subprocess.PIPE, capture_stdout=True, check=False, env=env
            )
            command = [sys.executable, "-m", "mcp_stdio", *words]
            process: trio.Process = await nursery.start(start, command)
            assert process.stderr is not None
            is_pending = any(word in ELSEWHERE for word in words)
            with suppress(trio.ClosedResourceError):
                async for data in process.stderr:
                    said += data.decode()
                    if is_pending and (found := re.search(r"(http://\S+[?]\S+)\s", said)):
                        is_pending = False
                        log = str(machine.log)
                        browser = [*map(str, browsers.plain("--log", log)), found[1]]
                        nursery.start_soon(trio.run_process, browser)
    code = process.returncode
    assert code is not None
    return code, said

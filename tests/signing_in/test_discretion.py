"""What nobody may see, and what nobody asked for."""

from __future__ import annotations

import json
import sys
import urllib.parse
from pathlib import Path

import pytest

from tests.peers import browsers
from tests.process import INITIALIZE, running
from tests.signing_in.conftest import PATIENT, Machine, Site
from tests.signing_in.talk import call, failure, opened, until


@pytest.mark.parametrize("token", [None, "nonsense"])
async def test_without_oauth_nothing_is_looked_up(site: Site, token: str | None) -> None:
    """A 401 is answered with what would help; not one request for metadata goes out."""
    env = {"MCP_BEARER_TOKEN": token} if token else {}
    async with running(site.url, env=env) as relay:
        error = failure(await relay.ask("initialize", INITIALIZE))
        assert "--oauth" in str(error)
        await relay.close_stdin()
        assert await relay.wait() == 0
    assert site.served()
    assert not site.served("GET /.well-known")
    # What the server asks about a token is its own business.
    assert {*site.told("GET"), *site.told("POST")} <= {"POST /token/introspection"}


@pytest.mark.parametrize("verbosity", [(), ("-vv",)])
async def test_no_token_shows(
    machine: Machine, site: Site, tmp_path: Path, verbosity: tuple[str, ...]
) -> None:
    """P7: over a sign-in, a renewal, a revoked grant and a logout."""
    file = tmp_path / "relay.log"
    options = (*PATIENT, *verbosity, "--log-file", str(file))
    heard = []
    async with machine.relay(*options, browser=browsers.plain()) as relay:
        heard.append(await opened(relay))
        await call(relay)
        site.control("expire")
        await call(relay)
        site.control("revoke")
        await call(relay)
        arguments = b""
        if sys.platform == "linux":
            arguments = Path(f"/proc/{relay.pid}/cmdline").read_bytes()
        heard.append(await relay.ask("tools/call", {"name": "none"}))
        said = relay.errors
    printed = [
        await machine.run(*words) for words in (["status"], ["status", "--json"], ["logout"])
    ]

    places = {
        "standard error": said,
        "log file": file.read_text(encoding="utf-8") if file.exists() else "",
        "arguments": arguments.decode(),
        "messages": json.dumps(heard),
        "commands": str(printed),
    }
    secrets = [*site.secrets, *await codes(machine, 2)]
    assert len(site.told("issued")) == 3
    assert len(secrets) == 3 * 2 + 2
    shown = [
        (where, secret) for where, text in places.items() for secret in secrets if secret in text
    ]
    assert not shown


async def codes(machine: Machine, count: int) -> list[str]:
    """The authorization codes that came with so many redirects."""
    ended = await until(lambda: machine.ended if len(machine.ended) == count else [])
    queries = [urllib.parse.urlsplit(page.address).query for page in ended]
    return [urllib.parse.parse_qs(query)["code"][0] for query in queries]

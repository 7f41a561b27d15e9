"""What is kept of sign-ins when processes are killed, many at once, or have no place to keep it.

`MCP_STDIO_LONG=1` in the environment asks for the long form.
"""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio

from mcp_stdio.oauth import private
from mcp_stdio.oauth.record import Record
from mcp_stdio.oauth.store import Entry, Store, default_directory
from tests.faults.proc import needs_proc
from tests.peers import browsers
from tests.process import INITIALIZE, LIMIT, SOURCE, Relay, command, running
from tests.processes.authority import Authority, protecting

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"

PATIENT = ("--oauth", "--oauth-start-wait", "200", "--timeout-read", "300")
"""So that a busy machine does not bring the relay to answer in the server's place."""


class Home:
    """Where a user's sign-ins are kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {
            "XDG_CONFIG_HOME": str(path),
            "APPDATA": str(path),
            "BROWSER": browsers.variable(browsers.plain()),
        }

    def entry(self, authority: Authority) -> Entry:
        return Store(default_directory(self.env)).entry(authority.url, None, "default")

    async def keep(self, authority: Authority, record: Record) -> None:
        entry = self.entry(authority)
        async with entry.locked():
            entry.write(record)

    def kept(self, authority: Authority) -> Record:
        """What is kept, which must be a whole record."""
        entry = self.entry(authority)
        record = entry.read()
        assert record is not None
        assert not [path for path in entry.path.parent.iterdir() if path.name.endswith("damaged")]
        return record

    def refresh_token(self, authority: Authority) -> str:
        tokens = self.kept(authority).tokens
        assert tokens is not None
        assert tokens.refresh_token is not None
        return tokens.refresh_token


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def open_session(relay: Relay) -> None:
    answer = await relay.answer_to(await relay.request("initialize", INITIALIZE))
    about = answer.get("result", {}).get("serverInfo", {})
    assert about.get("name") == "protected", f"{answer}\n{relay.errors}"
    await relay.send(method="notifications/initialized")


async def use(authority: Authority, home: Home) -> None:
    """A relay that works, whatever others have left behind."""
    async with running(authority.url, *PATIENT, env=home.env) as relay:
        await open_session(relay)
        assert "result" in await relay.ask("tools/call")
        await relay.close_stdin()
        assert await relay.wait() == 0


# Killed


async def test_killed_before_the_grant_is_spent_it_is_kept(home: Home) -> None:
    has_arrived, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        has_arrived.set()
        is_over.wait(LIMIT)
        raise ConnectionError("killed meanwhile")

    with protecting(before_refresh=hold) as authority:
        before = authority.signed_in()
        await home.keep(authority, before)
        async with running(authority.url, *PATIENT, env=home.env):
            assert await trio.to_thread.run_sync(has_arrived.wait, LIMIT)
        is_over.set()  # it has been killed
        assert home.kept(authority) == before
        authority.before_refresh = lambda: None
        await use(authority, home)
        assert authority.seen == {"refresh_token": 1}


async def test_killed_once_the_new_grant_is_used_it_is_kept(home: Home) -> None:
    with protecting() as authority:
        await home.keep(authority, authority.signed_in())
        async with running(authority.url, *PATIENT, env=home.env) as relay:
            await open_session(relay)
        assert authority.is_alive(home.refresh_token(authority))
        await use(authority, home)
        assert authority.seen == {"refresh_token": 1}


async def test_killed_at_any_moment_of_a_renewal_it_leaves_a_whole_record_and_no_lock(
    home: Home,
) -> None:
    """Only between the server's answer and the writing can the grant be lost, to both sides."""
    dice = random.Random(21)
    has_arrived = threading.Event()
    unlucky = 0
    with protecting() as authority:
        authority.before_refresh = has_arrived.set
        await home.keep(authority, authority.signed_in())
        for _ in range(200 if IS_LONG else 8):
            if not authority.is_alive(home.refresh_token(authority)):
                unlucky += 1
                await home.keep(authority, authority.signed_in())
            has_arrived.clear()
            spent = authority.seen["refresh_token"]
            await home.keep(authority, expired(home.kept(authority)))
            async with running(authority.url, *PATIENT, env=home.env):
                assert await trio.to_thread.run_sync(has_arrived.wait, LIMIT)
                await trio.sleep(dice.uniform(0, 0.02))
            if authority.seen["refresh_token"] == spent:  # it was not even spent
                assert authority.is_alive(home.refresh_token(authority))
        assert authority.seen["reuse"] == 0
        assert unlucky < authority.seen["refresh_token"]
        await use(authority, home)


async def test_at_the_end_of_input_a_renewal_under_way_is_finished(home: Home) -> None:
    """What the server has counted as used up must not be all that is left."""
    has_arrived = threading.Event()

    def hold() -> None:
        has_arrived.set()
        time.sleep(0.3)

    with protecting(before_refresh=hold) as authority:
        await home.keep(authority, authority.signed_in())
        async with running(authority.url, *PATIENT, env=home.env) as relay:
            assert await trio.to_thread.run_sync(has_arrived.wait, LIMIT)
            await relay.close_stdin()
            assert await relay.wait() == 0
        assert authority.seen == {"refresh_token": 1}
        assert authority.is_alive(home.refresh_token(authority))


async def test_a_lock_that_another_holds_keeps_nobody_from_ending(home: Home) -> None:
    with protecting() as authority:
        await home.keep(authority, authority.signed_in())
        async with home.entry(authority).locked():
            options = (*PATIENT, "--drain-timeout", "0.2")
            async with running(authority.url, *options, env=home.env) as relay:
                id = await relay.request("initialize", INITIALIZE)
                await relay.close_stdin()
                assert "error" in await relay.answer_to(id)
                assert await relay.wait() == 0
        assert not authority.seen


def expired(record: Record) -> Record:
    assert record.tokens is not None
    return record.holding(dataclasses.replace(record.tokens, expires_at=0.0))


# Many


MANY = 200 if IS_LONG else 20


async def start_many(authority: Authority, home: Home) -> None:
    """Relays started at once, all of which must work in the end."""

    async def live(number: int) -> None:
        async with running(authority.url, *PATIENT, env=home.env, limit=10 * LIMIT) as relay:
            with trio.fail_after(10 * LIMIT):
                await open_session(relay)
                await relay.send(id=f"call-{number}", method="tools/call", params={"name": "x"})
                assert "result" in await relay.answer_to(f"call-{number}")
                await relay.close_stdin()
                assert await relay.wait() == 0

    async with trio.open_nursery() as nursery:
        for number in range(MANY):
            nursery.start_soon(live, number)
    assert len(authority.calls) == MANY
    assert {*authority.calls.values()} == {1}


async def test_many_relays_started_at_once_renew_once(home: Home) -> None:
    # Slow enough for others to come meanwhile.
    with protecting(before_refresh=lambda: time.sleep(1)) as authority:
        await home.keep(authority, authority.signed_in())
        await start_many(authority, home)
        assert authority.seen == {"refresh_token": 1}
        assert authority.is_alive(home.refresh_token(authority))


async def test_many_relays_started_at_once_sign_in_once(home: Home) -> None:
    with protecting() as authority:  # a browser takes its time by itself
        await start_many(authority, home)
        assert authority.seen == {"register": 1, "authorize": 1, "authorization_code": 1}
        assert authority.is_alive(home.refresh_token(authority))


# No room


def limited(ulimit: str) -> tuple[str, ...]:
    return "sh", "-c", f'ulimit {ulimit}; exec "$@"', "sh"


needs_ulimit = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


@needs_ulimit
async def test_a_renewal_that_cannot_be_written_serves_this_process_and_spoils_nothing(
    home: Home,
) -> None:
    """As on a full disk: a file can be made, and nothing can be written to it."""
    with protecting() as authority:
        before = authority.signed_in()
        await home.keep(authority, before)
        full = limited("-f 0")
        async with running(authority.url, *PATIENT, env=home.env, wrapper=full) as relay:
            await open_session(relay)
            assert "result" in await relay.ask("tools/call")
            await relay.close_stdin()
            assert await relay.wait() == 0
        assert home.kept(authority) == before
        # The token that is kept is spent; that costs a page, and nothing else.
        await use(authority, home)
        assert authority.seen["authorize"] == 1


FILLED = """
mount -t tmpfs -o size=16k tmpfs "$1" && cp -a "$2"/mcp-stdio "$1" &&
{ cat /dev/zero > "$1/filling" 2>/dev/null; shift 2; exec "$@"; }
"""


@needs_proc
async def test_a_full_disk(home: Home, tmp_path: Path) -> None:
    """The real thing, in a mount namespace of the process's own."""
    probe = ["sh", "-c", "unshare -rm true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    place = tmp_path / "place"
    place.mkdir()
    with protecting() as authority:
        await home.keep(authority, authority.signed_in())
        full = ("unshare", "-rm", "sh", "-c", FILLED, "sh", str(place), str(home.path))
        env = {**home.env, "XDG_CONFIG_HOME": str(place)}
        log = str(place / "log")
        options = (*PATIENT, "--log-file", log, "-vv")
        async with running(authority.url, *options, env=env, wrapper=full) as relay:
            await open_session(relay)
            assert "result" in await relay.ask("tools/call")
            assert "No space left on device" in relay.errors
            await relay.close_stdin()
            assert await relay.wait() == 0


async def test_a_place_where_nothing_can_be_made_is_told_to_the_client(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()  # not even root can make a directory in it
    home = Home(file)
    with protecting() as authority:
        async with running(authority.url, "--oauth", env=home.env) as relay:
            answer = await relay.answer_to(await relay.request("initialize", INITIALIZE))
            assert answer["error"]["code"] == -33004
            assert str(file) in answer["error"]["message"]
            assert private.PLACE in answer["error"]["data"]["hint"]
            await relay.close_stdin()
            assert await relay.wait() == 0
        assert not authority.seen


@needs_ulimit
def test_without_a_home_it_says_what_to_set() -> None:
    done = subprocess.run(
        ["env", "-i", f"PYTHONPATH={SOURCE}", *command("http://127.0.0.1:9/mcp", "--oauth")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no place to keep a sign-in")
    assert "hint: " in done.stderr
    assert "XDG_CONFIG_HOME" in done.stderr

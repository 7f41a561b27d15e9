"""What becomes of a flow's commands outside, and that nothing of it stays open afterwards."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mcp_stdio.config import OAuth
from mcp_stdio.errors import AuthorizationFailed, ConnectionLost, RelayError, TimedOut
from mcp_stdio.http.authorizer import Fixed
from mcp_stdio.http.client import Client
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import login
from mcp_stdio.oauth.bearer import Bearer
from mcp_stdio.oauth.callback import OUTCOME
from mcp_stdio.oauth.commands import (
    Command,
    Fetch,
    Fetched,
    Keep,
    Listen,
    Now,
    ShowCode,
    Visit,
    Wait,
)
from mcp_stdio.oauth.performer import Paste, Performer
from mcp_stdio.oauth.record import Record, Registration
from mcp_stdio.oauth.store import Store
from mcp_stdio.redaction import protect
from tests.http.fakes import FakeLane
from tests.oauth.fakes import Authority, ask, refusal
from tests.oauth.pump import AS, MCP, World, found, query_of, world
from tests.peers import browsers

STATE = "st4te"
LIMIT = 20.0
SHUT = OAuth(opens_browser=False)
BLANK = Record(server_url=MCP)


@dataclass
class Person:
    """Somebody who is shown where to go, and who goes there."""

    nursery: trio.Nursery
    answers: list[Mapping[str, str]] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    opened: list[bool] = field(default_factory=list)
    codes: list[tuple[str, str, str | None]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def page(self, url: str, *, is_opened: bool, within: float) -> None:
        self.pages.append(url)
        self.opened.append(is_opened)
        asked = query_of(url)
        if self.answers:
            back = {**self.answers.pop(0), "state": asked.get("state", STATE)}
            self.nursery.start_soon(self.come_back, asked["redirect_uri"], back)

    def code(self, url: str, code: str, complete_url: str | None, *, within: float) -> None:
        self.codes.append((url, code, complete_url))

    async def come_back(self, redirect_uri: str, query: Mapping[str, str]) -> None:
        """What a browser does that is sent to a redirect URI; the title it then shows is `told`."""
        at = urlsplit(redirect_uri)
        assert at.port is not None
        target = f"{at.path}?{urlencode(query)}"
        shown = b""
        async with await trio.open_tcp_stream("127.0.0.1", at.port) as stream:
            await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n".encode())
            while part := await stream.receive_some():
                shown += part
        self.told.append(shown.partition(b"<title>")[2].partition(b"<")[0].decode())


Answering = Callable[[World, Fetch], Awaitable[Any]]


async def at_once(servers: World, fetch: Fetch) -> Any:
    return servers.answer(fetch)


def performer(
    person: Person,
    oauth: OAuth = SHUT,
    *,
    at: World | None = None,
    paste: Paste | None = None,
    environ: Mapping[str, str] | None = None,
    answer: Answering | None = None,
) -> Performer:
    servers, answering = at or world(), answer or at_once

    async def fetch(fetch: Fetch) -> Fetched:
        answer = await answering(servers, fetch)
        if isinstance(answer, Exception):
            raise answer
        fetched: Fetched = answer
        return fetched

    return Performer(
        oauth,
        fetch=fetch,
        keep=servers.kept.append,
        show=person,
        paste=paste,
        environ=environ or {},
        clock=lambda: 4711.0,
    )


@pytest.fixture
def person(nursery: trio.Nursery) -> Person:
    return Person(nursery)


def page(redirect_uri: str) -> str:
    return f"{AS}/authorize?redirect_uri={redirect_uri}&state={STATE}"


def is_open(redirect_uri: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(redirect_uri).port or 0), 5).close()
    except ConnectionRefusedError:
        return False
    return True


# Commands that need nobody


async def test_each_command_is_answered(person: Person, autojump_clock: MockClock) -> None:
    record, at = Record(server_url=MCP), world()

    def flow() -> Generator[Command, Any, list[Any]]:
        fetched = yield Fetch("GET", f"{AS}/nowhere")
        shown = yield ShowCode(f"{AS}/device", "CODE", None, 60)
        started = trio.current_time()
        waited = yield Wait(30)
        assert trio.current_time() - started == 30
        kept = yield Keep(record)
        return [fetched.status, shown, waited, kept, (yield Now())]

    assert await performer(person, at=at).perform(flow()) == [404, None, None, None, 4711.0]
    assert person.codes == [(f"{AS}/device", "CODE", None)]
    assert at.kept == [record]


async def test_a_failure_is_the_flow_s_to_see_to(person: Person) -> None:
    at = world()
    at.pages[f"{AS}/x"] = ConnectionLost("broken off")

    def flow(is_patient: bool) -> Generator[Command, Any, str]:
        try:
            yield Fetch("GET", f"{AS}/x")
        except ConnectionLost:
            if not is_patient:
                raise
        yield Fetch("GET", f"{AS}/y")
        return "went on"

    assert await performer(person, at=at).perform(flow(True)) == "went on"
    with pytest.raises(ConnectionLost):
        await performer(person, at=at).perform(flow(False))


@pytest.mark.parametrize("end", ["returned", "failed", "defect", "cancelled"])
async def test_nothing_stays_open_whatever_ends_a_flow(person: Person, end: str) -> None:
    redirect_uris = []
    closed = []

    def flow() -> Generator[Command, Any, None]:
        try:
            redirect_uris.append((yield Listen()))
            assert is_open(redirect_uris[0])
            match end:
                case "failed":
                    raise AuthorizationFailed("no")
                case "defect":
                    raise ValueError("a defect")
                case "cancelled":
                    yield Visit(page(redirect_uris[0]), STATE)
        finally:
            closed.append(end)

    with trio.move_on_after(0.2) as scope:
        try:
            await performer(person).perform(flow())
        except (RelayError, ValueError):
            assert end in ("failed", "defect")
    assert scope.cancelled_caught == (end == "cancelled")
    assert closed == [end]
    assert not is_open(redirect_uris[0])


# A page and its redirect


async def test_the_redirect_is_the_answer_and_nothing_listens_any_more(person: Person) -> None:
    """A-22: open before the page is shown, closed after its redirect."""
    person.answers = [{"code": "c0de"}]

    def flow() -> Generator[Command, Any, Any]:
        redirect_uri = yield Listen()
        assert is_open(redirect_uri)
        found = yield Visit(page(redirect_uri), STATE)
        assert not is_open(redirect_uri)
        return found

    with trio.fail_after(LIMIT):
        assert await performer(person).perform(flow()) == {"code": "c0de", "state": STATE}
    assert person.opened == [False]


@pytest.mark.parametrize(
    "answer, token, title",
    [
        ({"code": "c0de"}, None, "Signed in"),
        ({"code": "c0de", "iss": "https://other.example"}, None, "Not signed in"),
        ({"code": "c0de"}, found({"error": "invalid_grant"}, 400), "Not signed in"),
        ({"code": "c0de"}, ConnectionLost("broken off"), "Not signed in"),
        ({"error": "access_denied"}, None, "Not signed in"),
    ],
)
async def test_the_browser_is_told_what_came_of_it(
    person: Person, answer: Mapping[str, str], token: Any, title: str
) -> None:
    """A-21: neither before the issuer was compared nor before the code was exchanged."""
    at = world()
    if token is not None:
        at.pages[f"{AS}/token"] = token
    person.answers = [answer]
    with trio.fail_after(LIMIT), suppress(RelayError):
        await performer(person, at=at).perform(login.sign_in(SHUT, MCP, None, BLANK))
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert person.told == [title]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_the_browser_is_told_nothing_wrong_where_it_takes_long(
    person: Person, is_cancelled: bool, autojump_clock: MockClock
) -> None:
    person.answers = [{"code": "c0de"}]

    async def slowly(servers: World, fetch: Fetch) -> Any:
        if fetch.url == f"{AS}/token":
            await trio.sleep(OUTCOME + 20)
        return servers.answer(fetch)

    flow = login.sign_in(SHUT, MCP, None, BLANK)
    with trio.move_on_after(OUTCOME / 2 if is_cancelled else 10 * OUTCOME) as scope:
        assert (await performer(person, answer=slowly).perform(flow)).tokens is not None
    assert scope.cancelled_caught == is_cancelled
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert person.told == ["Back to your application"]


async def test_another_listener_takes_the_place_of_the_first(person: Person) -> None:
    def flow() -> Generator[Command, Any, None]:
        first = yield Listen()
        second = yield Listen()
        assert not is_open(first)
        assert is_open(second)
        port = urlsplit(second).port
        assert (yield Listen(port)) == second  # its own port is not taken

    await performer(person).perform(flow())


async def test_a_client_the_server_has_forgotten_is_replaced_in_a_second_page(
    person: Person,
) -> None:
    """`invalid_client`: the page of the new one finds a listener as well."""
    at = world()
    at.pages[f"{AS}/token"] = [found({"error": "invalid_client"}, 401), at.pages[f"{AS}/token"]]
    person.answers = [{"code": "c0de-1"}, {"code": "c0de-2"}]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stored = Registration(client_id="stored", redirect_uri=f"http://127.0.0.1:{port}/callback")
    flow = login.sign_in(SHUT, MCP, None, Record(server_url=MCP).registered(AS, stored))
    with trio.fail_after(LIMIT):
        record = await performer(person, at=at).perform(flow)
    assert record.tokens is not None
    assert [query_of(url)["client_id"] for url in person.pages] == ["stored", "client-1"]
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert person.told == ["Back to your application", "Signed in"]


async def test_nobody_comes_back(person: Person) -> None:
    def flow() -> Generator[Command, Any, None]:
        yield Visit(page((yield Listen())), STATE)

    with pytest.raises(TimedOut, match=r"nobody has signed in within 0\.1 s") as caught:
        await performer(person, SHUT._replace(timeout=0.1)).perform(flow())
    assert "--oauth-timeout" in (caught.value.hint or "")


async def test_what_is_fetched_before_the_page_is_part_of_the_time(
    person: Person, autojump_clock: MockClock
) -> None:
    async def slowly(servers: World, fetch: Fetch) -> Any:
        await trio.sleep(20)
        return servers.answer(fetch)

    hasty = OAuth(opens_browser=False, timeout=50.0)
    with pytest.raises(TimedOut, match=r"could not register with .* within 50 s") as caught:
        await performer(person, hasty, answer=slowly).perform(
            login.sign_in(hasty, MCP, None, BLANK)
        )
    assert "--oauth-timeout" in (caught.value.hint or "")
    assert trio.current_time() == 50
    person.answers = [{"code": "c0de"}]
    patient = OAuth(opens_browser=False, timeout=70.0)
    flow = login.sign_in(patient, MCP, None, BLANK)
    assert (await performer(person, patient, answer=slowly).perform(flow)).tokens is not None
    assert trio.current_time() == 50 + 80  # the exchange has its own limit


async def test_the_redirect_may_be_pasted(person: Person) -> None:
    async def paste(state: str) -> Mapping[str, str]:
        return {"code": "pasted", "state": state}

    def flow() -> Generator[Command, Any, Any]:
        redirect_uri = yield Listen()
        found = yield Visit(page(redirect_uri), STATE)
        return found, redirect_uri

    found, redirect_uri = await performer(person, paste=paste).perform(flow())
    assert found == {"code": "pasted", "state": STATE}
    assert not is_open(redirect_uri)


# The browser


NOTES = """
import json, os, sys
with open(sys.argv[1] + ".part", "w") as file:
    json.dump([sys.argv[2:], dict(os.environ)], file)
os.rename(sys.argv[1] + ".part", sys.argv[1])
"""


def noting(file: Path) -> str:
    """A BROWSER that writes down its arguments and its environment."""
    script = file.with_suffix(".py")
    script.write_text(NOTES)
    return browsers.variable([sys.executable, script, file])


async def test_the_page_is_opened_without_our_secrets(person: Person, tmp_path: Path) -> None:
    file = tmp_path / "noted"
    environ = {
        "BROWSER": noting(file),
        "MCP_BEARER_TOKEN": "secret",
        "MCP_OAUTH_CLIENT_SECRET": "secret",
        "MINE": "a value that -H 'X-Api-Key: ${MINE}' has made known",
        "OTHER": "kept",
    }
    protect(environ["MINE"])

    def flow() -> Generator[Command, Any, Any]:
        return (yield Visit(page((yield Listen())), STATE))

    person.answers = [{"code": "c0de"}]
    with trio.fail_after(LIMIT):
        await performer(person, OAuth(), environ=environ).perform(flow())
        while not file.exists():  # noqa: ASYNC110 - it is not waited for, and outlives the flow
            await trio.sleep(0.05)
    arguments, got = json.loads(file.read_text(encoding="utf-8"))
    assert arguments == person.pages
    assert person.opened == [True]
    assert got["OTHER"] == "kept"
    assert "MINE" not in got
    assert "secret" not in got.values()


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x"])
async def test_what_is_no_page_is_neither_shown_nor_opened(
    person: Person, tmp_path: Path, url: str
) -> None:
    def flow() -> Generator[Command, Any, None]:
        yield Listen()
        yield Visit(url, STATE)

    environ = {"BROWSER": noting(tmp_path / "noted")}
    with pytest.raises(AuthorizationFailed, match="not opened"):
        await performer(person, OAuth(), environ=environ).perform(flow())
    assert person.pages == []
    assert not (tmp_path / "noted").exists()


# Driven by a bearer


async def test_the_end_of_the_program_closes_the_listener(tmp_path: Path) -> None:
    """A sign-in that nobody has finished leaves no lock and no listener."""
    lane = FakeLane(refusal())
    entry = Store(tmp_path).entry(MCP, None, "default")
    authority = Authority()
    bearer = Bearer(SHUT._replace(start_wait=0.0), entry, Fixed(), authority.fetch)
    client = Client(lane, origin=Url.parse(MCP).origin, authorizer=bearer)
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bearer.attend)
            with pytest.raises(AuthorizationFailed) as caught:
                await ask(client)
            redirect_uri = query_of(str(getattr(caught.value, "url", "")))["redirect_uri"]
            assert is_open(redirect_uri)
            nursery.cancel_scope.cancel()
        assert not is_open(redirect_uri)
        async with entry.locked():
            pass

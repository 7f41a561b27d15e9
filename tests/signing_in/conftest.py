"""A protected server, its authorization server, and a user's machine in front of them."""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.conftest import unavailable
from tests.peers import browsers, node
from tests.peers.browsers import Command
from tests.peers.installing import Unavailable
from tests.peers.process import Peer
from tests.peers.process import running as running_peer
from tests.process import LIMIT, Relay, command, environment, running

ROOT = Path(__file__).parent.parent.parent

PATIENT = ("--oauth-start-wait", "25")
"""So that a busy machine does not bring the relay to answer in the server's place."""


@dataclass
class Site:
    """Both servers; what they have printed is counted from the beginning of the test."""

    authority: Peer
    server: Peer
    _seen: dict[Path, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forget()

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.authority.port}"

    def forget(self) -> None:
        """Count from here on."""
        for peer in (self.authority, self.server):
            self._seen[peer.log] = len(peer.printed())

    def told(self, beginning: str = "") -> list[str]:
        """What the authorization server has said (see `authorization_server.mjs`)."""
        return self._told(self.authority, beginning)

    def served(self, beginning: str = "") -> list[str]:
        """What the protected server has said (see `protected_server.py`)."""
        return self._told(self.server, beginning)

    def _told(self, peer: Peer, beginning: str) -> list[str]:
        lines = peer.printed()[self._seen[peer.log] :].splitlines()
        return [line for line in lines if line.startswith(beginning)]

    @property
    def secrets(self) -> list[str]:
        """The tokens that were given out."""
        return [line.partition(" ")[2] for line in self.told("secret ")]

    def control(self, what: str) -> None:
        """Steer the authorization server."""
        request = urllib.request.Request(f"{self.issuer}/control/{what}", method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=LIMIT):
            pass


class Page(NamedTuple):
    """Where a browser was, and what it showed."""

    address: str
    text: str


@dataclass
class Machine:
    """Where a user is: what is kept of sign-ins, and which pages were opened."""

    home: Path
    site: Site

    @property
    def log(self) -> Path:
        """What the browsers write."""
        return self.home / "browser.log"

    def env(self, browser: Command, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = str(self.home / "config")
        shown = browsers.variable([*browser, "--log", self.log])
        return {"XDG_CONFIG_HOME": kept, "APPDATA": kept, "BROWSER": shown} | dict(more or {})

    def relay(
        self, *options: str, browser: Command, env: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Relay]:
        """The relay in front of the protected server."""
        return running(self.site.url, "--oauth", *options, env=self.env(browser, env))

    async def run(self, *words: str, browser: Command | None = None) -> tuple[int, str, str]:
        """A command such as `status`, about the protected server; its code and what it printed."""
        with trio.fail_after(LIMIT):
            done = await trio.run_process(
                command(self.site.url, *words),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment(self.env(browser or browsers.plain())),
            )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    async def sign_in(self) -> None:
        """Have a sign-in kept, and forget how it came to be."""
        code, _, said = await self.run("login")
        assert code == 0, said
        self.log.unlink()
        self.site.forget()

    def _noted(self, beginning: str) -> list[str]:
        noted = ""
        with contextlib.suppress(FileNotFoundError):
            noted = self.log.read_text(encoding="utf-8")
        lines = (line.partition(" ") for line in noted.splitlines())
        return [rest for first, _, rest in lines if first == beginning]

    @property
    def windows(self) -> list[str]:
        """The addresses of the pages that were opened."""
        return self._noted("opened")

    @property
    def ended(self) -> list[Page]:
        """Where the browsers have ended."""
        pages = (line.partition(": ") for line in self._noted("ended"))
        return [Page(address, text) for address, _, text in pages]


@pytest.fixture(scope="session")
def _authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    try:
        command = node.authorization_server()
    except Unavailable as exc:
        unavailable(str(exc))
    with running_peer(command, log=tmp_path_factory.mktemp("authority") / "log") as peer:
        yield peer


@contextlib.contextmanager
def protected(authority: Peer, log: Path, *flags: str, path: str = "/mcp") -> Iterator[Peer]:
    """A server that takes tokens of this authorization server."""
    issuer = f"http://127.0.0.1:{authority.port}"
    module = [sys.executable, "-m", "tests.peers.protected_server", issuer, *flags]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with running_peer(module, log=log, path=path, env=env) as peer:
        yield peer


@pytest.fixture(scope="session")
def _protected(_authority: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with protected(_authority, tmp_path_factory.mktemp("protected") / "log") as peer:
        yield peer


@pytest.fixture
def site(_authority: Peer, _protected: Peer) -> Iterator[Site]:
    site = Site(_authority, _protected)
    yield site
    site.control("lifetime/600")


@pytest.fixture
def sse_site(_authority: Peer, tmp_path: Path) -> Iterator[Site]:
    """The same over HTTP+SSE."""
    with protected(_authority, tmp_path / "protected.log", "--sse", path="/sse") as peer:
        yield Site(_authority, peer)


@pytest.fixture
def machine(site: Site, tmp_path: Path) -> Machine:
    return Machine(tmp_path, site)


@pytest.fixture(scope="session")
def chromium() -> Command:
    """A real browser."""
    try:
        return browsers.chromium()
    except Unavailable as exc:
        unavailable(str(exc))

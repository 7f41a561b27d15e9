"""What tests of every layer share: real servers as peers, a certificate authority, Hypothesis."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
import trustme

from tests.peers import node
from tests.peers.installing import Unavailable
from tests.peers.process import Peer, running
from tests.peers.sdk2 import environment

PEERS = Path(node.__file__).parent

# What this run was started with is none of the commands' business that it starts: after `nohup`, or
# in the background of a shell, they would ignore these signals as well. A handler is not inherited.
for _name in ("SIGINT", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

# Examples are not timed: a busy machine is no defect of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def unavailable(reason: str) -> NoReturn:
    """Skip for want of a component; in CI that is a failure, for there it must not go unnoticed."""
    if os.environ.get("CI"):
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """`@modelcontextprotocol/server-everything`, the reference server of the MCP project."""
    try:
        command = node.everything_server()
    except Unavailable as exc:
        unavailable(str(exc))
    with running(command, log=tmp_path_factory.mktemp("everything") / "log") as peer:
        yield peer


@pytest.fixture(scope="session")
def everything_sse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The same over HTTP+SSE, the transport of revision 2024-11-05."""
    try:
        command = node.everything_server("sse")
    except Unavailable as exc:
        unavailable(str(exc))
    log = tmp_path_factory.mktemp("everything") / "log"
    with running(command, log=log, path="/sse") as peer:
        yield peer


def _sdk_server(
    tmp_path_factory: pytest.TempPathFactory, *flags: str, path: str = "/mcp"
) -> Iterator[Peer]:
    command: list[str | Path] = [sys.executable, PEERS / "sdk_server.py", *flags]
    with running(command, log=tmp_path_factory.mktemp("sdk") / "log", path=path) as peer:
        yield peer


@pytest.fixture(scope="session")
def sdk_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The official Python SDK's server with sessions and event streams."""
    yield from _sdk_server(tmp_path_factory)


@pytest.fixture(scope="session")
def sdk_server_stateless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The same without sessions."""
    yield from _sdk_server(tmp_path_factory, "--stateless")


@pytest.fixture(scope="session")
def sdk_server_json(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The same answering in JSON."""
    yield from _sdk_server(tmp_path_factory, "--json")


@pytest.fixture(scope="session")
def sdk_server_resumable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The same with event ids, so that a broken stream can be resumed."""
    yield from _sdk_server(tmp_path_factory, "--resumable")


@pytest.fixture(scope="session")
def sdk_server_sse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The same over HTTP+SSE, the transport of revision 2024-11-05."""
    yield from _sdk_server(tmp_path_factory, "--sse", path="/sse")


def _sdk2_server(tmp_path_factory: pytest.TempPathFactory, *flags: str) -> Iterator[Peer]:
    try:
        command = [*environment.script("server.py"), *flags]
    except Unavailable as exc:
        unavailable(str(exc))
    with running(command, log=tmp_path_factory.mktemp("sdk2") / "log") as peer:
        yield peer


@pytest.fixture(scope="session")
def dual_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The official Python SDK 2.x's server, which serves both eras."""
    yield from _sdk2_server(tmp_path_factory)


@pytest.fixture(scope="session")
def modern_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The same for 2026-07-28 alone; it names its version to who asks for another."""
    yield from _sdk2_server(tmp_path_factory, "--modern-only")


@pytest.fixture(scope="session")
def curt_modern_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The same, but only complains of the missing header."""
    yield from _sdk2_server(tmp_path_factory, "--modern-only", "--curt")


@pytest.fixture(scope="session")
def mute_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The one of both eras, but it never answers a `server/discover`."""
    yield from _sdk2_server(tmp_path_factory, "--mute")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts by default."""
    return trustme.CA()


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate in PEM, fit for `--cacert`."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """The server side of TLS for `localhost` and 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context

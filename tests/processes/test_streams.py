"""Standard input and output of every kind a parent may give, and what is closed of them."""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from mcp_stdio.descriptors import THREADS
from tests.faults.driver import LIMIT, command, environment, opening
from tests.faults.server import Server, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")

MESSAGES = [
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening()},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo"}},
]
INPUT = b"".join(json.dumps(message).encode() + b"\n" for message in MESSAGES)


class Place(NamedTuple):
    """A descriptor for the relay, and what the test keeps: the other end, or the same file."""

    theirs: int
    ours: int


def pipe(*, is_blocking: bool = True, is_input: bool) -> Place:
    reader, writer = os.pipe()
    theirs, ours = (reader, writer) if is_input else (writer, reader)
    os.set_blocking(theirs, is_blocking)
    return Place(theirs, ours)


def sockets(*, is_blocking: bool = True, is_input: bool) -> Place:
    """As Node.js gives them."""
    theirs, ours = socket.socketpair()
    theirs.setblocking(is_blocking)
    return Place(theirs.detach(), ours.detach())


def connection(*, is_input: bool) -> Place:
    """As a super-server gives them, which are one and the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return Place(theirs.detach(), ours.detach())


def named_pipe(*, is_input: bool) -> Place:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "pipe")
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(path, os.O_WRONLY)
    os.set_blocking(reader, True)
    return Place(reader, writer) if is_input else Place(writer, reader)


def terminal(*, is_input: bool) -> Place:
    import pty
    import tty

    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return Place(theirs, ours)


def file(*, is_input: bool) -> Place:
    with tempfile.TemporaryFile() as made:
        return Place(os.dup(made.fileno()), os.dup(made.fileno()))


KINDS: dict[str, Callable[[bool], Place]] = {
    "pipe": lambda is_input: pipe(is_input=is_input),
    "non-blocking pipe": lambda is_input: pipe(is_blocking=False, is_input=is_input),
    "socket": lambda is_input: sockets(is_input=is_input),
    "non-blocking socket": lambda is_input: sockets(is_blocking=False, is_input=is_input),
    "connection": lambda is_input: connection(is_input=is_input),
    "named pipe": lambda is_input: named_pipe(is_input=is_input),
    "terminal": lambda is_input: terminal(is_input=is_input),
    "file": lambda is_input: file(is_input=is_input),
}
"""Makes an input where asked to, or else an output."""

PAIRS = [(kind, "pipe") for kind in KINDS] + [("pipe", kind) for kind in KINDS if kind != "pipe"]

# Windows has no others, and none that are non-blocking.
BY_THREADS = [
    (*pair, "threads") for pair in PAIRS if {*pair} <= {"pipe", "socket", "terminal", "file"}
]


@pytest.fixture(params=["loop", "threads"])
def way(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment in which it waits for descriptors in one way or the other."""
    return environment({THREADS: "1"} if request.param == "threads" else {})


@contextmanager
def started(
    server: Server, stdin: int, stdout: int, env: dict[str, str], errors: int
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        command(server.url, "--drain-timeout", "20"),
        stdin=stdin,
        stdout=stdout,
        stderr=errors,
        env=env,
    ) as process:
        for fd in {stdin, stdout}:
            os.close(fd)
        try:
            yield process
        finally:
            process.kill()


def write(fd: int) -> None:
    """Write all of the input; a file is then read from its beginning."""
    assert os.write(fd, INPUT) == len(INPUT)
    if is_file(fd):
        os.lseek(fd, 0, os.SEEK_SET)


def read(fd: int, lines: int) -> bytes:
    """Read until so many lines have come."""
    found, deadline = b"", time.monotonic() + LIMIT
    while found.count(b"\n") < lines:
        if is_file(fd):
            found = os.pread(fd, 1 << 20, 0)
            time.sleep(0.01)
            assert time.monotonic() < deadline, found
        else:
            ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, found
            data = os.read(fd, 65536)
            assert data, found
            found += data
    return found


def is_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def judge(output: bytes) -> None:
    answers = [json.loads(line) for line in output.splitlines()]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert all("result" in answer for answer in answers), answers


def converse(server: Server, env: dict[str, str], into: Place, out: Place) -> None:
    """All of the input, both answers, the end of the input and an orderly one of the process."""
    left, is_terminal = {into.ours, out.ours}, os.isatty(into.theirs)
    try:
        with tempfile.TemporaryFile() as errors:
            write(into.ours)
            with started(server, into.theirs, out.theirs, env, errors.fileno()) as process:
                judge(read(out.ours, 2))
                if into.ours != out.ours:
                    os.close(into.ours)
                    left.discard(into.ours)
                else:
                    with socket.socket(fileno=os.dup(into.ours)) as half:
                        half.shutdown(socket.SHUT_WR)
                assert process.wait(LIMIT) == 0
            errors.seek(0)
            first, *rest = errors.read().decode().splitlines()
            assert "relays to" in first
            assert len(rest) == (1 if is_terminal else 0), rest  # who types is told what is awaited
    finally:
        for fd in left:
            os.close(fd)


async def judged(test: Callable[[Server], None]) -> None:
    """Run a test that blocks beside the server."""
    async with serving() as server:
        await trio.to_thread.run_sync(test, server)
        assert not server.sessions
        server.runs.clear()


@pytest.mark.parametrize(
    "source, sink, way", [(*pair, "loop") for pair in PAIRS] + BY_THREADS, indirect=["way"]
)
async def test_every_kind_of_standard_input_and_output(
    source: str, sink: str, way: dict[str, str]
) -> None:
    await judged(lambda server: converse(server, way, KINDS[source](True), KINDS[sink](False)))


@pytest.mark.parametrize("kind", ["socket", "connection"])
async def test_input_and_output_may_be_one_and_the_same(kind: str, way: dict[str, str]) -> None:
    both = KINDS[kind](True)
    await judged(lambda server: converse(server, way, both, both))


CLOSED = [which for count in (1, 2, 3) for which in itertools.combinations((0, 1, 2), count)]


@pytest.mark.parametrize("way", ["loop"], indirect=True)
async def test_what_is_closed_ends_nothing_early_and_hangs_nothing(way: dict[str, str]) -> None:
    """A closed input is at its end, a closed output is noticed when there is something to say."""

    def converse(server: Server) -> None:
        for closed in CLOSED:
            redirections = " ".join(f"{fd}>&-" for fd in closed)
            done = subprocess.run(
                ["sh", "-c", f'exec "$@" {redirections}', "sh", *command(server.url)],
                input=INPUT,
                capture_output=True,
                timeout=LIMIT,
                env=way,
                check=False,
            )
            assert done.returncode == 0, (closed, done.stderr)
            assert b"Traceback" not in done.stderr
            if not {0, 1} & {*closed}:
                judge(done.stdout)
            else:
                assert done.stdout == b""

    await judged(converse)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
async def test_an_output_that_takes_nothing_more_ends_it_with_a_failure(
    way: dict[str, str],
) -> None:
    def converse(server: Server) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                command(server.url),
                input=INPUT,
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=LIMIT,
                env=way,
                check=False,
            )
        first, *rest = done.stderr.decode().splitlines()
        assert "relays to" in first
        assert rest == [
            "error: standard output cannot be written: No space left on device",
            "",
            "hint: make room where it goes; what was not written is lost",
        ]
        assert done.returncode == 1

    await judged(converse)

"""Lines from every kind of descriptor."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcp_stdio.framing import Oversized
from mcp_stdio.stdio import Input

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")

pytestmark = pytest.mark.usefixtures("way")


async def read_all(fd: int, limit: int = 1_000_000) -> list[bytes | Oversized]:
    with trio.fail_after(30):
        return [line async for line in Input(fd, limit)]


async def test_lines_of_a_pipe_until_its_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"\xef\xbb\xbfone\r\n\ntwo\nthr")
    os.write(writer, b"ee")
    os.close(writer)
    assert not Input(reader, 10).is_regular_file
    assert await read_all(reader) == [b"one", b"two", b"three"]
    os.close(reader)


async def test_a_line_is_there_as_soon_as_it_ends() -> None:
    reader, writer = os.pipe()
    lines = Input(reader, 100)
    with trio.fail_after(10):
        for number in range(50):
            os.write(writer, b"%d\npart" % number)
            assert await anext(lines) == (b"part" if number else b"") + b"%d" % number
        os.close(writer)
        assert await anext(lines) == b"part"
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(lines)
    os.close(reader)


async def test_the_loop_lives_while_nothing_comes() -> None:
    reader, writer = os.pipe()
    lines = Input(reader, 100)
    received: list[bytes | Oversized] = []

    async def read() -> None:
        received.append(await anext(lines))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.01)
            assert received == []
            os.write(writer, b"one\n")
    assert received == [b"one"]
    os.close(writer)
    os.close(reader)


async def test_idle_it_is_cancelled_at_once() -> None:
    reader, writer = os.pipe()
    lines = Input(reader, 100)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(anext, lines)
            await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    # Releases the thread that stayed behind.
    os.close(writer)
    await trio.sleep(0.01)
    os.close(reader)


async def test_a_line_over_the_limit_is_told_and_the_rest_read() -> None:
    reader, writer = os.pipe()
    long = b'{"method":"m","params":"' + b"x" * 40_000 + b'","id":7}'
    os.write(writer, b"one\n" + long + b"\ntwo\n")
    os.close(writer)
    assert await read_all(reader, 1000) == [b"one", Oversized(len(long), 7, True), b"two"]
    os.close(reader)


async def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one line\n" * 50_000 + b"last")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    assert Input(fd, 100).is_regular_file
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        assert await read_all(fd) == [b"one line"] * 50_000 + [b"last"]
        nursery.cancel_scope.cancel()
    # Every 64 KiB the loop had its turn.
    assert ticks >= 5
    os.close(fd)


async def test_the_null_device_is_at_its_end() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    assert await read_all(fd) == []
    os.close(fd)


async def test_a_closed_descriptor_is_at_its_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    assert not Input(reader, 100).is_regular_file
    assert await read_all(reader) == []


@posix
async def test_a_directory_is_at_its_end_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    assert await read_all(fd) == []
    assert caplog.messages == ["standard input cannot be read: Is a directory"]
    os.close(fd)


@posix
async def test_a_socket_as_node_gives_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"one\ntwo\n")
        theirs.shutdown(socket.SHUT_WR)
        assert await read_all(ours.fileno()) == [b"one", b"two"]
        assert ours.getblocking()


@posix
async def test_a_socket_that_is_reset_is_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # Closing with unread data in the buffer resets a Unix socket.
        ours.send(b"unread")
        theirs.close()
        assert await read_all(ours.fileno()) == []
    assert caplog.messages == []


@posix
async def test_a_terminal_whose_other_side_is_gone_is_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import pty

    main, terminal = pty.openpty()
    lines = Input(terminal, 100)
    with trio.fail_after(10):
        os.write(main, b"one\n")
        assert await anext(lines) == b"one"
        os.close(main)
        with pytest.raises(StopAsyncIteration):
            await anext(lines)
    assert caplog.messages == []
    os.close(terminal)


@posix
async def test_the_descriptor_stays_blocking() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\n")
    lines = Input(reader, 100)
    assert await anext(lines) == b"one"
    assert os.get_blocking(reader)
    os.close(writer)
    os.close(reader)


@posix
async def test_someone_else_reading_the_same_pipe_is_survived(way: str) -> None:
    if way == "threads":
        pytest.skip("where threads are needed, nothing is non-blocking")
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    other = os.dup(reader)
    received: list[bytes | Oversized] = []

    async def read(fd: int) -> None:
        received.append(await anext(Input(fd, 100)))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            # Both are told of the first line, and one of them comes too late.
            nursery.start_soon(read, reader)
            nursery.start_soon(read, other)
            await wait_all_tasks_blocked()
            os.write(writer, b"one\n")
            await wait_all_tasks_blocked()
            assert received == [b"one"]
            os.write(writer, b"two\n")
    assert received == [b"one", b"two"]
    os.close(other)
    os.close(writer)
    os.close(reader)

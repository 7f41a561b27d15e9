"""Whole lines to every kind of descriptor, whoever is cancelled, however slow the reader."""

from __future__ import annotations

import errno
import math
import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mcp_stdio.errors import OutputClosed
from mcp_stdio.stdio import Output

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")

pytestmark = pytest.mark.usefixtures("way")

MORE_THAN_A_PIPE_HOLDS = b"x" * 300_000


class Pipe:
    """An output and the pipe it writes to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.output = Output(self.writer)
        self._is_ended = False

    async def read(self, size: int = 65536) -> bytes:
        """Some of what was written, without blocking the loop."""
        return await trio.to_thread.run_sync(os.read, self.reader, size, abandon_on_cancel=True)

    async def read_to_end(self) -> bytes:
        """All that was written; ends the output."""
        self.end()
        data = b""
        while piece := await self.read():
            data += piece
        return data

    def end(self) -> None:
        """Close the end that is written to."""
        if not self._is_ended:
            self._is_ended = True
            self.output.close()
            os.close(self.writer)

    def close(self) -> None:
        self.end()
        os.close(self.reader)


@pytest.fixture
def pipe(way: str) -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


async def test_lines_arrive_as_they_were_written(pipe: Pipe) -> None:
    for line in (b"one", b"", "zwei \u2028".encode()):
        await pipe.output.write_line(line)
    await pipe.output.write(b"three\nfour\n")
    with trio.fail_after(30):
        assert await pipe.read_to_end() == "one\n\nzwei \u2028\nthree\nfour\n".encode()


@pytest.mark.parametrize("size", [1, 511, 512, 4095, 4096, 4097, 65535, 65536, 5_000_000])
async def test_a_line_of_any_size_arrives_whole(pipe: Pipe, size: int) -> None:
    line = random.Random(size).randbytes(size).replace(b"\n", b" ")
    received = b""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.output.write_line, line)
            while not received.endswith(b"\n"):
                received += await pipe.read()
    assert received == line + b"\n"


async def test_the_loop_lives_while_nobody_reads(pipe: Pipe) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.output.write_line, MORE_THAN_A_PIPE_HOLDS)
            await trio.sleep(0.05)
            received = b""
            while not received.endswith(b"\n"):
                received += await pipe.read()
    assert received == MORE_THAN_A_PIPE_HOLDS + b"\n"


async def test_a_cancelled_writer_has_written_nothing_or_the_whole_line(pipe: Pipe) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await pipe.output.write_line(b"never")
    assert scope.cancelled_caught
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.output.write_line, MORE_THAN_A_PIPE_HOLDS)
            await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
            with trio.fail_after(10, shield=True):
                received = await pipe.read()
                while not received.endswith(b"\n"):
                    received += await pipe.read()
    assert received == MORE_THAN_A_PIPE_HOLDS + b"\n"


async def test_a_cancelled_writer_of_a_long_line_writes_its_newline_too(pipe: Pipe) -> None:
    """P6: the newline is part of the line, also where the pipe was full just before it."""
    for size in (65_536, 2 * 65_536):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pipe.output.write_line, b"x" * size)
                await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
                with trio.fail_after(10, shield=True):
                    received = await pipe.read()
                    while not received.endswith(b"\n"):
                        received += await pipe.read()
        assert received == b"x" * size + b"\n"


async def test_a_writer_waiting_for_its_first_byte_can_be_cancelled(pipe: Pipe, way: str) -> None:
    if way == "threads":
        pytest.skip("a thread that waits to write cannot be told to leave it")
    filled = 0
    with trio.move_on_after(0.05):
        while True:
            await pipe.output.write_line(b".")
            filled += 1
    with trio.fail_after(10), trio.move_on_after(0.02) as scope:
        await pipe.output.write_line(b"never")
    assert scope.cancelled_caught
    with trio.fail_after(10):
        received = await pipe.read(65536)
        await pipe.output.write_line(b"on")
        received += await pipe.read_to_end()
    assert received == b".\n" * filled + b"on\n"


async def test_every_line_is_whole_when_writers_of_a_slow_reader_are_cancelled(pipe: Pipe) -> None:
    chance = random.Random(500)
    received = bytearray()
    begun = cancelled = 0

    async def read() -> None:
        while piece := await pipe.read(chance.choice([100, 4096, 65536])):
            received.extend(piece)
            if chance.random() < 0.1:
                await trio.sleep(0.001)

    async def write(number: int) -> None:
        nonlocal begun, cancelled
        line = b"<%d:" % number + b"x" * chance.choice([1, 100, 5000, 70_000]) + b">"
        with trio.move_on_after(chance.choice([0, 0.0002, 0.001, 0.003])) as scope:
            await pipe.output.lock.acquire()
            try:
                begun += 1
                await pipe.output.write_line(line)
            finally:
                pipe.output.lock.release()
        cancelled += scope.cancelled_caught

    with trio.fail_after(120):
        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            for first in range(0, 500, 5):
                async with trio.open_nursery() as writers:
                    for number in range(first, first + 5):
                        writers.start_soon(write, number)
            await pipe.output.write_line(b"<500:>")
            pipe.end()
    *lines, rest = bytes(received).split(b"\n")
    assert rest == b""
    assert lines[-1] == b"<500:>"
    for line in lines:
        start, middle, end = line[:1], line[1:-1].partition(b":")[2], line[-1:]
        assert (start, end) == (b"<", b">")
        assert middle == b"x" * len(middle)
        assert len(middle) in (0, 1, 100, 5000, 70_000)
    assert cancelled > 50
    assert len(lines) > 50


async def test_the_deadline_ends_a_line_in_the_middle_and_all_that_follow(pipe: Pipe) -> None:
    with trio.fail_after(30):
        pipe.output.finish_by(trio.current_time() + 0.05)
        with pytest.raises(OutputClosed):
            await pipe.output.write_line(MORE_THAN_A_PIPE_HOLDS)
        with pytest.raises(OutputClosed):
            await pipe.output.write_line(b"never")
        received = await pipe.read(1_000_000)
        pipe.output.finish_by(math.inf)
        with pytest.raises(OutputClosed):
            await pipe.output.write_line(b"never")
        received += await pipe.read_to_end()
    assert set(received) == {ord("x")}


@pytest.mark.parametrize("seconds", [-math.inf, -1, 0, 0.05])
async def test_the_deadline_reaches_a_writer_that_waits_already(pipe: Pipe, seconds: float) -> None:
    failed = trio.Event()

    async def write() -> None:
        with pytest.raises(OutputClosed):
            await pipe.output.write_line(MORE_THAN_A_PIPE_HOLDS)
        failed.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.sleep(0.02)
            # Cancelled or not: only the deadline ends a line that has begun.
            nursery.cancel_scope.cancel()
            with trio.fail_after(10, shield=True):
                await trio.sleep(0.02)
                assert not failed.is_set()
                pipe.output.finish_by(trio.current_time() + seconds)
                await failed.wait()
                await pipe.read_to_end()


async def test_before_the_deadline_lines_are_still_written(pipe: Pipe) -> None:
    pipe.output.finish_by(trio.current_time() + 60)
    await pipe.output.write_line(b"last words")
    pipe.output.finish_by(-math.inf)
    with pytest.raises(OutputClosed):
        await pipe.output.write_line(b"never")
    with trio.fail_after(30):
        assert await pipe.read_to_end() == b"last words\n"


@posix
async def test_a_reader_that_has_gone_closes_the_output(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    await output.write_line(b"one")
    os.close(reader)
    for _ in range(2):
        with pytest.raises(OutputClosed):
            await output.write_line(b"two")
    assert caplog.messages == []
    os.close(writer)


@posix
async def test_a_reader_that_goes_in_the_middle_of_a_line_closes_the_output() -> None:
    reader, writer = os.pipe()
    output = Output(writer)

    async def write() -> None:
        with pytest.raises(OutputClosed):
            await output.write_line(MORE_THAN_A_PIPE_HOLDS)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.sleep(0.02)
            os.close(reader)
    os.close(writer)


async def test_a_closed_descriptor_is_a_closed_output() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    output = Output(writer)
    with pytest.raises(OutputClosed):
        await output.write_line(b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
async def test_a_full_disk_closes_the_output_and_can_be_told() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    output = Output(fd)
    for _ in range(2):
        with pytest.raises(OutputClosed):
            await output.write_line(b"x")
    assert output.failure is not None
    assert output.failure.errno == errno.ENOSPC
    os.close(fd)


@posix
async def test_a_terminal_that_has_gone_is_a_reader_that_has_gone() -> None:
    import pty

    main, terminal = pty.openpty()
    output = Output(terminal)
    await output.write_line(b"x")
    os.close(main)
    with pytest.raises(OutputClosed):
        await output.write_line(b"x")
    assert output.failure is None
    output.close()
    os.close(terminal)


@pytest.mark.skipif(sys.platform != "linux", reason="a descriptor of Linux that answers EINVAL")
async def test_what_windows_says_of_a_reader_that_has_gone_is_not_told(
    way: str,
) -> None:
    fd = os.eventfd(0)
    output = Output(fd)
    for _ in range(2):
        with pytest.raises(OutputClosed):
            await output.write_line(b"x")
    assert (output.failure is None) == (way == "threads")
    os.close(fd)


async def test_a_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        output = Output(file.fileno())
        await output.write_line(MORE_THAN_A_PIPE_HOLDS)
        await output.write_line(b"two")
    assert (tmp_path / "file").read_bytes() == MORE_THAN_A_PIPE_HOLDS + b"\ntwo\n"


async def test_the_null_device() -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    output = Output(fd)
    await output.write_line(MORE_THAN_A_PIPE_HOLDS)
    os.close(fd)


@posix
@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_a_socket_as_node_gives_it(size: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = Output(ours.fileno())
        received = b""
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(output.write_line, b"x" * size)
                while not received.endswith(b"\n"):
                    received += await trio.to_thread.run_sync(
                        theirs.recv, 65536, abandon_on_cancel=True
                    )
        assert received == b"x" * size + b"\n"
        assert ours.getblocking()
        theirs.close()
        with pytest.raises(OutputClosed):
            await output.write_line(b"x")


@posix
async def test_a_terminal_that_is_read_slowly() -> None:
    import pty
    import tty

    main, terminal = pty.openpty()
    tty.setraw(terminal)
    output = Output(terminal)
    received = b""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.write_line, MORE_THAN_A_PIPE_HOLDS)
            await trio.sleep(0.05)
            while not received.endswith(b"\n"):
                received += await trio.to_thread.run_sync(
                    os.read, main, 65536, abandon_on_cancel=True
                )
    assert received == MORE_THAN_A_PIPE_HOLDS + b"\n"
    assert os.get_blocking(terminal)
    os.close(main)
    os.close(terminal)


@posix
async def test_the_descriptor_stays_blocking(pipe: Pipe) -> None:
    await pipe.output.write_line(b"x")
    assert os.get_blocking(pipe.writer)

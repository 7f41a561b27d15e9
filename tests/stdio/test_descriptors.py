"""Descriptors 0, 1 and 2 at the start, and writing to one without blocking."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_stdio import descriptors
from mcp_stdio.descriptors import OPEN_FILES, PIPE_BUF, outlet

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")

OCCUPY = """
import os, sys
from mcp_stdio.descriptors import occupy_standard_descriptors
occupy_standard_descriptors()
found = []
for fd in (0, 1, 2):
    found.append(os.fstat(fd).st_rdev == os.stat(os.devnull).st_rdev)
found.append(os.open(sys.argv[1], os.O_RDONLY) > 2)
found.append("trio" in sys.modules or "logging" in sys.modules)
try:
    os.write(1, b"")
    os.write(1, b"x")
    found.append("taken")
except OSError as exc:
    found.append(exc.strerror)
open(sys.argv[1], "w").write(repr(found))
"""


@posix
@pytest.mark.parametrize(
    "closed, found",
    [
        ("", [False, False, False, True, False, "taken"]),
        ("0", [True, False, False, True, False, "taken"]),
        ("1", [False, True, False, True, False, "Bad file descriptor"]),
        ("2", [False, False, True, True, False, "taken"]),
        ("012", [True, True, True, True, False, "Bad file descriptor"]),
        ("01", [True, True, False, True, False, "Bad file descriptor"]),
        ("12", [False, True, True, True, False, "Bad file descriptor"]),
    ],
)
def test_closed_standard_descriptors_are_occupied(
    tmp_path: Path, closed: str, found: list[object]
) -> None:
    path = tmp_path / "found"
    path.touch()
    redirections = " ".join(f"{fd}>&-" for fd in closed)
    subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" "$2" {redirections}', sys.executable, OCCUPY, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert path.read_text(encoding="utf-8") == repr(found)


@pytest.fixture(params=["reopened", "asked"])
def most(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs the test once for each way with pipes; the most that one write takes."""
    if request.param == "asked":
        monkeypatch.setattr(descriptors, "OPEN_FILES", "/nowhere")
        return PIPE_BUF
    if not Path(OPEN_FILES).exists():
        pytest.skip("no pipe can be opened once more here")
    return 1 << 20


@posix
def test_a_pipe_takes_what_fits_and_then_nothing(most: int) -> None:
    reader, writer = os.pipe()
    out = outlet(writer)
    data = bytes(range(256)) * 1000
    counts: list[int] = []
    while count := out.write(data[sum(counts) :]):
        counts.append(count)
    assert min(PIPE_BUF, most) <= max(counts) <= most
    assert (len(counts) == 1) == (most > PIPE_BUF)
    written = sum(counts)
    assert out.write(b"x") == 0
    assert os.get_blocking(writer)
    received = b""
    while len(received) < written:
        received += os.read(reader, written)
    assert received == data[:written]
    assert out.write(b"x") == 1
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        out.write(b"x")
    os.close(writer)
    out.close()
    with pytest.raises(OSError, match="Bad file"):
        out.write(b"x")


@posix
def test_a_pipe_ends_when_its_outlet_is_closed_as_well(most: int) -> None:
    reader, writer = os.pipe()
    out = outlet(writer)
    assert out.write(b"x") == 1
    os.close(writer)
    out.close()
    assert os.read(reader, 10) == b"x"
    assert os.read(reader, 10) == b""
    os.close(reader)


@posix
def test_what_is_opened_for_a_pipe_is_not_inherited(most: int) -> None:
    reader, writer = os.pipe()
    out = outlet(writer)
    assert not os.get_inheritable(out.fileno())
    for fd in (reader, writer):
        os.close(fd)
    out.close()


@posix
def test_a_named_pipe(tmp_path: Path, most: int) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    out = outlet(writer)
    assert out.write(b"x") == 1
    assert os.read(reader, 10) == b"x"
    assert os.get_blocking(writer)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        out.write(b"x")
    out.close()
    out = outlet(writer)  # without a reader it cannot be opened once more
    with pytest.raises(BrokenPipeError):
        out.write(b"x")
    out.close()
    os.close(writer)


@posix
def test_a_pipe_that_someone_made_non_blocking_is_merely_full(most: int) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    out = outlet(writer)
    while out.write(b"x" * PIPE_BUF):
        pass
    assert out.write(b"x") == 0
    out.close()
    os.close(reader)
    os.close(writer)


@posix
def test_a_socket_takes_what_fits_and_then_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        out = outlet(ours.fileno())
        data = bytes(range(256)) * 10_000
        written = 0
        while count := out.write(data[written:]):
            written += count
        assert 0 < written < len(data)
        assert ours.getblocking()
        received = b""
        while len(received) < written:
            received += theirs.recv(written)
        assert received == data[:written]
        out.close()
        assert ours.send(b"open") == 4


@posix
def test_a_terminal_takes_what_fits_and_then_nothing() -> None:
    import pty

    main, terminal = pty.openpty()
    out = outlet(terminal)
    written = 0
    while count := out.write(b"x" * 5000):
        written += count
    assert os.get_blocking(terminal)
    received = 0
    while received < written:
        received += len(os.read(main, 65536))
    assert out.write(b"x") == 1
    out.close()
    os.close(main)
    os.close(terminal)


def test_a_file_takes_everything(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        out = outlet(file.fileno())
        assert out.write(b"x" * 1_000_000) == 1_000_000
        out.close()
    assert (tmp_path / "file").stat().st_size == 1_000_000


def test_a_closed_descriptor_has_no_outlet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file"):
        outlet(writer)

"""The branches for Windows that are chosen while a module is loaded, or by the system's name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from tests.on_windows import O_BINARY, loaded

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="there the branches themselves are what all tests run"
)


async def test_a_lock_excludes_others_until_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    lock, _ = loaded("mcp_stdio.oauth.lock", monkeypatch)
    first, second = (lock.Lock(tmp_path / "kept", "one.lock", "win32") for _ in range(2))
    other = lock.Lock(tmp_path / "kept", "two.lock", "win32")
    async with first, other:
        assert not second.try_acquire()
        with trio.move_on_after(60) as waiting:
            async with second:
                pass
        assert waiting.cancelled_caught
    async with second:
        assert second.is_held
        assert not first.try_acquire()


async def test_where_locking_is_not_to_be_had_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, msvcrt = loaded("mcp_stdio.oauth.lock", monkeypatch)

    def locking(fd: int, mode: int, size: int) -> None:
        raise OSError(22, os.strerror(22))

    monkeypatch.setattr(msvcrt, "locking", locking)
    with pytest.raises(lock.StoreFailure, match="cannot be locked: Invalid argument"):
        lock.Lock(tmp_path / "kept", "one.lock", "win32").try_acquire()


def test_standard_input_and_output_are_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, msvcrt = loaded("mcp_stdio.stdio.threads", monkeypatch)
    threads.ThreadReader(0)
    threads.ThreadWriter(1)
    assert msvcrt.modes == {0: O_BINARY, 1: O_BINARY}


def test_only_threads_wait_for_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors, _ = loaded("mcp_stdio.descriptors", monkeypatch)
    assert descriptors.needs_threads()
    assert not {"_Reopened", "_Pipe", "_Socket"} & vars(descriptors).keys()
    reader, writer = os.pipe()
    outlet = descriptors.outlet(writer)
    assert outlet.write(b"x") == 1
    assert os.read(reader, 1) == b"x"
    outlet.close()
    os.close(reader)
    os.close(writer)


def test_the_store_is_moved_by_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    private, _ = loaded("mcp_stdio.oauth.private", monkeypatch)
    assert private.PLACE == "APPDATA"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_there_are_signals_to_listen_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither SIGHUP nor a mask of signals; Ctrl-Break is SIGBREAK."""
    import signal

    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.delattr(signal, "pthread_sigmask")
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    signals, _ = loaded("mcp_stdio.signals", monkeypatch)
    signals.let_through()
    assert getattr(signal, name) in signals.heeded()
    assert 21 in signals.ALL

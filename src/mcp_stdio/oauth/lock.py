"""A lock that one process on the machine can hold, and that its death releases.

It lies on a file of its own, for the file that it protects is replaced and so is never the same
one twice. Waiting is asking again and again: no thread waits in the kernel, which could not be
cancelled. The file stays: if it went with its last holder, two processes could hold two locks of
the same name; should someone else remove it, the lock on what has no name any more counts as none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from mcp_stdio.errors import StoreFailure
from mcp_stdio.oauth import private

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.25
"""Seconds between two attempts: soon at first, since a renewal takes a moment; a person who signs
in takes longer."""


class Lock:
    """The lock `name` in a private directory; `async with` it. Not for two tasks at once."""

    def __init__(self, directory: Path, name: str, platform: str) -> None:
        self._directory = directory
        self._name = name
        self._platform = platform
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    async def __aenter__(self) -> None:
        """Wait for the lock. Raises StoreFailure where it cannot be had at all."""
        await trio.lowlevel.checkpoint_if_cancelled()
        pause = FIRST_PAUSE
        while not self.try_acquire():
            await trio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    async def __aexit__(self, *exc_info: object) -> None:
        """Release the lock."""
        self.release()

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it. Raises StoreFailure."""
        assert self._fd is None, "held already"
        with private.opened(self._directory, create=True, platform=self._platform) as directory:
            assert directory is not None
            try:
                fd = directory.open(self._name, os.O_RDWR | os.O_CREAT)
                try:
                    if self._lock(fd) and os.path.samestat(
                        os.fstat(fd), directory.status(self._name)
                    ):
                        self._fd, fd = fd, -1
                        return True
                finally:
                    if fd != -1:
                        os.close(fd)
            except FileNotFoundError:
                pass  # Removed under our hands: there is a next attempt.
        return False

    def release(self) -> None:
        """Let others have the lock."""
        assert self._fd is not None
        fd, self._fd = self._fd, None
        try:
            _unlock(fd)
        finally:
            os.close(fd)

    def _lock(self, fd: int) -> bool:
        try:
            _lock(fd)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as exc:
            raise StoreFailure(
                f"`{self._directory / self._name}` cannot be locked: "
                f"{exc.strerror or type(exc).__name__}",
                hint=f"name a directory on a local file system with `{private.PLACE}`",
            ) from exc
        return True


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        # Not left to the closing: a child that is just being started still has a copy.
        fcntl.flock(fd, fcntl.LOCK_UN)

"""A directory whose files nobody else can read: how tokens lie on a disk (A-43).

Owns modes, owners, symlinks and atomic replacement; knows nothing of what the files hold. On POSIX
everything goes through the descriptor of the directory, so that a name swapped meanwhile leads
nowhere else; Windows has no such calls, and its protection is that of the user's own `%APPDATA%`.
The directory and what lies in it are never reached through a symlink; the path that leads there
is the user's (many keep `~/.config` itself as a link).

What belongs to another user is refused: that user may read or replace it, and no mode of ours
changes that. What is ours but open to others is closed and used, with a warning: a restored backup
or a copy made under a lax umask looks like that.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mcp_stdio.errors import StoreFailure

log = logging.getLogger(__name__)

MAX_SIZE = 1024 * 1024
"""Bytes of a file that are read; a record has a few thousand."""

_NEW = ".new"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_PATIENCE = 20 if sys.platform == "win32" else 0
PLACE = "APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME"
"""The variable by which the user can name another directory."""

_BINARY: int = getattr(os, "O_BINARY", 0)

T = TypeVar("T")


class Unwritable(StoreFailure):
    """Nothing can be written there, by no process of this user."""


class Directory(ABC):
    """An open private directory; names are those of files in it. Everything raises StoreFailure."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @abstractmethod
    def names(self) -> list[str]:
        """The names of what is in it, sorted."""

    @abstractmethod
    def open(self, name: str, flags: int) -> int:
        """A descriptor of a regular file of ours, created readable by us alone if `flags` say so.

        Raises FileNotFoundError as well.
        """

    @abstractmethod
    def status(self, name: str) -> os.stat_result:
        """What the name stands for, without following a symlink. Raises FileNotFoundError."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of what has that name. Raises FileNotFoundError."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def flush(self) -> None:
        """Have the names on the disk before anything else happens."""

    def read(self, name: str) -> bytes | None:
        """The content of a file, None when there is none; of a huge one, a bit over `MAX_SIZE`."""
        try:
            fd = self.open(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with explained(self._path / name, "read"), os.fdopen(fd, "rb") as file:
            return file.read(MAX_SIZE + 1)

    def replace(self, name: str, data: bytes) -> None:
        """Put `data` in place of a file so that whoever reads sees all of the old or of the new.

        One writer at a time: what another one left behind under the passing name is removed.
        """
        passing = f".{name}{_NEW}"
        self.remove(passing)
        try:
            self._refuse_symlink(self.status(name), name)
        except FileNotFoundError:
            pass
        fd = self.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with explained(self._path / name, "written"), os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.rename(passing, name)
        except BaseException:
            self.remove(passing)
            raise
        self.flush()

    def forget(self, name: str) -> None:
        """Remove a file and what a writer that was killed may have left of it."""
        self.remove(name)
        self.remove(f".{name}{_NEW}")
        self.flush()

    def _refuse_symlink(self, status: os.stat_result, name: str) -> None:
        if stat.S_ISLNK(status.st_mode):
            raise _symlink(self._path / name)


class _ByDescriptor(Directory):
    """POSIX: every name is looked up in the directory that was judged."""

    def __init__(self, path: Path, fd: int) -> None:
        super().__init__(path)
        self._fd = fd

    def names(self) -> list[str]:
        with explained(self._path, "read"):
            return sorted(os.listdir(self._fd))

    def open(self, name: str, flags: int) -> int:
        path = self._path / name
        # Not blocking, in case someone put a pipe there.
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with explained(path, "opened"):
            fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        try:
            with explained(path, "used"):
                _judge(fd, path, mode=0o600, kind=stat.S_IFREG)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def status(self, name: str) -> os.stat_result:
        with explained(self._path / name, "read"):
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def rename(self, old: str, new: str) -> None:
        with explained(self._path / new, "written"):
            os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        try:
            with explained(self._path / name, "removed"):
                os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            pass

    def flush(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError:
            pass  # Some file systems cannot; the content of each file has been flushed before.


class _ByPath(Directory):
    """Windows: what is a link is refused, and the rest is left to the user's profile."""

    def names(self) -> list[str]:
        with explained(self._path, "read"):
            return sorted(os.listdir(self._path))

    def open(self, name: str, flags: int) -> int:
        path = self._path / name
        try:
            self._refuse_symlink(self.status(name), name)
        except FileNotFoundError:
            pass
        with explained(path, "opened"):
            return patiently(lambda: os.open(path, flags | _BINARY, 0o600))

    def status(self, name: str) -> os.stat_result:
        with explained(self._path / name, "read"):
            return os.lstat(self._path / name)

    def rename(self, old: str, new: str) -> None:
        with explained(self._path / new, "written"):
            patiently(lambda: os.replace(self._path / old, self._path / new))

    def remove(self, name: str) -> None:
        try:
            with explained(self._path / name, "removed"):
                patiently(lambda: os.unlink(self._path / name))
        except FileNotFoundError:
            pass

    def flush(self) -> None:
        """Nothing: a directory cannot be flushed there."""


@contextmanager
def opened(path: Path, *, create: bool, platform: str = sys.platform) -> Iterator[Directory | None]:
    """The directory at `path`, judged; None when it does not exist and is not to be created.

    Raises StoreFailure for a directory that is a symlink, another user's or no directory.
    """
    if create:
        _make(path)
    if platform == "win32":
        try:
            with explained(path, "read"):
                status = os.lstat(path)
        except FileNotFoundError:
            yield None
            return
        if stat.S_ISLNK(status.st_mode) or _is_junction(status):
            raise _symlink(path)
        yield _ByPath(path)
        return
    fd = _open_directory(path)
    if fd is None:
        yield None
        return
    try:
        yield _ByDescriptor(path, fd)
    finally:
        os.close(fd)


def _make(path: Path) -> None:
    for directory in (*reversed(path.parents), path):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        except OSError as exc:
            # Above what we may write to there are directories that we may only pass through.
            if not os.path.isdir(directory):
                raise _unusable(path, "created", exc) from exc


def _open_directory(path: Path) -> int | None:
    try:
        with explained(path, "opened"):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        with explained(path, "used"):
            _judge(fd, path, mode=0o700, kind=stat.S_IFDIR)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _judge(fd: int, path: Path, *, mode: int, kind: int) -> None:
    """Refuse what is not ours; close what is open to others."""
    status = os.fstat(fd)
    if stat.S_IFMT(status.st_mode) != kind:
        raise StoreFailure(
            f"`{path}` is not a regular file", hint="remove it; nothing of ours is kept that way"
        )
    if status.st_uid != os.geteuid():
        raise StoreFailure(
            f"`{path}` belongs to another user, who could read or replace what is kept there",
            hint=f"run as that user, or name a directory of your own with `{PLACE}`",
        )
    if not status.st_mode & _OTHERS:
        return
    os.fchmod(fd, mode)
    if os.fstat(fd).st_mode & _OTHERS:
        raise StoreFailure(
            f"`{path}` is open to other users, and its file system keeps no permissions",
            hint=f"name a directory on another file system with `{PLACE}`",
        )
    log.warning("`%s` was open to other users and is not any more (mode %04o)", path, mode)


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn an OSError into a StoreFailure that names the path; FileNotFoundError flies on."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise _symlink(path) from None
        raise _unusable(path, what, exc) from exc


def _unusable(path: Path, what: str, exc: OSError) -> StoreFailure:
    kind = Unwritable if exc.errno in _READ_ONLY else StoreFailure
    return kind(
        f"`{path}` could not be {what}: {exc.strerror or type(exc).__name__}",
        hint=f"make it writable for you, or name another directory with `{PLACE}`",
    )


def _symlink(path: Path) -> StoreFailure:
    return StoreFailure(
        f"`{path}` is a symlink, and tokens are never kept behind one",
        hint=f"put what it points to in its place, or name another directory with `{PLACE}`",
    )


def _is_junction(status: os.stat_result) -> bool:
    # `IO_REPARSE_TAG_MOUNT_POINT`, the other thing of Windows that leads elsewhere.
    return getattr(status, "st_reparse_tag", 0) == 0xA0000003


def patiently(action: Callable[[], T], attempts: int = _PATIENCE) -> T:
    """Do it, and again a moment later where it is denied, at most so many times.

    On Windows a file that another process has open for a moment can be neither opened nor replaced
    meanwhile. Rare and short, so it is waited for on the spot.
    """
    for _ in range(attempts):
        try:
            return action()
        except PermissionError:
            time.sleep(0.01)
    return action()

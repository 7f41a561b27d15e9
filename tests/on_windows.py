"""Modules as they are on Windows, to be tried on a system of POSIX.

A module whose branches are chosen while it is loaded is loaded once more, with the name of the
other system and with what only that one has. What stands in for it keeps to what Microsoft's
documentation of the C runtime says; whether that is true is shown by the tests on Windows itself.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from types import ModuleType

import pytest


class Msvcrt(ModuleType):
    """The calls of that module which are used here; a region is locked by the descriptor."""

    LK_UNLCK, LK_NBLCK = 0, 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.modes: dict[int, int] = {}
        self._held: dict[tuple[int, int], int] = {}

    def setmode(self, fd: int, mode: int) -> int:
        """Give the descriptor this mode."""
        self.modes[fd] = mode
        return 0

    def locking(self, fd: int, mode: int, size: int) -> None:
        """Lock from the present position; what another descriptor has is denied (EACCES)."""
        assert size == 1
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        status = os.fstat(fd)
        file = (status.st_dev, status.st_ino)
        if mode == self.LK_UNLCK:
            assert self._held.pop(file) == fd
        elif file in self._held:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            self._held[file] = fd


O_BINARY = 0x8000


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Msvcrt]:
    """The module as on Windows, while the test runs, and what it finds there."""
    msvcrt = Msvcrt()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "O_BINARY", O_BINARY, raising=False)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, msvcrt

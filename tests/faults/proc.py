"""What Linux tells of a process: memory, descriptors, threads, children, CPU time."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has a /proc that tells"
)


@dataclass(frozen=True)
class Holdings:
    """What a process has at a moment; `memory` is what is resident, in bytes."""

    memory: int
    descriptors: int
    threads: int
    children: int


def holdings(pid: int) -> Holdings:
    directory = Path(f"/proc/{pid}")
    return Holdings(
        _status(pid, "VmRSS") * 1024,
        len(os.listdir(directory / "fd")),
        _status(pid, "Threads"),
        sum(
            len(path.read_text(encoding="utf-8").split())
            for path in directory.glob("task/*/children")
        ),
    )


def peak_memory(pid: int) -> int:
    """The most bytes that have been resident."""
    return _status(pid, "VmHWM") * 1024


def cpu_seconds(pid: int) -> float:
    """CPU time used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)

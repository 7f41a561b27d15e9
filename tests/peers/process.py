"""A server of somebody else as a process of its own: started, awaited, ended by its pid.

Each peer prints `listening on PORT` once it accepts connections. What it prints goes to a file,
never to a pipe that could fill up; tests may read there what happened on the server's side.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_LIMIT = 60.0
"""Seconds until a peer must listen: an interpreter that starts on a busy machine, with room."""

_LISTENING = re.compile(r"^listening on (\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Peer:
    """A running server: where it is and what it has printed."""

    url: str
    port: int
    log: Path

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    path: str = "/mcp",
    env: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    """Run `command` as a peer; it is killed at the end, for there is nothing it must save."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
        )
    try:
        port = _port(process, log)
        yield Peer(f"http://127.0.0.1:{port}{path}", port, log)
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    give_up = time.monotonic() + START_LIMIT
    while time.monotonic() < give_up:
        ended = process.poll() is not None
        printed = log.read_text(encoding="utf-8", errors="replace")
        if found := _LISTENING.search(printed):
            return int(found[1])
        if ended:
            raise RuntimeError(f"the peer ended with {process.returncode}:\n{printed}")
        time.sleep(0.02)
    raise RuntimeError(f"the peer does not listen after {START_LIMIT:g} s:\n{printed}")

"""The relay as a real process: started, spoken to through its pipes, always gone at the end.

    async with running(url, "--drain-timeout", "0.5") as relay:
        await relay.shake_hands()
        answer = await relay.ask("tools/list")
        relay.close_stdin()
        assert await relay.wait() == 0

Nothing is read from its stdout unless the test asks for it, so that a test can be the client that
does not read. What it says on stderr goes to a file. Every wait is bounded.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import trio

import mcp_stdio

LIMIT = 30.0
"""Seconds after which a step that should take a moment counts as stuck."""

SOURCE = str(Path(mcp_stdio.__file__).parent.parent)

INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}

Json = dict[str, Any]


class Relay:
    """One running `mcp-stdio`. `errors` is what it has said on stderr so far.

    A read that takes longer than `limit` seconds fails.
    """

    def __init__(self, process: trio.Process, errors: IO[bytes], limit: float = LIMIT) -> None:
        self._limit = limit
        self._process = process
        self._errors = errors
        self._buffer = bytearray()
        self._ids = itertools.count(1)
        self._writing = trio.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    # What the client says

    async def write(self, data: bytes) -> None:
        """Write these bytes, whatever they are."""
        assert self._process.stdin is not None
        with trio.fail_after(LIMIT):
            async with self._writing:
                await self._process.stdin.send_all(data)

    async def send(self, **members: Any) -> None:
        """Write one message."""
        await self.write(line(**members))

    async def request(self, method: str, params: Json | None = None) -> int:
        """Write a request and return its id."""
        id = next(self._ids)
        await self.send(id=id, method=method, params=params or {})
        return id

    async def ask(self, method: str, params: Json | None = None) -> Json:
        """Write a request and read until its answer; what comes before that is dropped."""
        return await self.answer_to(await self.request(method, params))

    async def shake_hands(self, version: str = "2025-06-18") -> Json:
        """Open a session and return the server's result."""
        answer = await self.ask("initialize", INITIALIZE | {"protocolVersion": version})
        await self.send(method="notifications/initialized")
        result: Json = answer["result"]
        return result

    async def close_stdin(self) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    async def close_stdout(self) -> None:
        """Stop being there to read."""
        assert self._process.stdout is not None
        await self._process.stdout.aclose()

    # What the client hears

    async def read_line(self) -> bytes:
        """The next line without its end; `b""` once stdout is closed. A torn line fails."""
        while (end := self._buffer.find(b"\n")) < 0:
            if not await self._read_more():
                assert not self._buffer, f"torn line: {bytes(self._buffer[-200:])!r}"
                return b""
        found = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return found

    async def read(self) -> Json:
        """The next message."""
        raw = await self.read_line()
        assert raw, f"stdout is closed; stderr: {self.errors}"
        message: Json = json.loads(raw)
        return message

    async def answer_to(self, id: object) -> Json:
        """Read until the response with this id; what comes before it is dropped."""
        while True:
            message = await self.read()
            if message.get("id") == id and "method" not in message:
                return message

    async def rest(self) -> list[Json]:
        """All messages until stdout is closed."""
        messages = []
        while raw := await self.read_line():
            messages.append(json.loads(raw))
        return messages

    async def read_some(self, size: int, patience: float = 0.01) -> int:
        """Take at most so many bytes, as a slow reader would; how many there were in time."""
        taken = 0
        with trio.move_on_after(patience):
            while taken < size and (count := await self._read_more(size - taken)):
                taken += count
        return taken

    async def _read_more(self, size: int = 1 << 20) -> int:
        assert self._process.stdout is not None
        with trio.fail_after(self._limit):
            data = await self._process.stdout.receive_some(size)
        self._buffer += data
        return len(data)

    # Its life

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a word, on every system."""
        self._process.kill()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def wait(self, limit: float = LIMIT) -> int:
        """Wait for its end; the exit code."""
        with trio.fail_after(limit):
            return await self._process.wait()

    def resident(self) -> int:
        """Bytes of memory it occupies now (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@asynccontextmanager
async def running(
    url: object,
    *options: str,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.PIPE,
    stdout: int | IO[bytes] = subprocess.PIPE,
    wrapper: Sequence[str] = (),
    limit: float = LIMIT,
) -> AsyncIterator[Relay]:
    """`mcp-stdio *options url`; killed at the end if it is still there.

    `wrapper` is a command that becomes it.
    """
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            [*wrapper, *command(url, *options)],
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
            env=environment(env),
        )
        try:
            yield Relay(process, errors, limit)
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        await pipe.aclose()


def command(url: object, *options: str) -> list[str]:
    """The command line that starts the relay of this checkout."""
    return [sys.executable, "-m", "mcp_stdio", *options, str(url)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without proxies and credentials, this checkout importable, and `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("MCP_")
    }
    return kept | {"PYTHONPATH": SOURCE} | dict(more or {})


def line(**members: Any) -> bytes:
    """One message as a client writes it."""
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"

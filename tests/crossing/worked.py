"""The SDK 2.x client, which runs in an environment of its own, worked from a test.

    async with connected(url, errors, "--bridge", "always", mode=MODERN) as client:
        result = await client.do("call_tool", name="echo", arguments={"text": "hi"})
        await client.wait_to_hear("notifications/message")

What can be done is the table in `tests/peers/sdk2/client.py`. Every wait is bounded.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import trio

from tests.conftest import unavailable
from tests.peers.installing import Unavailable
from tests.peers.sdk2 import environment
from tests.process import command
from tests.process import environment as variables

LIMIT = 60.0
"""Seconds after which a conversation that should take one or two counts as stuck."""

MODERN: Literal["2026-07-28"] = "2026-07-28"
Mode = Literal["auto", "legacy", "2026-07-28"]
Json = dict[str, Any]


class Refused(Exception):
    """What was to be done has ended in an error."""

    def __init__(self, error: Json) -> None:
        super().__init__(json.dumps(error))
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


class Client:
    """A connected client. `told` is all that it has told unasked, in order."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._answers: dict[int, Json] = {}
        self._news = trio.Event()
        self._has_ended = False
        self.told: list[Json] = []

    async def begin(self, what: str, **given: Any) -> int:
        """Set something going; its id."""
        id = next(self._ids)
        assert self._process.stdin is not None
        line = json.dumps({"id": id, "do": what, "with": given})
        await self._process.stdin.send_all(line.encode() + b"\n")
        return id

    async def outcome(self, id: int) -> Any:
        """What has come of it; None if it was cancelled. Raises Refused."""
        while id not in self._answers:
            await self._more()
        answer = self._answers.pop(id)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer.get("result")

    async def do(self, what: str, **given: Any) -> Any:
        return await self.outcome(await self.begin(what, **given))

    async def call(self, tool: str, **arguments: Any) -> Json:
        result: Json = await self.do("call_tool", name=tool, arguments=arguments)
        return result

    async def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool that answers in text."""
        result = await self.call(tool, **arguments)
        return "\n".join(part["text"] for part in result["content"] if part["type"] == "text")

    async def wait_to_be_told(self, is_meant: Callable[[Json], bool]) -> Json:
        """The first thing of a kind that was told or will be; bounded by the test."""
        while True:
            for told in self.told:
                if is_meant(told):
                    return told
            await self._more()

    async def event(self, method: str) -> Json:
        """What a listen stream says with this notification."""
        told = await self.wait_to_be_told(
            lambda told: told.get("event", {}).get("method") == method
        )
        event: Json = told["event"]
        return event

    async def listening(self) -> Json:
        """What the server has agreed to say on the listen stream."""
        honoured: Json = (await self.wait_to_be_told(lambda told: "listening" in told))["listening"]
        return honoured

    def heard(self, method: str) -> list[Json]:
        """The notifications of this method so far."""
        found = [told["heard"] for told in self.told if "heard" in told]
        return [heard for heard in found if heard["method"] == method]

    @property
    def progress(self) -> list[Json]:
        return [told["progress"] for told in self.told if "progress" in told]

    @property
    def asked(self) -> list[Json]:
        """What the user was asked."""
        return [told["asked"] for told in self.told if "asked" in told]

    async def read_on(self) -> None:
        """Take in what the client tells until it ends."""
        assert self._process.stdout is not None
        buffer = b""
        async for chunk in self._process.stdout:
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                told: Json = json.loads(line)
                if "id" in told:
                    self._answers[told["id"]] = told
                else:
                    self.told.append(told)
            self._news.set()
            self._news = trio.Event()
        self._has_ended = True
        self._news.set()

    async def _more(self) -> None:
        assert not self._has_ended, "the client has ended"
        await self._news.wait()


@asynccontextmanager
async def connected(
    url: str,
    errors: Path,
    *options: str,
    mode: Mode = "auto",
    log_level: str | None = None,
    answer: Json | None = None,
) -> AsyncIterator[Client]:
    """A client that has opened through the relay, which has nothing to complain of until its end.

    Raises Refused where the server does not let it in. `answer` is the user's to every
    elicitation. What both say on stderr goes to `errors`.
    """
    try:
        script = environment.script("client.py")
    except Unavailable as exc:
        unavailable(str(exc))
    arguments = ["--mode", mode, *(["--log-level", log_level] if log_level else [])]
    if answer is not None:
        arguments += ["--answer", json.dumps(answer)]
    with errors.open("wb") as log:
        process = await trio.lowlevel.open_process(
            [str(part) for part in (*script, *arguments, "--", *command(url, *options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=variables(),
        )
    client = Client(process)
    try:
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.read_on)
                opening = await client.wait_to_be_told(lambda _: True)
                if "refused" not in opening:
                    yield client
                assert process.stdin is not None
                await process.stdin.aclose()
            assert await process.wait() == 0
        if "refused" in opening:
            raise Refused(opening["refused"])
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()
    said = errors.read_text(encoding="utf-8", errors="replace")
    assert len(said.splitlines()) <= 1, said

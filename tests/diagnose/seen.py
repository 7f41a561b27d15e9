"""`mcp-stdio test` as a process, and what a person sees of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import trio

from mcp_stdio import __version__
from mcp_stdio.http.url import Url
from tests.cli.command import LIMIT, run

_TIME = re.compile(r"  \((?:\d+ ms|\d+\.\d s)\)$", re.MULTILINE)
_TOTAL = re.compile(r"in (?:\d+ ms|\d+\.\d s)$")

ARRIVED = """\
ok      name        `127.0.0.1` is an address already
ok      proxy       none is set
ok      TCP         connected to 127.0.0.1, port PORT
"""
"""What is told of the way to a server on this machine."""

ASKED_FOR_NOTHING = "ok      credential  none is sent, and none is asked for\n"


@dataclass(frozen=True)
class Seen:
    """How a test ended. `text` is what stood on stderr, without what changes from run to run."""

    code: int
    text: str
    done: subprocess.CompletedProcess[str]

    @property
    def body(self) -> str:
        """What is told of the stages after the settings."""
        return "".join(self.text.splitlines(keepends=True)[2:])

    def told(self, name: str) -> str:
        """What is told of one stage, its mark first."""
        lines = [line for line in self.text.splitlines() if line[8:].startswith(f"{name:<10}  ")]
        assert len(lines) == 1, self.text
        return f"{lines[0][:6].rstrip()}: {lines[0][20:]}"

    @property
    def stages(self) -> dict[str, str]:
        """The marks of the stages, by their names, in their order."""
        rows = [line.split()[:2] for line in self.text.splitlines()[1:-1]]
        return {row[1]: row[0] for row in rows if row[0] in ("ok", "FAILED", "STOPPED")}


async def examined(url: Url | str, *options: str, env: Mapping[str, str] | None = None) -> Seen:
    """Run the test of this URL to its end."""
    with trio.fail_after(LIMIT):
        done = await trio.to_thread.run_sync(partial(run, "test", *options, str(url), env=env))
    text = _TOTAL.sub("in TIME", _TIME.sub("", done.stderr.rstrip("\n"))) + "\n"
    text = text.replace(f"mcp-stdio {__version__} ", "mcp-stdio VERSION ")
    port = Url.parse(str(url)).port
    return Seen(done.returncode, re.sub(rf"\b{port}\b", "PORT", text), done)


def http(status: str, body: str = "", *headers: str) -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


JSON = "Content-Type: application/json"


def not_reached(*before: str) -> str:
    """The line about the stages that were not reached, which are these and those that follow."""
    rest = ("protocol", "initialize", "tools", "resources", "prompts", "listening", "farewell")
    return f"-       skipped     {', '.join([*before, *rest])}\n"


AFTER_PROTOCOL = not_reached().replace("protocol, ", "")

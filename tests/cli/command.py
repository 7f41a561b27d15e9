"""The command as a process of its own, started as a shell would start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import mcp_stdio

LIMIT = 60.0
"""Seconds after which a command that should take less than one counts as stuck."""

_NOT_INHERITED = (
    *("MCP_BEARER_TOKEN", "MCP_OAUTH_CLIENT_ID", "MCP_OAUTH_CLIENT_SECRET"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    "PYTHONUNBUFFERED",  # whether a pipe is closed must show when buffers are flushed as well
)


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child gets: nothing of ours that could change what it does, and the package."""
    kept = {name: value for name, value in os.environ.items() if name.upper() not in _NOT_INHERITED}
    source = str(Path(mcp_stdio.__file__).parent.parent)
    return {**kept, "PYTHONPATH": source, "COLUMNS": "80", **(given or {})}


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with nothing on stdin."""
    return subprocess.run(
        [sys.executable, "-bb", "-W", "error", "-m", "mcp_stdio", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        env=environment(env),
        check=False,
    )


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start the command with three pipes; whoever starts it ends it."""
    new_group = 0
    if sys.platform == "win32":
        new_group = subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(
        [sys.executable, "-m", "mcp_stdio", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        creationflags=new_group,
    )


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """What Ctrl-C does."""
    if sys.platform == "win32":
        process.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        process.send_signal(signal.SIGINT)

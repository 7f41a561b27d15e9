"""Each block as a client reads it: parsed, its references looked up, the program started with it.

The clients themselves are no part of this: `lookups` says what their documentation says they do.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mcp_stdio.clients.table import CLIENTS
from mcp_stdio.demo.server import Server
from tests.cli.command import run
from tests.process import Relay, environment

TOKEN = "MCP_BEARER_TOKEN"

SECRETS = {TOKEN: "t0k3n", "MINE": "m1n3"}
"""What the user has set for the client, or tells it when asked."""


def started_by(client: str, text: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of what `client` starts, given the block."""
    whole = tomllib.loads(text) if client == "codex" else json.loads(text)
    [entry] = whole[
        {"codex": "mcp_servers", "vscode": "servers"}.get(client, "mcpServers")
    ].values()
    arguments, env = entry["args"], entry.get("env", {})
    match client:
        case "claude-code" | "gemini":
            arguments, env = looked_up([arguments, env], r"\$\{(\w+)\}", SECRETS)
        case "cursor" | "cline":
            arguments, env = looked_up([arguments, env], r"\$\{env:(\w+)\}", SECRETS)
        case "vscode":
            # Each input is asked for by its id; its description says what it is.
            told = {
                asked["id"]: SECRETS["MINE" if "X-Mine" in asked["description"] else TOKEN]
                for asked in whole["inputs"]
                if asked["type"] == "promptString" and asked["password"] is True
            }
            arguments, env = looked_up([arguments, env], r"\$\{input:([\w-]+)\}", told)
        case "codex":
            env = {name: SECRETS[name] for name in entry["env_vars"]}
        case _:
            assert set(env.values()) == {"REPLACE-ME"}
            env = {name: SECRETS[name] for name in env}
    return [entry["command"], *arguments], env


def looked_up(value: Any, pattern: str, known: Mapping[str, str]) -> Any:
    """The value with every reference in its strings replaced; all must be known."""
    match value:
        case str():
            return re.sub(pattern, lambda found: known[found[1]], value)
        case list():
            return [looked_up(each, pattern, known) for each in value]
        case dict():
            return {name: looked_up(each, pattern, known) for name, each in value.items()}
    return value


@asynccontextmanager
async def client_of(command: list[str], env: Mapping[str, str]) -> AsyncIterator[Relay]:
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(env),
        )
        try:
            yield Relay(process, errors)
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                for pipe in (process.stdin, process.stdout):
                    assert pipe is not None
                    await pipe.aclose()


@pytest.mark.parametrize("client", [*CLIENTS, "another"])
async def test_a_pasted_block_relays(client: str, nursery: trio.Nursery) -> None:
    server = Server()
    url = await nursery.start(server.serve)
    choice = ["--client", client] if client in CLIENTS else []
    options = ["-H", "X-Mine: ${MINE}", "--drain-timeout", "0.5", "--bearer-token", "t0k3n"]
    done = await trio.to_thread.run_sync(lambda: run("config", url, *choice, *options))
    assert done.returncode == 0, done.stderr
    assert not any(secret in done.stdout for secret in SECRETS.values())
    command, env = started_by(client, done.stdout)
    async with client_of(command, env) as relay:
        await relay.shake_hands()
        answer = await relay.ask("tools/call", {"name": "echo", "arguments": {"text": "hello"}})
        assert answer["result"]["content"] == [{"type": "text", "text": "hello"}]
        await relay.close_stdin()
        assert await relay.wait() == 0
        assert relay.errors.count("\n") <= 1
    assert {request.get("authorization") for request in server.requests} == {"Bearer t0k3n"}
    assert {request.get("x-mine") for request in server.requests} == {"m1n3"}
    nursery.cancel_scope.cancel()

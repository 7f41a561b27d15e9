"""The client of the official Python SDK 2.x, worked by whoever writes lines to it.

    python client.py [options] -- COMMAND...       connects over stdio to the server that is started

`--mode` says how it opens: `auto` (probes with `server/discover`, falls back to `initialize`),
`legacy`, or `2026-07-28`, which has no fallback. Each line of stdin is one thing to do, at once
with the others; each line of stdout what has come of it or what the server has said. At the end of
stdin it closes the connection.

    {"id": 1, "do": "call_tool", "with": {"name": "echo", "arguments": {"text": "hi"}}}
    {"id": 1, "result": {"content": [{"type": "text", "text": "hi"}], ...}}
    {"id": 2, "do": "cancel", "with": {"id": 1}}
    {"heard": {"method": "notifications/message", "params": {"level": "info", "data": "text"}}}
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.subscriptions import event_to_notification
from mcp_types import (
    CreateMessageResult,
    ElicitResult,
    ErrorData,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    Root,
    TextContent,
)
from pydantic import BaseModel

warnings.simplefilter("ignore")  # part of what is tried here is deprecated

Json = dict[str, Any]


def tell(**members: Any) -> None:
    print(json.dumps(members), flush=True)  # noqa: T201


def plain(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return result


class Worked:
    """One connected client and what it is doing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._things: dict[str, Callable[..., Awaitable[Any]]] = {
            "about": self.about,
            "cancel": self.cancel,
            "complete": self.complete,
            "listen": self.listen,
            "call_tool": self.call_tool,
            "get_prompt": client.get_prompt,
            "list_prompts": client.list_prompts,
            "list_resource_templates": client.list_resource_templates,
            "list_resources": client.list_resources,
            "list_tools": client.list_tools,
            "read_resource": client.read_resource,
            "set_logging_level": client.set_logging_level,
            "subscribe_resource": client.subscribe_resource,
        }

    async def do(self, id: int, what: str, given: Json) -> None:
        with anyio.CancelScope() as self._scopes[id]:
            try:
                tell(id=id, result=plain(await self._things[what](**given)))
            except MCPError as exc:
                tell(id=id, error=plain(exc.error))
            except Exception as exc:  # noqa: BLE001 - whoever works this client gets to hear it
                tell(id=id, error={"code": 0, "message": f"{type(exc).__name__}: {exc}"})
        if self._scopes.pop(id).cancelled_caught:
            tell(id=id, cancelled=True)

    async def about(self) -> Json:
        return {
            "protocolVersion": self._client.protocol_version,
            "serverInfo": plain(self._client.server_info),
            "capabilities": plain(self._client.server_capabilities),
            "instructions": self._client.instructions,
        }

    async def cancel(self, id: int) -> None:
        self._scopes[id].cancel()

    async def call_tool(self, name: str, arguments: Json | None = None) -> Any:
        async def progress(progress: float, total: float | None, message: str | None) -> None:
            tell(progress={"tool": name, "at": progress, "of": total, "message": message})

        return await self._client.call_tool(name, arguments, progress_callback=progress)

    async def complete(self, ref: Json, argument: dict[str, str], context: Any = None) -> Any:
        of = PromptReference if ref["type"] == "ref/prompt" else ResourceTemplateReference
        return await self._client.complete(of.model_validate(ref), argument, context)

    async def listen(self, **filters: Any) -> str:
        """Tell each event as a notification, until the stream ends or this is cancelled."""
        async with self._client.listen(**filters) as subscription:
            tell(listening=plain(subscription.honored))
            try:
                async for event in subscription:
                    tell(event=plain(event_to_notification(event, {})))
            except SubscriptionLost:
                return "lost"
        return "ended"


class User:
    """Answers what the server asks as it was told on the command line."""

    def __init__(self, answer: Json) -> None:
        self._answer = answer

    async def elicit(self, context: Any, params: Any) -> ElicitResult | ErrorData:
        tell(asked=plain(params))
        return ElicitResult.model_validate(self._answer)

    async def sample(self, context: Any, params: Any) -> CreateMessageResult:
        tell(asked=plain(params))
        content = TextContent(type="text", text="a sampled word")
        return CreateMessageResult(role="assistant", content=content, model="none")

    async def roots(self, context: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri="file:///projects/one", name="one")])

    async def hear(self, message: Any) -> None:
        if isinstance(message, Exception):
            tell(failed=f"{type(message).__name__}: {message}")
        else:
            tell(heard=plain(message))


async def work(client: Client) -> None:
    worked = Worked(client)
    async with anyio.create_task_group() as tasks:
        async for line in anyio.wrap_file(sys.stdin):
            job = json.loads(line)
            tasks.start_soon(worked.do, job["id"], job["do"], job.get("with", {}))
        tasks.cancel_scope.cancel()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--log-level")
    parser.add_argument("--answer", type=json.loads, default={"action": "accept", "content": {}})
    parser.add_argument("command", nargs="+")
    wanted = parser.parse_args()
    command, *arguments = wanted.command
    server = StdioServerParameters(
        command=command, args=arguments, env={"PYTHONPATH": os.environ["PYTHONPATH"]}
    )
    user = User(wanted.answer)
    client = Client(
        server,
        mode=wanted.mode,
        log_level=wanted.log_level,
        elicitation_callback=user.elicit,
        sampling_callback=user.sample,
        list_roots_callback=user.roots,
        message_handler=user.hear,
        cache=None,
    )
    try:
        async with client:
            tell(opened=client.protocol_version)
            await work(client)
    except* MCPError as group:
        refusal: BaseException = group
        while isinstance(refusal, BaseExceptionGroup):
            refusal = refusal.exceptions[0]
        assert isinstance(refusal, MCPError)
        tell(refused=plain(refusal.error))


if __name__ == "__main__":
    anyio.run(main)

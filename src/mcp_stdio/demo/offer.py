"""What the demo's server has to offer: five tools, two resources, a prompt.

Owns names, schemas and behaviour. Refuses to know HTTP, headers and sessions (`server`). Kept here:
every execution of a tool is noted, so that tests can count them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.demo.session import LEVELS, Call, Error
from mcp_stdio.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND

RESOURCE_NOT_FOUND = -32002
MAX_NOTED = 100_000
LARGEST = 1e300
"""Numbers from here on are not calculated with: JSON has larger ones than Python's floats."""

HIGHEST = 1_000_000
"""Where a countdown begins at most: each step may be an event."""

LOG_URI = "demo://log"
WELCOME_URI = "demo://welcome"

CAPABILITIES: Mapping[str, Any] = {
    "tools": {},
    "resources": {"subscribe": True},
    "prompts": {},
    "logging": {},
}


class Failure(Exception):
    """A tool that failed: the model is told, the call itself succeeds (`isError`)."""


@dataclass(slots=True)
class Execution:
    """One run of a tool: `how` is `running`, then `done`, `failed` or `cancelled`.

    A client that has left counts as having cancelled, as far as the server notices it.
    """

    tool: str
    arguments: Mapping[str, Any]
    how: str = "running"
    over: trio.Event = field(default_factory=trio.Event, repr=False, compare=False)

    def end(self, how: str) -> None:
        """Note how it went and tell whoever waits for that."""
        self.how = how
        self.over.set()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as `tools/list` shows it, and what it does."""

    name: str
    description: str
    properties: Mapping[str, Any]
    run: Callable[[Call, Mapping[str, Any]], Awaitable[str]]

    def shown(self) -> dict[str, Any]:
        """The tool's entry in a list."""
        schema = {"type": "object", "properties": self.properties}
        return {"name": self.name, "description": self.description, "inputSchema": schema}


async def echo(_: Call, arguments: Mapping[str, Any]) -> str:
    """Give back what came."""
    return str(arguments.get("text", ""))


async def add(_: Call, arguments: Mapping[str, Any]) -> str:
    """Add two numbers."""
    return f"{_number(arguments, 'a') + _number(arguments, 'b'):g}"


async def countdown(call: Call, arguments: Mapping[str, Any]) -> str:
    """Count down, with progress at each step."""
    start = int(_number(arguments, "from", 3))
    if start > HIGHEST:
        raise Failure(f"nobody has the patience to count down from more than {HIGHEST}")
    pause = max(0.0, _number(arguments, "pause", 0.2))
    await call.log("info", f"counting down from {start}")
    for passed in range(start):
        await call.progress(passed + 1, start, f"{start - passed} to go")
        await trio.sleep(pause)
    return "lift-off"


async def ask(call: Call, arguments: Mapping[str, Any]) -> str:
    """Ask the user for a name."""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "title": "Your name"}},
        "required": ["name"],
    }
    answer = await call.ask(str(arguments.get("question", "What is your name?")), schema)
    content = answer.get("content")
    if answer.get("action") != "accept" or not isinstance(content, dict):
        return "The user does not want to answer"
    return f"Hello, {content.get('name')}"


async def wait(call: Call, _: Mapping[str, Any]) -> str:
    """Wait until the call is cancelled."""
    await call.response.begin()
    await call.progress(0, 1, "waiting")
    await trio.sleep_forever()


_NUMBER = {"type": "number"}
_TEXT = {"type": "string"}

TOOLS = {
    tool.name: tool
    for tool in (
        Tool("echo", "Gives back the text", {"text": _TEXT}, echo),
        Tool("add", "Adds two numbers", {"a": _NUMBER, "b": _NUMBER}, add),
        Tool(
            "countdown",
            "Counts down and tells how far it is",
            {"from": {"type": "integer"}, "pause": _NUMBER},
            countdown,
        ),
        Tool("ask", "Asks the user a question", {"question": _TEXT}, ask),
        Tool("wait", "Waits until it is cancelled", {}, wait),
    )
}

PROMPT = {
    "name": "greet",
    "description": "A friendly greeting",
    "arguments": [{"name": "name", "description": "Who is greeted", "required": True}],
}

RESOURCES = [
    {"uri": WELCOME_URI, "name": "welcome", "mimeType": "text/plain"},
    {"uri": LOG_URI, "name": "log", "mimeType": "text/plain", "description": "Tools called so far"},
]


class Offer:
    """Carries out requests; `changed` is told the URI of a resource that has changed."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.executions: deque[Execution] = deque(maxlen=MAX_NOTED)
        self._changed = changed

    async def answer(self, call: Call) -> Mapping[str, Any]:
        """The result of a request. Raises Error."""
        params = call.request.params
        match call.request.method:
            case spec.PING:
                return {}
            case spec.SET_LEVEL:
                call.session.level = _one_of(params, "level", LEVELS)
                return {}
            case "tools/list":
                return {"tools": [tool.shown() for tool in TOOLS.values()]}
            case "tools/call":
                return await self._run(call, TOOLS[_one_of(params, "name", TOOLS)])
            case "resources/list":
                return {"resources": RESOURCES}
            case "resources/templates/list":
                return {"resourceTemplates": []}
            case "resources/read":
                return self._read(_uri(params))
            case spec.SUBSCRIBE:
                call.session.subscriptions.add(_uri(params))
                return {}
            case spec.UNSUBSCRIBE:
                call.session.subscriptions.discard(_uri(params))
                return {}
            case "prompts/list":
                return {"prompts": [PROMPT]}
            case "prompts/get":
                return _prompt(params)
            case other:
                raise Error(METHOD_NOT_FOUND, f"there is no method `{other}`")

    async def _run(self, call: Call, tool: Tool) -> Mapping[str, Any]:
        arguments = call.request.params.get("arguments", {})
        if not isinstance(arguments, dict):
            raise Error(INVALID_PARAMS, "`arguments` is not an object")
        execution = Execution(tool.name, arguments)
        self.executions.append(execution)
        self._changed(LOG_URI)
        how = "cancelled"
        try:
            text = await tool.run(call, arguments)
            how = "done"
        except Failure as exc:
            how = "failed"
            return {"content": [{"type": "text", "text": str(exc)}], "isError": True}
        finally:
            execution.end(how)
        return {"content": [{"type": "text", "text": text}]}

    def _read(self, uri: str) -> Mapping[str, Any]:
        text = "Welcome to the demo"
        if uri == LOG_URI:
            text = "\n".join(execution.tool for execution in self.executions)
        return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]}


def _prompt(params: Mapping[str, Any]) -> Mapping[str, Any]:
    _one_of(params, "name", ("greet",))
    arguments = params.get("arguments")
    name = arguments.get("name") if isinstance(arguments, dict) else None
    if not isinstance(name, str):
        raise Error(INVALID_PARAMS, "the prompt needs the argument `name`")
    content = {"type": "text", "text": f"Please greet {name} warmly."}
    return {"messages": [{"role": "user", "content": content}]}


def _uri(params: Mapping[str, Any]) -> str:
    uri = params.get("uri")
    if uri not in (LOG_URI, WELCOME_URI):
        raise Error(RESOURCE_NOT_FOUND, "there is no such resource")
    return str(uri)


def _one_of(params: Mapping[str, Any], name: str, known: Any) -> str:
    value = params.get(name)
    if not isinstance(value, str) or value not in known:
        raise Error(INVALID_PARAMS, f"`{name}` is not one of {', '.join(known)}")
    return value


def _number(arguments: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Failure(f"`{name}` is not a number")
    if not abs(value) < LARGEST:
        raise Failure(f"`{name}` is too large a number")
    return value

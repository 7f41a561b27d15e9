"""What a client said of itself in `initialize`, for a server that wants to hear it every time.

Turns the handshake into `_meta` (B-1, B-2, B-6, B-7) and remembers what the client can be asked
(B-14). What the client wrote is cut out of its message and put in again, not printed anew. Plain
synchronous code: knows no connection and no server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_stdio import jsonrpc, spec, splice
from mcp_stdio.errors import CannotBridge
from mcp_stdio.jsonrpc import Id, Message


@dataclass(frozen=True, slots=True)
class Introduction:
    """A client of the handshake era; `info` and `capabilities` are JSON, as the server gets it."""

    version: str
    """The revision that the client is answered with (B-2)."""
    requested: object
    """The one it asked for."""
    info: str | None
    capabilities: str
    _declared: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, initialize: Message) -> Introduction:
        """What an `initialize` request says."""
        text = initialize.raw.decode()
        requested = initialize.params.get("protocolVersion")
        declared = initialize.params.get("capabilities")
        return cls(
            version=requested if requested in spec.HANDSHAKE_VERSIONS else spec.R4,
            requested=requested,
            info=_object(text, "params", "clientInfo"),
            capabilities=_capabilities(_object(text, "params", "capabilities") or "{}"),
            _declared=declared if isinstance(declared, dict) else {},
        )

    def discover(self, id: Id) -> Message:
        """The question that stands for the handshake (B-1)."""
        return self.stamp(jsonrpc.request(id, spec.DISCOVER))

    def listen(self, id: Id, filter: Mapping[str, object]) -> Message:
        """The request for a stream of these notifications (B-12)."""
        # Log messages belong to requests only (T-72), so this one names no level.
        return self.stamp(jsonrpc.request(id, spec.LISTEN, {"_meta": {}, "notifications": filter}))

    def stamp(self, message: Message, level: str | None = None) -> Message:
        """The message with what makes it stand for itself, and without a `task` (B-6).

        `level` is that of the log messages the client wants. What else is in `_meta` stays. Raises
        CannotBridge, TooDeep.
        """

        def change(text: str) -> str:
            if "task" in message.params:
                text = splice.drop(text, "params", "task")
            meta = _object(text, "params", "_meta") or "{}"
            for name, value in self._meta(level):
                meta = splice.put(meta, value, name, last=True)
            return splice.put(text, meta, "params", "_meta", last=True)

        if not isinstance(message.body.get("params", {}), dict):
            raise CannotBridge(
                "parameters by position cannot be bridged", hint="name the parameters"
            )
        return message.edited(change)

    def _meta(self, level: str | None) -> list[tuple[str, str]]:
        meta = [(spec.META_VERSION, splice.encode(spec.R5))]
        if self.info is not None:
            meta.append((spec.META_CLIENT_INFO, self.info))
        meta.append((spec.META_CLIENT_CAPABILITIES, self.capabilities))
        if level is not None:
            meta.append((spec.META_LOG_LEVEL, splice.encode(level)))
        return meta

    def takes(self, method: object, params: Mapping[str, Any]) -> bool:
        """Whether the client said that it can be asked this (B-14, step 1)."""
        match method:
            case spec.LIST_ROOTS:
                return _declares(self._declared, "roots")
            case spec.SAMPLE if "tools" in params or "toolChoice" in params:
                return _declares(self._declared, "sampling", "tools")
            case spec.SAMPLE:
                return _declares(self._declared, "sampling")
            case spec.ELICIT if params.get("mode", "form") == "form":
                # The bare `elicitation` of older revisions means forms.
                return _declares(self._declared, "elicitation") and (
                    _declares(self._declared, "elicitation", "form")
                    or not _declares(self._declared, "elicitation", "url")
                )
            case spec.ELICIT if params["mode"] == "url":
                return _declares(self._declared, "elicitation", "url")
        return False


def _capabilities(text: str) -> str:
    """Capabilities of the client as the server may know them (B-7)."""
    nulls = [name for name, _, value, end in splice.members(text) if text[value:end] == "null"]
    for name in nulls:  # how some libraries write what is not there
        text = splice.drop(text, name)
    text = splice.drop(text, "tasks")
    text = splice.drop(text, "extensions", spec.TASKS_EXTENSION)  # B-40
    # Of roots only that there are any: nobody is told of their changes in the stateless era (B-9).
    return splice.edit(text, lambda roots: "{}" if roots[0] == "{" else roots, "roots")


def _object(text: str, *path: str) -> str | None:
    found = splice.get(text, *path)
    return found if found is not None and found[0] == "{" else None


def _declares(declared: Mapping[str, Any], *path: str) -> bool:
    value: Any = declared
    for name in path:
        if not isinstance(value, dict) or not isinstance(value.get(name), dict):
            return False
        value = value[name]
    return True

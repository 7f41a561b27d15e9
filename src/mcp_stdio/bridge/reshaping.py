"""Messages of a stateless client made fit for a server of the handshake era, and back.

Values in, values out: what is said in which words, not when (B-50 to B-60, S-11, S-12). Everything
is cut and joined by `splice`, so that what we do not know stays as it was. Knows neither tasks nor
connections, nor what is in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_stdio import __version__, jsonrpc, spec, splice
from mcp_stdio.errors import CannotBridge
from mcp_stdio.jsonrpc import Id, Message

OWN_INFO = {"name": "mcp-stdio", "version": __version__}
"""`clientInfo` towards the server when the client did not introduce itself."""

REMOVED = frozenset({spec.INITIALIZE, spec.PING, spec.SET_LEVEL, spec.SUBSCRIBE, spec.UNSUBSCRIBE})
"""Methods that the stateless era does not have (B-57)."""

MEANINGLESS = frozenset(
    {spec.CANCELLED, spec.INITIALIZED, spec.PROGRESS, "notifications/roots/list_changed"}
)
"""Notifications of a client that are not for the server: it knows the request by another id, and
neither shook hands with this client nor asked it anything."""


# What the client asks


def refusal(request: Message) -> Message | None:
    """The error that answers a request which is not for the server; None for any other."""
    meta, id = spec.meta_of(request), request.id
    version, level = meta.get(spec.META_VERSION), meta.get(spec.META_LOG_LEVEL)

    def invalid(text: str) -> Message:
        return jsonrpc.error(id, jsonrpc.INVALID_PARAMS, text)

    if not isinstance(version, str):  # S-11
        return invalid(f"`_meta` lacks `{spec.META_VERSION}`")
    if version != spec.R5:  # S-12
        data = {"supported": [spec.R5], "requested": version}
        return jsonrpc.error(id, spec.UNSUPPORTED_VERSION, "Unsupported protocol version", data)
    if not isinstance(meta.get(spec.META_CLIENT_CAPABILITIES), dict):
        return invalid(f"`_meta` lacks `{spec.META_CLIENT_CAPABILITIES}`")
    if level is not None and level not in spec.LOG_LEVELS:
        return invalid(f"`{spec.META_LOG_LEVEL}` is no log level")
    if request.method in REMOVED:
        text = f"{request.method} does not exist in {spec.R5}"
        return jsonrpc.error(id, jsonrpc.METHOD_NOT_FOUND, text)
    if request.method in spec.MAY_NEED_INPUT and not request.params.keys().isdisjoint(
        {"inputResponses", "requestState"}
    ):
        # Nothing here ever asked for input. To run it anew might do twice what it does.
        return invalid("nothing waits for this input; call again without `requestState`")
    if request.method == spec.LISTEN and not isinstance(request.params.get("notifications"), dict):
        return invalid("`notifications` is missing")
    return None


def request(message: Message, id: Id) -> Message:
    """A request under the id that the server knows it by, without what only our era says (B-53).

    Raises TooDeep.
    """
    return message.edited(
        lambda text: splice.put(_without_request_meta(text), splice.encode(id), "id")
    )


def notification(message: Message) -> Message:
    """A notification without what only our era says. Raises TooDeep."""
    return message.edited(_without_request_meta)


def _without_request_meta(text: str) -> str:
    meta = splice.get(text, "params", "_meta")
    if meta is None:
        return text
    for name in spec.REQUEST_META:
        meta = splice.drop(meta, name)
    if meta.startswith("{") and not splice.members(meta):
        return splice.drop(text, "params", "_meta")
    return splice.put(text, meta, "params", "_meta")


def initialize(id: Id, first: Message) -> Message:
    """The request that opens a session on behalf of whoever sent `first` (B-50, B-51).

    It declares no capability, so that the server asks nothing which could not be carried.
    """
    params = {"protocolVersion": spec.R4, "capabilities": {}, "clientInfo": OWN_INFO}
    message = jsonrpc.request(id, spec.INITIALIZE, params)
    if not isinstance(spec.meta_of(first).get(spec.META_CLIENT_INFO), dict):
        return message

    def change(text: str) -> str:
        info = splice.get(first.raw.decode(), "params", "_meta", spec.META_CLIENT_INFO)
        assert info is not None
        return splice.put(text, info, "params", "clientInfo")

    return message.edited(change)


# What the server answers


class Opened:
    """What the server said of itself in its answer to `initialize`."""

    def __init__(self, answer: Message) -> None:
        self._answer = answer
        capabilities = answer.result.get("capabilities")
        self.capabilities: Mapping[str, Any] = (
            capabilities if isinstance(capabilities, dict) else {}
        )

    def discovered(self, id: Id) -> Message:
        """The same as the answer to `server/discover` (B-52). Raises BadAnswer."""

        def change(result: str) -> str:
            result = splice.drop(result, "protocolVersion")
            result = splice.drop(result, "capabilities", "tasks")
            result = splice.drop(result, "serverInfo")
            result = splice.put(result, splice.encode([spec.R5]), "supportedVersions")
            if not isinstance(self._answer.result.get("capabilities"), dict):
                result = splice.put(result, "{}", "capabilities", last=True)
            return self._complete(result, spec.DISCOVER)

        return self._answered(self._answer, id, lambda text: splice.edit(text, change, "result"))

    def response(self, answer: Message, request: Message) -> Message:
        """The answer to a request, under the client's id (B-54, B-60).

        Raises CannotBridge for an answer that has no counterpart, BadAnswer.
        """
        assert request.id is not None
        if answer.error is not None:
            if answer.error.get("code") == spec.URL_ELICITATION_REQUIRED:
                raise CannotBridge(
                    "the server first wants a page opened in a browser, which cannot be passed on",
                    hint="use a client that opens pages for a server (URL elicitation)",
                )
            return self._answered(answer, request.id, lambda text: _error(text, answer, request))

        def change(result: str) -> str:
            if not result.startswith("{"):
                return result
            if request.method == spec.LIST_TOOLS:
                result = splice.edit_elements(result, _without_execution, "tools")
            return self._complete(result, request.method)

        return self._answered(answer, request.id, lambda text: splice.edit(text, change, "result"))

    def _complete(self, result: str, method: str) -> str:
        """What every result of the stateless era says."""
        if method in spec.CACHEABLE:
            result = splice.put(result, "0", "ttlMs", last=True)
            result = splice.put(result, '"private"', "cacheScope", last=True)
        info = splice.get(self._answer.raw.decode(), "result", "serverInfo")
        if info is not None and splice.get(result, "_meta", spec.META_SERVER_INFO) is None:
            result = splice.put(result, info, "_meta", spec.META_SERVER_INFO, last=True)
        return splice.put(result, '"complete"', "resultType")

    def _answered(self, answer: Message, id: Id, change: Callable[[str], str]) -> Message:
        return answer.edited(lambda text: splice.put(change(text), splice.encode(id), "id"))


def _without_execution(tool: str) -> str:
    return splice.drop(tool, "execution")


def _error(text: str, answer: Message, request: Message) -> str:
    if answer.error is None or answer.error.get("code") != spec.RESOURCE_NOT_FOUND:
        return text
    text = splice.put(text, str(jsonrpc.INVALID_PARAMS), "error", "code")
    data, uri = answer.error.get("data"), request.params.get("uri")
    if isinstance(uri, str) and (data is None or (isinstance(data, dict) and "uri" not in data)):
        text = splice.put(text, splice.encode(uri), "error", "data", "uri", last=True)
    return text


# Log levels (B-55)


def log_level(request: Message) -> str | None:
    """The level from which on a request wants log messages; None when it wants none."""
    level = spec.meta_of(request).get(spec.META_LOG_LEVEL)
    return level if isinstance(level, str) else None


def most_verbose(levels: Collection[str]) -> str:
    """The level that lets through whatever one of these lets through."""
    return min(levels, key=spec.LOG_LEVELS.index)


def suffices(message: Message, level: str) -> bool:
    """Whether a log message is important enough for who asked for `level`."""
    given = message.params.get("level")
    known = spec.LOG_LEVELS
    return given in known and known.index(given) >= known.index(level)


# Subscriptions (B-59)


@dataclass(frozen=True)
class Filter:
    """What a `subscriptions/listen` asks for or is granted: names of list changes, and URIs."""

    changes: tuple[str, ...]
    uris: tuple[str, ...]

    @classmethod
    def of(cls, request: Message) -> Filter:
        """What the request asks for, as far as it is known here."""
        asked = request.params.get("notifications")
        asked = asked if isinstance(asked, dict) else {}
        uris = asked.get("resourceSubscriptions")
        return cls(
            tuple(name for name in spec.LIST_CHANGES if asked.get(name) is True),
            tuple(dict.fromkeys(uri for uri in uris if isinstance(uri, str)))
            if isinstance(uris, list)
            else (),
        )

    def granted(self, capabilities: Mapping[str, Any], uris: Collection[str]) -> Filter:
        """The part that a server of these capabilities, subscribed to these `uris`, brings."""
        return Filter(
            tuple(name for name in self.changes if _tells(capabilities, name)),
            tuple(uri for uri in self.uris if uri in uris),
        )

    def wants(self, message: Message) -> bool:
        """Whether a notification of change is among it; a resource includes what is under it."""
        if message.method == spec.RESOURCE_UPDATED:
            updated = message.params.get("uri")
            return isinstance(updated, str) and any(_covers(uri, updated) for uri in self.uris)
        return any(spec.LIST_CHANGES[name][1] == message.method for name in self.changes)

    def acknowledgement(self) -> Message:
        """The notification that says what was granted."""
        granted: dict[str, Any] = dict.fromkeys(self.changes, True)
        if self.uris:
            granted["resourceSubscriptions"] = self.uris
        return jsonrpc.notification(spec.ACKNOWLEDGED, {"notifications": granted})

    def everything(self) -> list[Message]:
        """One notification for each list and resource, as if all of it had changed."""
        lists = [jsonrpc.notification(spec.LIST_CHANGES[name][1]) for name in self.changes]
        return lists + [
            jsonrpc.notification(spec.RESOURCE_UPDATED, {"uri": uri}) for uri in self.uris
        ]


CHANGES = frozenset(method for _, method in spec.LIST_CHANGES.values()) | {spec.RESOURCE_UPDATED}
"""The notifications that go to who listens."""


def tagged(notification: Message, id: Id) -> Message:
    """A notification as part of the subscription of this id (S-15). Raises TooDeep."""
    path, is_new = ("params", "_meta", spec.META_SUBSCRIPTION), "params" not in notification.body
    return notification.edited(lambda text: splice.put(text, splice.encode(id), *path, last=is_new))


def _tells(capabilities: Mapping[str, Any], name: str) -> bool:
    capability = capabilities.get(spec.LIST_CHANGES[name][0])
    return isinstance(capability, dict) and capability.get("listChanged") is True


def _covers(uri: str, updated: str) -> bool:
    # 2025-11-25 ResourceUpdatedNotification: "might be a sub-resource of the one that the client
    # actually subscribed to".
    if not updated.startswith(uri):
        return False
    return updated == uri or uri.endswith("/") or updated[len(uri)] in "/?#"

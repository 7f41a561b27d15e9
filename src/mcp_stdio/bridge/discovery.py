"""A server's `server/discover` result, read as the answer to a client's `initialize` (B-1 to B-3).

What the two results share is cut from one and put into the other, unknown members included. Plain
synchronous code: who asked, and what follows from an answer, is decided elsewhere.
"""

from __future__ import annotations

from mcp_stdio import jsonrpc, spec, splice
from mcp_stdio.jsonrpc import Id, Message

_NOT_FOR_THE_CLIENT = frozenset(
    {"resultType", "ttlMs", "cacheScope", "supportedVersions", "protocolVersion"}
)

_MADE_ANEW = frozenset({"capabilities", "serverInfo", "_meta"})


def versions_in(response: Message) -> list[str]:
    """The revisions that a DiscoverResult supports, or that a refusal of a version offers."""
    if response.error is None:
        versions = response.result.get("supportedVersions")
    else:
        data = response.error.get("data")
        versions = data.get("supported") if isinstance(data, dict) else None
    return (
        [name for name in versions if isinstance(name, str)] if isinstance(versions, list) else []
    )


def are_of_handshake_era(names: list[str]) -> bool:
    """Whether none of these revisions does without a handshake."""
    return all(name in spec.HANDSHAKE_VERSIONS for name in names)


def initialize_result(id: Id, discovered: Message, version: str, server_name: str) -> Message:
    """The answer to `initialize` that a DiscoverResult makes.

    `server_name` is what the server is called that gives no name.
    """
    text = splice.get(discovered.raw.decode(), "result") or "{}"
    members = {
        "protocolVersion": splice.encode(version),
        "capabilities": _capabilities(splice.get(text, "capabilities")),
        "serverInfo": _server_info(text, server_name),
    }
    for name, (begin, end) in splice.spans(text).items():
        if name not in _NOT_FOR_THE_CLIENT | _MADE_ANEW:
            members[name] = text[begin:end]
    meta = splice.get(splice.drop(text, "_meta", spec.META_SERVER_INFO), "_meta")
    if meta is not None and meta[0] == "{" and splice.members(meta):
        members["_meta"] = meta
    result = ",".join(f"{splice.encode(name)}:{value}" for name, value in members.items())
    return jsonrpc.result(id, {}).edited(lambda text: splice.put(text, f"{{{result}}}", "result"))


def _capabilities(text: str | None) -> str:
    """Capabilities of the server as the client may know them (B-3, B-40)."""
    if text is None or text[0] != "{":
        return "{}"
    return splice.drop(splice.drop(text, "tasks"), "extensions", spec.TASKS_EXTENSION)


def _server_info(text: str, server_name: str) -> str:
    """`serverInfo`, which the handshake demands and a DiscoverResult may leave out."""
    for path in (("_meta", spec.META_SERVER_INFO), ("serverInfo",)):
        info = splice.get(text, *path)
        if info is None or info[0] != "{" or not _has_text(info, "name"):
            continue
        return info if _has_text(info, "version") else splice.put(info, '"unknown"', "version")
    return splice.encode({"name": server_name, "version": "unknown"})


def _has_text(object: str, name: str) -> bool:
    value = splice.get(object, name)
    return value is not None and value[0] == '"'

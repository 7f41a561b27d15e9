"""The Model Context Protocol's own words: versions, methods, header names, codes.

Each stands here once, spelled as the specification spells it. Knows no connection and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp_stdio.jsonrpc import Message

R1: Final = "2024-11-05"
R2: Final = "2025-03-26"
R3: Final = "2025-06-18"
R4: Final = "2025-11-25"
R5: Final = "2026-07-28"

HANDSHAKE_VERSIONS: Final = (R1, R2, R3, R4)
"""Revisions that open with `initialize`, oldest first."""

INITIALIZE: Final = "initialize"
INITIALIZED: Final = "notifications/initialized"
CANCELLED: Final = "notifications/cancelled"
PING: Final = "ping"
DISCOVER: Final = "server/discover"
SET_LEVEL: Final = "logging/setLevel"
SUBSCRIBE: Final = "resources/subscribe"
UNSUBSCRIBE: Final = "resources/unsubscribe"
CALL_TOOL: Final = "tools/call"
GET_PROMPT: Final = "prompts/get"
READ_RESOURCE: Final = "resources/read"
LIST_TOOLS: Final = "tools/list"
GET_TASK: Final = "tasks/get"
UPDATE_TASK: Final = "tasks/update"
CANCEL_TASK: Final = "tasks/cancel"
LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
PROGRESS: Final = "notifications/progress"
LOG_MESSAGE: Final = "notifications/message"
TOOLS_CHANGED: Final = "notifications/tools/list_changed"
PROMPTS_CHANGED: Final = "notifications/prompts/list_changed"
RESOURCES_CHANGED: Final = "notifications/resources/list_changed"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
ELICITATION_COMPLETE: Final = "notifications/elicitation/complete"
ROOTS_CHANGED: Final = "notifications/roots/list_changed"
ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
LIST_ROOTS: Final = "roots/list"
TASKS: Final = "tasks/"
"""What all methods of the tasks feature begin with."""

RESOURCE_NOT_FOUND: Final = -32002
"""Up to 2025-11-25; later revisions say -32602."""
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
URL_ELICITATION_REQUIRED: Final = -32042
"""In 2025-11-25 only; later revisions ask for input instead."""

META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
META_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
"""What the tasks feature is called among the extensions of the stateless era."""

MIRRORED: Final = "x-mcp-header"
"""The annotation of a parameter whose value is repeated in a header (T-30)."""

REQUEST_META: Final = (META_VERSION, META_CLIENT_INFO, META_CLIENT_CAPABILITIES, META_LOG_LEVEL)
"""What a request of the stateless era says of itself in `_meta`."""

LOG_LEVELS: Final = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
"""The most verbose level first."""

LIST_CHANGES: Final = {
    "toolsListChanged": ("tools", TOOLS_CHANGED),
    "promptsListChanged": ("prompts", PROMPTS_CHANGED),
    "resourcesListChanged": ("resources", RESOURCES_CHANGED),
}
"""What `subscriptions/listen` may ask for besides resources: the capability whose `listChanged`
grants it, and the notification that it brings."""

ASKS_A_PERSON: Final = frozenset({ELICIT, SAMPLE})
"""Requests of a server that may take as long as a person takes."""

LISTS: Final = {
    LIST_TOOLS: "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
"""The four list methods and the member of their result that holds the items."""

CACHEABLE: Final = frozenset({*LISTS, DISCOVER, READ_RESOURCE})
"""Methods whose results carry caching hints in the stateless era (T-77)."""

MAY_NEED_INPUT: Final = frozenset({CALL_TOOL, GET_PROMPT, READ_RESOURCE})
"""Methods that a server of the stateless era may answer with `input_required` (T-73)."""

SAFE_METHODS: Final = frozenset(
    {
        *LISTS,
        DISCOVER,
        "completion/complete",
        READ_RESOURCE,
        GET_PROMPT,
        LISTEN,
        GET_TASK,
        PING,
        INITIALIZE,
        SET_LEVEL,
        SUBSCRIBE,
        UNSUBSCRIBE,
    }
)
"""Methods without side effects worth fearing: what may be sent again when nobody knows whether it
ran (T-13). `tools/call` is not among them and never will be."""

ACCEPT: Final = "Accept"
CONTENT_TYPE: Final = "Content-Type"
PROTOCOL_VERSION: Final = "MCP-Protocol-Version"
SESSION_ID: Final = "Mcp-Session-Id"
LAST_EVENT_ID: Final = "Last-Event-ID"
METHOD: Final = "Mcp-Method"
NAME: Final = "Mcp-Name"
PARAMETER_PREFIX: Final = "Mcp-Param-"
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"

POST_HEADERS: Final = ((ACCEPT, f"{JSON}, {EVENT_STREAM}"), (CONTENT_TYPE, JSON))
"""On every POST: servers must be able to choose either form of answer (T-2)."""

GET_HEADERS: Final = ((ACCEPT, EVENT_STREAM),)

OWN_HEADERS: Final = frozenset(
    {
        "accept",
        "content-type",
        "mcp-protocol-version",
        "mcp-session-id",
        "last-event-id",
        "mcp-method",
        "mcp-name",
    }
)
"""Headers that belong to the protocol (lower case); `is_own_header` adds `Mcp-Param-*` (T-24)."""

CONNECTION_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Headers that belong to the HTTP connection (lower case)."""


def meta_of(message: Message) -> Mapping[str, Any]:
    """The `_meta` of a message's parameters, empty when it is absent or of another type."""
    meta = message.params.get("_meta")
    return meta if isinstance(meta, dict) else {}


def is_own_header(name: str) -> bool:
    """Whether a user's custom header of this name would override the protocol's (T-24)."""
    lower = name.lower()
    return (
        lower in OWN_HEADERS
        or lower in CONNECTION_HEADERS
        or lower.startswith(PARAMETER_PREFIX.lower())
    )


def has_errors_without_id(version: str | None) -> bool:
    """Whether the negotiated revision knows error responses without `id` (S-7).

    Revisions up to 2025-06-18 do not; before a version is agreed on, the newest reading holds.
    """
    return version is None or version >= R4


def is_visible_ascii(value: str) -> bool:
    """Whether a value consists of visible ASCII only, as a session id must (T-41)."""
    return bool(value) and all("\x21" <= ch <= "\x7e" for ch in value)

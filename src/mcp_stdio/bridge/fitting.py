"""Results and errors of a 2026-07-28 server, made to fit a client of an earlier revision.

What only the stateless era knows is taken out (B-8), what would break an older client's parser is
put into words it has (B-20 to B-24), and an error gets the code that the client's revision has for
it (B-30 to B-34). Members that an older revision merely does not know stay. Only what has to change
is changed, by splicing. Plain synchronous code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from mcp_stdio import spec, splice
from mcp_stdio.errors import RelayError, quote
from mcp_stdio.jsonrpc import INVALID_PARAMS, Message

STATELESS_MEMBERS = ("resultType", "ttlMs", "cacheScope")
"""Members of a result that only the stateless era knows."""


def fit(response: Message, request: Message, version: str) -> Message:
    """The response as a client that negotiated `version` understands it; `request` is the client's.

    The id is left alone.
    """
    if response.error is not None:
        return _fit_error(response, response.error, request)
    old = response.raw.decode()
    text = old
    for name in STATELESS_MEMBERS:
        if name in response.result:
            text = splice.drop(text, "result", name)
    match request.method:
        case spec.LIST_TOOLS:
            text = splice.edit_elements(text, _fit_tool, "result", "tools")
        case spec.CALL_TOOL:
            text = _fit_blocks(text, version, "result", "content")
            if not isinstance(response.result.get("structuredContent", {}), dict):
                text = _without_structure(text, response.result)
        case spec.GET_PROMPT:
            change = partial(_fit_content, version=version)
            text = splice.edit_elements(text, change, "result", "messages")
    return response if text == old else response.edited(lambda _: text)


def fit_block(text: str, version: str) -> str:
    """One block of content; what the revision does not know becomes text (B-21, B-22)."""
    block = splice.value(text)
    if not isinstance(block, dict):
        return text
    words = None
    match block.get("type"):
        case "resource_link" if version < spec.R3:
            words = f"{block.get('title') or block.get('name')}: {block.get('uri')}"
        case "audio" if version < spec.R2:
            words = f"[audio: {block.get('mimeType', 'unknown type')}]"
    if words is None:
        return text
    fitted = splice.encode({"type": "text", "text": words})
    for name in ("annotations", "_meta"):
        if (value := splice.get(text, name)) is not None:
            fitted = splice.put(fitted, value, name, last=True)
    return fitted


def _fit_content(text: str, version: str) -> str:
    """A message with one block of content."""
    return splice.edit(text, partial(fit_block, version=version), "content")


def _fit_blocks(text: str, version: str, *path: str) -> str:
    if version >= spec.R3:
        return text
    return splice.edit_elements(text, partial(fit_block, version=version), *path)


def _fit_tool(text: str) -> str:
    tool = splice.value(text)
    if not isinstance(tool, dict):
        return text
    output = tool.get("outputSchema", {"type": "object"})
    if not isinstance(output, dict) or output.get("type") != "object":
        text = splice.drop(text, "outputSchema")  # B-20
    for name in ("inputSchema", "outputSchema"):
        text = splice.edit(text, _fit_properties, name, "properties")
    return text


def _fit_properties(properties: str) -> str:
    """Subschemas as objects, where they are a plain yes or no (B-24)."""
    return splice.edit_members(properties, lambda _, schema: _AS_OBJECT.get(schema, schema))


_AS_OBJECT = {"true": "{}", "false": '{"not":{}}'}


def _without_structure(text: str, result: Mapping[str, Any]) -> str:
    """A tool's result with its structured content, which is no object, as text alone (B-20)."""
    structure = splice.get(text, "result", "structuredContent")
    assert structure is not None
    text = splice.drop(text, "result", "structuredContent")
    if result["structuredContent"] is None:  # how some libraries write what is not there
        return text
    content = result.get("content")
    blocks = content if isinstance(content, list) else []
    if any(_says(block, result["structuredContent"]) for block in blocks):
        return text
    block = splice.encode({"type": "text", "text": structure})
    array = splice.get(text, "result", "content") if blocks else None
    joined = f"{array[:-1].rstrip()},{block}]" if array is not None else f"[{block}]"
    return splice.put(text, joined, "result", "content")


def _says(block: object, value: object) -> bool:
    """Whether a block of content is this value as JSON."""
    if not isinstance(block, dict) or not isinstance(words := block.get("text"), str):
        return False
    try:
        return _spelling(splice.value(words)) == _spelling(value)
    except (ValueError, RecursionError, RelayError):
        return False


def _fit_error(response: Message, error: Mapping[str, Any], request: Message) -> Message:
    data = error.get("data")
    if not isinstance(data, dict):
        return response
    match error.get("code"):
        case code if code == INVALID_PARAMS and request.method == spec.READ_RESOURCE:
            if "uri" in data and data["uri"] == request.params.get("uri"):  # B-30
                new = splice.encode(spec.RESOURCE_NOT_FOUND)
                return response.edited(lambda text: splice.put(text, new, "error", "code"))
        case spec.MISSING_CAPABILITY:
            names = ", ".join(_names(data.get("requiredCapabilities")))
            if names:  # B-32
                words = f"{error.get('message', '')} (the client lacks: {quote(names)})".strip()
                new = splice.encode(words)
                return response.edited(lambda text: splice.put(text, new, "error", "message"))
    return response


def _names(capabilities: object) -> list[str]:
    """Capabilities in the words one speaks of them, such as `elicitation.url`."""
    names: list[str] = []
    for name, inner in capabilities.items() if isinstance(capabilities, dict) else ():
        inside = [f"{name}.{key}" for key in inner] if isinstance(inner, dict) else []
        names += inside or [name]
    return names


def _spelling(value: object) -> str:
    # Not `==`, to which 1 and true are the same.
    return json.dumps(value, sort_keys=True)

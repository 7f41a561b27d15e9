"""JSON-RPC messages as bytes that stay what they were, and the error answers we make ourselves.

`Message.raw` is one line, exactly as it came; `body` is a parsed view that nothing is printed from,
and is made of a large message only when it is asked for: most are only passed on.
What is not one JSON-RPC message never becomes a `Message`: `parse` raises `NotAMessage`, which
carries the answer (JSON-RPC 2.0 sections 4 to 6; MCP basic, Messages). Knows no MCP method.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any

from mcp_stdio import splice
from mcp_stdio.errors import RelayError, SignInPending, TooDeep
from mcp_stdio.outline import outline
from mcp_stdio.redaction import redact
from mcp_stdio.splice import PATIENT_DECODER, STRICT_DECODER, scan

Id = str | int

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

_LF, _CR = b"\n\r"

LARGE = 256 * 1024
"""Bytes of a message that is read for its outline only; a smaller one is parsed as quickly."""


class Kind(Enum):
    """What a message is, told by which of `method` and `id` it has."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


class NotAMessage(Exception):
    """Bytes that are no JSON-RPC message.

    `code` is -32700 for what is no JSON and -32600 for JSON of another shape; `id` is the request's
    own where one could be made out.
    """

    def __init__(self, code: int, reason: str, id: Id | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.id = id


class Message:
    """One JSON-RPC message. `id` is None for notifications and for answers to nobody.

    Nothing of it is ever written to.
    """

    __slots__ = ("_is_outline", "_members", "id", "kind", "method", "raw")

    def __init__(
        self,
        raw: bytes,
        kind: Kind,
        id: Id | None,
        method: str,
        members: Mapping[str, Any],
        is_outline: bool,
    ) -> None:
        # No frozen dataclass: that would take twice the time, and streams bring hundreds of
        # thousands.
        self.raw = raw
        self.kind = kind
        self.id = id
        self.method = method
        self._members = members
        self._is_outline = is_outline

    @property
    def is_request(self) -> bool:
        """Whether the message asks for exactly one response."""
        return self.kind is Kind.REQUEST

    @property
    def is_response(self) -> bool:
        """Whether the message answers a request."""
        return self.kind is Kind.RESPONSE

    @property
    def body(self) -> Mapping[str, Any]:
        """All of the message, parsed. Raises TooDeep."""
        if self._is_outline:
            try:
                self._members = _load(self.raw)
            except NotAMessage:  # what was parsed before, with fewer calls around
                raise TooDeep from None
            self._is_outline = False
        return self._members

    @property
    def params(self) -> Mapping[str, Any]:
        """The `params` object, empty when it is absent or of another type."""
        return self._object("params") or {}

    @property
    def result(self) -> Mapping[str, Any]:
        """The `result` object, empty when it is absent or of another type."""
        return self._object("result") or {}

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The `error` object of an error response, otherwise None."""
        return self._object("error")

    def _object(self, name: str) -> dict[str, Any] | None:
        value = self._members.get(name)
        if not isinstance(value, dict):
            return None
        return self.body[name] if self._is_outline else value

    def __str__(self) -> str:
        """What the log may say of it: never what is in it (S-2)."""
        parts = (self.kind.value, self.method, "" if self.id is None else repr(self.id))
        return f"{' '.join(filter(None, parts))}, {len(self.raw)} bytes"

    def with_id(self, id: Id) -> Message:
        """The same message under another id; every other byte stays (T-15, minted ids)."""
        return self.edited(lambda text: splice.put(text, splice.encode(id), "id"))

    def edited(self, change: Callable[[str], str]) -> Message:
        """The message that `change` makes of the text of this one, as a rule with `splice`.

        `change` must leave a message. Raises TooDeep.
        """
        raw = change(self.raw.decode()).encode()
        try:
            return parse(raw)
        except NotAMessage as exc:
            if exc.code == PARSE_ERROR:  # what was parsed before, with fewer calls around
                raise TooDeep from None
            raise


def same_id(one: Id | None, other: Id | None) -> bool:
    """Whether two ids are equal in type and value: `1` is not `"1"` (S-5)."""
    return type(one) is type(other) and one == other


def parse(raw: bytes) -> Message:
    """Read one message. Raises NotAMessage, `is_batch` arrays included."""
    if len(raw) >= LARGE:
        with _collector_at_rest():
            members = outline(raw)
        # A long id or method would be empty as well.
        if members is not None and members.get("id") != "" and members.get("method") != "":
            return _message(_one_line(raw), members, is_outline=True)
    value = _load(raw)
    return _message(_one_line(raw), value)


def parse_many(raw: bytes) -> list[Message]:
    """Read one message, or the elements of a batch array in order (R2 only, T-52).

    An element that is none spoils no other. Raises NotAMessage when there is no message at all.
    """
    if raw.startswith(b"{") or not is_batch(raw):
        return [parse(raw)]
    messages: list[Message] = []
    for element in split(raw):
        try:
            messages.append(parse(element))
        except NotAMessage as exc:
            fault = exc
    if not messages:
        raise fault
    return messages


def split(raw: bytes) -> list[bytes]:
    """The elements of a batch array, cut out of its bytes and not printed anew.

    Raises NotAMessage for what is no JSON, and for an empty array.
    """
    value = _load(raw)
    if not isinstance(value, list) or not value:
        raise NotAMessage(INVALID_REQUEST, "an empty array is not a message")
    text = raw.decode()
    try:
        return [text[start:end].encode() for start, end in splice.elements(text)]
    except TooDeep:
        raise NotAMessage(PARSE_ERROR, "nested too deeply") from None


def is_batch(raw: bytes) -> bool:
    """Whether the bytes begin a JSON array."""
    return raw.lstrip(b" \t\r\n")[:1] == b"["


def mint_ids() -> Iterator[str]:
    """Ids for requests of our own, which no client uses by chance (S-5)."""
    prefix = f"relay-{os.urandom(6).hex()}"
    return (f"{prefix}-{number}" for number in itertools.count(1))


def _encode(value: Any) -> bytes:
    return splice.encode(value).encode()


def request(id: Id, method: str, params: Mapping[str, Any] | None = None) -> Message:
    """A request of our own."""
    return parse(_encode({"jsonrpc": "2.0", "id": id, "method": method} | _params(params)))


def notification(method: str, params: Mapping[str, Any] | None = None) -> Message:
    """A notification of our own."""
    return parse(_encode({"jsonrpc": "2.0", "method": method} | _params(params)))


def result(id: Id, value: Mapping[str, Any]) -> Message:
    """A response we give in the server's place."""
    return parse(_encode({"jsonrpc": "2.0", "id": id, "result": value}))


def error(id: Id | None, code: int, text: str, data: Mapping[str, Any] | None = None) -> Message:
    """An error response; without `id` where the request's could not be made out (S-7)."""
    body: dict[str, Any] = {"jsonrpc": "2.0"}
    if id is not None:
        body["id"] = id
    body["error"] = {"code": code, "message": text} | ({"data": data} if data else {})
    return parse(_encode(body))


def failure(id: Id, cause: RelayError) -> Message:
    """The answer to a request that ended in one of our errors (E-1 to E-7), without secrets."""
    # The place to sign in is its query, and neither that nor the words around it are secret.
    made_fit = str if isinstance(cause, SignInPending) else redact
    data: dict[str, Any] = {"origin": "mcp-stdio", "kind": cause.kind}
    if cause.status is not None:
        data["status"] = cause.status
    if cause.hint is not None:
        data["hint"] = made_fit(cause.hint)
    data["retryable"] = cause.retryable
    return error(id, cause.code, made_fit(str(cause)), data)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Look for no garbage while a large text is read.

    There is none in it, but as many lists as a server likes: to look through them again and again
    took 7 s for 64 MiB of `[0],`, and takes 3 s so.
    """
    is_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_at_work:
            gc.enable()


def _load(raw: bytes) -> Any:
    if len(raw) < LARGE:
        return _value(raw)
    with _collector_at_rest():
        return _value(raw)


def _value(raw: bytes) -> Any:
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        raise NotAMessage(PARSE_ERROR, f"not valid UTF-8 at byte {exc.start}") from None
    try:
        value, end = scan(text, 0)
        if end == len(text) or not text[end:].strip(splice.SPACE):
            return value
    except (StopIteration, ValueError, RecursionError):
        pass  # this was the shortest way; the others know what is wrong
    try:
        return STRICT_DECODER.decode(text)
    except json.JSONDecodeError as exc:
        raise NotAMessage(PARSE_ERROR, f"not valid JSON: {exc.msg} at {exc.pos}") from None
    except RecursionError:
        raise NotAMessage(PARSE_ERROR, "nested too deeply") from None
    except ValueError:
        pass
    try:
        return PATIENT_DECODER.decode(text)
    except RecursionError:
        raise NotAMessage(PARSE_ERROR, "nested too deeply") from None
    except ValueError as exc:
        raise NotAMessage(PARSE_ERROR, f"not valid JSON: {exc}") from None


def _message(raw: bytes, value: Any, *, is_outline: bool = False) -> Message:
    if not isinstance(value, dict):
        raise NotAMessage(INVALID_REQUEST, "not a JSON-RPC object")
    id, method = value.get("id"), value.get("method")
    if method is None and "method" not in value and ("result" in value or "error" in value):
        _check_response(value)
        return Message(raw, Kind.RESPONSE, id, "", value, is_outline)
    if value.get("jsonrpc") == "2.0" and isinstance(method, str):
        if "id" not in value:
            return Message(raw, Kind.NOTIFICATION, None, method, value, is_outline)
        if _is_id(id):
            return Message(raw, Kind.REQUEST, id, method, value, is_outline)
    raise _no_request(value)


def _check_response(value: dict[str, Any]) -> None:
    # What answers a request of the other side is never answered itself, least of all under its
    # id: that belongs to the other side, and may well be one of ours as well.
    if value.get("jsonrpc") != "2.0":
        raise NotAMessage(INVALID_REQUEST, '`jsonrpc` is not "2.0"')
    id, error = value.get("id"), value.get("error")
    # JSON libraries like to write the member that is not there as null.
    has_error = error is not None or "result" not in value
    if has_error and value.get("result") is not None:
        raise NotAMessage(INVALID_REQUEST, "both a result and an error")
    if has_error and not isinstance(error, dict):
        raise NotAMessage(INVALID_REQUEST, "neither a request, a notification nor a response")
    if id is not None and not _is_id(id):
        raise NotAMessage(INVALID_REQUEST, "`id` is neither a string nor an integer")


def _no_request(value: dict[str, Any]) -> NotAMessage:
    """What keeps a value from being a request or a notification."""
    id, method = value.get("id"), value.get("method")
    known_id = id if _is_id(id) else None
    if value.get("jsonrpc") != "2.0":
        text = '`jsonrpc` is not "2.0"'
    elif isinstance(method, str):
        text = "`id` is neither a string nor an integer"
    else:
        text = "`method` is not a string" if "method" in value else "no method, result or error"
    return NotAMessage(INVALID_REQUEST, text, known_id)


def _is_id(id: object) -> bool:
    return type(id) in (str, int)


def _one_line(raw: bytes) -> bytes:
    # Line breaks are legal in JSON only between tokens, where a space means the same (S-1).
    if _LF in raw or _CR in raw:
        return raw.strip().replace(b"\r", b" ").replace(b"\n", b" ")
    return raw


def _params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if params is None else {"params": params}

"""What servers and clients of one era write, made fit for the other: values of any shape."""

from __future__ import annotations

import itertools
import json

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge import discovery, fitting, input_required, reshaping
from mcp_stdio.bridge.introduction import Introduction
from mcp_stdio.bridge.managed_listen import untagged
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Message, NotAMessage
from tests.fuzz.target import Material, target

CLIENT = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": spec.INITIALIZE,
    "params": {
        "protocolVersion": spec.R3,
        "capabilities": {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}},
        "clientInfo": {"name": "c", "version": "1"},
    },
}
META = {
    spec.META_VERSION: spec.R5,
    spec.META_CLIENT_CAPABILITIES: {},
    spec.META_LOG_LEVEL: "info",
    spec.META_CLIENT_INFO: {"name": "c"},
    spec.META_SUBSCRIPTION: 1,
    "progressToken": "p",
}
MODERN = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["a:/b"]}}
DISCOVERED = {
    "supportedVersions": [spec.R5],
    "capabilities": {"tools": {"listChanged": True}, "tasks": {}, "extensions": {}},
    "_meta": {spec.META_SERVER_INFO: {"name": "s", "version": "1"}},
    "resultType": "complete",
    "ttlMs": 0,
}
OPENED = {
    "protocolVersion": spec.R4,
    "capabilities": {"resources": {"subscribe": True, "listChanged": True}},
    "serverInfo": {"name": "s", "version": "1"},
}
TOOLS = {
    "tools": [
        {
            "name": "t",
            "inputSchema": {"type": "object", "properties": {"a": True, "b": {}}},
            "outputSchema": {"type": "array"},
            "execution": {},
        }
    ],
    "nextCursor": "x",
}
FORM = {"type": "object", "properties": {"a": {"oneOf": [{"const": "x", "title": "X"}]}}}
ASKING = {
    "resultType": "input_required",
    "requestState": "s",
    "inputRequests": {
        "a": {"method": spec.ELICIT, "params": {"mode": "form", "requestedSchema": FORM}},
        "b": {"method": spec.SAMPLE, "params": {"messages": [{"role": "user", "content": [{}]}]}},
        "c": {"method": spec.LIST_ROOTS},
    },
}
CALLED = {
    "content": [{"type": "resource_link", "uri": "a:b", "name": "n"}, {"type": "audio"}],
    "structuredContent": [1],
}
FAILED = {"code": -32002, "message": "m", "data": {"requiredCapabilities": {"elicitation": {}}}}


def seed(method: str, params: object, answer: object, *, is_error: bool = False) -> bytes:
    request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    said = {"jsonrpc": "2.0", "id": 7, "error" if is_error else "result": answer}
    return b"\2" + b"\n".join(json.dumps(each).encode() for each in (CLIENT, request, said))


@target(
    seed(spec.DISCOVER, {"_meta": META}, DISCOVERED),
    seed(spec.DISCOVER, {"_meta": META}, {**DISCOVERED, "_meta": None}),
    seed(spec.LISTEN, {"_meta": META, **MODERN}, OPENED),
    seed(spec.CALL_TOOL, {}, {**ASKING, "inputRequests": {"a": {"method": {}}}}),
    seed(spec.LIST_TOOLS, {"_meta": META}, TOOLS),
    seed(spec.CALL_TOOL, {"name": "t", "arguments": {}, "task": {}}, CALLED),
    seed(spec.CALL_TOOL, {"name": "t", "_meta": {spec.META_SUBSCRIPTION: 1}}, ASKING),
    seed(spec.GET_PROMPT, {"name": "p"}, {"messages": [{"role": "user", "content": {"type": 1}}]}),
    seed(spec.READ_RESOURCE, {"uri": "a:b", "_meta": META}, FAILED, is_error=True),
    seed(spec.RESOURCE_UPDATED, {"uri": "a:/b/c", "_meta": META, "level": "error"}, OPENED),
    words=(
        *(b"null", b"[]", b"{}", b'""', b"1", b"1e400", b"true", b"[null]", b'{"a":[]}', b'"x":'),
        *(b'"_meta":null,', b'"result":5,', b'"params":[],', b'"id":1', b'"method":{},', b"9" * 99),
        *(b'"capabilities":', b'"serverInfo":', b'"content":', b'"inputRequests":', b'"error":'),
        *(b'"properties":', b'"oneOf":', b'"const":', b'"tools":', b'"messages":', b'"mode":"url"'),
        *(
            b"elicitation/create",
            b"sampling/createMessage",
            b'"uri":',
            b'"code":-32042,',
            b"\\ud800",
        ),
    ),
)
def bridged(data: bytes) -> None:
    """Whatever the other side writes becomes a message, or an error that says why."""
    material = Material(data)
    version = spec.HANDSHAKE_VERSIONS[material.number(3)]
    messages = [*map(read, material.rest.split(b"\n")), None, None, None]
    initialize, request, said = messages[:3]
    introduction = Introduction.of(initialize or jsonrpc.request(1, spec.INITIALIZE))
    if request is None:
        return
    _client_of_the_handshake_era(introduction, version, request, said)
    _stateless_client(request, said)


def read(raw: bytes) -> Message | None:
    try:
        return jsonrpc.parse(raw)
    except NotAMessage:
        return None


def _client_of_the_handshake_era(
    introduction: Introduction, version: str, request: Message, said: Message | None
) -> None:
    ids = itertools.count(1)
    try:
        stamped = introduction.stamp(request, "info")
        assert spec.meta_of(stamped)[spec.META_VERSION] == spec.R5
        assert "task" not in stamped.params
        assert (stamped.id, stamped.method) == (request.id, request.method)
        assert spec.META_SUBSCRIPTION not in spec.meta_of(untagged(request))
        introduction.listen(1, {})
        if said is None or not said.is_response or not request.is_request:
            return
        if said.error is None and spec.R5 in discovery.versions_in(said):
            answer = discovery.initialize_result(1, said, version, "host")
            assert isinstance(answer.result["serverInfo"]["name"], str)
            assert isinstance(answer.result["serverInfo"]["version"], str)
            assert isinstance(answer.result["capabilities"], dict)
            assert answer.result["protocolVersion"] == version
            assert isinstance(answer.result.get("_meta", {}), dict)
        if input_required.is_question(said):
            asked = input_required.read(said)
            for text in asked.requests.values():
                question = input_required.question(text, introduction, map(str, ids))
                assert introduction.takes(question.request.method, question.request.params)
            answers = dict.fromkeys(asked.requests, input_required.DECLINED)
            again = input_required.again(request, 2, answers, asked.state)
            assert again.params.get("inputResponses", {}).keys() == answers.keys()
        else:
            fitted = fitting.fit(said, request, version)
            assert fitted.is_response
            assert fitted.id == said.id
            assert fitted.result.keys().isdisjoint(fitting.STATELESS_MEMBERS)
    except RelayError as exc:
        assert str(exc).isprintable()


def _stateless_client(request: Message, said: Message | None) -> None:
    asked = reshaping.Filter.of(request)
    for notification in [asked.acknowledgement(), *asked.everything()]:
        assert notification.id is None
    if request.is_request:
        refusal = reshaping.refusal(request)
        assert refusal is None or refusal.id == request.id
    else:
        asked.wants(request)
        reshaping.suffices(request, "info")
    try:
        if request.is_response or request.id is None:
            reshaping.notification(request)
            return
        plain = reshaping.request(request, "r-1")
        assert plain.id == "r-1"
        assert spec.meta_of(plain).keys().isdisjoint(spec.REQUEST_META)
        initialize = reshaping.initialize("i-1", request)
        assert isinstance(initialize.params["clientInfo"], dict)
        if said is None or not said.is_response:
            return
        opened = reshaping.Opened(said)
        asked.granted(opened.capabilities, asked.uris)
        if said.error is None:
            discovered = opened.discovered("d-1")
            assert discovered.result["resultType"] == "complete"
        answer = opened.response(said, request)
        assert answer.id == request.id
    except RelayError as exc:
        assert str(exc).isprintable()

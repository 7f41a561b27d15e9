"""Nothing that a client, a model or a server says ends a header, a head or a request, and begins
another (P7): whatever ends up in a request reads back as the one request that was meant."""

from __future__ import annotations

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_stdio import jsonrpc, mirroring, routing, spec
from mcp_stdio.credentials import rules
from mcp_stdio.errors import RelayError
from mcp_stdio.http import Headers, Request
from mcp_stdio.http.cookies import Cookies
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import registration
from mcp_stdio.oauth.record import Registration
from mcp_stdio.upstream.stream import _header_value

URL = Url.parse("https://mcp.example/mcp")

SMUGGLED = "x\r\nX-Evil: 1\r\n\r\nPOST /evil HTTP/1.1\r\nHost: evil\r\n\r\n"

PIECES = st.sampled_from(
    ["\r\n", "\n", "\r", "\0", "\t", " ", "\x0b", "\x0c", "\x1c", "\x1f", "\x7f", "\x85", "\u2028",
     "\u010d\u010a", "\ud800", "\udc80", "é", ":", ",", ";", "=", '"', "x", "X-Evil: 1", "%0d%0a"]
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=8).map("".join) | st.text()

TOOL = {
    "name": "t",
    "inputSchema": {"properties": {"p": {"type": "string", spec.MIRRORED: "P"}}},
}


def read_back(head: bytes) -> h11.Request:
    """The one request that a strict server reads."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(head + b"{}")
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert isinstance(server.next_event(), h11.Data)
    assert isinstance(server.next_event(), h11.EndOfMessage)
    assert server.next_event() is h11.PAUSED or server.trailing_data == (b"", False)
    assert server.trailing_data[0] == b""
    return request


def assert_one_request(*given: tuple[str, str]) -> None:
    """Either it is refused, or the headers are those that were meant, each once."""
    try:
        head = request_head(Request("POST", URL, given, b"{}"))
    except RelayError:
        return
    usual = {b"host", b"content-length", b"accept-encoding", b"user-agent"}
    names = [name for name, _ in read_back(head).headers]
    meant = [name.lower().encode() for name, _ in given]
    assert sorted(names) == sorted({*usual, *meant})


def call(method: str, name: str, argument: str, version: str) -> jsonrpc.Message:
    meta = {spec.META_VERSION: version}
    params = {"name": name, "arguments": {"p": argument}, "_meta": meta}
    return jsonrpc.request(1, method, params)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
@example(SMUGGLED, "t", "x", spec.R5)
@example(spec.CALL_TOOL, SMUGGLED, "x", spec.R5)
@example(spec.CALL_TOOL, "t", "x", SMUGGLED)
def test_what_a_client_says(method: str, name: str, argument: str, version: str) -> None:
    """Method, name and version of the request metadata (T-20 to T-22)."""
    for each in method, spec.CALL_TOOL:
        try:
            headers = routing.headers(call(each, name, argument, version))
        except RelayError:
            continue
        assert_one_request(*headers)


@given(HOSTILE)
@example(SMUGGLED)
@example("=?base64?DQpYLUV2aWw6IDE=?=")
def test_what_a_model_passes_to_a_tool(argument: str) -> None:
    """Mirrored parameters (T-30)."""
    catalogue = mirroring.Catalogue(is_active=True)
    assert catalogue.learn(TOOL) is None
    try:
        headers = catalogue.headers(call(spec.CALL_TOOL, "t", argument, spec.R5))
    except RelayError:
        return
    assert [name for name, _ in headers] == ["Mcp-Param-P"]
    assert_one_request(*headers)


@given(HOSTILE)
@example("P: x\r\nX-Evil")
@example("Authorization\r\n")
def test_how_a_server_names_a_parameter(name: str) -> None:
    schema = {"properties": {"p": {"type": "string", spec.MIRRORED: name}}}
    try:
        mirrors = mirroring.mirrors_of({"name": "t", "inputSchema": schema})
    except mirroring.InvalidAnnotation:
        return
    headers = mirroring.values(mirrors, {"p": "x"})
    assert [each.lower() for each, _ in headers] == [f"mcp-param-{name}".lower()]
    assert_one_request(*headers)


@given(HOSTILE)
@example("1\rX-Evil: 1")
def test_what_a_server_calls_an_event(id: str) -> None:
    if (value := _header_value(id)) is not None:
        assert_one_request((spec.LAST_EVENT_ID, value))


@given(HOSTILE)
@example(SMUGGLED)
def test_what_a_server_calls_a_session_or_a_version(value: str) -> None:
    if spec.is_visible_ascii(value):
        assert_one_request((spec.SESSION_ID, value), (spec.PROTOCOL_VERSION, value))


@given(st.lists(st.binary(max_size=12) | HOSTILE.map(lambda text: text.encode("utf-8", "replace"))))
@example([b"a=b\r\nX-Evil: 1"])
def test_what_a_server_sets_as_a_cookie(values: list[bytes]) -> None:
    cookies = Cookies()
    cookies.store(URL, Headers((b"set-cookie", b"a%d=%b" % each) for each in enumerate(values)))
    if (header := cookies.header(URL)) is not None:
        assert_one_request(("Cookie", header))


@given(HOSTILE, HOSTILE)
@example("X", SMUGGLED)
@example("X: 1\r\nX-Evil", "1")
def test_what_a_user_a_file_or_a_command_gives(name: str, value: str) -> None:
    try:
        header = rules.parse_header(f"{name}:{value}", where="-H")
    except RelayError:
        return
    assert_one_request(header)


@given(HOSTILE)
@example(SMUGGLED)
def test_what_is_given_as_a_token(token: str) -> None:
    try:
        value = rules.bearer(token, where="--bearer-token")
    except RelayError:
        return
    assert_one_request((rules.AUTHORIZATION, value))


@given(HOSTILE, HOSTILE)
@example(SMUGGLED, SMUGGLED)
def test_what_an_authorization_server_calls_a_client(client_id: str, secret: str) -> None:
    client = Registration(
        client_id="x" + client_id, client_secret=secret, method="client_secret_basic"
    )
    try:
        headers, _ = registration.authenticated(client, {})
    except UnicodeEncodeError:  # half a character; `answers.text` lets none of them in
        return
    assert_one_request(*headers)


@given(HOSTILE)
@example("/x HTTP/1.1\r\nX-Evil: 1\r\n\r\n")
@example("\u010d\u010aX-Evil: 1")
def test_where_a_server_redirects_to(reference: str) -> None:
    try:
        url = URL.join(reference)
    except ValueError:
        return
    head = request_head(Request("POST", url, (), b"{}"))
    request = read_back(head)
    assert (request.method, request.target) == (b"POST", url.target.encode())
    assert len(request.headers) == 4

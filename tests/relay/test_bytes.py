"""P3: what needs no change crosses byte for byte, in both directions.

Messages are made up as text, so that each number, escape and space has a spelling of its own. The
only edit there is: line breaks between tokens become spaces, so that a message is one line (S-1).
"""

from __future__ import annotations

import json
import re

import trio
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_stdio import spec
from mcp_stdio.http import Exchange, Request
from tests.process import INITIALIZE, line, running
from tests.relay.rig import Answered, FakeLane, relaying
from tests.relay.server import Asked, McpServer

IDS = st.sampled_from(["1", "-7", "9007199254740993", '"a"', r'"\u0061\/"', r'"\ud800"', '"ü"'])
NUMBERS = st.sampled_from([
    "0", "-0", "1", "1.0", "1.00", "-0.0", "1e400", "-1E+400", "1e-400", "1E2", "0.1e1",
    "9007199254740993", "-9007199254740993", "123456789012345678901234567890", "7" * 5000,
])  # fmt: skip
PLAIN = list("aZ /,:}\u00fc\u2028\u2029\u0085\u00a0\ufeff\x7f\U0001f600")
# Needless escapes, and surrogates in pairs and alone.
ESCAPED = [
    r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0041", r"\u00FC", r"\u2028",
    r"\ud83d\ude00", r"\ud800", r"\uDFFF", r"\u0000",
]  # fmt: skip
CHARACTERS = st.sampled_from([*PLAIN, *ESCAPED, "data:", "id: 1"])
STRINGS = st.lists(CHARACTERS, max_size=8).map(lambda parts: f'"{"".join(parts)}"')
# None of these decodes to a name that means something.
NAMES = st.lists(CHARACTERS, max_size=4).map(lambda parts: f'"?{"".join(parts)}"')
SPACE = st.sampled_from(["", "", " ", "\t", "  "])
BREAK = st.sampled_from(["", "", " ", "\n", "\r\n", "\n\n  ", "\r"])


def values(space: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Any JSON value, with this white space between its tokens."""

    def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        spaced = st.tuples(space, inner, space).map("".join)
        members = st.tuples(space, NAMES, space, st.just(":"), spaced).map("".join)
        return st.one_of(
            st.lists(spaced, max_size=4).map(lambda parts: f"[{','.join(parts)}]"),
            st.lists(members, max_size=4).map(lambda parts: f"{{{','.join(parts)}}}"),
        )

    scalars = st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"]))
    return st.recursive(scalars, containers, max_leaves=12)


@st.composite
def messages(draw: st.DrawFn, /, space: st.SearchStrategy[str], **core: str) -> str:
    """An object with these members, others besides, in any order and spacing."""
    members = [(f'"{name}"', value) for name, value in core.items()]
    members += draw(st.lists(st.tuples(NAMES, values(space)), max_size=3))
    text = ",".join(
        f"{draw(space)}{name}{draw(space)}:{draw(space)}{value}{draw(space)}"
        for name, value in draw(st.permutations(members))
    )
    return f"{{{text}}}"


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str]:
    """An id and a request with it."""
    id = draw(IDS)
    method = draw(st.sampled_from(['"tools/call"', r'"tools\/call"', r'"\u0074ools/call"']))
    version = draw(st.sampled_from(['"2.0"', r'"\u0032.0"']))
    core = {"jsonrpc": version, "id": id, "method": method, "params": draw(values(SPACE))}
    return id, draw(messages(SPACE, **core))


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, str]:
    """An id and an answer to the request with it, maybe pretty-printed."""
    id = draw(IDS)
    if draw(st.booleans()):
        outcome = {"result": draw(values(BREAK))}
    else:
        outcome = {"error": draw(messages(BREAK, code="-1.0e0", message='"no"'))}
    return id, draw(messages(BREAK, jsonrpc='"2.0"', id=id, **outcome))


class OneAnswer(FakeLane):
    """Notes each body and gives every call the same answer."""

    def __init__(self, body: bytes, media_type: str = spec.JSON) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self._body = body
        self._media_type = media_type

    async def send(self, request: Request) -> Exchange:
        self.bodies.append(request.body)
        if request.body + b"\n" in (HANDSHAKE, INITIALIZED, b"\n"):
            return await super().send(request)
        return Answered(200, self._body, self._media_type)


HANDSHAKE = line(id="hello", method=spec.INITIALIZE, params=INITIALIZE)
INITIALIZED = line(method=spec.INITIALIZED)


async def crossed(lane: OneAnswer, request: bytes) -> bytes:
    """Send a request; the line that comes back."""
    async with relaying(lane=lane) as client:
        await client.write(HANDSHAKE + INITIALIZED)
        await client.read()
        await client.write(request + b"\n")
        return await client.read_line()


def in_one_line(text: str) -> str:
    return re.sub(r"\r\n|\r|\n", " ", text).strip()


@given(requests())
async def test_a_request_reaches_the_server_as_it_was_written(request: tuple[str, str]) -> None:
    id, text = request
    lane = OneAnswer(f'{{"jsonrpc":"2.0","id":{id},"result":{{}}}}'.encode())
    await crossed(lane, text.encode())
    assert text.encode() in lane.bodies


@given(answers())
@example(("1", '{"jsonrpc":"2.0","id":1,\r\n  "result":{\r\r"a":[1.0,\n1e400]}}\n'))
async def test_an_answer_in_json_reaches_the_client_as_it_was_sent(
    answer: tuple[str, str],
) -> None:
    id, text = answer
    request = f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}'.encode()
    got = await crossed(OneAnswer(text.encode()), request)
    assert re.sub(" +", " ", got.decode().strip()) == re.sub(" +", " ", in_one_line(text))
    if in_one_line(text) == text:
        assert got == text.encode()


@given(answers())
async def test_an_answer_in_an_event_reaches_the_client_as_it_was_sent(
    answer: tuple[str, str],
) -> None:
    id, text = answer
    request = f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}'.encode()
    event = "".join(f"data: {row}\n" for row in re.split("\r\n|\r|\n", text)) + "\n"
    got = await crossed(OneAnswer(event.encode(), spec.EVENT_STREAM), request)
    assert got.decode().strip() == in_one_line(text)
    if in_one_line(text) == text:
        assert got == text.encode()


async def test_odd_bytes_cross_sockets_and_pipes(nursery: trio.Nursery) -> None:
    params = (
        '{ "z":1.0,"a" : 1e400,"b":-0,"c":9007199254740993,"d":1E+2,"e":"\\u0041\\/\\ud800",'
        '"f":"\u2028\u2029\u0085\ufeff\U0001f600","a":"twice","":{"":[ ]}}'
    )

    async def answer(asked: Asked) -> None:
        raw = asked.body.decode()
        echoed = raw[raw.index('"params":') + len('"params":') : -1]
        reply = f'{{"result":{echoed},"x":null,"id":{json.dumps(asked.id)},"jsonrpc":"2.0"}}'
        if asked.id == "json":
            await asked.body_of(reply.encode())
        else:
            await asked.begin()
            await asked.event(reply.encode())
            await asked.end()

    server = McpServer(answer)
    await nursery.start(server.serve)
    async with running(server.url) as relay:
        await relay.shake_hands()
        for id in ("json", "event"):
            text = f'{{"id":"{id}","jsonrpc":"2.0","method":"tools/call","params":{params}}}'
            await relay.write(text.encode() + b"\n")
            got = await relay.read_line()
            assert server.bodies[-1] == text.encode()
            reply = f'{{"result":{params},"x":null,"id":"{id}","jsonrpc":"2.0"}}'
            assert got == reply.encode()
    nursery.cancel_scope.cancel()

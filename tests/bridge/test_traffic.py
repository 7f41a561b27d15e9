"""The traffic example of protocol.md 2.3, byte for byte: a handshake client, a stateless server."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from mcp_stdio import jsonrpc
from mcp_stdio.in_flight import InFlight, Relayed
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.bridge.stateless import Peer, bridging

META = (
    '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    '"io.modelcontextprotocol/clientInfo":{"name":"desk","version":"4"},'
    '"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}'
)
SCHEMA = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'

TRAFFIC = f"""
C>r {{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"2025-06-18","capabilities":{{"elicitation":{{}}}},"clientInfo":{{"name":"desk","version":"4"}}}}}}
r>U {{"jsonrpc":"2.0","id":"r7f-1","method":"server/discover","params":{{{META}}}}}
U>r {{"jsonrpc":"2.0","id":"r7f-1","result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}}}},"ttlMs":60000,"cacheScope":"public","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"shop","version":"2.1"}}}}}}}}
r>C {{"jsonrpc":"2.0","id":1,"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{"listChanged":true}}}},"serverInfo":{{"name":"shop","version":"2.1"}}}}}}
C>r {{"jsonrpc":"2.0","method":"notifications/initialized"}}
r>U {{"jsonrpc":"2.0","id":"r7f-2","method":"subscriptions/listen","params":{{{META},"notifications":{{"toolsListChanged":true}}}}}}
U>r {{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":"r7f-2"}}}}}}
r>C {{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}}
C>r {{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"order","arguments":{{"sku":"A1"}}}}}}
r>U {{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"order","arguments":{{"sku":"A1"}},{META}}}}}
U>r {{"jsonrpc":"2.0","id":2,"result":{{"resultType":"input_required","inputRequests":{{"qty":{{"method":"elicitation/create","params":{{"mode":"form","message":"How many?","requestedSchema":{SCHEMA}}}}}}},"requestState":"s1"}}}}
r>C {{"jsonrpc":"2.0","id":"r7f-3","method":"elicitation/create","params":{{"message":"How many?","requestedSchema":{SCHEMA}}}}}
C>r {{"jsonrpc":"2.0","id":"r7f-3","result":{{"action":"accept","content":{{"n":3}}}}}}
r>U {{"jsonrpc":"2.0","id":"r7f-4","method":"tools/call","params":{{"name":"order","arguments":{{"sku":"A1"}},"inputResponses":{{"qty":{{"action":"accept","content":{{"n":3}}}}}},"requestState":"s1",{META}}}}}
U>r {{"jsonrpc":"2.0","id":"r7f-4","result":{{"resultType":"complete","content":[{{"type":"text","text":"ordered 3"}}]}}}}
r>C {{"jsonrpc":"2.0","id":2,"result":{{"content":[{{"type":"text","text":"ordered 3"}}]}}}}
"""  # noqa: E501 - each line is one message


class Shop(Peer):
    """Hands the test what it gets, and answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[object, Call] = {}
        self.answered: dict[object, trio.Event] = {
            id: trio.Event() for id in ("r7f-1", "r7f-2", 2, "r7f-4")
        }

    async def send(self, message: Message, call: Call) -> None:
        await call.turn.come()
        call.turn.over()
        self.seen.append(message)
        self.calls[message.id] = call
        await self.answered[message.id].wait()


async def test_the_traffic_of_the_example(autojump_clock: MockClock) -> None:
    shop, in_flight = Shop(), InFlight()
    told: list[Message] = []

    async def emit(message: Message) -> None:
        told.append(message)

    async with bridging(shop) as client, trio.open_nursery() as nursery:
        client.emitted = told

        async def relay(relayed: Relayed) -> None:
            await client.upstream.send(relayed.message, Call(emit, relayed.turn, relayed))
            in_flight.close(relayed)

        for line in TRAFFIC.strip().splitlines():
            message = jsonrpc.parse(line[4:].encode())
            match line[:3]:
                case "C>r":
                    nursery.start_soon(relay, in_flight.open(message))
                case "U>r":
                    await shop.calls[message.id or "r7f-2"].emit(message)
                    if message.id is not None:
                        shop.answered[message.id].set()
                case "r>U":
                    assert shop.seen.pop(0).raw.decode() == line[4:]
                case "r>C":
                    assert told.pop(0).raw.decode() == line[4:]
            await trio.sleep(0.1)  # long enough for a wish to become a stream (B-12)
        assert shop.seen == told == []

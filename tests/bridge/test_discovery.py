"""The answer to `server/discover` as the answer to `initialize` (B-1 to B-3), byte for byte."""

from __future__ import annotations

import pytest

from mcp_stdio import jsonrpc
from mcp_stdio.bridge.discovery import are_of_handshake_era, initialize_result, versions_in
from mcp_stdio.jsonrpc import Message

SHOP = '{"name":"shop","version":"2.1"}'
META = f'"_meta":{{"io.modelcontextprotocol/serverInfo":{SHOP}}}'


def response(result: str) -> Message:
    return jsonrpc.parse(f'{{"jsonrpc":"2.0","id":"d","result":{result}}}'.encode())


def answered(result: str) -> str:
    """The result that the client gets, without the parts that are always the same."""
    raw = initialize_result(7, response(result), "2025-06-18", "shop.example").raw.decode()
    head = '{"jsonrpc":"2.0","id":7,"result":{"protocolVersion":"2025-06-18",'
    assert raw.startswith(head)
    return raw[len(head) : -2]


@pytest.mark.parametrize(
    "discovered, told",
    [
        (
            (
                '{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":'
                f'{{"listChanged":true}}}},"ttlMs":60000,"cacheScope":"public",{META}}}'
            ),
            f'"capabilities":{{"tools":{{"listChanged":true}}}},"serverInfo":{SHOP}',
        ),
        (
            f'{{"capabilities":{{}},"instructions":"\\u00e9 \\/",{META}}}',
            f'"capabilities":{{}},"serverInfo":{SHOP},"instructions":"\\u00e9 \\/"',
        ),
        (
            '{"capabilities":{},"serverInfo":{"title":"T","name":"old","version":"1"}}',
            '"capabilities":{},"serverInfo":{"title":"T","name":"old","version":"1"}',
        ),
        (
            '{"capabilities":{}}',
            '"capabilities":{},"serverInfo":{"name":"shop.example","version":"unknown"}',
        ),
        (
            '{"capabilities":{},"serverInfo":{"name":"old","n":1.0}}',
            '"capabilities":{},"serverInfo":{"version":"unknown","name":"old","n":1.0}',
        ),
        (
            (
                '{"capabilities":{},"_meta":{"io.modelcontextprotocol/serverInfo":"shop"},'
                '"serverInfo":null}'
            ),
            '"capabilities":{},"serverInfo":{"name":"shop.example","version":"unknown"}',
        ),
        (
            f'{{"capabilities":[1],"_meta":{{"q":1.50,{META[9:-1]}}},"other":1e400}}',
            f'"capabilities":{{}},"serverInfo":{SHOP},"other":1e400,"_meta":{{"q":1.50}}',
        ),
        (f"{{{META}}}", f'"capabilities":{{}},"serverInfo":{SHOP}'),
        *(
            (
                f'{{"capabilities":{{}},"_meta":{meta},"serverInfo":{SHOP}}}',
                f'"capabilities":{{}},"serverInfo":{SHOP}',
            )
            for meta in ("null", "5", '"x"', "[1]", "{}")
        ),
    ],
)
def test_a_discover_result_answers_initialize(discovered: str, told: str) -> None:
    """B-1, B-2: what both results know crosses as it was written."""
    assert answered(discovered) == told


@pytest.mark.parametrize(
    "offered, told",
    [
        (
            (
                '{"tools":{},"prompts":{"listChanged":true},"resources":{"subscribe":true},'
                '"completions":{},"logging":{},"experimental":{"a":{"n":1.0}}}'
            ),
            None,
        ),
        ('{"tasks":{"list":{}},"tools":{}}', '{"tools":{}}'),
        ('{"extensions":{"com.example/x":{}}}', None),
        (
            '{"extensions":{"io.modelcontextprotocol/tasks":{},"com.example/x":{"n":1.0}}}',
            '{"extensions":{"com.example/x":{"n":1.0}}}',
        ),
    ],
)
def test_capabilities_are_offered_except_tasks(offered: str, told: str | None) -> None:
    """B-3, B-40."""
    assert answered(f'{{"capabilities":{offered},{META}}}') == (
        f'"capabilities":{told or offered},"serverInfo":{SHOP}'
    )


@pytest.mark.parametrize(
    "raw, names",
    [
        (b'"result":{"supportedVersions":["2026-07-28","2025-11-25"]}', 2),
        (b'"result":{"supportedVersions":["2026-07-28",7]}', 1),
        (b'"result":{"supportedVersions":"2026-07-28"}', 0),
        (b'"result":{"tools":[]}', 0),
        (b'"error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}', 1),
        (b'"error":{"code":-32022,"message":"","data":{"supported":7}}', 0),
        (b'"error":{"code":-32022,"message":"","data":7}', 0),
        (b'"error":{"code":-32022,"message":""}', 0),
    ],
)
def test_versions_are_read_from_results_and_errors(raw: bytes, names: int) -> None:
    """B-31, D-C."""
    message = jsonrpc.parse(b'{"jsonrpc":"2.0","id":1,' + raw + b"}")
    assert versions_in(message) == ["2026-07-28", "2025-11-25"][:names]


def test_eras_are_told_by_their_versions() -> None:
    assert are_of_handshake_era(["2025-11-25", "2024-11-05"])
    assert are_of_handshake_era([])
    assert not are_of_handshake_era(["2025-11-25", "2026-07-28"])
    assert not are_of_handshake_era(["2031-01-01"])

"""Odd circumstances to be started in: it relays as ever and has nothing to say about them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.faults.driver import Relay, environment, relaying
from tests.faults.server import Visit, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX sets the scene")

ABROAD = "Grüße, 日本語, \N{FAMILY}, \u2028 and \x00"

ENVIRONMENTS = {
    "a locale of ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a locale that does not exist": {"LC_ALL": "xx_YY.weird", "LANGUAGE": "\udcff"},
    "another encoding": {"PYTHONIOENCODING": "utf-16"},
    "warnings are errors": {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    "no assertions": {"PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1"},
    "no chance": {"PYTHONHASHSEED": "0", "PYTHONINTMAXSTRDIGITS": "640"},
    "nothing where it is said": {
        "HOME": "/nowhere",
        "TMPDIR": "/nowhere",
        "SSL_CERT_DIR": "/nowhere",
        "OPENSSL_CONF": "/nowhere",
        "PATH": "",
        "TERM": "",
        "TZ": "Nowhere/At_All",
        "COLUMNS": "many",
    },
}

SHELLS = {
    "everybody may write what it makes": "umask 0",
    "not even itself may read what it makes": "umask 0777",
    "no byte of a file may be written": "ulimit -f 0",
    "ignored signals": "trap '' HUP INT QUIT PIPE CHLD USR1",
    "a directory that is gone": 'cd "$(mktemp -d)" && rmdir "$PWD"',
}


async def repeat(visit: Visit) -> None:
    text = visit.received.message["params"]["arguments"]["text"]
    await visit.answer({"content": [{"type": "text", "text": text}]})


async def assert_at_ease(relay: Relay) -> None:
    """What is abroad crosses unchanged, and standard error has the one line that it always has."""
    answer = await relay.call("repeat", text=ABROAD)
    assert answer["result"]["content"][0]["text"] == ABROAD
    await relay.leave()
    lines = relay.errors.decode().splitlines()
    assert len(lines) == 1, lines
    assert "relays to" in lines[0]


@pytest.mark.parametrize("circumstance", ENVIRONMENTS)
async def test_an_environment(circumstance: str) -> None:
    async with serving(tools={"repeat": repeat}) as server:
        async with relaying(server.url, env=ENVIRONMENTS[circumstance]) as relay:
            await assert_at_ease(relay)


@pytest.mark.parametrize("circumstance", SHELLS)
async def test_a_shell(circumstance: str) -> None:
    wrapper = ("sh", "-c", f'{SHELLS[circumstance]}; exec "$@"', "sh")
    async with serving(tools={"repeat": repeat}) as server:
        async with relaying(server.url, wrapper=wrapper) as relay:
            await assert_at_ease(relay)


async def test_no_environment_at_all() -> None:
    place = environment()["PYTHONPATH"]
    async with serving(tools={"repeat": repeat}) as server:
        async with relaying(server.url, wrapper=("env", "-i", f"PYTHONPATH={place}")) as relay:
            await assert_at_ease(relay)


async def test_a_command_line_of_a_thousand_headers() -> None:
    headers = [word for n in range(1000) for word in ("--header", f"X-{n}: {'value' * 20}")]
    async with serving(tools={"repeat": repeat}) as server:
        async with relaying(server.url, *headers) as relay:
            await assert_at_ease(relay)
        (call,) = server.requests("tools/call")
        assert {f"X-{n}" for n in range(1000)} <= {name for name, _ in call.headers}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
async def test_a_log_that_takes_nothing() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    async with serving(tools={"repeat": repeat}) as server:
        async with relaying(server.url, "-vv", "--log-file", "/dev/full", stderr=full) as relay:
            answer = await relay.call("repeat", text=ABROAD)
            assert answer["result"]["content"][0]["text"] == ABROAD
    os.close(full)

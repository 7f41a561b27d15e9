"""Credentials from files and commands, renewed under a running relay in front of a real server.

A refused request goes out again once, with what there is by then; no call runs twice (P2, which
`serving` sees to) and nothing of it shows (P7).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mcp_stdio import spec
from tests.claims.test_secrets import assert_hidden
from tests.faults.driver import LANES, LIMIT, UNAUTHORIZED, opening, relaying
from tests.faults.server import TOOL_CALL, Behaviour, Server, Visit, http, serving, welcome, well

FIRST = "fG7/aB+2~cD9-eF4"
SECOND = "kL3/mN+8~oP5-qR6"

PRINTS = "print(open({path!r}).read())"
"""The program of a command: tells what stands in a file."""


class Gate:
    """Lets through who knows the token; what it refuses did not run."""

    def __init__(self, token: str, header: str = "Authorization", status: int = 401) -> None:
        self.token = token
        self.status = status
        self.refused: list[str] = []
        self._header = header
        self._challenges = (
            ['WWW-Authenticate: Bearer error="invalid_token"'] if status == 401 else []
        )

    def guarding(self, behaviour: Behaviour) -> Behaviour:
        async def behave(visit: Visit) -> None:
            value = visit.received.get(self._header) or ""
            if value.removeprefix("Bearer ") == self.token:
                await behaviour(visit)
                return
            self.refused.append(value)
            if visit.received.rpc == TOOL_CALL:
                visit.did_not_run()
            body = f"not with {value}".encode()
            await visit.send(http(self.status, body, kind="text/plain", headers=self._challenges))

        return behave

    def guard(self, server: Server) -> None:
        server.methods[spec.INITIALIZE] = self.guarding(welcome)
        for tool in "echo", "slow":
            server.tools[tool] = self.guarding(well)


def token_file(path: Path) -> tuple[str, ...]:
    return "--bearer-token-file", str(path)


def token_command(path: Path) -> tuple[str, ...]:
    code = path.with_name("print.py")
    code.write_text(PRINTS.format(path=str(path)))
    return "--bearer-token-command", f'"{sys.executable}" "{code}"'


def header_file(path: Path) -> tuple[str, ...]:
    return "--header-file", str(path)


def header_command(path: Path) -> tuple[str, ...]:
    return "--header-command", token_command(path)[1]


Options = Callable[[Path], tuple[str, ...]]

WAYS: dict[str, tuple[Options, str, str]] = {
    "token file": (token_file, "Authorization", "{token}\n"),
    "token command": (token_command, "Authorization", "{token}\n"),
    "header file": (header_file, "X-Api-Key", "# mine\nX-Api-Key: {token}\nX-Other: 1\n"),
    "header command": (header_command, "Authorization", "Authorization: Bearer {token}\n"),
}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("way", WAYS)
async def test_a_rotated_credential_is_taken_up_with_one_replay(
    way: str, lane: str, tmp_path: Path
) -> None:
    options, header, content = WAYS[way]
    file, log = tmp_path / "secret", tmp_path / "log"
    file.write_text(content.format(token=FIRST))
    gate = Gate(FIRST, header)
    async with serving() as server:
        gate.guard(server)
        verbose = ("-vv", "--log-file", str(log))
        async with relaying(server.url, *options(file), *verbose, env=LANES[lane]) as relay:
            await relay.lives()
            assert gate.refused == []

            # Rotated: refused once, read again, replayed once.
            gate.token = SECOND
            file.write_text(content.format(token=SECOND))
            await relay.lives()
            assert [value.removeprefix("Bearer ") for value in gate.refused] == [FIRST]
            await relay.lives()
            assert len(gate.refused) == 1

            # Refused without anything new to offer: no replay, and the server's own words.
            gate.token = "another"
            error = (await relay.call("echo"))["error"]
            assert error["code"] == UNAUTHORIZED
            assert error["data"]["status"] == 401
            assert "invalid_token" in error["message"]
            assert len(gate.refused) == 2
        for secret in FIRST, SECOND:
            assert_hidden(
                secret, relay.errors.decode(), log.read_text(encoding="utf-8"), json.dumps(error)
            )
        assert len(server.requests(TOOL_CALL)) == 5


async def test_calls_refused_together_read_together(tmp_path: Path) -> None:
    file, runs = tmp_path / "secret", tmp_path / "runs"
    file.write_text(FIRST)
    script = tmp_path / "script.py"
    script.write_text(
        f"import time\nopen({str(runs)!r}, 'a').write('x')\ntime.sleep(1)\n"
        + PRINTS.format(path=str(file))
    )
    gate = Gate(FIRST)
    async with serving() as server:
        gate.guard(server)
        command = f'"{sys.executable}" "{script}"'
        async with relaying(server.url, "--bearer-token-command", command) as relay:
            await relay.lives()
            assert runs.read_text(encoding="utf-8") == "x"
            gate.token = SECOND
            file.write_text(SECOND)
            ids = [await relay.start_call("slow") for _ in range(20)]
            for id in ids:
                assert "result" in await relay.answer(id)
            assert runs.read_text(encoding="utf-8") == "xx"
            assert 1 <= len(gate.refused) <= 20


async def test_a_403_runs_the_command_for_the_next_call(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(FIRST)
    gate = Gate(FIRST, status=403)
    async with serving() as server:
        gate.guard(server)
        async with relaying(server.url, *token_command(file)) as relay:
            gate.token = SECOND
            file.write_text(SECOND)
            assert (await relay.call("echo"))["error"]["code"] == UNAUTHORIZED
            assert len(server.requests(TOOL_CALL)) == 1
            await relay.lives()


@pytest.mark.parametrize("way", WAYS)
async def test_what_cannot_be_read_at_first_is_each_request_s_error_until_it_can(
    way: str, tmp_path: Path
) -> None:
    options, header, content = WAYS[way]
    file = tmp_path / "secret"
    file.write_text(f"\x00{FIRST} and more\n")
    async with serving() as server:
        Gate(SECOND, header).guard(server)
        async with relaying(server.url, *options(file), "-vv", initialize=False) as relay:
            error = (await relay.ask(spec.INITIALIZE, opening()))["error"]
            assert error["code"] == UNAUTHORIZED
            assert error["data"]["kind"] == "authorization"
            assert options(file)[0] in error["message"]
            assert error["data"]["hint"]
            assert server.received == []
            file.write_text(content.format(token=SECOND))
            await relay.initialize()
            await relay.lives()
        assert_hidden(FIRST, relay.errors.decode(), json.dumps(error))


async def test_a_credential_that_vanishes_is_said_and_heals(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(FIRST)
    gate = Gate(FIRST)
    async with serving() as server:
        gate.guard(server)
        async with relaying(server.url, *token_file(file)) as relay:
            file.unlink()
            await relay.lives()  # nobody asks for it while it is good
            gate.token = SECOND
            error = (await relay.call("echo"))["error"]
            assert error["code"] == UNAUTHORIZED
            assert "`--bearer-token-file`: the file cannot be read" in error["message"]
            file.write_text(SECOND)
            await relay.lives()


async def test_a_command_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text("import time\ntime.sleep(1000)\n")
    async with serving() as server:
        command = f'"{sys.executable}" "{script}"'
        async with relaying(
            server.url, "--bearer-token-command", command, initialize=False
        ) as relay:
            id = await relay.request(spec.INITIALIZE, opening())
            await trio.sleep(0.5)
            with trio.fail_after(LIMIT):
                await relay.leave()
            assert "error" in await relay.answer(id)


async def test_what_a_command_complains_of_shows_with_v_only(tmp_path: Path) -> None:
    script = tmp_path / "complain.py"
    script.write_text(
        f"import sys\nprint({FIRST!r})\nprint('hello from', {FIRST!r}, file=sys.stderr)\n"
    )
    command = f'"{sys.executable}" "{script}"'
    async with serving() as server:
        Gate(FIRST).guard(server)
        for verbosity in (), ("-v",):
            async with relaying(server.url, *verbosity, "--bearer-token-command", command) as relay:
                await relay.lives()
            said = relay.errors.decode()
            assert ("hello from" in said) == bool(verbosity)
            assert_hidden(FIRST, said)
            server.runs.clear()  # the ids begin anew with each relay

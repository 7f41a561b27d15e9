"""When files and commands are read, who waits, and which refusal is worth a replay."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from mcp_stdio import redaction
from mcp_stdio.config import Source
from mcp_stdio.credentials.rules import Headers
from mcp_stdio.credentials.supplied import Supplied, read
from mcp_stdio.errors import AuthorizationFailed
from mcp_stdio.http import Head, Request
from mcp_stdio.http import Headers as ReceivedHeaders
from mcp_stdio.http.authorizer import Authorizer
from mcp_stdio.http.url import Url

TOKEN = Source(option="--bearer-token-command", gives="token", command=("x",))
HEADERS = Source(option="--header-file", gives="headers", path="x")
UNAUTHORIZED = Head(401, ReceivedHeaders([]))
FORBIDDEN = Head(403, ReceivedHeaders([]))
TOO_NARROW = Head(
    403, ReceivedHeaders([(b"WWW-Authenticate", b'Bearer error="insufficient_scope"')])
)


class Program:
    """Gives a token with a number, once it is let; `fails` is why it does not."""

    def __init__(self) -> None:
        self.number = 0
        self.runs = 0
        self.pause: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.fails: str | None = None

    async def __call__(self, source: Source) -> Headers:
        await self.pause()
        self.runs += 1
        if self.fails is not None:
            raise AuthorizationFailed(self.fails, hint="h")
        return (("Authorization", f"Bearer {self.number}"),)


def sent(*headers: tuple[str, str]) -> Request:
    return Request("POST", Url.parse("https://h/"), headers=headers)


def with_token(number: int) -> Request:
    return sent(("Authorization", f"Bearer {number}"), ("Accept", "x"))


async def test_read_at_first_and_not_again() -> None:
    program = Program()
    supplied: Authorizer = Supplied([("X", "1")], [TOKEN], read=program)
    assert not supplied.is_ready
    for _ in range(3):
        assert await supplied.headers() == (("X", "1"), ("Authorization", "Bearer 0"))
        assert supplied.is_ready
    assert program.runs == 1


async def test_without_sources_there_is_nothing_to_wait_for() -> None:
    supplied = Supplied([("X", "1")], [])
    assert supplied.is_ready
    assert await supplied.headers() == (("X", "1"),)


async def test_the_last_of_a_name_counts_and_what_it_replaces_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def two(source: Source) -> Headers:
        return (("X-A", "file"),) if source is HEADERS else (("authorization", "Bearer t"),)

    supplied = Supplied(
        [("Authorization", "Token u"), ("x-a", "fixed")], [TOKEN, HEADERS], read=two
    )
    assert await supplied.headers() == (("authorization", "Bearer t"), ("X-A", "file"))
    assert caplog.messages == [
        f"`{name}` is what `{option}` gives; what was given otherwise is not used"
        for name, option in (("authorization", "--bearer-token-command"), ("X-A", "--header-file"))
    ]
    await supplied.renew(sent(*await supplied.headers()), UNAUTHORIZED)
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("refusal", [UNAUTHORIZED, TOO_NARROW])
async def test_a_new_credential_is_worth_one_replay(refusal: Head) -> None:
    program = Program()
    supplied = Supplied([], [TOKEN], read=program)
    await supplied.headers()
    program.number = 1
    assert await supplied.renew(with_token(0), refusal)
    assert await supplied.headers() == (("Authorization", "Bearer 1"),)
    assert program.runs == 2
    # The replay is refused as well: nothing has changed since.
    assert not await supplied.renew(with_token(1), refusal)


@pytest.mark.parametrize("refusal", [UNAUTHORIZED, FORBIDDEN, TOO_NARROW])
async def test_the_same_credential_is_worth_none(refusal: Head) -> None:
    program = Program()
    supplied = Supplied([], [TOKEN], read=program)
    await supplied.headers()
    assert not await supplied.renew(with_token(0), refusal)
    assert program.runs == 2


async def test_a_plain_403_renews_for_the_next_request_alone() -> None:
    """P2: its call may have run."""
    program = Program()
    supplied = Supplied([], [TOKEN], read=program)
    await supplied.headers()
    program.number = 1
    assert not await supplied.renew(with_token(0), FORBIDDEN)
    assert await supplied.headers() == (("Authorization", "Bearer 1"),)


async def test_what_was_renewed_meanwhile_is_not_renewed_again() -> None:
    program = Program()
    program.number = 1
    supplied = Supplied([], [TOKEN], read=program)
    await supplied.headers()
    assert await supplied.renew(with_token(0), UNAUTHORIZED)
    assert program.runs == 1


async def test_cookies_of_the_server_are_no_change() -> None:
    async def cookie(source: Source) -> Headers:
        return (("Cookie", "a=b"),)

    supplied = Supplied([], [HEADERS], read=cookie)
    await supplied.headers()
    assert not await supplied.renew(sent(("Cookie", "a=b; lb=1")), UNAUTHORIZED)
    assert await supplied.renew(sent(("Cookie", "a=bc; lb=1")), UNAUTHORIZED)


async def test_many_refused_requests_run_a_command_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    program = Program()
    supplied = Supplied([], [TOKEN], read=program)
    results: list[object] = []

    async def ask() -> None:
        results.append(await supplied.headers())

    async def renew() -> None:
        results.append(await supplied.renew(with_token(0), UNAUTHORIZED))

    program.pause = partial(trio.sleep, 5)
    for task, expected in (ask, (("Authorization", "Bearer 0"),)), (renew, True), (renew, True):
        results.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
            program.number += task is renew
        assert results == [expected] * 20
    assert program.runs == 2  # the second time, all of them carried what was renewed already


async def test_others_go_on_with_what_there_is(autojump_clock: trio.testing.MockClock) -> None:
    program = Program()
    supplied = Supplied([], [TOKEN], read=program)
    await supplied.headers()
    program.pause = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supplied.renew, with_token(0), UNAUTHORIZED)
        await trio.testing.wait_all_tasks_blocked()
        assert supplied.is_ready
        with trio.fail_after(1):
            assert await supplied.headers() == (("Authorization", "Bearer 0"),)
        nursery.cancel_scope.cancel()


async def test_who_waits_for_a_cancelled_reading_reads_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    program = Program()
    supplied = Supplied([], [TOKEN], read=program)
    program.pause = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as first:
            first.start_soon(supplied.headers)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(supplied.headers)
            await trio.testing.wait_all_tasks_blocked()
            program.pause = trio.lowlevel.checkpoint
            first.cancel_scope.cancel()
    assert program.runs == 1
    assert supplied.is_ready


async def test_a_failure_at_first_is_everybody_s_and_then_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    program = Program()
    program.fails = "no"
    program.pause = partial(trio.sleep, 1)
    supplied = Supplied([], [TOKEN], read=program)

    async def fail() -> None:
        with pytest.raises(AuthorizationFailed, match=r"^no$") as caught:
            await supplied.headers()
        assert caught.value.hint == "h"

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(fail)
    assert program.runs == 1
    assert not supplied.is_ready
    program.fails = None
    assert await supplied.headers() == (("Authorization", "Bearer 0"),)


async def test_a_failure_to_renew_is_the_answer_to_a_401_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = Program()
    supplied = Supplied([], [TOKEN], read=program)
    await supplied.headers()
    program.fails = "no"
    with pytest.raises(AuthorizationFailed, match=r"^no$") as caught:
        await supplied.renew(with_token(0), UNAUTHORIZED)
    assert caught.value.status == 401
    assert not await supplied.renew(with_token(0), FORBIDDEN)
    assert caplog.messages == ["no"]
    # What there was remains, and heals with the next refusal.
    assert await supplied.headers() == (("Authorization", "Bearer 0"),)
    program.fails, program.number = None, 1
    assert await supplied.renew(with_token(0), UNAUTHORIZED)


# Real files and commands


def a_file(path: Path, gives: str = "token") -> Source:
    if gives == "token":
        return Source(option="--bearer-token-file", gives="token", path=str(path))
    return Source(option="--header-file", gives="headers", path=str(path))


def a_command(code: str) -> Source:
    command = (sys.executable, "-c", code)
    return Source(option="--header-command", gives="headers", command=command)


@pytest.mark.parametrize("content", [b"t0k3n", b" t0k3n \r\n", b"\xef\xbb\xbft0k3n\n"])
async def test_a_token_in_a_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    assert await read(a_file(file)) == (("Authorization", "Bearer t0k3n"),)


async def test_headers_in_a_file_are_secrets(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# mine\nAuthorization: Digest hZ6-wQ81\n\nX-Key: jR4-pL77\n", "utf-8")
    assert await read(a_file(file, "headers")) == (
        ("Authorization", "Digest hZ6-wQ81"),
        ("X-Key", "jR4-pL77"),
    )
    assert redaction.redact("hZ6-wQ81, jR4-pL77") == "***, ***"


@pytest.mark.parametrize(
    "content, gives, cause",
    [
        ("", "token", "`--bearer-token-file` gives no token"),
        ("Bearer s3cr3t", "token", "`--bearer-token-file` gives no token"),
        ("x" * 70000, "token", "`--bearer-token-file`: the file has more than 65536 bytes"),
        ("A: 1\ns3cr3t", "headers", "`--header-file, line 2`: there is no colon"),
        ("Host: s3cr3t", "headers", "`--header-file, line 1` cannot set `Host`"),
        (None, "token", "`--bearer-token-file`: the file cannot be read: No such file"),
    ],
)
async def test_what_a_file_cannot_give_is_said(
    content: str | None, gives: str, cause: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    with pytest.raises(AuthorizationFailed) as caught:
        await read(a_file(file, gives))
    assert str(caught.value).startswith(cause)
    assert caught.value.hint
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
async def test_a_file_that_nobody_writes_holds_up_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with trio.move_on_after(0.5) as scope:
        await read(a_file(pipe))
    assert scope.cancelled_caught
    pipe.open("wb", buffering=0).close()  # lets the thread go


async def test_tokens_that_are_renewed_for_days_leave_nothing_behind(tmp_path: Path) -> None:
    """All of them were once remembered, in every form: 300 took 2 GB, and the next one 4 s."""
    file = tmp_path / "token"

    async def renew(times: int) -> int:
        for number in range(times):
            file.write_text(f"{number:04d}{times:04d}" + "t0ken-" * 100)
            await read(a_file(file))
        return sys.getallocatedblocks()

    before = await renew(60)
    assert await renew(300) - before < 1_000


async def test_a_key_stays_secret_however_many_tokens_are_renewed(tmp_path: Path) -> None:
    """The file is read once where the server never refuses it (P7)."""
    file = tmp_path / "headers"
    file.write_text("X-Api-Key: the-key-of-the-file\n")
    await read(a_file(file, "headers"))
    for number in range(redaction.MAX_REPLACEABLE + 1):
        redaction.protect_replaceable(f"renewed-token-{number}")
    assert redaction.redact_known("got the-key-of-the-file back") == "got *** back"


async def test_headers_of_a_command() -> None:
    assert await read(a_command("print('A: 1\\nB: 2')")) == (("A", "1"), ("B", "2"))


@pytest.mark.parametrize("code", [0, 1])
async def test_complaints_of_a_command_are_shown_with_v_without_secrets(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    source = a_command(
        "import sys; print('X-Key: mT5-kD28'); print('got', 'mT5-kD28', file=sys.stderr); "
        f"sys.exit({code})"
    )
    caplog.set_level(logging.INFO)
    if code:
        with pytest.raises(AuthorizationFailed, match=r"`--header-command`: .* ended with code 1"):
            await read(source)
    else:
        await read(source)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "`--header-command` complains: got ***"

"""A process that keeps a record, for tests of what several of them, or a killed one, leave.

    keeper.py DIRECTORY count            add one to the counter in the entry, under the lock
    keeper.py DIRECTORY write                write records without end, whole ones of any size
    keeper.py DIRECTORY hold                 take the lock, say so, and wait for the end of stdin
    keeper.py DIRECTORY ask                  the same, and say that it asks somebody to sign in
    keeper.py DIRECTORY read UID             become that user and read
    keeper.py DIRECTORY write-as UID         become that user and write
    keeper.py DIRECTORY renew [UID]          keep another token, and say whether that is lost soon

Everything is imported before another user is become, who may not be able to read this checkout.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import trio

from mcp_stdio.errors import RelayError
from mcp_stdio.oauth.kept import Kept
from mcp_stdio.oauth.notice import Notice
from mcp_stdio.oauth.record import Record, Tokens
from mcp_stdio.oauth.store import Entry, Store

URL = "https://mcp.example/mcp"
PAGE = "https://as.example/authorize?state=st4te"


def entry(directory: str | Path) -> Entry:
    return Store(Path(directory)).entry(URL, None, "default")


def record(token: str) -> Record:
    tokens = Tokens(
        access_token=token,
        issuer="https://as.example",
        client_id="client",
        token_endpoint="https://as.example/token",
    )
    return Record(server_url=URL, tokens=tokens)


def token(kept: Record | None) -> str:
    assert kept is not None
    assert kept.tokens is not None
    return kept.tokens.access_token


async def count(kept: Entry) -> None:
    async with kept.locked():
        known = kept.read()
        number = 0 if known is None else int(token(known))
        kept.write(record(str(number + 1)))


async def write(kept: Entry) -> None:
    async with kept.locked():
        number = 0
        say("writing")
        while True:
            number += 1
            kept.write(record(f"{number}-{'x' * (number * 7919 % 200_000)}-{number}"))


async def hold(kept: Entry) -> None:
    async with kept.locked():
        say("holding")
        sys.stdin.read()


async def ask(kept: Entry) -> None:
    async with kept.locked():
        kept.announce(Notice(pid=os.getpid(), since=time.time(), url=PAGE))
        say("asking")
        sys.stdin.read()


async def write_as(kept: Entry) -> None:
    async with kept.locked():
        kept.write(record("s3cr3t-of-someone"))


async def renew(entry: Entry) -> None:
    kept = Kept(entry)
    before = token(kept.read())
    async with kept.alone() as unwritable:
        kept.write(record("renewed"))
        where = "written" if unwritable is None else "unwritten"
        say(f"{where}: {before}, {token(kept.known())}, {token(kept.read())}")


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    directory, action, *user = sys.argv[1:]
    if user:
        become(int(user[0]))
    kept = entry(directory)
    try:
        match action:
            case "count":
                trio.run(count, kept)
            case "write":
                trio.run(write, kept)
            case "hold":
                trio.run(hold, kept)
            case "ask":
                trio.run(ask, kept)
            case "renew":
                trio.run(renew, kept)
            case "write-as":
                trio.run(write_as, kept)
            case "read":
                say(token(kept.read()))
    except RelayError as exc:
        say(f"refused: {exc}")


if __name__ == "__main__":
    main()

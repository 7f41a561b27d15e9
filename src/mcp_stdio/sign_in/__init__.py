"""Signing in and out by hand, and telling who is signed in: the commands around the store.

Owns what these commands do and say: `status` on stdout, for people or with `--json` for programs,
the others on stderr. Refuses to know how a sign-in goes. Kept here: a sign-in is forgotten before
the server is told, so that no failure there leaves a token behind.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from mcp_stdio import log
from mcp_stdio.config import Config, OAuth
from mcp_stdio.errors import RelayError, StoreFailure, quote
from mcp_stdio.http.url import Url
from mcp_stdio.oauth.record import Record
from mcp_stdio.oauth.store import Entry, Store, default_directory
from mcp_stdio.sign_in.account import Account, as_object, as_text, shown
from mcp_stdio.sign_in.by_hand import locked, obtain, revoke
from mcp_stdio.sign_in.narrator import Narrator

Obtain = Callable[[Config, Entry], Awaitable[Record | None]]
Revoke = Callable[[Config, Record], Awaitable[None]]


def login(
    config: Config, *, obtain: Obtain = obtain, environ: Mapping[str, str] = os.environ
) -> int:
    """Sign in at the server and remember it. Returns the exit code; raises RelayError."""
    entry = _entry(config, environ)
    record = trio.run(obtain, config, entry)
    if record is None:
        _tell(
            f"nobody has to sign in at {shown(config.url)}: the server answers as it is, and names "
            "no place to sign in; use it without `--oauth`"
        )
        return 0
    for secret in record.secrets():
        log.protect(secret)  # what is told below holds words of the server
    _tell("signed in\n" + as_text(Account.of(record, str(entry.path)), time.time()))
    return 0


def logout(
    config: Config, *, revoke: Revoke = revoke, environ: Mapping[str, str] = os.environ
) -> int:
    """Forget what is kept for the server, tokens and registration, and revoke what can be."""
    entry, store = _entry(config, environ), Store(default_directory(environ))
    _tell(trio.run(partial(_logout, config, entry, store, revoke)))
    return 0


async def _logout(config: Config, entry: Entry, store: Store, revoke: Revoke) -> str:
    url = shown(config.url)
    async with locked(entry, Narrator()):
        record = entry.read()
        entry.delete()
    if record is not None:
        for secret in record.secrets():
            log.protect(secret)
    if record is None or record.tokens is None:
        forgotten = "; what was kept, a registration, is forgotten" if record else ""
        return f"nobody was signed in at {url}{_others(config, store)}{forgotten}"
    if record.tokens.revocation_endpoint is None:
        return f"signed out of {url}; its authorization server revokes no tokens, they expire"
    try:
        await revoke(config, record)
    except RelayError as exc:
        return f"signed out of {url}; the tokens may live on until they expire: {exc}"
    return f"signed out of {url}; the tokens are revoked"


def _others(config: Config, store: Store) -> str:
    """The sign-ins at the same server that other options would have named."""
    found = []
    for entry in store.entries():
        if _is_same(entry.server_url, config.url):
            client = f"--client-id {quote(entry.client_id)} " if entry.client_id else ""
            found.append(f"`{client}--oauth-profile {entry.profile}`")
    return f" with these options; there are others: {', '.join(found)}" if found else ""


def status(config: Config | None, *, as_json: bool, environ: Mapping[str, str] = os.environ) -> int:
    """Print what is kept: for one server, with all its profiles or the one named, or for all."""
    directory, now = default_directory(environ), time.time()
    found = [
        _account(entry)
        for entry in Store(directory).entries()
        if config is None or _is_meant(entry, config)
    ]
    if as_json:
        accounts = [as_object(account, now) for account in found]
        print(json.dumps({"store": str(directory), "accounts": accounts}))
    elif found:
        print(log.redact("\n\n".join(as_text(account, now) for account in found)))
    else:
        where = "anywhere" if config is None else f"at {shown(config.url)}"
        print(f"nobody is signed in {where}; sign-ins are kept in {directory}")
    return 0


def _account(entry: Entry) -> Account:
    path = str(entry.path)
    problem = "the file was damaged and has been moved aside"
    try:
        record = entry.read()
    except StoreFailure as exc:
        problem, record = str(exc), None
    if record is not None:
        return Account.of(record, path)
    url, profile, client_id = shown(entry.server_url), entry.profile, entry.client_id
    return Account(url=url, profile=profile, client_id=client_id, path=path, problem=problem)


def _entry(config: Config, environ: Mapping[str, str]) -> Entry:
    oauth = config.oauth or OAuth()
    store = Store(default_directory(environ))
    return store.entry(config.url, oauth.client_id, oauth.profile)


def _is_meant(entry: Entry, config: Config) -> bool:
    profile = (config.oauth or OAuth()).profile
    is_any = profile == OAuth().profile
    return _is_same(entry.server_url, config.url) and (is_any or entry.profile == profile)


def _is_same(one: str, other: str) -> bool:
    try:
        return Url.parse(one) == Url.parse(other)
    except ValueError:
        return False


def _tell(text: str) -> None:
    print(log.redact(text), file=sys.stderr, flush=True)

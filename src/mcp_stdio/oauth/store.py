"""What is kept of sign-ins, on disk: one file for each server URL, client id and profile (A-43).

Owns where the files lie, what they are called and what becomes of one that cannot be understood:
damaged, it is moved aside; written by a newer release, it is left alone. How the files are kept
from others is `private`'s business, what is in them `record`'s. Reading never waits: a file is
replaced as a whole. Writing and deleting need the entry's lock, so that of several processes none
undoes what another has just written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from mcp_stdio.errors import StoreFailure
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import private
from mcp_stdio.oauth.lock import Lock
from mcp_stdio.oauth.notice import Notice
from mcp_stdio.oauth.record import FORMAT, Record

log = logging.getLogger(__name__)

_SUFFIX = ".json"
_NAME = "mcp-stdio"


def default_directory(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where the files lie: under `XDG_CONFIG_HOME`, `~/.config` or, on Windows, `%APPDATA%`.

    Raises StoreFailure where the environment names none of them.
    """
    if platform == "win32":
        if (home := environ.get("APPDATA")) and _is_absolute(PureWindowsPath(home), home):
            return Path(home, _NAME)
        raise StoreFailure(
            "there is no place to keep a sign-in: `APPDATA` is not set",
            hint="have the program that starts mcp-stdio pass `APPDATA` on",
        )
    # A relative path there is to be ignored (XDG base directory specification).
    if (config := environ.get("XDG_CONFIG_HOME")) and _is_absolute(PurePosixPath(config), config):
        return Path(config, _NAME)
    if (home := environ.get("HOME")) and _is_absolute(PurePosixPath(home), home):
        return Path(home, ".config", _NAME)
    raise StoreFailure(
        "there is no place to keep a sign-in: neither `HOME` nor `XDG_CONFIG_HOME` is set",
        hint="have the program that starts mcp-stdio pass `HOME` on, or set `XDG_CONFIG_HOME`",
    )


class Store:
    """The entries in a directory, which comes into being when the first one is locked."""

    def __init__(self, directory: Path, platform: str = sys.platform) -> None:
        self._directory = directory
        self._platform = platform

    def entry(self, server_url: str, client_id: str | None, profile: str) -> Entry:
        """The entry for these three, whether there is one already or not."""
        return Entry(self._directory, server_url, client_id, profile, self._platform)

    def entries(self) -> list[Entry]:
        """All entries that there are; a file that tells no more whose it is, is passed over."""
        found = []
        with private.opened(self._directory, create=False, platform=self._platform) as directory:
            names = [] if directory is None else directory.names()
            for name in names:
                if directory is None or name.startswith(".") or not name.endswith(_SUFFIX):
                    continue
                try:
                    entry = self.entry(*_owner(directory.read(name) or b""))
                except (StoreFailure, ValueError) as exc:
                    log.warning("`%s` is passed over: %s", self._directory / name, exc)
                else:
                    if entry.path.name == name:
                        found.append(entry)
        return found


class Entry:
    """What is kept of one server URL, client id and profile, in the file at `path`."""

    def __init__(
        self,
        directory: Path,
        server_url: str,
        client_id: str | None,
        profile: str,
        platform: str = sys.platform,
    ) -> None:
        self.server_url = server_url
        self.client_id = client_id
        self.profile = profile
        self.path = directory / _file_name(server_url, client_id, profile)
        self._platform = platform
        self._holds_lock = False

    def read(self) -> Record | None:
        """What is kept, None when nothing is or it was damaged and has been moved aside.

        Raises StoreFailure for a file of a newer release, and one that cannot be used safely.
        """
        raw = self._content(self.path.name)
        if raw is None:
            return None
        try:
            return self._understood(raw)
        except ValueError:
            self._move_aside()
            return None

    def known(self) -> Record:
        """What is kept, or a record that holds nothing yet; raises as `read` does."""
        return self.read() or Record(
            server_url=self.server_url, client_id=self.client_id, profile=self.profile
        )

    def mark(self) -> object:
        """A value that each `write` and `delete` changes, whoever does it. Raises StoreFailure."""
        with private.opened(self.path.parent, create=False, platform=self._platform) as directory:
            try:
                status = None if directory is None else directory.status(self.path.name)
            except FileNotFoundError:
                status = None
        # A file system may give the next file the number of the last but one, hence the time.
        return status and (status.st_ino, status.st_mtime_ns, status.st_size)

    def write(self, record: Record) -> None:
        """Keep this record from now on; under the lock. Raises StoreFailure."""
        assert self._holds_lock, "writing needs the lock"
        name = self.path.name
        owner = (record.server_url, record.client_id, record.profile)
        assert _file_name(*owner) == name, "the record of another entry"
        with private.opened(self.path.parent, create=True, platform=self._platform) as directory:
            assert directory is not None
            _refuse_newer(directory.read(name) or b"", self.path)
            directory.replace(name, record.to_json())

    def delete(self) -> None:
        """Forget everything, also what was damaged; under the lock. Raises StoreFailure."""
        assert self._holds_lock, "deleting needs the lock"
        with private.opened(self.path.parent, create=False, platform=self._platform) as directory:
            if directory is not None:
                directory.forget(self.path.name)
                directory.forget(self._aside)
                directory.forget(self._notice)

    def announce(self, notice: Notice | None) -> None:
        """Tell who waits for the lock what for, or no more; under the lock. Raises StoreFailure."""
        assert self._holds_lock, "announcing needs the lock"
        with private.opened(self.path.parent, create=True, platform=self._platform) as directory:
            assert directory is not None
            if notice is None:
                directory.forget(self._notice)
            else:
                directory.replace(self._notice, notice.to_json())

    def announced(self) -> Notice | None:
        """What whoever holds the lock is waiting for, or has waited for the last time."""
        try:
            raw = self._content(self._notice)
            return None if raw is None else Notice.from_json(raw)
        except (StoreFailure, ValueError):
            return None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the lock that one process, and one task in it, can hold; death releases it."""
        async with self._lock():
            self._holds_lock = True
            try:
                notice = self.announced()
                if notice is not None and notice.in_vain_at is None:
                    with suppress(StoreFailure):  # a courtesy, like all of it
                        self.announce(None)  # by a process that was killed
                yield
            finally:
                self._holds_lock = False

    @property
    def _aside(self) -> str:
        return f"{self.path.name}.damaged"

    @property
    def _notice(self) -> str:
        return f"{self.path.stem}.notice"

    def _lock(self) -> Lock:
        return Lock(self.path.parent, f"{self.path.stem}.lock", self._platform)

    def _content(self, name: str) -> bytes | None:
        with private.opened(self.path.parent, create=False, platform=self._platform) as directory:
            return None if directory is None else directory.read(name)

    def _understood(self, raw: bytes) -> Record:
        _refuse_newer(raw, self.path)
        record = Record.from_json(raw)
        # Tokens of another server are never used, whoever has copied them here.
        if _file_name(record.server_url, record.client_id, record.profile) != self.path.name:
            raise ValueError("it is the record of another server, client or profile")
        return record

    def _move_aside(self) -> None:
        """Under the lock only: meanwhile another process may have put a good one in its place."""
        if self._holds_lock:
            self._move_aside_if_still_damaged()
            return
        lock = self._lock()
        if lock.try_acquire():
            try:
                self._move_aside_if_still_damaged()
            finally:
                lock.release()

    def _move_aside_if_still_damaged(self) -> None:
        with private.opened(self.path.parent, create=False, platform=self._platform) as directory:
            raw = None if directory is None else directory.read(self.path.name)
            if directory is None or raw is None:
                return
            try:
                self._understood(raw)
            except ValueError as exc:
                directory.rename(self.path.name, self._aside)
                log.warning(
                    "`%s` could not be understood and was moved aside to `%s`: %s",
                    self.path,
                    self._aside,
                    exc,
                )


def _file_name(server_url: str, client_id: str | None, profile: str) -> str:
    """A name that tells people the host, and tells everything else apart."""
    try:
        url = Url.parse(server_url)
    except ValueError:
        host, spelled = "", server_url
    else:
        host, spelled = url.host, str(url)
    identity = json.dumps([spelled, client_id, profile]).encode()
    readable = re.sub(r"[^a-z0-9.]+", "-", host)[:60].strip(".-") or "server"
    return f"{readable}-{hashlib.sha256(identity).hexdigest()[:32]}{_SUFFIX}"


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    return document


def _owner(raw: bytes) -> tuple[str, str | None, str]:
    """Whose file it is, whatever the release that wrote it. Raises ValueError."""
    document = _document(raw)
    server_url = document.get("server_url")
    client_id = document.get("client_id")
    profile = document.get("profile")
    if not (
        isinstance(server_url, str)
        and isinstance(client_id, str | None)
        and isinstance(profile, str)
    ):
        raise ValueError("it does not say whose it is")
    return server_url, client_id, profile


def _refuse_newer(raw: bytes, path: Path) -> None:
    try:
        version = _document(raw).get("version")
    except ValueError:
        return
    if isinstance(version, int) and version > FORMAT:
        raise StoreFailure(
            f"`{path}` was written by a newer release (format {version}, {FORMAT} is known here)",
            hint="update this mcp-stdio, or sign in under another name with `--oauth-profile`",
        )


def _is_absolute(path: PurePath, text: str) -> bool:
    return path.is_absolute() and "\0" not in text

"""What is kept on disk: where, how it is called, what becomes of what cannot be used (A-43)."""

from __future__ import annotations

import itertools
import json
import logging
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mcp_stdio.errors import StoreFailure
from mcp_stdio.oauth import private
from mcp_stdio.oauth.record import FORMAT, Record
from mcp_stdio.oauth.store import Entry, Store, default_directory
from tests.oauth.keeper import URL, record, token

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "config" / "mcp-stdio"


@pytest.fixture(params=["linux", "win32"])
def store(request: pytest.FixtureRequest, directory: Path) -> Store:
    """By descriptor as on POSIX, and by path as on Windows."""
    if request.param != "win32" and os.name != "posix":
        pytest.skip("Windows has no descriptors of directories")
    return Store(directory, request.param)


@pytest.fixture
def entry(store: Store) -> Entry:
    return store.entry(URL, None, "default")


@pytest.fixture
def posix_entry(directory: Path) -> Entry:
    return Store(directory, "linux").entry(URL, None, "default")


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def keep(entry: Entry, text: str) -> None:
    async with entry.locked():
        entry.write(record(text))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def test_whatever_others_do_leaves_a_mark(store: Store, entry: Entry) -> None:
    other = store.entry(URL, None, "default")
    marks = [other.mark()]
    for number in range(20):  # quickly, so that a file may get the number of an earlier one
        await keep(entry, str(number))
        marks.append(other.mark())
        assert other.mark() == marks[-1]
    async with entry.locked():
        entry.delete()
    assert None not in marks[1:]
    assert [one for one, next in itertools.pairwise(marks) if one == next] == []
    assert other.mark() is marks[0] is None


def put(entry: Entry, content: bytes) -> None:
    """What someone else has left in the entry's place."""
    entry.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry.path.write_bytes(content)
    entry.path.chmod(0o600)


# Where


@pytest.mark.parametrize(
    "platform, environ, expected",
    [
        ("linux", {"HOME": "/home/a"}, "/home/a/.config/mcp-stdio"),
        ("darwin", {"HOME": "/Users/a"}, "/Users/a/.config/mcp-stdio"),
        ("linux", {"HOME": "/home/a", "XDG_CONFIG_HOME": "/c"}, "/c/mcp-stdio"),
        ("darwin", {"XDG_CONFIG_HOME": "/c"}, "/c/mcp-stdio"),
        ("linux", {"HOME": "/home/a", "XDG_CONFIG_HOME": "relative"}, "/home/a/.config/mcp-stdio"),
        ("linux", {"HOME": "/home/a", "XDG_CONFIG_HOME": ""}, "/home/a/.config/mcp-stdio"),
        ("linux", {"HOME": "/home/a", "APPDATA": "C:\\A"}, "/home/a/.config/mcp-stdio"),
        ("win32", {"HOME": "/home/a", "APPDATA": "C:\\A"}, str(Path("C:\\A", "mcp-stdio"))),
    ],
)
def test_where_it_is_kept(platform: str, environ: dict[str, str], expected: str) -> None:
    assert str(default_directory(environ, platform)) == str(Path(expected))


@pytest.mark.parametrize(
    "platform, environ, named",
    [
        ("linux", {}, "`HOME`"),
        ("linux", {"HOME": ""}, "`HOME`"),
        ("linux", {"HOME": "here", "XDG_CONFIG_HOME": "there"}, "`HOME`"),
        ("linux", {"HOME": "/a\0b"}, "`HOME`"),
        ("win32", {"HOME": "/home/a"}, "`APPDATA`"),
        ("win32", {"APPDATA": "here"}, "`APPDATA`"),
    ],
)
def test_without_a_home_it_says_what_is_missing(
    platform: str, environ: dict[str, str], named: str
) -> None:
    with pytest.raises(StoreFailure, match=named) as failure:
        default_directory(environ, platform)
    assert failure.value.hint


# What


async def test_what_was_written_is_read(store: Store, entry: Entry) -> None:
    assert entry.read() is None
    await keep(entry, "one")
    await keep(entry, "two")
    assert entry.read() == record("two")
    assert store.entry(URL, None, "default").read() == record("two")


async def test_reading_creates_nothing(store: Store, entry: Entry, tmp_path: Path) -> None:
    assert entry.read() is None
    assert store.entries() == []
    assert list(tmp_path.iterdir()) == []


async def test_each_url_client_and_profile_has_its_own(store: Store) -> None:
    owners = [
        (URL, None, "default"),
        (URL, None, "work"),
        (URL, "default", "default"),
        (f"{URL}?tenant=a", None, "default"),
        ("http://mcp.example/mcp", None, "default"),
        ("https://mcp.example:8443/mcp", None, "default"),
    ]
    for url, client_id, profile in owners:
        entry = store.entry(url, client_id, profile)
        async with entry.locked():
            entry.write(Record(server_url=url, client_id=client_id, profile=profile))
    assert len({store.entry(*owner).path for owner in owners}) == len(owners)
    found = {(each.server_url, each.client_id, each.profile) for each in store.entries()}
    assert found == set(owners)


def test_spellings_of_a_url_share_an_entry_and_its_name_tells_the_host(store: Store) -> None:
    entry = store.entry("HTTPS://MCP.example:443/mcp", None, "default")
    assert entry.path == store.entry(URL, None, "default").path
    assert entry.path.name.startswith("mcp.example-")


@pytest.mark.parametrize("url", ["https://[::1]:8/../x", "https://a/" + "b" * 5000, "..", "/"])
def test_no_url_leads_out_of_the_directory(store: Store, directory: Path, url: str) -> None:
    path = store.entry(url, "../../client", "../profile").path
    assert path.parent == directory
    assert len(path.name) < 110
    assert not path.name.startswith(".")


async def test_deleting_leaves_no_secret(entry: Entry) -> None:
    put(entry, b"damaged s3cr3t")
    assert entry.read() is None
    await keep(entry, "s3cr3t")
    (entry.path.parent / f".{entry.path.name}.new").write_bytes(b"half a s3cr3t")
    async with entry.locked():
        entry.delete()
        entry.delete()
    assert entry.read() is None
    assert [path.suffix for path in entry.path.parent.iterdir()] == [".lock"]


async def test_deleting_what_never_was(entry: Entry) -> None:
    async with entry.locked():
        entry.delete()
    assert entry.read() is None


async def test_what_a_killed_writer_left_does_not_disturb(store: Store, entry: Entry) -> None:
    await keep(entry, "one")
    leftover = entry.path.parent / f".{entry.path.name}.new"
    leftover.write_bytes(b"half of two")
    assert entry.read() == record("one")
    assert len(store.entries()) == 1
    await keep(entry, "two")
    assert not leftover.exists()
    assert entry.read() == record("two")


async def test_a_write_that_fails_leaves_what_was_there(entry: Entry) -> None:
    await keep(entry, "one")
    async with entry.locked():
        (entry.path.parent / f".{entry.path.name}.new").mkdir()
        with pytest.raises(StoreFailure):
            entry.write(record("two"))
    assert entry.read() == record("one")


# What cannot be used


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"version": 1}',
        b'{"version": "new", "server_url": "https://mcp.example/mcp"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"\0" * 4096,
        Record(server_url="https://other.example/mcp").to_json(),
        Record(server_url=URL, profile="work").to_json(),
        record("x" * 2_000_000).to_json(),
    ],
    ids=range(13),
)
async def test_a_damaged_file_is_moved_aside_with_a_note(
    entry: Entry, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    put(entry, content)
    with caplog.at_level(logging.WARNING):
        assert entry.read() is None
    assert "moved aside" in caplog.text
    assert not entry.path.exists()
    aside = entry.path.with_name(f"{entry.path.name}.damaged")
    assert aside.read_bytes() == content
    await keep(entry, "good")
    assert entry.read() == record("good")


async def test_a_damaged_file_is_moved_aside_under_the_lock_too(entry: Entry) -> None:
    put(entry, b"{")
    async with entry.locked():
        assert entry.read() is None
        assert not entry.path.exists()


async def test_a_damaged_file_is_left_to_whoever_has_the_lock(store: Store, entry: Entry) -> None:
    put(entry, b"{")
    async with store.entry(URL, None, "default").locked():
        assert entry.read() is None
        assert entry.path.exists()


async def test_a_newer_format_is_left_alone(entry: Entry) -> None:
    content = json.dumps({"version": FORMAT + 1, "server_url": URL, "profile": "default"}).encode()
    put(entry, content)
    with pytest.raises(StoreFailure, match=f"newer release .format {FORMAT + 1}") as failure:
        entry.read()
    assert "--oauth-profile" in str(failure.value.hint)
    async with entry.locked():
        with pytest.raises(StoreFailure, match="newer release"):
            entry.write(record("old"))
    assert entry.path.read_bytes() == content


async def test_listing_passes_over_what_is_no_entry(
    store: Store, entry: Entry, caplog: pytest.LogCaptureFixture
) -> None:
    await keep(entry, "one")
    put(store.entry(URL, None, "damaged"), b"{")
    put(store.entry(URL, None, "odd"), b'{"server_url": 1}')
    (entry.path.parent / "note.txt").write_text("mine")
    (entry.path.parent / "copy.json").write_bytes(entry.path.read_bytes())
    newer = {"version": FORMAT + 1, "server_url": URL, "profile": "new", "clients": []}
    put(store.entry(URL, None, "new"), json.dumps(newer).encode())
    with caplog.at_level(logging.WARNING):
        assert {each.profile for each in store.entries()} == {"default", "new"}
    assert caplog.text.count("is passed over") == 2


async def test_a_directory_that_cannot_be_made_is_said(directory: Path) -> None:
    name = "n" * 300  # longer than file systems take
    entry = Store(directory / name).entry(URL, None, "default")
    with pytest.raises(StoreFailure, match="could not be created"):
        await keep(entry, "s3cr3t")


# Symlinks


async def refused(entry: Entry, words: str) -> None:
    with pytest.raises(StoreFailure, match=words) as failure:
        entry.read()
    assert failure.value.hint
    with pytest.raises(StoreFailure, match=words):
        await keep(entry, "s3cr3t")


async def test_a_symlink_in_place_of_the_directory_is_refused(entry: Entry, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    entry.path.parent.parent.mkdir()
    entry.path.parent.symlink_to(target, target_is_directory=True)
    await refused(entry, "is a symlink")
    assert list(target.iterdir()) == []


async def test_a_dangling_symlink_in_place_of_the_directory_is_refused(
    entry: Entry, tmp_path: Path
) -> None:
    entry.path.parent.parent.mkdir()
    entry.path.parent.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreFailure, match="is a symlink"):
        await keep(entry, "s3cr3t")
    assert not (tmp_path / "nowhere").exists()


async def test_a_symlink_in_place_of_the_file_is_refused(entry: Entry, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(record("planted").to_json())
    target.chmod(0o600)
    entry.path.parent.mkdir(mode=0o700, parents=True)
    entry.path.symlink_to(target)
    await refused(entry, "is a symlink")
    assert target.read_bytes() == record("planted").to_json()


async def test_a_symlink_in_place_of_the_lock_is_refused(entry: Entry, tmp_path: Path) -> None:
    target = tmp_path / "target"
    entry.path.parent.mkdir(mode=0o700, parents=True)
    entry.path.with_suffix(".lock").symlink_to(target)
    with pytest.raises(StoreFailure, match="is a symlink"):
        await keep(entry, "s3cr3t")
    assert not target.exists()


async def test_a_symlink_in_the_place_written_to_first_is_not_followed(
    entry: Entry, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    await keep(entry, "one")
    (entry.path.parent / f".{entry.path.name}.new").symlink_to(target)
    await keep(entry, "two")
    assert entry.read() == record("two")
    assert target.read_bytes() == b"untouched"


async def test_the_path_to_the_directory_may_have_symlinks(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / ".config").symlink_to(tmp_path / "dotfiles", target_is_directory=True)
    entry = Store(tmp_path / ".config" / "mcp-stdio").entry(URL, None, "default")
    await keep(entry, "one")
    assert entry.read() == record("one")


# Modes and owners


@posix_only
@pytest.mark.usefixtures("no_umask")
async def test_modes_hold_from_the_first_instant_whatever_the_umask(posix_entry: Entry) -> None:
    # `strace`-like: every creation is seen as the system call asks for it.
    seen: dict[str, int] = {}

    def look() -> None:
        for path in [posix_entry.path.parent, *posix_entry.path.parent.glob("*")]:
            seen.setdefault(path.name, mode(path))
        for path in posix_entry.path.parent.glob(".*"):
            seen.setdefault(path.name, mode(path))

    def trace(frame: object, event: str, argument: object) -> None:
        if event == "c_return" and posix_entry.path.parent.exists():
            look()

    sys.setprofile(trace)
    try:
        await keep(posix_entry, "s3cr3t")
    finally:
        sys.setprofile(None)
    assert seen.pop("mcp-stdio") == 0o700
    assert {Path(name).suffix for name in seen} == {".json", ".lock", ".new"}
    assert set(seen.values()) == {0o600}
    assert mode(posix_entry.path.parent.parent) == 0o700


@posix_only
async def test_what_is_open_to_others_is_closed_with_a_warning(
    posix_entry: Entry, caplog: pytest.LogCaptureFixture
) -> None:
    await keep(posix_entry, "one")
    posix_entry.path.parent.chmod(0o755)
    posix_entry.path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert posix_entry.read() == record("one")
    assert caplog.text.count("was open to other users") == 2
    assert mode(posix_entry.path.parent) == 0o700
    assert mode(posix_entry.path) == 0o600


@posix_only
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("what", ["directory", "file", "lock"])
async def test_what_belongs_to_another_user_is_refused(posix_entry: Entry, what: str) -> None:
    await keep(posix_entry, "one")
    path = posix_entry.path
    os.chown(
        {"directory": path.parent, "file": path, "lock": path.with_suffix(".lock")}[what], 1, 1
    )
    with pytest.raises(StoreFailure, match="belongs to another user") as failure:
        await keep(posix_entry, "two")
    assert "XDG_CONFIG_HOME" in str(failure.value.hint)
    if what != "lock":
        with pytest.raises(StoreFailure, match="belongs to another user"):
            posix_entry.read()


@posix_only
@pytest.mark.parametrize("make", ["mkfifo", "mkdir"])  # by name: Windows has but one of them
async def test_what_is_no_file_is_refused(posix_entry: Entry, make: str) -> None:
    posix_entry.path.parent.mkdir(mode=0o700, parents=True)
    getattr(os, make)(posix_entry.path, 0o600)
    with pytest.raises(StoreFailure):
        posix_entry.read()
    with pytest.raises(StoreFailure):
        await keep(posix_entry, "s3cr3t")


@posix_only
async def test_a_file_in_place_of_the_directory(posix_entry: Entry) -> None:
    posix_entry.path.parent.parent.mkdir()
    posix_entry.path.parent.write_text("")
    await refused(posix_entry, "Not a directory")


async def test_a_place_where_nothing_can_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    entry = Store(tmp_path / "file" / "mcp-stdio").entry(URL, None, "default")
    with pytest.raises(StoreFailure, match="could not be created") as failure:
        await keep(entry, "s3cr3t")
    assert failure.value.hint


# The lock


@pytest.mark.parametrize("denials", [0, 3])
def test_what_is_denied_for_a_moment_is_done_a_moment_later(denials: int) -> None:
    left = [PermissionError()] * denials

    def act() -> str:
        if left:
            raise left.pop()
        return "done"

    assert private.patiently(act, 5) == "done"


def test_what_stays_denied_is_said() -> None:
    attempts = []

    def act() -> None:
        attempts.append(1)
        raise PermissionError

    with pytest.raises(PermissionError):
        private.patiently(act, 5)
    assert len(attempts) == 6


async def test_writing_and_deleting_need_the_lock(entry: Entry) -> None:
    with pytest.raises(AssertionError):
        entry.write(record("one"))
    with pytest.raises(AssertionError):
        entry.delete()


async def test_one_entry_is_locked_once_and_others_are_not(
    store: Store, entry: Entry, autojump_clock: trio.testing.MockClock
) -> None:
    async with entry.locked():
        with trio.move_on_after(60) as waiting:
            async with store.entry(URL, None, "default").locked():
                raise AssertionError
        assert waiting.cancelled_caught
        async with store.entry(URL, None, "work").locked():
            pass
    async with store.entry(URL, None, "default").locked():
        pass


async def test_who_waits_for_the_lock_gets_it(
    store: Store, entry: Entry, autojump_clock: trio.testing.MockClock
) -> None:
    order: list[str] = []

    async def second() -> None:
        async with store.entry(URL, None, "default").locked():
            order.append("second")

    async with trio.open_nursery() as nursery:
        async with entry.locked():
            nursery.start_soon(second)
            await trio.sleep(10)
            order.append("first")
    assert order == ["first", "second"]


async def test_two_tasks_with_one_entry_exclude_each_other(
    entry: Entry, autojump_clock: trio.testing.MockClock
) -> None:
    async def count() -> None:
        async with entry.locked():
            known = entry.read()
            await trio.sleep(1)
            entry.write(record(str(int(token(known) if known else 0) + 1)))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(count)
    assert token(entry.read()) == "5"


async def test_a_lock_whose_file_was_removed_is_none(
    store: Store, entry: Entry, autojump_clock: trio.testing.MockClock
) -> None:
    async with entry.locked():
        entry.path.with_suffix(".lock").unlink()
        async with store.entry(URL, None, "default").locked():
            pass

"""What those who wait for the lock of a sign-in are told, and for how long (design.md, Sign-in)."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.errors import StoreFailure, TimedOut
from mcp_stdio.oauth.announcing import Announcing
from mcp_stdio.oauth.notice import MAX_TIME, MAX_URL, Notice
from mcp_stdio.oauth.store import Entry, Store
from tests.oauth.keeper import PAGE, URL, record


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return Store(tmp_path).entry(URL, None, "default")


class Shown:
    """Whoever sits in front of the process."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def page(self, url: str, *, is_opened: bool, within: float) -> None:
        self.seen.append(url)

    def code(self, url: str, code: str, complete_url: str | None, *, within: float) -> None:
        self.seen.append(code)


async def test_a_page_is_announced_while_it_is_shown(entry: Entry, tmp_path: Path) -> None:
    shown = Shown()
    async with entry.locked():
        assert entry.announced() is None
        with Announcing(entry, shown, clock=lambda: 4711.5) as show:
            assert entry.announced() is None
            show.page(PAGE, is_opened=True, within=9)
            assert entry.announced() == Notice(pid=os.getpid(), since=4711.5, url=PAGE)
        assert entry.announced() is None
    assert shown.seen == [PAGE]
    assert Store(tmp_path).entries() == []


@pytest.mark.parametrize("complete", [None, f"{PAGE}&user_code=ABC"])
async def test_a_code_is_announced_with_its_page(entry: Entry, complete: str | None) -> None:
    async with entry.locked():
        with Announcing(entry, Shown()) as show:
            show.code(PAGE, "ABC", complete, within=9)
            assert (notice := entry.announced()) is not None
            assert notice.url == (complete or f"{PAGE} (code ABC)")


def ask(entry: Entry, ends_in: BaseException, at: float = 0.0) -> None:
    """Ask somebody, and have it end in this."""
    with suppress(type(ends_in)), Announcing(entry, Shown(), clock=lambda: at) as show:
        show.page(PAGE, is_opened=False, within=9)
        raise ends_in


async def test_what_was_in_vain_stays_until_somebody_is_asked_again(entry: Entry) -> None:
    async with entry.locked():
        ask(entry, TimedOut("nobody"), at=1.0)
    async with entry.locked():
        assert (notice := entry.announced()) is not None
        assert notice.in_vain_at == 1
        with Announcing(entry, Shown()) as show:
            show.page(PAGE, is_opened=False, within=9)
        assert entry.announced() is None


async def test_where_nobody_was_asked_nothing_was_in_vain(entry: Entry) -> None:
    async with entry.locked():
        with pytest.raises(TimedOut), Announcing(entry, Shown()):
            raise TimedOut("no metadata")
        assert entry.announced() is None


async def test_what_was_broken_off_was_not_in_vain(entry: Entry) -> None:
    async with entry.locked():
        ask(entry, KeyboardInterrupt())
        assert entry.announced() is None


async def test_a_notice_of_one_that_was_killed_goes_with_the_next_holder(entry: Entry) -> None:
    async with entry.locked():
        entry.announce(Notice(pid=1, since=0, url=PAGE))
    assert entry.announced() is not None
    async with entry.locked():
        assert entry.announced() is None


async def test_signing_out_leaves_nothing(entry: Entry) -> None:
    async with entry.locked():
        entry.write(record("x"))
        entry.announce(Notice(pid=1, since=0, url=PAGE, in_vain_at=1))
        entry.delete()
    assert [path.suffix for path in entry.path.parent.iterdir()] == [".lock"]


async def test_what_cannot_be_announced_does_not_keep_anybody_from_signing_in(
    entry: Entry,
) -> None:
    class Full(Entry):
        def announce(self, notice: Notice | None) -> None:
            raise StoreFailure("no space left on device")

    async with entry.locked():
        entry.announce(Notice(pid=1, since=0, url=PAGE))  # and that one was killed
    full, shown = Full(entry.path.parent, URL, None, "default"), Shown()
    async with full.locked():
        with Announcing(full, shown) as show:
            show.page(PAGE, is_opened=False, within=9)
    assert shown.seen == [PAGE]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
async def test_others_cannot_read_where_somebody_signs_in(entry: Entry) -> None:
    async with entry.locked():
        entry.announce(Notice(pid=1, since=0, url=PAGE))
    (path,) = entry.path.parent.glob("*.notice")
    assert path.stat().st_mode & 0o777 == 0o600
    assert PAGE not in repr(entry.announced())


numbers = st.integers(0, 10**12) | st.floats(0, MAX_TIME)


@given(st.integers(0), numbers, st.just(PAGE) | st.text("abc:/?&=%"), st.none() | numbers)
def test_a_notice_is_read_as_it_was_written(
    pid: int, since: float, url: str, at: float | None
) -> None:
    notice = Notice(pid=pid, since=since, url=url, in_vain_at=at)
    assert Notice.from_json(notice.to_json()) == notice


@pytest.mark.parametrize(
    "wrong",
    [
        {"pid": "1"},
        {"since": "x"},
        {"since": None},
        {"url": None},
        {"url": "https://as.example/\x1b[2J"},
        {"url": "x" * (MAX_URL + 1)},
        {"in_vain_at": "never"},
        {"since": 10**400},
        {"since": float("nan")},
        {"in_vain_at": 10**400},
        {"in_vain_at": float("inf")},
    ],
)
async def test_what_is_no_notice_is_none(entry: Entry, wrong: dict[str, object]) -> None:
    """It is shown on a terminal."""
    good = Notice(pid=1, since=2.0, url=PAGE)
    bad = Notice(**{**asdict(good), **wrong})
    with pytest.raises(ValueError, match="no notice"):
        Notice.from_json(bad.to_json())
    async with entry.locked():
        entry.announce(bad)
        assert entry.announced() is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"[" * 100_000, b"\xff"])
def test_what_is_damaged_is_no_notice(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        Notice.from_json(raw)


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "directory", "huge", "link to link"])
async def test_whatever_lies_in_place_of_a_notice_nobody_is_kept_from_signing_in(
    entry: Entry, tmp_path: Path, kind: str
) -> None:
    async with entry.locked():
        pass
    elsewhere = tmp_path / "of somebody else"
    elsewhere.write_bytes(Notice(pid=1, since=0, url=PAGE).to_json())
    path = entry.path.with_suffix(".notice")
    match kind:
        case "link":
            path.symlink_to(elsewhere)
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "huge":
            path.write_bytes(b"[" + b" " * 100_000_000 + b"]")
        case "link to link":
            path.symlink_to(path)
    shown = Shown()
    async with entry.locked():
        assert entry.announced() is None
        with Announcing(entry, shown) as show:
            show.page(PAGE, is_opened=False, within=9)
    assert shown.seen == [PAGE]
    assert elsewhere.read_bytes() == Notice(pid=1, since=0, url=PAGE).to_json()
    assert not (tmp_path / "nowhere").exists()

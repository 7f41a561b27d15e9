"""The store under several real processes, some of which are killed (A-33, A-43).

`MCP_STDIO_LONG=1` in the environment asks for the long form.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.oauth import keeper
from tests.process import LIMIT, SOURCE

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"
ROOT = str(Path(__file__).parent.parent.parent)


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, keeper.__file__, str(directory), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, ROOT])},
    )


@contextmanager
def keeping(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with start(directory, *arguments) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_fifty_processes_count_and_none_is_lost(tmp_path: Path) -> None:
    processes = [start(tmp_path / "kept", "count") for _ in range(50)]
    try:
        for process in processes:
            assert process.wait(timeout=4 * LIMIT) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert keeper.token(keeper.entry(tmp_path / "kept").read()) == "50"


def test_a_kill_at_any_moment_leaves_a_readable_store(tmp_path: Path) -> None:
    dice = random.Random(4)
    entry = keeper.entry(tmp_path / "kept")
    for _ in range(300 if IS_LONG else 12):
        with keeping(tmp_path / "kept", "write") as process:
            assert said(process) == "writing"
            time.sleep(dice.uniform(0, 0.05))
            process.kill()
            process.wait()
        kept = entry.read()
        if kept is not None:
            first, _, last = keeper.token(kept).split("-")
            assert first == last
        assert not entry.path.with_name(f"{entry.path.name}.damaged").exists()
    assert entry.read() is not None


def test_reading_needs_no_lock_and_sees_only_whole_records(tmp_path: Path) -> None:
    entry = keeper.entry(tmp_path / "kept")
    seen: set[str] = set()
    with keeping(tmp_path / "kept", "write") as process:
        assert said(process) == "writing"
        deadline = time.monotonic() + LIMIT
        while len(seen) < (2000 if IS_LONG else 50) and time.monotonic() < deadline:
            kept = entry.read()
            if kept is not None:
                first, _, last = keeper.token(kept).split("-")
                assert first == last
                seen.add(first)
    assert len(seen) > 1


async def test_a_lock_outlives_no_process(tmp_path: Path) -> None:
    entry = keeper.entry(tmp_path / "kept")
    with keeping(tmp_path / "kept", "hold") as process:
        assert said(process) == "holding"
        with trio.move_on_after(0.2) as waiting:
            async with entry.locked():
                pass
        assert waiting.cancelled_caught
        process.kill()
        with trio.fail_after(LIMIT):
            async with entry.locked():
                pass


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root becomes others")
@pytest.mark.parametrize("is_shared", [False, True], ids=["private", "planted open"])
def test_two_users_cannot_read_each_other(is_shared: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o1777)
        kept = Path(place, "kept")
        with keeping(kept, "write-as", "54321") as writer:
            assert writer.wait(timeout=LIMIT) == 0
        if is_shared:
            kept.chmod(0o777)
        with keeping(kept, "read", "54322") as reader:
            answer = said(reader)
        assert answer.startswith("refused: ")
        with keeping(kept, "write-as", "54322") as other:
            assert said(other).startswith("refused: ")
        with keeping(kept, "read", "54321") as owner:
            assert said(owner) == "s3cr3t-of-someone"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root becomes others")
def test_a_directory_that_may_not_be_written_to() -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o1777)
        kept = Path(place, "kept")
        with keeping(kept, "write-as", "54321") as writer:
            assert writer.wait(timeout=LIMIT) == 0
        with keeping(kept, "renew", "54321") as other:
            assert said(other) == "written: s3cr3t-of-someone, renewed, renewed"
        for lock in kept.glob("*.lock"):
            lock.unlink()
        kept.chmod(0o500)
        with keeping(kept, "renew", "54321") as other:
            assert said(other) == "unwritten: renewed, renewed, renewed"


READ_ONLY = (
    'mount -t tmpfs -o mode=700 none "$1" && cp -p "$2"/* "$1" && mount -o remount,ro "$1" '
    '&& shift 2 && exec "$@"'
)
"""Have, in a name space of its own, all that is in the second directory read-only in the first."""


def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    kept, copied = tmp_path / "kept", tmp_path / "copied"
    with keeping(kept, "count") as writer:
        assert writer.wait(timeout=LIMIT) == 0
    copied.mkdir(mode=0o700)
    words = [sys.executable, keeper.__file__, str(copied), "renew"]
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(copied), str(kept), *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, ROOT])},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
    except FileNotFoundError:
        pytest.skip("there is no `unshare`")
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("nothing can be mounted here")
    assert done.stdout == "unwritten: 1, renewed, renewed\n", done.stderr

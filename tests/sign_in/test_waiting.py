"""What a command says while another process has the lock of the sign-in it is about."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import LIMIT, environment
from tests.oauth.keeper import PAGE, URL
from tests.oauth.test_store_processes import keeping, said


@contextmanager
def logout(home: Path) -> Iterator[subprocess.Popen[str]]:
    env = environment({"XDG_CONFIG_HOME": str(home), "APPDATA": str(home)})
    command = [sys.executable, "-m", "mcp_stdio", "logout", URL]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        watch = threading.Timer(LIMIT, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


def until(process: subprocess.Popen[str], wanted: str) -> str:
    """All that it says up to a line with this."""
    assert process.stderr is not None
    heard = ""
    for line in process.stderr:
        heard += line
        if wanted in line:
            return heard
    raise AssertionError(heard)


def test_a_command_that_waits_for_a_person_says_for_whom_and_where(tmp_path: Path) -> None:
    with keeping(tmp_path / "mcp-stdio", "ask") as holder:
        assert said(holder) == "asking"
        with logout(tmp_path) as process:
            heard = until(process, PAGE)
            assert str(holder.pid) in heard
            assert "less than a minute" in heard
            assert f"\n    {PAGE}\n" in heard
            holder.kill()
            assert "nobody was signed in" in until(process, "nobody was signed in")
            assert process.wait(LIMIT) == 0


def test_a_command_that_waits_for_a_renewal_says_so(tmp_path: Path) -> None:
    with keeping(tmp_path / "mcp-stdio", "hold") as holder:
        assert said(holder) == "holding"
        with logout(tmp_path) as process:
            assert "waiting" in until(process, "another mcp-stdio process is at this sign-in")


@pytest.mark.skipif(sys.platform == "win32", reason="signals need a console there")
def test_a_command_that_waits_can_be_interrupted(tmp_path: Path) -> None:
    with keeping(tmp_path / "mcp-stdio", "ask") as holder:
        assert said(holder) == "asking"
        with logout(tmp_path) as process:
            until(process, PAGE)
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) == 130
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()

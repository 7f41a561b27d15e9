"""The log: whole lines on a descriptor that may be full, closed or anything else (P6, P7)."""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_stdio import log
from mcp_stdio.descriptors import MAX_QUEUED, PIPE_BUF, THREADS
from mcp_stdio.errors import UsageFailure
from mcp_stdio.log import Handler

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")


def record(text: object, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("mcp_stdio.x", level, "", 0, text, args, None)


def written(*records: logging.LogRecord, format: str = "%(label)s%(message)s") -> str:
    """What a handler writes to a pipe that is being read."""
    reader, writer = os.pipe()
    handler = Handler(writer, logging.DEBUG, format)
    for one in records:
        handler.handle(one)
    handler.close()
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize(
    "one, line",
    [
        (record("hello %s", "you"), "warning: hello you\n"),
        (record("up", level=log.NOTICE), "up\n"),
        (record("bad", level=logging.ERROR), "error: bad\n"),
        (
            record("a\nb\r\x1b[2J\x00\x9b\u202e\u2028"),
            "warning: a\\nb\\r\\x1b[2J\\x00\\x9b\\u202e\\u2028\n",
        ),
        (record("lone \ud800"), "warning: lone \\ud800\n"),
        (record("größe 世界 …"), "warning: größe 世界 …\n"),
        (record("Authorization: Bearer x"), "warning: Authorization: ***\n"),
        (record({"token": "abc"}), "warning: {'token': '***'}\n"),
        (
            record("`%s` failed: %s", "ping", UsageFailure("it is odd", hint="see `--help`")),
            "warning: `ping` failed: it is odd; hint: see `--help`\n",
        ),
        (record("%s", UsageFailure("it is odd")), "warning: it is odd\n"),
        (record("%s", UsageFailure("odd: sign in", hint="sign in")), "warning: odd: sign in\n"),
    ],
)
def test_a_record_is_one_line(one: logging.LogRecord, line: str) -> None:
    assert written(one) == line


def test_a_record_that_cannot_be_formatted_ends_nothing() -> None:
    lines = written(record("%d", "x"), record("next"))
    assert lines == (
        "mcp-stdio: error: a log record could not be formatted: TypeError\nwarning: next\n"
    )


def test_a_traceback_follows_without_secrets() -> None:
    log.protect("hunter2-hunter2")
    try:
        raise ValueError("hunter2-hunter2\nforged line \x1b[31m \ud800")
    except ValueError as exc:
        one = record("failed")
        one.exc_info = (type(exc), exc, exc.__traceback__)
    first, *rest = written(one).splitlines()
    assert first == "warning: failed"
    assert all(line.startswith("    ") for line in rest)
    assert "    ValueError: ***" in rest
    assert rest[-1] == "    forged line \\x1b[31m \\ud800"


def test_a_long_record_is_cut_and_fits_into_one_write() -> None:
    line = written(record("x" * 100_000))
    assert line.startswith("warning: xxx")
    assert line.endswith("x… (100009 characters)\n")
    assert len(line.encode()) <= 4096


@pytest.mark.parametrize("before", range(log.MAX_MESSAGE - 60, log.MAX_MESSAGE + 20, 7))
@pytest.mark.parametrize("fill", ["x", "token=yyyyyyyyyyyyyyyyy "])
def test_cutting_never_lets_half_a_secret_through(before: int, fill: str) -> None:
    secret = "0123456789abcdefghijklmnop" * 40
    log.protect(secret)
    text = (fill * before)[:before] + secret * 5
    assert secret[:6] not in written(record(text))


class Full:
    """A pipe filled to the brim, with a handler writing to it."""

    def __init__(self, *, room: int = 0) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self.filling = 0
        try:
            while True:
                self.filling += os.write(self.writer, b"." * 4096)
        except BlockingIOError:
            pass
        os.set_blocking(self.writer, True)
        self.handler = Handler(self.writer, logging.DEBUG, "%(message)s")
        if room:
            self.drain(room)

    def drain(self, size: int) -> None:
        while size > 0:
            size -= len(os.read(self.reader, size))

    def rest(self) -> bytes:
        os.set_blocking(self.reader, False)
        data = b""
        try:
            while piece := os.read(self.reader, 65536):
                data += piece
        except BlockingIOError:
            pass
        return data.lstrip(b".")


@pytest.fixture
def full() -> Iterator[Full]:
    pipe = Full()
    yield pipe
    pipe.handler.close()
    os.close(pipe.reader)
    os.close(pipe.writer)


@posix
def test_a_full_pipe_loses_lines_instead_of_blocking(full: Full) -> None:
    for number in range(1000):
        full.handler.handle(record("line %d", number))
    full.drain(full.filling)
    full.handler.handle(record("again"))
    full.handler.handle(record("and on"))
    assert full.rest() == b"mcp-stdio: 1000 earlier lines were dropped\nagain\nand on\n"


@posix
def test_a_pipe_that_fills_up_tears_at_most_the_last_record(full: Full) -> None:
    full.drain(PIPE_BUF)
    try:
        raise ValueError("x" * 3 * PIPE_BUF)
    except ValueError as exc:
        one = record("failed")
        one.exc_info = (type(exc), exc, exc.__traceback__)
    full.handler.handle(one)
    full.drain(full.filling - PIPE_BUF)
    full.handler.handle(record("next"))
    lines = full.rest().splitlines()
    assert lines[0] == b"failed"
    assert lines[-2:] == [b"mcp-stdio: 1 earlier lines were dropped", b"next"]


@posix
def test_the_descriptor_stays_blocking(full: Full) -> None:
    full.handler.handle(record("x"))
    assert os.get_blocking(full.writer)


@posix
def test_a_full_socket_loses_lines_instead_of_blocking() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        handler = Handler(ours.fileno(), logging.DEBUG, "%(message)s")
        for number in range(5000):
            handler.handle(record("line %d%s", number, "." * 500))
        assert ours.getblocking()
        handler.close()
        ours.close()
        received = b""
        while piece := theirs.recv(65536):
            received += piece
    assert 10 < received.count(b"\n") < 5000
    assert received.startswith(b"line 0.")


@posix
def test_a_terminal_that_nobody_reads_loses_lines() -> None:
    import pty

    main, terminal = pty.openpty()
    handler = Handler(terminal, logging.DEBUG, "%(message)s")
    for number in range(3000):
        handler.handle(record("line %d%s", number, "." * 100))
    assert os.get_blocking(terminal)
    assert os.read(main, 6) == b"line 0"
    handler.close()
    os.close(main)
    os.close(terminal)


@posix
def test_a_closed_reader_and_a_closed_descriptor_harm_nobody() -> None:
    reader, writer = os.pipe()
    handler = Handler(writer, logging.DEBUG, "%(message)s")
    os.close(reader)
    handler.handle(record("x"))
    os.close(writer)
    handler.handle(record("x"))
    handler.close()
    Handler(writer, logging.DEBUG, "%(message)s").handle(record("x"))


def run(
    code: str, *, stderr: int = subprocess.PIPE, threads: bool = False
) -> subprocess.CompletedProcess[str]:
    """A process of its own, for `setup` is for the whole process."""
    return subprocess.run(
        [sys.executable, "-c", f"import logging, sys, warnings\nfrom mcp_stdio import log\n{code}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), THREADS: str(int(threads))},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=60,
        check=False,
    )


SAY = """
for level in (10, 20, 25, 30, 40):
    logging.getLogger("mcp_stdio.x").log(level, "ours %d", level)
    logging.getLogger("library").log(level, "theirs %d", level)
"""

WARNINGS = ["warning: ours 30", "warning: theirs 30", "error: ours 40", "error: theirs 40"]


@pytest.mark.parametrize(
    "verbosity, lines",
    [
        (-2, ["error: ours 40", "error: theirs 40"]),
        (-1, ["error: ours 40", "error: theirs 40"]),
        (0, ["ours 25", *WARNINGS]),
        (1, ["info: ours 20", "ours 25", *WARNINGS]),
        (2, ["debug: ours 10", "info: ours 20", "ours 25", *WARNINGS]),
    ],
)
def test_verbosity(verbosity: int, lines: list[str]) -> None:
    done = run(f"log.setup({verbosity})\n{SAY}")
    assert done.stderr.splitlines() == [f"mcp-stdio: {line}" for line in lines]
    assert done.stdout == ""


def test_a_page_to_visit_is_shown_to_those_who_want_to_hear_of_errors_only() -> None:
    done = run(
        "log.setup(-1)\n"
        "logging.getLogger('mcp_stdio.x').warning('sign in', extra=log.TO_BE_FOLLOWED)\n"
        "logging.getLogger('mcp_stdio.x').warning('another')"
    )
    assert done.stderr == "mcp-stdio: warning: sign in\n"


@pytest.mark.parametrize(
    "defect",
    [
        "raise ValueError('password-1')",
        "import threading; threading.Thread(target=int, args=('password-1',)).start()",
        "class X:\n    def __del__(self): raise ValueError('password-1')\nx = X(); del x",
        "warnings.warn('password-1')",
    ],
)
def test_what_python_prints_itself_is_redacted_too(defect: str) -> None:
    done = run(f"log.setup(0)\nlog.protect('password-1')\n{defect}\n")
    assert "***" in done.stderr
    assert done.stderr.startswith("mcp-stdio: ")
    # The line of source in a traceback is text as well.
    assert "password-1" not in done.stderr


def test_a_second_setup_replaces_the_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    done = run(f"log.setup(0, {str(path)!r})\nlog.setup(-1)\n{SAY}")
    assert done.stderr.splitlines() == ["mcp-stdio: error: ours 40", "mcp-stdio: error: theirs 40"]
    assert path.read_text(encoding="utf-8") == ""


def test_the_log_file_is_appended_and_private(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        done = run(
            f"log.setup(-1, {str(path)!r})\n{SAY}\n"
            "logging.getLogger('mcp_stdio').info('Bearer abcd')"
        )
        assert len(done.stderr.splitlines()) == 2
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 14
    assert " INFO mcp_stdio.x: ours 20" in lines[0]
    assert " NOTICE mcp_stdio.x: ours 25" in lines[1]
    assert lines[-1].endswith(" INFO mcp_stdio: Bearer ***")
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["missing/log", "."])
def test_a_log_file_that_cannot_be_opened_is_a_usage_failure(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageFailure, match=r"`--log-file .*` cannot be opened: ") as failed:
        log.setup(0, str(tmp_path / name))
    assert failed.value.hint


@posix
def test_a_log_file_that_is_a_pipe_without_reader_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageFailure):
        log.setup(0, str(tmp_path / "pipe"))


@posix
@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full", "2>/dev/null", "2</dev/null"])
def test_a_process_with_a_useless_standard_error_lives(end: str) -> None:
    code = (
        "import logging, os\nfrom mcp_stdio import log\nlog.setup(2)\n"
        "for n in range(1000): logging.getLogger('mcp_stdio').warning('x' * 1000)\n"
        "os.write(1, b'alive')"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {end}', sys.executable, code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"alive"


@posix
def test_a_process_whose_standard_error_nobody_reads_lives() -> None:
    reader, writer = os.pipe()
    done = run(
        "import os\nlog.setup(2)\n"
        "for n in range(1000): logging.getLogger('mcp_stdio').warning('x' * 1000)\n"
        "os.write(1, b'alive')",
        stderr=writer,
    )
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, "alive")


def test_a_thread_writes_whole_lines_in_order_and_all_before_the_exit() -> None:
    done = run(
        "from mcp_stdio.descriptors import outlet\n"
        "log.setup(0)\n"
        "for n in range(100): logging.getLogger('mcp_stdio').warning('line %d', n)\n"
        "outlet(2).write(b'the end')",
        threads=True,
    )
    expected = [f"mcp-stdio: warning: line {number}" for number in range(100)]
    assert done.stderr.splitlines() == [*expected, "the end"]
    assert done.returncode == 0


def test_a_thread_writes_what_is_said_without_a_log() -> None:
    done = run("from mcp_stdio.descriptors import outlet\noutlet(2).write(b'x')", threads=True)
    assert (done.returncode, done.stderr) == (0, "x")


@posix
def test_a_thread_that_nobody_reads_keeps_the_process_neither_waiting_nor_alive() -> None:
    reader, writer = os.pipe()
    done = run(
        "import os\nlog.setup(2)\n"
        "for n in range(2000): logging.getLogger('mcp_stdio').warning('%d %s', n, 'x' * 1000)\n"
        "os.write(1, b'alive')",
        stderr=writer,
        threads=True,
    )
    os.close(writer)
    with open(reader, "rb") as file:
        lines = file.read().splitlines()
    assert (done.returncode, done.stdout) == (0, "alive")
    assert lines[0].startswith(b"mcp-stdio: warning: 0 xxx")


@posix
def test_a_thread_that_is_read_again_tells_how_many_lines_were_dropped() -> None:
    """Only whole lines are dropped, wherever the queue was full, and no more than it is kept."""
    reader, writer = os.pipe()
    code = (
        "import os\nlog.setup(0)\n"
        "for n in range(2000): logging.getLogger('mcp_stdio').warning('%d %s', n, 'x' * 1000)\n"
        "os.write(1, b'full')\n"
        "sys.stdin.read()\n"
        "logging.getLogger('mcp_stdio').warning('again')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"import logging, sys\nfrom mcp_stdio import log\n{code}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), THREADS: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
    ) as child:
        os.close(writer)
        # Whatever is waited for below ends with the child.
        bound = threading.Timer(60, child.kill)
        bound.start()
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.read(4) == b"full"
        received = b""
        while len(received) < MAX_QUEUED:
            data = os.read(reader, 65536)
            assert data
            received += data
        child.stdin.close()
        with open(reader, "rb") as file:
            received += file.read()
        assert child.wait() == 0
        bound.cancel()
    expected = 0
    said = 0
    *lines, last = received.splitlines()
    for each in lines:
        dropped = re.fullmatch(rb"mcp-stdio: (\d+) earlier lines were dropped", each)
        if dropped:
            expected += int(dropped[1])
        else:
            assert each == b"mcp-stdio: warning: %d %s" % (expected, b"x" * 1000)
            expected += 1
            said += 1
    assert (expected, last) == (2000, b"mcp-stdio: warning: again")
    assert said * 1000 < 3 * MAX_QUEUED


@posix
@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full", "2>/dev/null", "2</dev/null"])
def test_a_thread_with_a_useless_standard_error_harms_nobody(end: str) -> None:
    code = (
        "import logging, os\nfrom mcp_stdio import log\nlog.setup(2)\n"
        "for n in range(1000): logging.getLogger('mcp_stdio').warning('x' * 1000)\n"
        "os.write(1, b'alive')"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {end}', sys.executable, code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), THREADS: "1"},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"alive"

"""The command: from arguments to an exit code, and the one place where failures become text.

Owns the order of things at start, the choice of what to run, and the last seam: exception groups
are taken apart here, once; what has an explanation is printed as `error: …` with a hint, anything
else is a defect whose traceback goes to the log. Exit codes: 0 normal end, 1 failure, 2 usage, 130
interrupted; testing a connection and signing in have more of their own. Kept here: `--help` and
`--version` import neither trio nor httpx nor ssl, so everything that works is imported by name of
the task, when it is asked for.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from mcp_stdio import log
from mcp_stdio.cli.arguments import SEE_HELP, USAGE, parse
from mcp_stdio.cli.settings import Check, Demo, Login, Logout, Relay, ShowBlock, Status, order
from mcp_stdio.descriptors import occupy_standard_descriptors, outlet
from mcp_stdio.errors import OutputClosed, RelayError, UsageFailure

NORMAL_END = 0
FAILURE = 1
USAGE_ERROR = 2
INTERRUPTED = 130

STDOUT = 1
STDERR = 2

_NO_ROOM = frozenset({errno.ENOSPC, errno.EIO, errno.EFBIG, getattr(errno, "EDQUOT", errno.EIO)})
"""What a file or device says that takes nothing more; what is written to is standard output."""

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return the exit code."""
    occupy_standard_descriptors()
    try:
        try:
            code = _run(sys.argv[1:] if argv is None else argv)
        except SystemExit:  # `-h` and `-V` have printed
            code = NORMAL_END
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001 - the last seam
        code = _told(exc)
        _silence_stdout()
    return code


def _run(argv: Sequence[str]) -> int:
    if not argv:
        _tell(f"usage: {USAGE}\n\nhint: {SEE_HELP}")
        return USAGE_ERROR
    todo = order(parse(argv), os.environ)
    for secret in todo.secrets:
        log.protect(secret)
    log.setup(todo.verbosity, todo.log_file)
    if not (isinstance(todo.task, Check) and todo.task.as_json):  # that one has them in its object
        for note in todo.notes:
            logger.warning(note)
    match todo.task:
        case Relay(config):
            # Nothing is under way yet: until the relay listens to signals itself, leaving is all
            # there is to do.
            for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), lambda *_: os._exit(NORMAL_END))

            with _loading():
                import trio

                from mcp_stdio import serving

            trio.run(serving.serve, config)
            return NORMAL_END
        case Check(config, as_json, source):
            with _loading():
                from mcp_stdio import diagnose

            return diagnose.run(config, as_json=as_json, source=source, notes=todo.notes)
        case Login(config):
            with _loading():
                from mcp_stdio import sign_in
                from mcp_stdio.diagnose.report import exit_code

            try:
                return sign_in.login(config)
            except BaseException as exc:  # noqa: BLE001 - the same seam, with codes of its own
                return _told(exc, exit_code)
        case Logout(config):
            with _loading():
                from mcp_stdio import sign_in

            return sign_in.logout(config)
        case Status(config_or_none, as_json):
            with _loading():
                from mcp_stdio import sign_in

            return sign_in.status(config_or_none, as_json=as_json)
        case ShowBlock(server, choice):
            from mcp_stdio.clients import block, program, table

            client = table.GENERAL if choice is None else table.CLIENTS[choice]
            command = program.command()
            if program.is_for_one_run(command):
                logger.warning(
                    "%s is in a cache that may be emptied: install mcp-stdio, as with `uv tool "
                    "install` or `pipx install`, and run its `config`",
                    command[0],
                )
            # It names no value, and what only looks like one must stay, for it can be pasted.
            _write(block.advice(client, server, command, sys.platform))
            print(block.block(client, server, command))
            return NORMAL_END
        case Demo(is_serving):
            with _loading():
                from mcp_stdio import demo

            return demo.run(is_serving=is_serving)


@contextmanager
def _loading() -> Iterator[None]:
    gc.disable()  # it is already in the program, but a caller of `main` may have it at work
    yield
    gc.freeze()  # nothing of this will ever be garbage, and looking through it was most of an exit
    gc.enable()


def _told(exc: BaseException, exit_code: Callable[[RelayError], int] | None = None) -> int:
    code, text = explained(exc, exit_code)
    if text:
        _tell(text)
    return code


def explained(
    exc: BaseException, exit_code: Callable[[RelayError], int] | None = None
) -> tuple[int, str]:
    """The exit code and the text for what ended the run; a defect is logged with its traceback.

    `exit_code` is for commands whose code says whose fault a failure is.
    """
    cause = min(_leaves(exc), key=_rank)
    match cause:
        case KeyboardInterrupt():
            return INTERRUPTED, ""
        case BrokenPipeError() | OutputClosed():
            return NORMAL_END, ""
        case OSError(errno=number, filename=None) if number in _NO_ROOM:
            return FAILURE, f"error: standard output cannot be written: {cause.strerror}"
        case RelayError():
            text = f"error: {cause}" + (f"\n\nhint: {cause.hint}" if cause.hint else "")
            if isinstance(cause, UsageFailure):
                return USAGE_ERROR, text
            return FAILURE if exit_code is None else exit_code(cause), text
        case Exception():
            logger.critical("a defect of mcp-stdio", exc_info=exc)
            text = (
                f"error: something went wrong inside mcp-stdio: {type(cause).__name__}\n\n"
                "hint: please report it, with the traceback above"
            )
            return FAILURE, text
    raise exc


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for part in exc.exceptions:
            yield from _leaves(part)
    else:
        yield exc


def _rank(exc: BaseException) -> int:
    """A defect first, since nothing else may hide it; then the wish to stop, then causes."""
    match exc:
        case RelayError():
            return 2
        case BrokenPipeError() | OutputClosed():
            return 3
        case Exception():
            return 0
    return 1


def _tell(text: str) -> None:
    """Write to stderr, or not at all if nobody takes it."""
    _write(log.redact(text))


def _write(text: str) -> None:
    data = f"{text}\n".encode(errors="backslashreplace")
    with suppress(OSError):
        outlet(STDERR).write(data)


def _silence_stdout() -> None:
    # The interpreter flushes stdout on its way out and would complain if its reader has gone.
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)

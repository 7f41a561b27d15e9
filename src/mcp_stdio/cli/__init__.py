"""The command: from arguments to an exit code, and the one place where failures become text.

Owns the order of things at start, the choice of what to run, and the last seam, where what ended it
(`ending`) is printed, for a program that wants JSON as one object as well. Exit codes: 0 normal
end, 1 failure, 2 usage, 130 interrupted; testing a connection and signing in have more of their
own. Kept here: `--help` and `--version` import neither trio nor httpx nor ssl, so everything that
works is imported by name of the task, when it is asked for.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from mcp_stdio import log, signals
from mcp_stdio.cli.arguments import SEE_HELP, USAGE, parse
from mcp_stdio.cli.ending import NORMAL_END, USAGE_ERROR, Ending, explained
from mcp_stdio.cli.settings import Check, Demo, Login, Logout, Relay, ShowBlock, Status, order
from mcp_stdio.descriptors import occupy_standard_descriptors, outlet
from mcp_stdio.errors import RelayError

STDOUT = 1
STDERR = 2

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return the exit code."""
    occupy_standard_descriptors()
    argv = sys.argv[1:] if argv is None else argv
    try:
        try:
            signals.let_through()  # one may have been waiting
            code = _run(argv)
        except SystemExit:  # `-h` and `-V` have printed
            code = NORMAL_END
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001 - the last seam
        ending = _told(exc)
        code = ending.code
        if "--json" in argv and ending.is_worth_telling:
            with suppress(OSError):
                print(json.dumps(ending.as_object(has_stages="status" not in argv)))
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
            for number in signals.heeded():
                signal.signal(number, lambda *_: os._exit(NORMAL_END))

            with _loading():
                import trio

                from mcp_stdio import serving

            trio.run(serving.serve, config)
            return NORMAL_END
        case Check(config, as_json, source):
            _interrupt_at_signals()
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
                return _told(exc, exit_code).code
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


def _interrupt_at_signals() -> None:
    """Have every signal to end do what Ctrl-C does, unless that, or the signal, is ignored here."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    for number in signals.heeded():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


@contextmanager
def _loading() -> Iterator[None]:
    gc.disable()  # it is already in the program, but a caller of `main` may have it at work
    yield
    gc.freeze()  # nothing of this will ever be garbage, and looking through it was most of an exit
    gc.enable()


def _told(exc: BaseException, exit_code: Callable[[RelayError], int] | None = None) -> Ending:
    ending = explained(exc, exit_code)
    if ending.text:
        _tell(ending.text)
    return ending


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

"""`--test`: walks the way to the server stage by stage and says where it ends.

Owns what is shown where: a person gets lines on standard error, a program one object on standard
output. Refuses to know the stages (`walk`). An interrupt ends it with what was found until then.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

import trio

from mcp_stdio import __version__
from mcp_stdio.config import Config
from mcp_stdio.diagnose.report import Report, as_object
from mcp_stdio.diagnose.view import Lines, Silent, summary
from mcp_stdio.diagnose.walk import walk


def run(
    config: Config, *, as_json: bool, source: str | None = None, notes: Sequence[str] = ()
) -> int:
    """Test the connection; prints to stderr, or one object to stdout. Returns the exit code.

    `source` is the setting that the credential comes from, `notes` what a program should know of
    the settings; a person has been told.
    """
    if source is not None and " " not in source.removeprefix("-H "):
        source = f"`{source}`"  # else it is no option or variable, but words
    if config.oauth is not None:  # a person waits here, and may sign in meanwhile
        patient = config.oauth._replace(start_wait=config.oauth.timeout)
        config = config._replace(oauth=patient)
    if as_json:
        return _for_a_program(config, source, notes)
    return _for_a_person(config, source)


def _for_a_program(config: Config, source: str | None, notes: Sequence[str]) -> int:
    report = Report(config.url, Silent())
    if notes:
        report.facts["notes"] = list(notes)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_for_a_person)
    _finish(report, partial(trio.run, walk, config, report, source))
    print(json.dumps(as_object(report)))
    return report.exit_code


def _for_a_person(config: Config, source: str | None) -> int:
    lines = Lines(sys.stderr, os.environ)
    report = Report(config.url, lines)
    lines.say(f"mcp-stdio {__version__} tests {config.url}")

    async def shown() -> None:
        async with trio.open_nursery() as nursery:
            if lines.is_live:
                nursery.start_soon(lines.keep_drawing)
            await walk(config, report, source)
            nursery.cancel_scope.cancel()

    with lines.undisturbed():
        _finish(report, partial(trio.run, shown))
    lines.say(summary(report))
    return report.exit_code


def _finish(report: Report, run: Callable[[], None]) -> None:
    """Run to the end, or to an interrupt, which the report then tells of."""
    try:
        run()
    except BaseException as exc:
        if not _is_interrupt(exc):
            raise
        report.interrupted()


def _is_interrupt(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(KeyboardInterrupt)[0] is not None and exc.split(Exception)[0] is None
    return isinstance(exc, KeyboardInterrupt)


def _is_for_a_person(record: logging.LogRecord) -> bool:
    """What must be seen even where a program reads the rest: defects, and a page to sign in at."""
    return record.levelno >= logging.ERROR or getattr(record, "is_to_be_followed", False)

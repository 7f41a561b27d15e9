"""Opening a page in the user's browser, as a process of its own that has nothing of ours.

Owns which command does it on which platform, `BROWSER` first. No shell of ours reads the URL, and
nothing but http and https is ever handed on, written anew from its parts (A-24), without anything
that a shell of theirs would run. The command gets no
standard input, output or error, for ours belong to MCP and a client waits for their end; it gets
a session of its own, so that a signal meant for us does not close the window. It is not waited for:
a browser that was started for the sign-in stays when we go.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import trio

from mcp_stdio.errors import AuthorizationFailed
from mcp_stdio.http.url import Url
from mcp_stdio.words import split

log = logging.getLogger(__name__)

VERDICT = 1.0
"""Seconds after which a command that still runs has not failed: some browsers stay in front."""

LOOK = 0.05
"""Seconds between two looks whether a command has ended."""

_PLACE = re.compile("%[sc%]")

_FOR_ANY_SHELL = "/?&=%:@+,-._~"
"""What of a URL's characters is left as it is besides letters and digits. `wslview` puts the URL
between double quotes in a command of PowerShell, which runs what is in `$(…)`, and an old
`xdg-open` had a shell read it once more; the ampersand is safe there, and needed."""


async def open_page(
    url: str,
    nursery: trio.Nursery,
    *,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
) -> bool:
    """Have a browser show `url`; whether one was started. Takes a second at most per command.

    `nursery` is where the end of what was started is noticed; cancelling it leaves the browser
    alone. Raises AuthorizationFailed for what is no http or https URL.
    """
    page = printed(url)
    for command in commands(page, environ, platform):
        if await _starts(command, nursery, environ):
            return True
    return False


def printed(url: str) -> str:
    """The URL parsed and written anew. Raises AuthorizationFailed unless it is http or https."""
    try:
        page = Url.parse(url)
        return str(page._replace(target=quote(page.target, safe=_FOR_ANY_SHELL)))
    except ValueError as exc:
        raise AuthorizationFailed(
            f"the page to sign in at has an address that is not opened: {exc}",
            hint="the authorization server's metadata is wrong; tell who runs it",
        ) from None


def commands(url: str, environ: Mapping[str, str], platform: str) -> Iterator[list[str]]:
    """The commands that may show the URL, in the order in which they are tried."""
    separator = ";" if platform == "win32" else ":"
    for entry in environ.get("BROWSER", "").split(separator):
        # `%s` is the URL, `%c` a colon, `%%` a percent sign; without `%s` the URL comes last.
        try:
            words = list(split(entry, platform))
        except ValueError:
            log.warning("an entry of `BROWSER` is passed over: its quotes do not match")
            continue
        if words and words[-1] == "&":
            del words[-1]  # It is never waited for anyway.
        if words:
            has_place = any("%s" in found for found in map(_PLACE.findall, words))
            filled = [
                _PLACE.sub(lambda at: {"s": url, "c": ":"}.get(at[0][1], "%"), word)
                for word in words
            ]
            yield filled if has_place else [*filled, url]
    if platform == "darwin":
        yield ["/usr/bin/open", url]
    elif platform == "win32":
        # What a double click does; unlike `start`, it is no part of a shell. By its full path, for
        # Windows looks for programs in the current directory first.
        system = environ.get("SYSTEMROOT") or r"C:\Windows"
        yield [rf"{system}\System32\rundll32.exe", "url.dll,FileProtocolHandler", url]
    else:
        if "WSL_DISTRO_NAME" in environ:
            yield ["wslview", url]
        if environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
            # Without a display they would look for a browser in a terminal, which is not ours.
            yield ["xdg-open", url]
            yield ["gio", "open", url]
            yield ["x-www-browser", url]


async def _starts(command: list[str], nursery: trio.Nursery, environ: Mapping[str, str]) -> bool:
    """Start a command; False when there is none of the name, or it fails at once."""
    try:
        process = _start(command, environ)
    except (OSError, ValueError) as exc:
        log.debug("`%s` could not be started: %s", command[0], exc)
        return False
    has_ended = trio.Event()
    nursery.start_soon(_see_off, process, has_ended)
    with trio.move_on_after(VERDICT):
        await has_ended.wait()
    if process.returncode:
        log.debug("`%s` failed with status %s", command[0], process.returncode)
        return False
    return True


def _start(command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # Not `trio.Process`: it may not be left while it runs.
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW
    else:
        options["start_new_session"] = True
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environ,
        **options,
    )


async def _see_off(process: subprocess.Popen[bytes], has_ended: trio.Event) -> None:
    """Take note of the end, so that no zombie is left; when cancelled, leave the browser be."""
    try:
        while process.poll() is None:  # noqa: ASYNC110 - the end of a child makes no event here
            await trio.sleep(LOOK)
        has_ended.set()
    finally:
        if process.returncode is None:
            process.returncode = 0  # So that `Popen` does not complain that it still runs.

"""Opening a page: which commands, without a shell, without anything of ours (A-24)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mcp_stdio.errors import AuthorizationFailed
from mcp_stdio.oauth.browser import commands, open_page, printed
from tests.process import LIMIT, SOURCE

URL = "https://as.example/authorize?scope=a%20b&state=%s&x=$(id);`id`"
SHOWN = "https://as.example/authorize?scope=a%20b&state=%s&x=%24%28id%29%3B%60id%60"
DISPLAY = {"DISPLAY": ":0"}
RUNDLL = r"C:\Windows\System32\rundll32.exe"

posix_only = pytest.mark.skipif(os.name != "posix", reason="the commands are small scripts")


@pytest.mark.parametrize(
    "platform, environ, expected",
    [
        ("darwin", {}, [["/usr/bin/open", SHOWN]]),
        ("win32", {}, [[RUNDLL, "url.dll,FileProtocolHandler", SHOWN]]),
        (
            "win32",
            {"SYSTEMROOT": r"D:\Win"},
            [[r"D:\Win\System32\rundll32.exe", "url.dll,FileProtocolHandler", SHOWN]],
        ),
        ("linux", {}, []),
        ("linux", {"BROWSER": "", "DISPLAY": ""}, []),
        ("linux", {"BROWSER": "::"}, []),
        ("linux", {"WSL_DISTRO_NAME": "Debian"}, [["wslview", SHOWN]]),
        ("linux", {"BROWSER": "firefox"}, [["firefox", SHOWN]]),
        ("linux", {"BROWSER": "firefox --new %s &"}, [["firefox", "--new", SHOWN]]),
        ("linux", {"BROWSER": "a:b 'c d' %s:e"}, [["a", SHOWN], ["b", "c d", SHOWN], ["e", SHOWN]]),
        ("linux", {"BROWSER": "a -u=%s;%%s%c"}, [["a", f"-u={SHOWN};%s:"]]),
        ("linux", {"BROWSER": "a %%s"}, [["a", "%s", SHOWN]]),
        ("linux", {"BROWSER": "a 'b:c"}, [["c", SHOWN]]),
        ("linux", {"BROWSER": "a; rm $HOME | b"}, [["a;", "rm", "$HOME", "|", "b", SHOWN]]),
    ],
)
def test_which_commands_are_tried(
    platform: str, environ: dict[str, str], expected: list[list[str]]
) -> None:
    assert list(commands(SHOWN, environ, platform)) == expected


def test_browser_comes_first_and_the_platform_next() -> None:
    found = list(commands(SHOWN, {"BROWSER": "mine", **DISPLAY}, "linux"))
    assert [command[0] for command in found] == ["mine", "xdg-open", "gio", "x-www-browser"]
    assert all(command[-1] == SHOWN for command in found)


def test_a_path_on_windows_is_no_list() -> None:
    (found, _) = commands(SHOWN, {"BROWSER": r"C:\Browser\browser.exe"}, "win32")
    assert found == [r"C:\Browser\browser.exe", SHOWN]


def test_quotes_on_windows_hold_a_path_together_and_are_no_part_of_it() -> None:
    browser = r'"C:\Program Files\Browser\browser.exe" --new %s'
    (found, _) = commands(SHOWN, {"BROWSER": browser}, "win32")
    assert found == [r"C:\Program Files\Browser\browser.exe", "--new", SHOWN]


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript://as.example/%0aalert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "ftp://as.example/",
        "as.example/authorize",
        "//as.example/authorize",
        "--version",
        "",
        "https://",
        "https://as.example/a b",
        "https://as.example/\nhttps://x",
        "https://as.example/\x1b[2J",
        "https://a$(id).example/",
    ],
)
async def test_nothing_but_http_is_opened(url: str, nursery: trio.Nursery, tmp_path: Path) -> None:
    """A-24: `javascript:` and its like are never opened, whatever the metadata says."""
    mark = tmp_path / "opened"
    with pytest.raises(AuthorizationFailed) as failure:
        await open_page(url, nursery, environ={"BROWSER": f"touch {mark}"}, platform="linux")
    assert failure.value.hint
    assert not mark.exists()


@pytest.mark.parametrize(
    "url, expected",
    [
        (URL, SHOWN),
        ("HTTPS://AS.example:443/a?b#c", "https://as.example/a?b"),
        ("https://user:password@as.example/", "https://as.example/"),
        ('https://as.example/?a="|<>^\\', "https://as.example/?a=%22%7C%3C%3E%5E%5C"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/"),
        ("https://as.example/a%20b?c=%24&d=e+f,g", "https://as.example/a%20b?c=%24&d=e+f,g"),
        # What a shell or PowerShell would run, were it to read the URL.
        ("https://as.example/$(calc)", "https://as.example/%24%28calc%29"),
        ("https://as.example/a;calc;'b'`c`", "https://as.example/a%3Bcalc%3B%27b%27%60c%60"),
        ("https://as.example/?a=$x&b=(c)*!{}", "https://as.example/?a=%24x&b=%28c%29%2A%21%7B%7D"),
        ("https://[::1]/?[a]", "https://[::1]/?%5Ba%5D"),
    ],
)
def test_the_url_is_written_anew(url: str, expected: str) -> None:
    assert printed(url) == expected


# Real processes


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write


async def until_written(path: Path) -> str:
    with trio.fail_after(LIMIT):
        while not path.exists() or not path.read_text(encoding="utf-8").endswith("\n"):  # noqa: ASYNC110
            await trio.sleep(0.01)
    return path.read_text(encoding="utf-8")


@posix_only
async def test_the_command_gets_the_url_as_one_argument(
    nursery: trio.Nursery, script: Callable[[str, str], str], tmp_path: Path
) -> None:
    browser = script("browser", f'printf "%s\\n" "$#" "$@" > {tmp_path}/got')
    assert await open_page(URL, nursery, environ={"BROWSER": browser}, platform="linux")
    assert await until_written(tmp_path / "got") == f"1\n{SHOWN}\n"


@posix_only
async def test_the_next_command_is_tried(
    nursery: trio.Nursery, script: Callable[[str, str], str], tmp_path: Path
) -> None:
    browsers = [
        str(tmp_path / "missing"),
        script("failing", "exit 3"),
        script("browser", f"echo > {tmp_path}/got"),
        script("too-late", f"echo > {tmp_path}/late"),
    ]
    assert await open_page(URL, nursery, environ={"BROWSER": ":".join(browsers)}, platform="linux")
    await until_written(tmp_path / "got")
    assert not (tmp_path / "late").exists()


@posix_only
async def test_without_any_that_works_nothing_was_started(
    nursery: trio.Nursery, script: Callable[[str, str], str]
) -> None:
    environ = {"BROWSER": f"{script('failing', 'exit 1')}:/nonexistent", "PATH": "/nonexistent"}
    assert not await open_page(URL, nursery, environ=environ, platform="linux")
    assert not await open_page(URL, nursery, environ={}, platform="linux")


@posix_only
async def test_the_loop_is_not_blocked_by_one_that_stays(
    nursery: trio.Nursery, script: Callable[[str, str], str], tmp_path: Path
) -> None:
    browser = script("browser", f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.01)
            turns += 1

    async with trio.open_nursery() as counting:
        counting.start_soon(count)
        assert await open_page(URL, nursery, environ=BROWSING | {"BROWSER": browser})
        counting.cancel_scope.cancel()
    assert turns > 1
    os.kill(int(await until_written(tmp_path / "pid")), signal.SIGKILL)


BROWSING = {"PATH": os.environ.get("PATH", "")}

PROGRAM = """
import sys, trio
from mcp_stdio.oauth.browser import open_page

async def main():
    async with trio.open_nursery() as nursery:
        assert await open_page("https://as.example/", nursery)
        sys.stdin.read()
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@posix_only
@pytest.mark.parametrize("ending", ["stays", "ends"])
def test_nothing_of_ours_is_held_or_left(
    script: Callable[[str, str], str], tmp_path: Path, ending: str
) -> None:
    """Our outputs reach their end with us, a browser that stays lives on, and none is a zombie."""
    stays = "exec sleep 1000" if ending == "stays" else "exit 0"
    browser = script(
        "browser",
        f"echo out; echo err >&2; cat; echo $$ $(ps -o sid= -p $$) > {tmp_path}/pid; {stays}",
    )
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE, "BROWSER": browser},
    ) as process:
        try:
            output, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert output == b""
    assert errors == b""
    assert process.returncode == 0
    pid, session = map(int, (tmp_path / "pid").read_text(encoding="utf-8").split())
    assert session == pid
    if ending == "stays":
        os.kill(pid, signal.SIGKILL)  # Raises if it was not there any more.


@posix_only
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
async def test_a_command_that_has_ended_is_no_zombie(
    nursery: trio.Nursery, script: Callable[[str, str], str], tmp_path: Path
) -> None:
    browser = script("browser", f"echo $$ > {tmp_path}/pid; sleep 1.3")
    assert await open_page(URL, nursery, environ=BROWSING | {"BROWSER": browser})
    pid = await until_written(tmp_path / "pid")
    with trio.fail_after(LIMIT):
        while Path(f"/proc/{pid.strip()}").exists():  # noqa: ASYNC110
            await trio.sleep(0.01)

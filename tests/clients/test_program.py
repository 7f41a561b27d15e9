"""How this program is started again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mcp_stdio.clients.program import command, is_for_one_run

SUFFIX = ".exe" if sys.platform == "win32" else ""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / f"mcp-stdio{SUFFIX}"
    path.touch(mode=0o755)
    return path


def test_a_script_is_named_by_its_full_path(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(str(script)) == (str(script),)
    monkeypatch.chdir(script.parent)
    assert command(os.path.join(os.curdir, script.name)) == (str(script),)


def test_a_script_that_was_found_through_path_is_found_again(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    assert command("mcp-stdio") == (str(script),)


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_the_link_of_an_installer_stays_a_link(script: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "mcp-stdio"
    link.symlink_to(script)
    assert command(str(link)) == (str(link),)


@pytest.mark.parametrize("argv0", ["/x/mcp_stdio/__main__.py", "-c", "", "/no/such/mcp-stdio"])
def test_anything_else_is_started_by_the_interpreter(argv0: str) -> None:
    assert command(argv0) == (sys.executable, "-P", "-m", "mcp_stdio")


@pytest.mark.parametrize(
    "program, is_so",
    [
        ("/home/ann/.cache/uv/archive-v0/Xy/bin/mcp-stdio", True),
        ("/Users/ann/Library/Caches/pipx/0a1b/bin/python", True),
        ("/home/ann/.local/pipx/.cache/0a1b/bin/mcp-stdio", True),
        ("C:\\Users\\ann\\AppData\\Local\\uv\\cache\\archive-v0\\Xy\\mcp-stdio.exe", True),
        ("/home/ann/.local/bin/mcp-stdio", False),
        ("/home/ann/.local/share/pipx/venvs/mcp-stdio/bin/python", False),
        ("/home/ann/.local/share/uv/tools/mcp-stdio/bin/mcp-stdio", False),
        ("/srv/cache/mcp-stdio", False),
    ],
)
def test_a_program_in_the_cache_of_a_runner_is_known(program: str, is_so: bool) -> None:
    assert is_for_one_run((program, "-m", "mcp_stdio")) == is_so

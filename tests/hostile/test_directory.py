"""A directory full of traps: a client starts programs in the project that it has open (P7).

Whoever wrote that project can name files like modules and programs. None of them is run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import LIMIT, environment

LIBRARIES = (
    *("trio", "h11", "httpx", "httpcore", "certifi", "idna", "attr", "attrs", "anyio"),
    *("outcome", "sniffio", "sortedcontainers", "socksio", "truststore", "mcp_stdio"),
)

NOWHERE = "http://127.0.0.1:9/mcp"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a trap for everything that might be imported, which leaves a mark."""
    project = tmp_path / "project"
    project.mkdir()
    marks = tmp_path / "marks"
    marks.mkdir()
    for name in {*sys.stdlib_module_names, *LIBRARIES} - {*sys.builtin_module_names}:
        mark = str(marks / name)
        (project / f"{name}.py").write_text(f"open({mark!r}, 'w')\nraise SystemExit('a trap')\n")
    return project


def run(project: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = str(project.parent)
    done = subprocess.run(
        words,
        cwd=project,
        env=environment({"XDG_CONFIG_HOME": kept, "APPDATA": kept, **env}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert os.listdir(project.parent / "marks") == [], done.stderr
    assert "trap" not in done.stderr
    return done


def test_what_a_client_is_told_to_start_runs_nothing_of_its_project(project: Path) -> None:
    """Also where the program is no script: `python -m` looks in the directory first."""
    config = [sys.executable, "-P", "-m", "mcp_stdio", "config"]
    block = json.loads(run(project, *config, "--oauth", NOWHERE).stdout)
    [entry] = block["mcpServers"].values()
    run(project, entry["command"], *entry["args"])
    run(project, entry["command"], *entry["args"], "--test", "--timeout-connect", "1")


@pytest.mark.parametrize(
    "words", [["--test", NOWHERE], ["status"], ["login", NOWHERE], ["--oauth", NOWHERE], ["--help"]]
)
def test_by_hand_it_runs_nothing_but_what_python_itself_loads_before(
    project: Path, words: list[str]
) -> None:
    script = "import sys, runpy; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    for name in {*loaded, "mcp_stdio"}:
        (project / f"{name}.py").unlink(missing_ok=True)
    run(project, sys.executable, "-m", "mcp_stdio", *words, "--timeout-connect", "1")


def test_the_relay_that_the_demo_starts_runs_nothing_of_the_directory(project: Path) -> None:
    done = run(project, sys.executable, "-P", "-m", "mcp_stdio", "demo")
    assert done.returncode == 0


def test_a_program_of_the_directory_gives_no_token(project: Path) -> None:
    """Windows looks there first, as others do where PATH says so."""
    name = "give-token.exe" if sys.platform == "win32" else "give-token"
    (project / name).write_text("#!/bin/sh\ntouch ../marks/ran\n")
    (project / name).chmod(0o755)
    path = os.pathsep.join([os.curdir, os.environ["PATH"]])
    words = ["-P", "-m", "mcp_stdio", "--bearer-token-command", "give-token", NOWHERE]
    done = run(project, sys.executable, *words, PATH=path)
    assert done.returncode == 2
    assert "current directory" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use cannot be removed")
def test_where_the_directory_is_gone_nothing_else_is_left_out(tmp_path: Path) -> None:
    """Python looks nowhere then in place of it, and first where the user's own modules are."""
    own, gone = tmp_path / "own", tmp_path / "gone"
    own.mkdir()
    (own / "argparse.py").write_text("print('a module of the user')\nraise SystemExit\n")
    gone.mkdir()
    words, given = [sys.executable, "-m", "mcp_stdio", "--help"], environment()
    done = subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "", *words],
        cwd=gone,
        env=given | {"PYTHONPATH": f"{own}{os.pathsep}{given['PYTHONPATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stdout == "a module of the user\n"

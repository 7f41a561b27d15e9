"""The benchmark runs to its end and prints what it promises; what it measures is not tested."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import phases, report
from tests.benchmarks.peers import Stuck
from tests.process import SOURCE, environment

ROOT = Path(__file__).parent.parent.parent

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def rows_of(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--sizes", "tiny", *options],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@on_linux
@pytest.mark.parametrize("server", [[], ["--no-compiler"]], ids=["compiled", "python"])
def test_benchmark_measures_every_phase_of_every_contestant(
    server: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "samples.json"
    program = f"import sys; sys.path.insert(0, {SOURCE!r}); from mcp_stdio.cli import main; main()"
    other = shlex.join([sys.executable, "-c", program, "{url}"])
    done = run("--json", file, "--against", f"other={other}", *server)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    head, *rows = rows_of(done.stdout)
    assert head == ["figure", "unit", "direct", "mcp-stdio", "other", "mcp-stdio / other"]
    assert all(len(row) == len(head) and "–" not in row[3:5] for row in rows)
    samples = json.loads(file.read_text(encoding="utf-8"))
    assert samples["rounds"] == 1
    assert len(samples["rows"]) == len(rows)
    for row in samples["rows"].values():
        assert all(len(taken) == 1 for taken in row["samples"].values())


@on_linux
def test_benchmark_goes_on_without_a_contestant_that_fails() -> None:
    done = run("--only", "start,held", "--against", "broken=false {url}")
    assert done.returncode == 0, done.stderr
    assert "broken failed in `start`" in done.stderr
    _, *rows = rows_of(done.stdout.rpartition("\n\n")[0])
    assert [row[3] != "–" for row in rows] == [True, True]
    assert [row[4:] for row in rows] == [["–", "–"]] * 2
    assert json.loads(done.stdout.splitlines()[-1])["rows"].keys() == {"start", "held"}


def test_table_holds_medians_and_ratios() -> None:
    samples: report.Samples = {}
    for mine, its in ((10.0, 40.0), (30.0, 40.0), (20.0, 1000.0)):
        report.collect(samples, "mine", {"start": mine})
        report.collect(samples, "its", {"start": its})
    table = report.markdown(samples, ["mine", "its"], "mine")
    assert rows_of(table)[-1][2:] == ["20.0", "40.0", "0.50 ×"]


def test_what_a_relay_adds_is_the_difference_within_a_round() -> None:
    samples: report.Samples = {}
    for direct, mine in ((50.0, 150.0), (80.0, 190.0)):
        report.collect(samples, "direct", {"call p50": direct})
        report.collect(samples, "mine", {"call p50": mine})
    assert report.with_differences(samples, "direct")["call p50 added"] == {"mine": [100.0, 110.0]}


def test_answers_are_looked_at() -> None:
    lines = phases.small_calls(2)
    ids = [json.loads(line)["id"] for line in lines]
    answers = [json.dumps({"id": id, "result": {}}).encode() for id in ids]
    phases.check(lines, b"\n".join(answers))
    with pytest.raises(Stuck):
        phases.check(lines, answers[0])

"""The workflows: what every change and every release goes through on GitHub.

That they are well formed is checked by tools (`.ci/run`), here what they promise.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging import package_index
from tests.packaging.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> dict[Any, Any]:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    document: dict[Any, Any] = yaml.safe_load(text)
    return document


def triggers(document: dict[Any, Any]) -> dict[str, Any]:
    """What starts it; YAML 1.1 takes the word `on` for true."""
    found: dict[str, Any] = document[True]
    return found


def steps(document: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in document["jobs"].values():
        yield from job.get("steps", [])


def used_by(job: dict[str, Any]) -> list[str]:
    """The actions of a job, without their versions."""
    return [step["uses"].partition("@")[0] for step in job.get("steps", []) if "uses" in step]


def needed_by(jobs: dict[str, Any], name: str) -> set[str]:
    """The jobs that must have succeeded before this one begins."""
    direct = jobs[name].get("needs", [])
    direct = {direct} if isinstance(direct, str) else set(direct)
    return direct.union(*(needed_by(jobs, other) for other in direct))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_rights_are_given_job_by_job(path: Path) -> None:
    document = workflow(path.stem)
    assert document["permissions"] in ({}, {"contents": "read"})
    for job in document["jobs"].values():
        # A job that may write runs nothing that was installed or checked out.
        if "write" in job.get("permissions", {}).values():
            assert "actions/checkout" not in used_by(job)
            assert not re.search(r"\bpip\b|\bpython\b|\bnpm\b", str(job.get("steps")))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_has_a_version_and_no_checkout_keeps_a_token(path: Path) -> None:
    for step in steps(workflow(path.stem)):
        if "uses" in step:
            assert re.search(r"@(v\d+|[0-9a-f]{40})$", step["uses"]), step
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_change_runs_everything_on_each_system_and_python() -> None:
    ci = workflow("ci")
    assert triggers(ci).keys() >= {"push", "pull_request", "workflow_call"}
    matrix = ci["jobs"]["ci"]["strategy"]["matrix"]
    assert [re.split("-", system)[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = "Programming Language :: Python :: "
    versions = [c.removeprefix(named) for c in project["classifiers"] if c.startswith(named)]
    assert matrix["python"] == [version for version in versions if re.fullmatch(r"3\.\d+", version)]
    assert ci["jobs"]["ci"]["steps"][-1]["run"] == ".ci/run"


def test_a_release_is_published_only_once_it_is_tested_built_and_attested() -> None:
    release = workflow("release")
    jobs = release["jobs"]
    assert triggers(release) == {"push": {"tags": ["v*"]}}
    assert jobs["test"]["uses"] == "$/.github/workflows/ci.yml"
    assert needed_by(jobs, "publish") == {"test", "build", "attest"}
    assert needed_by(jobs, "page") == {"test", "build", "attest", "publish"}
    # Each step of it is done by the job that has the right to it, and by no other.
    assert [name for name in jobs if "id-token" in jobs[name]["permissions"]] == [
        "attest",
        "publish",
    ]
    assert used_by(jobs["attest"])[-1] == "actions/attest"
    assert used_by(jobs["publish"])[-1] == "pypa/gh-action-pypi-publish"
    assert jobs["publish"]["environment"] == "pypi"
    # The publisher is trusted for who it is: there is no secret.
    assert "secrets" not in str(release)


def test_what_is_made_for_the_page_of_a_release_is_put_on_it() -> None:
    runs = [step["run"] for step in steps(workflow("release")) if "run" in step]
    for script in re.findall(r"python (\.github/\S+)", "\n".join(runs)):
        assert (ROOT / script).is_file()
    made = set(re.findall(r"> (about/\S+)", "\n".join(runs)))
    assert made == {"about/notes.md", "about/mcp-stdio.rb"}
    assert made | {"dist/*"} <= set(runs[-1].split())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As much of a tree as the check of a tag looks at, ready to become 1.2.3."""
    (tmp_path / ".github").mkdir()
    shutil.copy(ROOT / ".github" / "release.py", tmp_path / ".github")
    (tmp_path / "src" / "mcp_stdio").mkdir(parents=True)
    (tmp_path / "src" / "mcp_stdio" / "__init__.py").write_text(
        '"""."""\n\n__version__ = "1.2.3"\n'
    )
    (tmp_path / "server.json").write_text(
        '{"name": "com.example.tools/mcp-stdio", "version": "1.2.3", '
        '"packages": [{"version": "1.2.3"}]}'
    )
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2027-01-31\n\n### Added\n\n- This.\n\n"
        "## [1.2.2] - 2027-01-30\n\n- That.\n"
    )
    return tmp_path


def checked(tree: Path, tag: str) -> tuple[int, str]:
    script = tree / ".github" / "release.py"
    done = package_index.run(sys.executable, script, tag, folder=tree, check=False)
    return done.returncode, done.stdout


def test_a_tag_gives_the_notes_of_its_release(tree: Path) -> None:
    assert checked(tree, "v1.2.3") == (0, "### Added\n\n- This.\n")
    assert checked(tree, "v1.2.2")[0] == 1


@pytest.mark.parametrize(
    "file,old,new,complaint",
    [
        ("src/mcp_stdio/__init__.py", "1.2.3", "1.2.4", "the version of the package"),
        ("server.json", '"1.2.3"}', '"1.2.4"}', "the versions in `server.json`"),
        ("server.json", "com.example.tools/", "com.example/", "the name in `server.json`"),
        ("CHANGELOG.md", " - 2027-01-31", "", "`CHANGELOG.md` has no heading"),
        ("CHANGELOG.md", "### Added\n\n- This.\n\n", "", "`CHANGELOG.md` says nothing"),
    ],
)
def test_a_tag_that_the_tree_does_not_bear_out_is_refused(
    tree: Path, file: str, old: str, new: str, complaint: str
) -> None:
    path = tree / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new))
    code, printed = checked(tree, "v1.2.3")
    assert code == 1
    assert printed.startswith(f"error: {complaint}")

"""What stands in the README besides commands: links, pictures, blocks, figures, quoted words."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import mcp_stdio
from mcp_stdio.cli import options
from tests.readme.pages import ENGLISH, JAPANESE, ROOT, Block, Page

PACKAGE = Path(mcp_stdio.__file__).parent
ASSETS = ROOT / ".github" / "assets"


@pytest.mark.parametrize("page", [ENGLISH, JAPANESE], ids=["en", "ja"])
def test_links_within_the_repository_lead_somewhere(page: Page) -> None:
    inner = [target for target in page.targets() if "://" not in target]
    assert len(inner) > 10
    for target in inner:
        if target.startswith("#"):
            assert target[1:] in page.anchors(), target
        else:
            assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("page", [ENGLISH, JAPANESE], ids=["en", "ja"])
def test_an_issue_is_linked_under_its_number(page: Page) -> None:
    links = re.findall(r"\[(?:([\w.-]+/[\w.-]+))?#(\d+)\]\(([^)\s]+)\)", page.text)
    assert len(links) > 20
    named = ""
    for repository, number, url in links:
        named = repository or named
        assert url == f"https://github.com/{named}/issues/{number}"


@pytest.mark.parametrize("block", ENGLISH.blocks, ids=str)
def test_blocks_can_be_read_by_what_they_are_for(block: Block) -> None:
    match block.language:
        case "json":
            json.loads(block.text)
        case "toml":
            tomllib.loads(block.text)
        case "sh":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
        case "powershell":
            pass  # there is none here; `test_commands` looks at each line
        case language:
            assert language == ""


def test_every_option_is_told() -> None:
    actions = options._parser()._actions
    names = [action.option_strings for action in actions if action.option_strings]
    assert len(names) > 40
    told = set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", ENGLISH.text))
    assert [each for each in names if told.isdisjoint(each)] == []


# Figures


RUN = json.loads((ASSETS / "benchmark.json").read_text(encoding="utf-8"))["rows"]

FIGURES = {
    "start → first answer": ["start"],
    "time added to a call, median": ["call p50 added"],
    "calls per second, 64 at a time": ["calls/s 64"],
    "CPU for a call, 64 at a time": ["cpu 64"],
    "… 1,024 at a time": ["cpu 1024"],
    "of 64 calls that take 50 ms, at once": ["held"],
    "100 quick calls behind one of 2 s": ["behind"],
    "notifications per second": ["notes/s"],
    "delay of a streamed event": ["tick p50"],
    "a result of 10 MB: time, memory": ["json", "json peak"],
    "an event of 50 MB": ["event 50000000"],
    "memory, idle and after 5,000 calls": ["rss idle", "rss used"],
    "end of input → gone": ["end"],
}
"""The rows of the table, and which figures of the run they show."""


def numbers(cell: str) -> list[str]:
    return re.findall(r"\d[\d,]*(?:\.\d+)?", cell)


def is_rounded(shown: str, value: float) -> bool:
    """Whether a number is this value, rounded to as many digits as it shows."""
    digits = len(shown.partition(".")[2])
    if digits == 0 and shown.endswith("000"):
        digits = -3
    return float(shown.replace(",", "")) == round(value, digits)


@pytest.mark.parametrize("label", FIGURES)
def test_the_table_shows_the_run(label: str) -> None:
    ((_, ours, theirs, ratio),) = [row for row in ENGLISH.rows() if row[0] == label]
    for relay, cell in (("mcp-stdio", ours), ("sync-httpx", theirs)):
        values = [RUN[figure]["medians"][relay] for figure in FIGURES[label]]
        pairs = list(zip(numbers(cell), values, strict=True))
        assert all(is_rounded(shown, value) for shown, value in pairs), pairs
    if ratio:
        medians = RUN[FIGURES[label][0]]["medians"]
        (shown,) = numbers(ratio)
        assert is_rounded(shown, medians["mcp-stdio"] / medians["sync-httpx"])


def test_the_table_shows_nothing_else() -> None:
    begin = ENGLISH.prose.index("| | this one | 0.3.0 | ratio |")
    rows = ENGLISH.prose[begin + 2 :]
    assert [row.split(" | ")[0].strip("| ") for row in rows[: rows.index("")]] == list(FIGURES)


def test_the_sentence_about_tls_shows_the_run() -> None:
    (sentence,) = re.findall(
        r"Over TLS a start takes ([^.]*\(0\.3\.0[^.]*\(0\.3\.0[^.]*)\.", ENGLISH.text
    )
    shown = numbers(sentence.replace("0.3.0", ""))
    for figure, pair in (("tls start", shown[:2]), ("tls call p50 added", shown[2:])):
        medians = RUN[figure]["medians"]
        values = [medians["mcp-stdio"], medians["sync-httpx"]]
        assert all(map(is_rounded, pair, values)), figure


# Pictures


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_the_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    """The one of a run may differ in what differs from run to run: numbers."""
    command = [sys.executable, str(ROOT / ".github" / "pictures"), "--into", str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(path.name for path in ASSETS.glob("*.svg"))
    for name in drawn:
        kept, new = texts(ASSETS / name), texts(tmp_path / name)
        assert kept == new, "draw them anew: python .github/pictures"
        if name != "test.svg":
            assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes()


def texts(picture: Path) -> str:
    """What a picture says, without numbers, their units and what they move."""
    words = " ".join(text for text in ElementTree.parse(picture).getroot().itertext())
    words = re.sub(r"[\d.,]+( ms\b| s\b)?", "0", words)
    return re.sub(r"\s+", " ", words)


# Words


def literals() -> Iterator[str]:
    """Every text of the program; what is filled in at run time is `…`."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Constant(value=str(text)):
                    yield text
                case ast.JoinedStr(values=parts):
                    yield "".join(_part(part) for part in parts)


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"


TEXTS = list(literals())


def symptoms() -> list[str]:
    """What the table of symptoms quotes, `…` for what differs."""
    begin = ENGLISH.prose.index("| it says | because | what to do |")
    rows = ENGLISH.prose[begin + 2 :]
    cells = [row.split(" | ")[0] for row in rows[: rows.index("")]]
    return list(dict.fromkeys(re.findall(r"`([^`]+)`", " ".join(cells))))


@pytest.mark.parametrize("quoted", symptoms())
def test_what_it_is_said_to_say_is_what_it_says(quoted: str) -> None:
    pieces = [re.escape(piece.strip()) for piece in quoted.split("…") if piece.strip()]
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    assert any(pattern.search(text) for text in TEXTS)


# Japanese


def test_both_languages_have_the_same_outline() -> None:
    assert [each.level for each in JAPANESE.headings] == [each.level for each in ENGLISH.headings]


def without_comments(block: Block) -> tuple[str, str]:
    lines = (re.sub(r"(^|\s+)# .*", "", line) for line in block.text.splitlines())
    return block.language, "\n".join(lines)


def test_both_languages_have_the_same_blocks() -> None:
    english = [without_comments(block) for block in ENGLISH.blocks if block.language]
    assert [without_comments(block) for block in JAPANESE.blocks if block.language] == english


def places(page: Page) -> list[tuple[int, Any]]:
    """For each block the number of headings before it."""
    return [
        (sum(each.number < block.number for each in page.headings), block.language)
        for block in page.blocks
    ]


def test_blocks_stand_in_the_same_sections() -> None:
    assert places(JAPANESE) == places(ENGLISH)


def test_tables_have_the_same_rows_and_name_the_same_things() -> None:
    """Whatever stands as code, and every link, stands in both, in the same order."""

    def code(page: Page) -> list[list[str]]:
        return [sorted(re.findall(r"`([^`]+)`|\]\(([^)#]+)\)", " ".join(r))) for r in page.rows()]

    assert len(code(ENGLISH)) > 80
    assert code(JAPANESE) == code(ENGLISH)

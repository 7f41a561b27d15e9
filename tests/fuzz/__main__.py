"""Fuzzing guided by coverage: `python -m tests.fuzz [TARGET...] [--seconds N]`.

Runs each target (all of them if none is named) for so many seconds in a process of its own, with
this package instrumented, and tells how much was tried, what was covered and what was found. What
is worth keeping of one run is where the next begins (`--corpus DIRECTORY`). Needs Linux and the
extra `fuzz`, which is Atheris, libFuzzer for Python.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

PACKAGE = "mcp_stdio"

LONGEST = 4096
"""Bytes of an input: what is long is the business of `test_worst_cases`."""

PATIENCE = 25
"""Seconds for one input, which usually takes less than a millisecond."""


class Outcome(NamedTuple):
    """What became of a target: inputs tried, edges of this package covered, and what was found."""

    name: str
    runs: int
    coverage: int
    seconds: float
    finding: str | None = None


def main() -> int:
    """Fuzz the targets that are named; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        fuzz(arguments.targets[0], arguments.corpus, arguments.seconds)
    from tests.fuzz.targets import TARGETS

    if unknown := set(arguments.targets) - TARGETS.keys():
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("it needs Atheris: pip install -e '.[test,fuzz]'")
    print(f"{'target':<16}{'inputs':>12}{'edges':>8}{'seconds':>9}  found")
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.targets or TARGETS:
            corpus = (arguments.corpus or Path(scratch)).resolve() / name
            outcome = run(name, corpus, arguments.seconds)
            outcomes.append(outcome)
            print(
                f"{name:<16}{outcome.runs:>12,}{outcome.coverage:>8,}{outcome.seconds:>9.0f}"
                f"  {outcome.finding or 'nothing'}",
                flush=True,
            )
    found = sum(outcome.finding is not None for outcome in outcomes)
    total = sum(outcome.runs for outcome in outcomes)
    print(f"{len(outcomes)} targets, {total:,} inputs, {found} with a finding")
    return 1 if found else 0


def run(name: str, corpus: Path, seconds: int) -> Outcome:
    """Fuzz one target in a process of its own, which libFuzzer ends in its own way."""
    corpus.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "tests.fuzz", "--here", name]
    words += ["--corpus", str(corpus), "--seconds", str(seconds)]
    begun = time.monotonic()
    ended = subprocess.run(
        words, cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    said = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
    runs = re.findall(r"stat::number_of_executed_units: (\d+)|^#(\d+)", said, re.MULTILINE)
    covered = re.findall(r"\bcov: (\d+)", said)
    return Outcome(
        name,
        int("".join(runs[-1])) if runs else 0,
        int(covered[-1]) if covered else 0,
        time.monotonic() - begun,
        finding(said) if ended.returncode else None,
    )


def finding(said: str) -> str:
    """The failure and the input it came from, out of what a fuzzer says at its end."""
    failure = re.search(r"Uncaught Python exception: ===\n(.*)", said)
    if failure is None:
        failure = re.search(r"==\d+== ?ERROR: (.*)", said)
    base64 = re.search(r"^Base64: (.*)", said, re.MULTILINE)
    what = failure[1] if failure else said[-300:]
    return f"{what} (input in Base64: {base64[1] if base64 else 'not told'})"


def fuzz(name: str, corpus: Path, seconds: int) -> None:
    """Fuzz in this process; does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=[PACKAGE], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.target import ODD_VALUES, with_value

    target = TARGETS[name]
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = corpus.parent / f"{name}.dict"
    dictionary.write_text(
        "".join(
            '"{}"\n'.format("".join(f"\\x{each:02x}" for each in word)) for word in target.words
        )
    )

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        """What libFuzzer does to bytes, and now and then another value in what is JSON."""
        chance = Random(seed)
        if chance.random() < 0.25:
            return with_value(data, chance.randrange(1000), chance.choice(ODD_VALUES))[:most]
        return bytes(atheris.Mutate(data, most))

    os.chdir(corpus.parent)  # where what is found is left as well
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-dict={dictionary}",
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            f"-timeout={PATIENCE}",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-reload=0",
        ],
        target.holds,
        custom_mutator=mutated,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

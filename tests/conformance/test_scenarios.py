"""The official conformance suite's client scenarios, played through the relay.

Each runs the suite's own command, which starts `client.py` against a server of the suite's. What
the suite checks is the whole of client and relay; where the client's share is, `client.py` says.
A scenario passes when the suite says so: nothing failed, and no warning either.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.conformance.conftest import SCORED
from tests.conftest import unavailable
from tests.peers import browsers, node
from tests.peers.installing import Unavailable
from tests.process import environment

CLIENT = Path(__file__).with_name("client.py")

LIMIT = 120.0
"""Seconds for a scenario with all its processes; the suite itself ends a client after 30."""

LATE = "json-schema-2020-12-preservation"
"""Not scored by any requirement set, since the suite had it too late."""

AUTHORIZATION = [
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
]
"""The relay's share is all of it; the page is fetched by `plain_browser.py`."""

SCENARIOS = {
    "2025-11-25": [
        "initialize",
        "tools_call",
        # The client's share: the defaults.
        "elicitation-sep1034-client-defaults",
        # The relay's: to come back for the answer, no sooner than it was told.
        "sse-retry",
        *AUTHORIZATION,
        LATE,
    ],
    "2026-07-28": [
        "tools_call",
        # The client's share: `_meta`, and to go on when its first request is refused with -32022.
        # The relay's: a version header equal to `_meta`, and `_meta` with all its members in
        # requests of its own, for the suite judges each request that it sees.
        "request-metadata",
        # The client's share is all of it: new ids, the state echoed exactly or not at all.
        "sep-2322-client-request-state",
        # The relay's share is all of the next three: no client over stdio sees a header.
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        # Of both: neither fetches what a schema refers to.
        "json-schema-ref-no-deref",
        *AUTHORIZATION,
        "auth/resource-mismatch",
        "auth/offline-access-scope",
        "auth/offline-access-not-supported",
        "auth/authorization-server-migration",
        "auth/iss-supported",
        "auth/iss-not-advertised",
        "auth/iss-supported-missing",
        "auth/iss-wrong-issuer",
        "auth/iss-unexpected",
        "auth/iss-normalized",
        "auth/metadata-issuer-mismatch",
        LATE,
    ],
}
"""By requirement set: what it scores, and `LATE`."""

EXTENSIONS = ["auth/client-credentials-basic"]
"""Never scored; the suite plays them in any revision, but must be told to."""

Play = Callable[..., None]


@pytest.fixture(scope="session")
def suite() -> Sequence[str | Path]:
    try:
        return node.conformance_suite()
    except Unavailable as exc:
        unavailable(str(exc))


@pytest.fixture
def play(suite: Sequence[str | Path], tmp_path: Path) -> Play:
    """Play one scenario in one revision; fails with what the suite has printed."""

    def play(scenario: str, revision: str, *options: str, is_extension: bool = False) -> None:
        client = [sys.executable, str(CLIENT), *options]
        # What the relay keeps of a sign-in is kept for this run alone.
        home = {"XDG_CONFIG_HOME": str(tmp_path), "APPDATA": str(tmp_path)}
        done = subprocess.run(
            [
                *map(str, suite),
                "client",
                # The suite hands its command to a shell.
                *("--command", browsers.quoted(client)),
                *("--scenario", scenario),
                *("--spec-version", revision),
                *(["--force"] if is_extension else []),
            ],
            cwd=tmp_path,
            env=environment({**home, "BROWSER": browsers.variable(browsers.plain())}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT,
            check=False,
        )
        # A scenario that is not of this revision would be skipped, and that ends with 0 as well.
        if done.returncode != 0 or "OVERALL: PASSED" not in done.stdout:
            pytest.fail(done.stdout, pytrace=False)

    return play


@pytest.mark.parametrize(
    "scenario,revision",
    [(name, revision) for revision, names in SCENARIOS.items() for name in names],
)
def test_a_scenario_passes(
    play: Play, scenario: str, revision: str, record_property: Callable[[str, object], None]
) -> None:
    record_property(SCORED, True)
    play(scenario, revision)


@pytest.mark.parametrize("revision", SCENARIOS)
@pytest.mark.parametrize("scenario", EXTENSIONS)
def test_a_scenario_of_an_extension_passes(play: Play, scenario: str, revision: str) -> None:
    play(scenario, revision, is_extension=True)


@pytest.mark.parametrize(
    "scenario", ["tools_call", "request-metadata", "http-custom-headers", "http-standard-headers"]
)
def test_a_modern_client_need_not_discover_first(play: Play, scenario: str) -> None:
    play(scenario, "2026-07-28", "--direct")


@pytest.mark.parametrize("revision", SCENARIOS)
def test_the_table_has_what_the_requirement_set_scores(
    suite: Sequence[str | Path], revision: str
) -> None:
    requirements = Path(suite[-1]).parents[1] / "requirements" / f"{revision}.yaml"
    listed = re.search(
        r"^client:\n((?:  - .+\n)+)", requirements.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert listed is not None
    scored = {line.removeprefix("  - ") for line in listed[1].splitlines()}
    assert scored == set(SCENARIOS[revision]) - {LATE}

"""What tests of the packages share: the packages, built once, and the package index."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.packaging import package_index
from tests.peers.installing import Unavailable

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Packages:
    """The two files that a release consists of."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Both, built from this tree."""
    folder = tmp_path_factory.mktemp("packages")
    package_index.run(sys.executable, "-m", "hatchling", "build", "-d", folder, folder=ROOT)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return Packages(wheel, sdist)


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The package index can be reached."""
    try:
        package_index.see_that_it_is_there(tmp_path_factory.mktemp("index"))
    except Unavailable as exc:
        unavailable(str(exc))

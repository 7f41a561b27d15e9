"""What the tests of both lanes share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Setenv = Callable[..., None]


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Setenv:
    """Sets the proxy variables to exactly these."""

    def setenv(**variables: str) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    setenv()
    return setenv

"""Signing in and out by hand, and telling who is signed in: the commands around the store.

Owns what these commands print, on stdout for people and, with `--json`, for programs. Refuses to
know how a sign-in goes. Kept here: never a token, nor a part of one (A-43).
"""

from __future__ import annotations

from mcp_stdio.config import Config
from mcp_stdio.errors import UsageFailure


def login(config: Config) -> int:
    """Sign in at the server and remember it. Returns the exit code; raises RelayError."""
    raise UsageFailure("signing in is not available yet")


def logout(config: Config) -> int:
    """Forget what is kept for the server, and revoke it where that is offered."""
    raise UsageFailure("signing in is not available yet")


def status(config: Config | None, *, as_json: bool) -> int:
    """Print what is kept: for one server, or for all."""
    raise UsageFailure("signing in is not available yet")

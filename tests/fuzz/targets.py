"""All that is fuzzed, by name."""

from __future__ import annotations

from tests.fuzz import bridges, demo, exchanges, messages, settings, shown, sign_ins
from tests.fuzz.target import TARGETS

__all__ = ["TARGETS", "bridges", "demo", "exchanges", "messages", "settings", "shown", "sign_ins"]

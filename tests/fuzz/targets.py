"""All that is fuzzed, by name."""

from __future__ import annotations

from tests.fuzz import demo, exchanges, messages, settings, shown, sign_ins
from tests.fuzz.target import TARGETS

__all__ = ["TARGETS", "demo", "exchanges", "messages", "settings", "shown", "sign_ins"]

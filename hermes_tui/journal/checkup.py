"""What the doctor found last, for panes: a note on the desk."""

from __future__ import annotations

import time
from typing import NamedTuple

from hermes_tui.journal.desk import Desk

_NAME = "doctor"
_CHARS = 500  # of a fix


class Summary(NamedTuple):
    """The last examination: its age, how many findings were bad or doubtful, and what to do first."""

    age_s: float
    bad: int
    warn: int
    first_fix: str


def remember(desk: Desk, *, bad: int, warn: int, first_fix: str) -> None:
    """Note what was just found. Raises StateError."""
    desk.keep(_NAME, {"bad": bad, "warn": warn, "first_fix": first_fix[:_CHARS]})


def summary(desk: Desk) -> Summary | None:
    """The last examination's; None when there was none. Raises StateError."""
    found = desk.kept(_NAME)
    if found is None:
        return None
    at_ns, document = found
    bad, warn, fix = (document.get(name) for name in ("bad", "warn", "first_fix"))
    if not (isinstance(bad, int) and isinstance(warn, int) and isinstance(fix, str)):
        return None  # another version's
    return Summary(max(0.0, (time.time_ns() - at_ns) / 10**9), bad, warn, fix)

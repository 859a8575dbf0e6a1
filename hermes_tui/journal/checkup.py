"""What the doctor found last, for panes: a note on the desk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir

_NAME = "doctor"
_CHARS = 500  # of a text
_MOST = 30  # findings


class Trouble(NamedTuple):
    """A finding that is not well: `verdict` is "bad" or "warn", `fix` what to do in one line, or ""."""

    verdict: str
    name: str
    finding: str
    fix: str


class Summary(NamedTuple):
    """The last examination: its age, how many findings were bad or doubtful, what to do first, and which."""

    age_s: float
    bad: int
    warn: int
    first_fix: str
    troubles: tuple[Trouble, ...] = ()


def remember(desk: Desk, *, bad: int, warn: int, first_fix: str, troubles: Iterable[Trouble] = ()) -> None:
    """Note what was just found. Raises StateError."""
    listed = [[text[:_CHARS] for text in trouble] for trouble in troubles][:_MOST]
    desk.keep(_NAME, {"bad": bad, "warn": warn, "first_fix": first_fix[:_CHARS], "troubles": listed})


def summary(desk: Desk) -> Summary | None:
    """The last examination's; None when there was none. Raises StateError."""
    found = desk.kept(_NAME)
    if found is None:
        return None
    at_ns, document = found
    bad, warn, fix = (document.get(name) for name in ("bad", "warn", "first_fix"))
    if not (isinstance(bad, int) and isinstance(warn, int) and isinstance(fix, str)):
        return None  # another version's
    age_s = max(0.0, (time.time_ns() - at_ns) / 10**9)
    return Summary(age_s, bad, warn, fix, _troubles(document.get("troubles")))


def last(state: StateDir) -> Summary | None:
    """The last examination's, without making a desk where there is none. Raises StateError."""
    if not os.path.exists(state.desk):
        return None
    with Desk(state) as desk:
        return summary(desk)


def _troubles(listed: Any) -> tuple[Trouble, ...]:
    """Those that are understood."""
    found = listed if isinstance(listed, list) else []
    whole = len(Trouble._fields)
    return tuple(
        Trouble(*each)
        for each in found
        if isinstance(each, list) and len(each) == whole and all(isinstance(text, str) for text in each)
    )

"""The sessions that there are, by the journal and by Hermes' records. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hermes_tui.journal.reader import SessionRow
from hermes_tui.model.doing import Doing, doing
from hermes_tui.model.live import Live, LiveSession

_LISTED = 200  # sessions of Hermes' records that are listed


@dataclass(frozen=True, slots=True)
class Listed:
    """A session: when anything last happened in it, its traces that came, and what Hermes calls it.

    `state` is what it does by Hermes' records: tool, model, approval, or idle.
    """

    session: str
    active_ns: int
    traces: int = 0
    title: str = ""
    source: str = ""
    home: str = ""
    state: str = ""


def directory(rows: Sequence[SessionRow], live: Live, now_ns: int) -> list[Listed]:
    """Every session of the user's, the one active last first. Subagents' are not listed by themselves."""
    traced = {row.session: row for row in rows}
    recorded = _recorded(live)
    found = []
    for name in dict.fromkeys([*traced, *(part.id for part in recorded[:_LISTED])]):
        row, part = traced.get(name), live.session(name)
        active = max(row.received_ns if row is not None else 0, part.active_ns if part is not None else 0)
        listed = Listed(name, active, row.traces if row is not None else 0)
        found.append(listed if part is None else _told(listed, part, doing(live, name, now_ns)))
    return sorted(found, key=lambda each: (-each.active_ns, each.session))


def _told(listed: Listed, part: LiveSession, does: Doing) -> Listed:
    title, source = (part.row.title, part.row.source) if part.row is not None else (None, None)
    return replace(listed, title=title or "", source=source or "", home=part.home, state=does.state.value)


def newest(journal: str | None, rows: Sequence[SessionRow], live: Live) -> str | None:
    """The session that was active last. `journal` is what the journal takes for that."""
    recorded = next(iter(_recorded(live)), None)
    if recorded is None or journal is None or recorded.id == journal:
        return journal or (recorded.id if recorded is not None else None)
    received = next((row.received_ns for row in rows if row.session == journal), 0)
    return recorded.id if recorded.active_ns > received else journal


def _recorded(live: Live) -> list[LiveSession]:
    """The user's sessions in Hermes' records, the one active last first."""
    found = [part for name in live.sessions() if (part := live.session(name)) is not None]
    return sorted((part for part in found if part.parent is None), key=lambda part: -part.active_ns)

"""The sessions that there are, by the journal and by Hermes' records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from hermes_tui.journal.reader import SessionRow
from hermes_tui.model.doing import doing
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.present import ENDS, ends_last
from hermes_tui.model.sessions import Session

_LISTED = 200  # sessions of Hermes' records that are listed
_WORDS = {"tool": "running", "model": "running", "approval": "waits for you"}


class Facts(msgspec.Struct, frozen=True):
    """What a session's spans say of it. `ended_ns`: when its newest turn ended (0: they do not tell);
    `more`: it has traces that were not read.
    """

    status: str
    model: str = ""
    source: str = ""
    turns: int = 0
    commands: int = 0
    failed: int = 0
    errors: int = 0
    tokens: int = 0
    cost: float | None = None
    more: bool = False
    ended_ns: int = 0


def facts_of(session: Session, now_ns: int, *, more: bool = False) -> Facts:
    totals, usage, newest = session.totals, session.totals.usage, session.newest
    ended_ns = newest.end_ns if newest is not None else totals.last_ns  # without turns: a subagent's
    status = session.status(now_ns)
    over = status in ENDS if newest is None else newest.status(now_ns) in ENDS
    return Facts(
        status, totals.model or "", totals.source or "", session.turn_count,
        totals.commands, totals.failed_commands, totals.errors, usage.tokens, usage.cost,
        more, ended_ns if over else 0,
    )  # fmt: skip


class Listed(msgspec.Struct, frozen=True):
    """A session: when anything last happened in it, its traces that came, and what is known of it.

    `status` is what Hermes' records say it does now (running, waits for you), unless its spans say that this
    is over; else how its newest turn ended, "" when nobody knows. `depth` 1: a subagent's, below the session
    that it works for.
    """

    session: str
    active_ns: int
    traces: int = 0
    title: str = ""
    source: str = ""
    home: str = ""
    model: str = ""
    cwd: str = ""
    status: str = ""
    depth: int = 0
    tokens: int = 0
    cost: float | None = None
    facts: Facts | None = None

    @property
    def running(self) -> bool:
        return self.status in _WORDS.values()

    def has(self, words: Iterable[str]) -> bool:
        """Whether all these words, in small letters, are found in what names it."""
        text = " ".join((self.session, self.title, self.source, self.home, self.model, self.cwd)).lower()
        return all(word in text for word in words)


def directory(
    rows: Sequence[SessionRow], live: Live, now_ns: int, facts: Mapping[str, Facts] | None = None
) -> list[Listed]:
    """Every session, the user's that was active last first, subagents' below the one they work for."""
    known = facts or {}
    traced = {row.session: row for row in rows}
    recorded = _recorded(live)
    names = dict.fromkeys([*traced, *(part.id for part in recorded[:_LISTED])])
    tops = [_listed(name, traced.get(name), live, now_ns, known.get(name)) for name in names]
    tops.sort(key=lambda each: (-each.active_ns, each.session))
    return [each for top in tops for each in (top, *_below(top, live, now_ns, known))]


def _below(top: Listed, live: Live, now_ns: int, known: Mapping[str, Facts]) -> Iterator[Listed]:
    for part in live.below(top.session):
        yield _listed(part.id, None, live, now_ns, known.get(part.id), depth=1)


def _listed(
    name: str, row: SessionRow | None, live: Live, now_ns: int, facts: Facts | None, *, depth: int = 0
) -> Listed:
    part = live.session(name)
    noted = part.row if part is not None else None
    sums = part.sums if part is not None else None
    over = facts is not None and part is not None and bool(part.turns) and ends_last(facts.ended_ns, part)
    does = _WORDS.get(doing(live, name, now_ns).state.value, "") if part is not None and not over else ""
    end = part.turns[-1].end if part is not None and part.turns else ""
    status = facts.status if facts is not None else ""
    if part is not None and status in ("", "running", "unknown"):
        status = end  # the records know whether it still runs
    received = row.received_ns if row is not None else 0
    return Listed(
        session=name,
        active_ns=max(received, part.active_ns if part is not None else 0),
        traces=row.traces if row is not None else 0,
        title=_text(noted.title if noted else None) or (_prompt(part) if depth else ""),
        source=_text(noted.source if noted else None) or (facts.source if facts else ""),
        home=part.home if part is not None else "",
        model=(facts.model if facts else "") or _text(noted.model if noted else None),
        cwd=_text(noted.cwd if noted else None),
        status=does or status,
        depth=depth,
        tokens=(facts.tokens if facts else 0) or (sums.input_tokens + sums.output_tokens if sums else 0),
        cost=facts.cost if facts is not None and facts.cost is not None else (sums.cost if sums else None),
        facts=facts,
    )


def _text(value: str | None) -> str:
    return value or ""


def _prompt(part: LiveSession | None) -> str:
    return (part.turns[0].prompt or "") if part is not None and part.turns else ""


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

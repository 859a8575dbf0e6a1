"""Hermes' own records folded into sessions: what was asked, what runs, what is over. Pure.

Rows may come in any order, in any portions and more than once: the result is the same. Rows that come in
the order in which Hermes wrote them cost what is new, others have their session folded again.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from hermes_tui.model.jobs import Job, JobBook
from hermes_tui.model.live_turns import STOPPED, TEXT, CallNames, LiveStep, LiveTurn
from hermes_tui.model.state_rows import (
    Forgotten,
    HolderRow,
    HomeRow,
    JobRow,
    MessageRow,
    SessionRow,
    StateRow,
)

SUBAGENT = "subagent"
_STEPS = 500  # model calls whose own tokens are kept
_TOGETHER = 2  # looks between which a model call's answer and its tokens are read


class Sums(NamedTuple):
    """Tokens and cost (US dollars); of a session so far, or of one model call."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: float | None

    def since(self, before: Sums) -> Sums:
        """What came on top of `before`; what was not known then counts as 0."""
        cost = None if self.cost is None else max(0.0, self.cost - (before.cost or 0.0))
        return Sums(
            max(0, self.input_tokens - before.input_tokens),
            max(0, self.output_tokens - before.output_tokens),
            max(0, self.cache_read_tokens - before.cache_read_tokens),
            max(0, self.cache_write_tokens - before.cache_write_tokens),
            max(0, self.reasoning_tokens - before.reasoning_tokens),
            cost,
        )


_NOTHING = Sums(0, 0, 0, 0, 0, 0.0)


class LiveSession:
    """A session as one home's records have it. `version` rises with every change, `begun` is what it was
    when all turns were last folded anew; else only the last ones change.
    """

    def __init__(self, home: str, session: str) -> None:
        self.home = home
        self.id = session
        self.version = 0
        self.row: SessionRow | None = None
        self.turns: list[LiveTurn] = []
        self.holders: dict[int, HolderRow] = {}
        self.last_ns = 0
        self._rows: dict[int, MessageRow] = {}
        self._ids: list[int] = []
        self._folded = 0  # id of the newest row that is in `turns`
        self._sums: dict[int, tuple[int, Sums]] = {}
        self._first: dict[int, int] = {}  # the look that first told of so many model calls
        self._begin()

    @property
    def parent(self) -> str | None:
        """The session that this one is a subagent of."""
        return self.row.parent if self.row is not None and self.row.source == SUBAGENT else None

    @property
    def heard_ns(self) -> int:
        """When anything was last heard of it."""
        row = self.row
        if row is None:
            return self.last_ns
        return max(self.last_ns, row.heard_ns, row.started_ns, row.ended_ns)

    @property
    def active_ns(self) -> int:
        """When anything last happened in it; that its Hermes is still there is nothing."""
        return max(self.last_ns, self.row.started_ns if self.row is not None else 0)

    @property
    def sums(self) -> Sums | None:
        """Tokens and cost of the session so far."""
        return None if self.row is None else _sums(self.row)

    def steps(self) -> list[Sums]:
        """Tokens and cost of each model call, the oldest first; only of calls that were seen coming."""
        known = {0: _NOTHING} | {count: sums for count, (_, sums) in self._sums.items()}
        return [known[count].since(known[count - 1]) for count in sorted(known) if count - 1 in known]

    def spent(self, step: LiveStep) -> Sums | None:
        """Tokens and cost of a model call: what was first told of at the time of its answer."""
        near = [(abs(look - step.revision), count) for count, look in self._first.items()]
        for away, count in sorted(near):
            if away > _TOGETHER:
                return None
            if (sums := self._sums.get(count)) is None:
                continue
            before = self._sums.get(count - 1)
            if before is not None or count == 1:
                return sums[1].since(before[1] if before is not None else _NOTHING)
        return None

    def jobs(self, listed: Iterable[JobRow] = (), *, closed: bool = False) -> list[Job]:
        """Its background jobs, the oldest first; `closed`: no Hermes has its home's database open."""
        return self._book.jobs(listed, closed=closed)

    @property
    def has_open(self) -> bool:
        """Whether a turn or a job in it may go on."""
        return bool(self.turns and not self.turns[-1].ended_ns) or bool(self._book.jobs(()))

    def owns_job(self, job: str) -> bool:
        return self._book.knows(job)

    def take(self, row: MessageRow) -> None:
        known = self._rows.get(row.id)
        if known is not None and not _newer(row, known):
            return
        self._rows[row.id] = row
        if known is not None:
            if replace(known, revision=row.revision) != row:
                self._folded = -1
        elif not self._ids or row.id > self._ids[-1]:
            self._ids.append(row.id)
        else:
            insort(self._ids, row.id)
            self._folded = -1

    def describe(self, row: SessionRow) -> None:
        """Take what the sessions table says."""
        if self.row is None or _newer(row, self.row):
            self.row = row
            self.version += 1
        known = self._sums.get(row.api_calls)
        self._first[row.api_calls] = min(self._first.get(row.api_calls, row.revision), row.revision)
        if known is None or (row.revision, repr(_sums(row))) > (known[0], repr(known[1])):
            self._sums[row.api_calls] = row.revision, _sums(row)
            while len(self._sums) > _STEPS:
                del self._sums[min(self._sums)]
            while len(self._first) > _STEPS:
                del self._first[min(self._first)]

    def hold(self, row: HolderRow) -> None:
        known = self.holders.get(row.pid)
        if known is None or _newer(row, known):
            self.holders[row.pid] = row
            self.version += 1

    def forget(self, revision: int) -> None:
        """Drop what was read before `revision`."""
        self._rows = {name: row for name, row in self._rows.items() if row.revision >= revision}
        self._ids = sorted(self._rows)
        self._sums = {count: known for count, known in self._sums.items() if known[0] >= revision}
        self._first = {count: look for count, look in self._first.items() if look >= revision}
        self.holders = {pid: row for pid, row in self.holders.items() if row.revision >= revision}
        if self.row is not None and self.row.revision < revision:
            self.row = None
        self._folded = -1

    def fold(self) -> None:
        """Bring the turns up to date with the rows."""
        if self._folded < 0:
            self._begin()
        at = len(self._ids)
        while at and self._ids[at - 1] > self._folded:
            at -= 1
        for name in self._ids[at:]:
            self._fold(self._rows[name])
            self._folded = name

    @property
    def empty(self) -> bool:
        return not self._rows and self.row is None and not self.holders

    def _begin(self) -> None:
        self.turns = []
        self.last_ns = self._folded = 0
        self.version += 1
        self.begun = self.version
        self._names = CallNames(self.id)
        self._reasons = False
        self._seen: set[tuple[object, ...]] = set()
        self._book = JobBook(self.id)

    def _fold(self, row: MessageRow) -> None:
        if not row.active or row.role not in ("user", "assistant", "tool"):
            return
        same = (row.role, row.at_ns, row.text, row.tool_call_id, row.calls)
        if row.at_ns and same in self._seen:
            return  # compacting writes the newest rows again, under new ids
        self._seen.add(same)
        self.version += 1
        self.last_ns = max(self.last_ns, row.at_ns)
        if row.role == "user":
            if not row.summary and not STOPPED.fullmatch(row.text):
                self._ask(row)
            return
        self._reasons = self._reasons or bool(row.finish_reason)
        if not self.turns:
            self.turns.append(LiveTurn((self.id, row.at_ns), None, row.at_ns))
        turn = self.turns[-1]
        answered = turn.take(row, self._names, reasons=self._reasons)
        turn.version = self.version
        if answered is not None:
            self._book.answered(answered)

    def _ask(self, row: MessageRow) -> None:
        if self.turns:
            self.turns[-1].close()
            self.turns[-1].version = self.version
        self._book.told(row.text, row.at_ns)
        turn = LiveTurn((self.id, row.at_ns), row.text[:TEXT], row.at_ns, last_ns=row.at_ns)
        turn.version = self.version
        self.turns.append(turn)


class Live:
    """Every session in the records of all homes. `take` rows, then look."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], LiveSession] = {}
        self._homes: dict[str, list[str]] = {}
        self._children: dict[str, set[str]] = {}
        self._jobs: dict[tuple[str, str], JobRow] = {}
        self._notes: dict[str, HomeRow] = {}
        self._forgotten: dict[tuple[str, str | None], int] = {}

    def take(self, rows: Iterable[StateRow]) -> set[str]:
        """Fold rows in; the sessions that may have changed."""
        touched: dict[tuple[str, str], LiveSession] = {}
        changed: set[str] = set()
        for row in rows:
            if isinstance(row, Forgotten):
                changed |= self._forget(row, touched)
                continue
            if isinstance(row, JobRow):
                changed |= self._list_job(row)
                continue
            if isinstance(row, HomeRow):
                changed |= self._note_home(row)
                continue
            session = row.id if isinstance(row, SessionRow) else row.session
            if row.revision < self._gone(row.home, session):
                continue
            part = self._part(row.home, session)
            touched[row.home, session] = part
            if isinstance(row, MessageRow):
                part.take(row)
            elif isinstance(row, SessionRow):
                part.describe(row)
                if part.parent:
                    self._children.setdefault(part.parent, set()).add(session)
            else:
                part.hold(row)
        for part in touched.values():
            part.fold()
        return changed | {session for _, session in touched}

    def session(self, session: str) -> LiveSession | None:
        """The session in the home whose records of it are the newest."""
        parts = [self._parts[home, session] for home in self._homes.get(session, ())]
        return max(parts, key=lambda part: (part.heard_ns, part.home), default=None)

    def sessions(self) -> list[str]:
        """Ids of all sessions, the one heard of last first."""
        heard = {name: part.heard_ns for name in self._homes if (part := self.session(name)) is not None}
        return sorted(heard, key=lambda name: (-heard[name], name))

    def children(self, session: str) -> list[LiveSession]:
        """Its subagents' sessions, the oldest first."""
        found = [self.session(name) for name in self._children.get(session, ())]
        own = [part for part in found if part is not None and part.parent == session]
        return sorted(own, key=lambda part: (part.row.started_ns if part.row else 0, part.id))

    def below(self, session: str) -> list[LiveSession]:
        """All subagents' sessions below a session, parents first."""
        found: list[LiveSession] = []
        seen = {session}
        stack = self.children(session)[::-1]
        while stack:
            part = stack.pop()
            if part.id not in seen:
                seen.add(part.id)
                found.append(part)
                stack += self.children(part.id)[::-1]
        return found

    def jobs(self, session: str) -> list[Job]:
        """A session's background jobs, the oldest first."""
        part = self.session(session)
        rows = [row for row in self._jobs.values() if row.session == session]
        if part is None:
            return JobBook(session).jobs(rows, closed=all(self.closed(row.home) for row in rows))
        own = {row.id: row for row in rows if not self._others(row.id, part)}
        own |= {row.id: row for row in self._jobs.values() if part.owns_job(row.id)}
        return part.jobs(own.values(), closed=self.closed(part.home))

    def closed(self, home: str) -> bool:
        """Whether no program has this home's database open."""
        return home in self._notes and self._notes[home].closed

    def _others(self, job: str, part: LiveSession) -> bool:
        """Whether another session started this job: a register can name the one above a subagent's."""
        return any(other.owns_job(job) for other in self._parts.values() if other.id != part.id)

    def _part(self, home: str, session: str) -> LiveSession:
        part = self._parts.get((home, session))
        if part is None:
            part = self._parts[home, session] = LiveSession(home, session)
            self._homes.setdefault(session, []).append(home)
        return part

    def _gone(self, home: str, session: str) -> int:
        return max(self._forgotten.get((home, None), 0), self._forgotten.get((home, session), 0))

    def _list_job(self, row: JobRow) -> set[str]:
        known = self._jobs.get((row.home, row.id))
        if row.revision < self._forgotten.get((row.home, None), 0):
            return set()
        if known is not None and not _newer(row, known):
            return set()
        self._jobs[row.home, row.id] = row
        owners = {part.id for part in self._parts.values() if part.owns_job(row.id)}
        return owners | ({row.session} if row.session else set())

    def _note_home(self, row: HomeRow) -> set[str]:
        known = self._notes.get(row.home)
        if known is not None and not _newer(row, known):
            return set()
        self._notes[row.home] = row
        parts = (part for (home, _), part in self._parts.items() if home == row.home)
        changed = {job.session for job in self._jobs.values() if job.home == row.home and job.session}
        return changed | {part.id for part in parts if part.has_open}

    def _forget(self, row: Forgotten, touched: dict[tuple[str, str], LiveSession]) -> set[str]:
        name = (row.home, row.session)
        self._forgotten[name] = max(row.revision, self._forgotten.get(name, 0))
        changed = set()
        for home, session in list(self._parts):
            if home != row.home or row.session not in (None, session):
                continue
            part = self._parts[home, session]
            part.forget(row.revision)
            part.fold()
            changed.add(session)
            if part.empty:
                del self._parts[home, session]
                touched.pop((home, session), None)
                self._homes[session].remove(home)
                if not self._homes[session]:
                    del self._homes[session]
        if row.session is None:
            kept = {n: j for n, j in self._jobs.items() if n[0] != row.home or j.revision >= row.revision}
            self._jobs = kept
        return changed


def _sums(row: SessionRow) -> Sums:
    return Sums(
        row.input_tokens,
        row.output_tokens,
        row.cache_read_tokens,
        row.cache_write_tokens,
        row.reasoning_tokens,
        row.cost,
    )


_Versioned = MessageRow | SessionRow | HolderRow | JobRow | HomeRow


def _newer(row: _Versioned, known: _Versioned) -> bool:
    """A total order, so that the order of arrival does not matter."""
    return (row.revision, repr(row)) > (known.revision, repr(known))

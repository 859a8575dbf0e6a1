"""Hermes' own records folded into sessions: what was asked, what runs, what is over. Pure.

Rows may come in any order, in any portions and more than once: the result is the same. Rows that come in
the order in which Hermes wrote them cost what is new, others have their session folded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile

from hermes_tui.model.jobs import Job, JobBook
from hermes_tui.model.live_turns import STOPPED, TEXT, CallNames, LiveStep, LiveTurn, TurnKey
from hermes_tui.model.messages import Messages
from hermes_tui.model.state_rows import (
    BeforeRow,
    Forgotten,
    HolderRow,
    HomeRow,
    JobRow,
    MessageRow,
    SessionRow,
    StateRow,
)
from hermes_tui.model.sums import NOTHING, Sums, sums_of

SUBAGENT = "subagent"
_STEPS = 500  # model calls whose own tokens are kept
_TOGETHER = 2  # looks between which a model call's answer and its tokens are read


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
        self.messages = Messages()
        self._sums: dict[int, tuple[int, Sums]] = {}
        self._first: dict[int, int] = {}  # the look that first told of so many model calls
        self._looks: dict[int, list[int]] | None = None  # the same by look
        self._begin()

    @property
    def parent(self) -> str | None:
        """The session that this one is a subagent of."""
        return self.row.parent if self.row is not None and self.row.source == SUBAGENT else None

    def in_time(self) -> list[LiveTurn]:
        """The turns by when they were asked; the clock may have been set back between two of them."""
        return sorted(self.turns, key=lambda turn: turn.asked_ns) if self._back else self.turns

    def changed(self, since: int) -> list[LiveTurn]:
        """The turns that changed since it had this version, the newest first."""
        if self.begun > since:
            return self.turns[::-1]
        return list(takewhile(lambda turn: turn.version > since, reversed(self.turns)))

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
        return None if self.row is None else sums_of(self.row)

    def steps(self) -> list[Sums]:
        """Tokens and cost of each model call, the oldest first; only of calls that were seen coming."""
        known = {0: NOTHING} | {count: sums for count, (_, sums) in self._sums.items()}
        return [known[count].since(known[count - 1]) for count in sorted(known) if count - 1 in known]

    def spent(self, step: LiveStep) -> Sums | None:
        """Tokens and cost of a model call: what was first told of at the time of its answer."""
        for count in self._told_near(step.revision):
            if (sums := self._sums.get(count)) is None:
                continue
            before = self._sums.get(count - 1)
            if before is not None or count == 1:
                return sums[1].since(before[1] if before is not None else NOTHING)
        return None

    def _told_near(self, revision: int) -> Iterator[int]:
        """How many model calls there were at the looks near this one, the nearest first."""
        if self._looks is None:
            self._looks = {}
            for count, look in sorted(self._first.items()):
                self._looks.setdefault(look, []).append(count)
        for away in range(_TOGETHER + 1):
            yield from sorted(
                count for look in {revision - away, revision + away} for count in self._looks.get(look, ())
            )

    def jobs(self, listed: Iterable[JobRow] = (), *, closed: bool = False) -> list[Job]:
        """Its background jobs, the oldest first; `closed`: no Hermes has its home's database open."""
        return self._book.jobs(listed, closed=closed)

    @property
    def has_open(self) -> bool:
        """Whether a turn or a job in it may go on."""
        return bool(self.turns and not self.turns[-1].ended_ns) or bool(self._book.jobs(()))

    def owns_job(self, job: str) -> bool:
        return self._book.knows(job)

    def describe(self, row: SessionRow) -> None:
        """Take what the sessions table says."""
        if self.row is None or _newer(row, self.row):
            self.row = row
            self.version += 1
        known = self._sums.get(row.api_calls)
        self._looks = None
        self._first[row.api_calls] = min(self._first.get(row.api_calls, row.revision), row.revision)
        if known is None or (row.revision, repr(sums_of(row))) > (known[0], repr(known[1])):
            self._sums[row.api_calls] = row.revision, sums_of(row)
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
        self.messages.forget(revision)
        self._sums = {count: known for count, known in self._sums.items() if known[0] >= revision}
        self._first = {count: look for count, look in self._first.items() if look >= revision}
        self._looks = None
        self.holders = {pid: row for pid, row in self.holders.items() if row.revision >= revision}
        if self.row is not None and self.row.revision < revision:
            self.row = None

    def fold(self) -> None:
        """Bring the turns up to date with the rows."""
        if self.messages.stale:
            self._begin()
        for row, fresh in self.messages.news():
            self._fold(row, fresh)

    @property
    def empty(self) -> bool:
        return not self.messages and self.row is None and not self.holders

    def _begin(self) -> None:
        self.turns = []
        self.last_ns = 0
        self.messages.begin()
        self.version += 1
        self.begun = self.version
        self._names = CallNames(self.id)
        self._reasons = False
        self._carried: str | None = None
        self._back = False
        self._keys: set[TurnKey] = set()
        self._book = JobBook(self.id)

    def _fold(self, row: MessageRow, fresh: MessageRow | None) -> None:
        self.version += 1
        self.last_ns = max(self.last_ns, row.at_ns)
        prompt = row.role == "user" and not row.summary and not STOPPED.fullmatch(row.text)
        if fresh is None or (row.summary and row.role != "tool"):
            self._carried = row.text[:TEXT] if prompt else self._carried
            return
        if prompt:
            self._ask(row)
        if row.role == "user":
            return
        row = fresh
        self._reasons = self._reasons or bool(row.finish_reason)
        if not self.turns:
            self.turns.append(LiveTurn(self._key(row.at_ns), self._carried, row.at_ns))
        turn = self.turns[-1]
        answered = turn.take(row, self._names, reasons=self._reasons)
        turn.version = self.version
        if answered is not None:
            self._book.answered(answered)

    def _ask(self, row: MessageRow) -> None:
        if self.turns:
            self.turns[-1].close()
            self.turns[-1].version = self.version
            self._back = self._back or row.at_ns < self.turns[-1].asked_ns
        self._book.told(row.text, row.at_ns)
        turn = LiveTurn(self._key(row.at_ns), row.text[:TEXT], row.at_ns, last_ns=row.at_ns, message=row.id)
        turn.version = self.version
        self.turns.append(turn)

    def _key(self, asked_ns: int) -> TurnKey:
        """A name for a turn: when it was asked, or where a clock that was set back says the same, a moment
        later.
        """
        while (self.id, asked_ns) in self._keys:
            asked_ns += 1
        self._keys.add((self.id, asked_ns))
        return self.id, asked_ns


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
                part.messages.take(row)
            elif isinstance(row, BeforeRow):
                part.messages.goes_on(row)
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


_Versioned = SessionRow | HolderRow | JobRow | HomeRow


def _newer(row: _Versioned, known: _Versioned) -> bool:
    """A total order, so that the order of arrival does not matter."""
    return (row.revision, repr(row)) > (known.revision, repr(known))

"""What runs at this moment in every session, from Hermes' own records and the journal, as plain data."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from hermes_tui.figures import short_age, short_time
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateError
from hermes_tui.journal.reader import NoJournal, Reader
from hermes_tui.journal.records import timestamp
from hermes_tui.model.doing import Doing, State
from hermes_tui.model.joined import Joined
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.present import present
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.model.turns import SILENCE_S

WINDOW = 400  # messages of each home that a start reads
_DAY_NS = 24 * 3600 * NANOSECONDS
_SESSIONS, _TRACES = 20, 5
_ORDER = (State.APPROVAL, State.TOOL, State.MODEL, State.IDLE)

Record = dict[str, Any]


class Now(msgspec.Struct, frozen=True):
    """A session and what it does; `title` is what to call it."""

    session: str
    title: str
    doing: Doing

    def record(self, now_ns: int) -> Record:
        """The document that `now --json` prints."""
        call, since_ns = self.doing.call, self.doing.since_ns
        return {
            "session": self.session,
            "state": self.doing.state.value,
            "tool": call.tool if call is not None else None,
            "command": (call.command or call.target) if call is not None else None,
            "since": timestamp(since_ns),
            "elapsed_s": round(max(0, now_ns - since_ns) / NANOSECONDS, 3) if since_ns else None,
        }


class Present:
    """All sessions that did anything within a day. `poll`, then `sessions`; from one thread.

    `watch` None: only the journal is asked; `journal` None: only Hermes' records.
    """

    def __init__(self, watch: Watch | None, journal: Path | None) -> None:
        self.live = Live()
        self._watch = watch
        self._journal = journal
        self._reader: Reader | None = None
        self._shown: dict[str, _Shown] = {}

    def poll(self, now_ns: int) -> bool:
        """Take in what is new; whether anything was."""
        changed = self.live.take(self._watch.poll()) if self._watch is not None else set()
        spans = self._poll_journal(now_ns)
        for shown in self._shown.values():
            shown.joined.update(self.live, shown.forest, shown.dirty)
            shown.dirty = set()
        return bool(changed) or spans

    def sessions(self, now_ns: int) -> list[Now]:
        """What each session does, the most pressing first, then the newest."""
        found = []
        for name in dict.fromkeys([*self.live.sessions(), *self._shown]):
            shown, part = self._shown.get(name), self.live.session(name)
            does = present(name, self.live, shown.joined.turns if shown is not None else (), now_ns)
            if does.state is State.IDLE and now_ns - does.since_ns > _DAY_NS:
                continue
            title = part.row.title if part is not None and part.row is not None else None
            found.append(Now(name, title or _prompt(part, shown), does))
        return sorted(found, key=_by_urgency)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._watch is not None:
            self._watch.close()

    def _poll_journal(self, now_ns: int) -> bool:
        """Read the traces that something arrived for lately, when anything did."""
        try:
            if self._reader is None:
                if self._journal is None or not self._journal.exists():
                    return False
                self._reader = Reader(self._journal)
            if not self._reader.changed():
                return False
            if self._reader.stale():
                self._reader.close()
                self._reader = None
                return False
            return self._read(self._reader, now_ns)
        except NoJournal:
            return False
        except (StateError, sqlite3.Error):  # damaged, or being made anew: its relay tells the user
            if self._reader is not None:
                self._reader.close()
            self._reader = None
            return False

    def _read(self, reader: Reader, now_ns: int) -> bool:
        since_ns = now_ns - SILENCE_S * NANOSECONDS
        lately = [row for row in reader.recent_sessions(_SESSIONS) if row.received_ns >= since_ns]
        for gone in self._shown.keys() - {row.session for row in lately}:
            del self._shown[gone]
        for row in lately:
            shown = self._shown.setdefault(row.session, _Shown(row.session))
            for spans in reader.spans_of(reader.traces_of(row.session)[:_TRACES]):
                shown.forest.add(spans)
            shown.dirty |= shown.forest.refresh()
        return any(shown.dirty for shown in self._shown.values())


class _Shown:
    """The newest traces of one session."""

    def __init__(self, session: str) -> None:
        self.forest = Forest(session)
        self.joined = Joined(session)
        self.dirty: set[bytes] = set()


def _by_urgency(now: Now) -> tuple[int, int, str]:
    return _ORDER.index(now.doing.state), -now.doing.since_ns, now.session


def _prompt(part: LiveSession | None, shown: _Shown | None) -> str:
    """What to call a session that has no title: what was asked last."""
    prompts = [turn.prompt for turn in part.turns] if part is not None else []
    if shown is not None:
        prompts += [turn.prompt for turn in shown.joined.turns]
    return next((prompt for prompt in reversed(prompts) if prompt), "")


def words(does: Doing, now_ns: int) -> tuple[str, str]:
    """What is done, and for how long: in a few words each, the first not yet harmless."""
    elapsed = max(0, now_ns - does.since_ns) / NANOSECONDS
    if does.state is State.IDLE:
        if not does.since_ns:
            return "idle", ""
        return ("last seen", f"{short_age(elapsed)} ago") if does.gone else ("idle", short_age(elapsed))
    if does.state is State.MODEL:
        return "waiting for the model", short_time(elapsed)
    if (call := does.call) is None:
        return does.state.value, short_time(elapsed)
    what = f"$ {call.command}" if call.command else " ".join(filter(None, (call.tool, call.target)))
    if does.state is State.APPROVAL:
        what = f"{'waits for you' if does.certain else 'waits for you, perhaps'}: {what}"
    return what, short_time(elapsed)

"""What the user does to commands: marks them, goes through them, lists all sessions', writes them down.

Marks are shown at once and written to the desk in a thread; all sessions are read in another.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from textual.app import App

from hermes_tui import neutral
from hermes_tui.hermes.completed import outline
from hermes_tui.hermes.history import History
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watched
from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.reader import NoJournal, Reader
from hermes_tui.tui import exporting
from hermes_tui.tui.board import Board
from hermes_tui.tui.commands_outline import clock_time
from hermes_tui.tui.directory import Listed
from hermes_tui.tui.every_command import SESSIONS, EveryCommand, Group
from hermes_tui.tui.messages import CommandsRead
from hermes_tui.tui.review import UNREVIEWED, names_of
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.screens.export import ExportScreen

log = logging.getLogger(__name__)

_PART = 200  # commands of a session handed over at once …
_PAUSE_S = 0.03  # … before the pane may do something else
_TRACES = 500  # of a session that are looked at for the list of all, the newest


class Reviewing:
    """`sessions` are all there are, the newest first; `watched` are the homes of Hermes, None:
    they are left alone.
    """

    def __init__(
        self,
        app: App[Any],
        board: Board,
        state: StateDir,
        sessions: Callable[[], list[Listed]],
        watched: Callable[[], list[Watched] | None],
    ) -> None:
        self._app = app
        self._board = board
        self._listing = board.listing
        self._state = state
        self._sessions = sessions
        self._watched = watched
        self._pending: dict[RowKey, bool] = {}
        self._made = 0
        self._guard = threading.Lock()  # of what is pending
        self._writing = threading.Lock()
        self._reading = threading.Event()
        self._coming: EveryCommand | None = None  # read anew, to be listed once it is whole
        self._known: list[Listed] = []  # the sessions when they were last read
        self._acts: dict[str, Callable[[], None]] = {
            "mark": self._mark,
            "next": self._next,
            "filter": self._filter,
            "scope": self._scope,
            "export": self._ask_form,
        }

    def look(self) -> None:
        """Have the marks on the desk read: those of earlier days, and other panes'; and the commands of all
        sessions anew where they are listed and something happened since.
        """
        self._app.run_worker(self._load(), name="marks", group="marks", exclusive=True)
        every = self._listing.every
        if every is not None and every.complete and self._sessions() != self._known:
            self._coming = self._gather()

    def stop(self) -> None:
        """End what runs, and write what is still to be written."""
        self._reading.set()
        try:
            self._save()
        except StateError as error:
            log.warning("marks of reviewed commands are lost: %s", error)

    def asked(self, what: str) -> None:
        """The user wants something of the commands: mark, next, filter, scope or export."""
        self._acts[what]()

    # --- marks

    async def _load(self) -> None:
        before = -1
        while before != self._made:  # a mark made meanwhile may be in neither
            before = self._made
            try:
                marks = await asyncio.to_thread(_marks, self._state)
            except StateError as error:
                self._say(str(error), wrong=True)
                return
        with self._guard:
            marks |= {name for name, reviewed in self._pending.items() if reviewed}
            marks -= {name for name, reviewed in self._pending.items() if not reviewed}
        changed = marks ^ self._listing.review.marks
        if changed:
            self._listing.review.marks = marks
            self._listing.remark(list(changed))

    def _mark(self) -> None:
        key = self._listing.rows.cursor
        names = self._names(key) if key is not None else ()
        if not names:
            self._say("Marks are for commands.")
            return
        reviewed = not self._listing.review.has(names)
        self._listing.review.mark(names, reviewed=reviewed)
        self._listing.remark(names)
        self._made += 1
        with self._guard:
            self._pending.update(dict.fromkeys(names, reviewed))
        self._app.run_worker(self._keep(), name="mark")

    def settle(self) -> None:
        """Keep marks under the names that calls have got since, such as those of their spans."""
        if not self._listing.review.learned:
            return
        self._made += 1
        with self._guard:
            self._pending.update(dict.fromkeys(self._listing.review.learned, True))
        self._listing.review.learned.clear()
        self._app.run_worker(self._keep(), name="mark")

    def _names(self, key: RowKey) -> tuple[RowKey, ...]:
        """All that a command is called, in either list."""
        item = self._board.shown.find(key).item
        names = names_of(item) if item is not None else ()
        if self._listing.every is not None:
            return tuple(dict.fromkeys((*self._listing.every.names(key), *names)))
        return names

    async def _keep(self) -> None:
        try:
            await asyncio.to_thread(self._save)
        except StateError as error:
            self._say(f"The mark is not kept: {error}", wrong=True)

    def _save(self) -> None:
        """Write all marks that are to be written, in any thread; the last word on a call stays the last."""
        with self._writing:
            with self._guard:
                pending = dict(self._pending)
            if not pending:
                return
            with Desk(self._state) as desk:
                for reviewed in (True, False):
                    names = [name for name, wanted in pending.items() if wanted is reviewed]
                    if names:
                        desk.review(names, reviewed=reviewed)
            with self._guard:
                for name, reviewed in pending.items():
                    if self._pending.get(name) is reviewed:
                        del self._pending[name]

    # --- which are listed

    def _next(self) -> None:
        if not self._listing.rows.next_with(UNREVIEWED):
            self._say("All that are listed are reviewed.")

    def _filter(self) -> None:
        self._listing.review.cycle()
        self._listing.sift()

    def _scope(self) -> None:
        self._reading.set()
        if self._listing.every is not None:
            self._listing.show_every(None)
            return
        self._listing.show_every(self._gather())

    def _gather(self) -> EveryCommand:
        """Begin to read the commands of all sessions."""
        self._reading.set()
        self._coming = None
        every = EveryCommand(self._board.glyphs, self._listing.review, clock_time(time.time_ns())[:5])
        self._reading = threading.Event()
        self._known = self._sessions()
        wanted = [(each.session, each.title) for each in self._known[: SESSIONS + 1]]
        every.cut = len(wanted) > SESSIONS
        work = asyncio.to_thread(self._read, every, wanted[:SESSIONS], self._homes(), self._reading)
        self._app.run_worker(work, name="every-command")
        return every

    def read(self, message: CommandsRead) -> None:
        """Some more of all sessions' commands were read."""
        every = next(
            (each for each in (self._listing.every, self._coming) if id(each) == message.list_id), None
        )
        if every is None:
            return  # nobody waits for them any more
        if message.group is not None:
            every.add(message.group)
        if every.full and not message.complete:
            every.cut = True
            self._reading.set()
        every.complete |= message.complete or every.full
        if message.trouble:
            self._say(message.trouble, wrong=True)
        if every is self._coming and every.complete and self._listing.every is not None:
            self._coming = None
            self._listing.renew(every)
        self._listing.changed()

    def _read(
        self,
        every: EveryCommand,
        wanted: Sequence[tuple[str, str]],
        homes: Sequence[Home] | None,
        stop: threading.Event,
    ) -> None:
        """In a thread: the commands of some sessions, one after the other."""
        trouble, told = "", 0
        try:
            with _reader(self._state.journal) as reader:
                for session, title in wanted:
                    if stop.is_set():
                        return
                    history = History(homes) if homes is not None else None
                    found = outline(reader, history, session, traces=_TRACES)
                    newest = found[::-1]
                    for at in range(0, len(newest), _PART):
                        some = Group(session, title, newest[at : at + _PART])
                        self._app.post_message(CommandsRead(id(every), some))
                        told += len(some.commands)
                        if told >= _PART:
                            told = 0
                            if stop.wait(_PAUSE_S):
                                return
        except (StateError, sqlite3.Error) as error:
            trouble = f"cannot read the journal: {error}"
        self._app.post_message(CommandsRead(id(every), complete=True, trouble=trouble))

    def _homes(self) -> list[Home] | None:
        watched = self._watched()
        return None if watched is None else [each.home for each in watched]

    # --- writing them down

    def _ask_form(self) -> None:
        every = self._listing.every
        count = len(self._board.shown.commands) if every is None else every.listed
        if not count:
            self._say("No commands are listed.")
            return
        title = f"Export {count:,} command{'s' if count != 1 else ''} as"
        self._app.push_screen(ExportScreen(title), self._export)

    def _export(self, form: str | None) -> None:
        if form is None:
            return
        shown, name = self._board.shown, self._listing.review.filter.name
        keys = frozenset(self._listing.rows.source.keys())
        sessions = [shown.id] if self._listing.every is None else self._listing.every.sessions()
        stem = f"hermes-commands-{'all' if self._listing.every is not None else shown.id[:40]}"
        stem += f"-{name}" if name != "all" else ""
        self._app.run_worker(self._write(form, stem, sessions, keys), name="export")

    async def _write(self, form: str, stem: str, sessions: list[str], keys: frozenset[RowKey]) -> None:
        homes = self._homes()
        try:
            found = await asyncio.to_thread(exporting.collect, self._state.journal, homes, sessions, keys)
            path = await asyncio.to_thread(exporting.write, found, form, stem, Path.cwd())
        except (OSError, StateError, sqlite3.Error) as error:
            self._say(f"Nothing was written: {error}", wrong=True)
            return
        self._say(f"{len(found):,} command{'s' if len(found) != 1 else ''} in {path}", timeout=10)

    def _say(self, text: str, *, wrong: bool = False, timeout: float = 3) -> None:
        self._app.notify(
            neutral.line(text),
            severity="warning" if wrong else "information",
            timeout=10 if wrong else timeout,
            markup=False,
        )


def _marks(state: StateDir) -> set[RowKey]:
    if not state.desk.exists():
        return set()
    with Desk(state) as desk:
        return desk.reviewed()


def _reader(journal: Path) -> AbstractContextManager[Reader | None]:
    try:
        return Reader(journal)
    except NoJournal:
        return nullcontext()

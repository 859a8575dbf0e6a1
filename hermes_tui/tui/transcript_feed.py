"""A thread that reads the texts of a transcript's entries and lays them out, for what is near the view."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from textual.message import Message

from hermes_tui import narrative
from hermes_tui.hermes.history import History
from hermes_tui.hermes.state_db import Watch
from hermes_tui.hermes.transcript import transcript
from hermes_tui.hermes.whole import Texts, read_whole
from hermes_tui.journal.reader import NoJournal, Reader
from hermes_tui.model.transcript import Entry
from hermes_tui.tui.script import Place
from hermes_tui.tui.transcript_lines import Look, Parts, entry_lines

log = logging.getLogger(__name__)

_TOGETHER = 12  # entries that are read at once: the screen should not wait for those beyond it
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_NAMES = 1_000


class Wanted(NamedTuple):
    """An entry that is to be read and laid out."""

    place: Place
    entry: Entry
    look: Look
    number: int
    state: str


@dataclass
class TranscriptRead(Message):
    """Entries of a transcript, and their lines."""

    found: list[tuple[Wanted, tuple[Parts, ...]]]


class TranscriptFeed:
    """Reads what was wanted last; `post` may be called from its thread, which begins with the first wish."""

    def __init__(self, journal: Path, watch: Watch | None, post: Callable[[Message], object]) -> None:
        self._journal = journal
        self._watch = watch
        self._post = post
        self._wanted: Sequence[Wanted] = ()
        self._changed = threading.Condition()
        self._stopped = False
        self._reader: Reader | None = None
        self._thread: threading.Thread | None = None

    def want(self, wanted: Sequence[Wanted]) -> None:
        """Read these, the first ones first; what was wanted before and is not any more is left."""
        with self._changed:
            self._wanted = wanted
            self._changed.notify()
        if wanted and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="transcript-feed", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._wanted)
                    if self._stopped:
                        return
                    some, self._wanted = self._wanted[:_TOGETHER], self._wanted[_TOGETHER:]
                self._post(TranscriptRead(self._lay_out(some)))
        finally:
            if self._reader is not None:
                self._reader.close()

    def _lay_out(self, some: Sequence[Wanted]) -> list[tuple[Wanted, tuple[Parts, ...]]]:
        texts = {}
        try:
            texts = read_whole(self._open(), self._watch, [each.entry for each in some])
        except Exception:
            # Others' data and files: whatever is wrong with them must not end the reading.
            log.exception("reading a transcript's texts failed; what is known without them is shown")
        return [
            (
                each,
                entry_lines(
                    each.entry,
                    texts.get(each.entry.key) or Texts(each.entry.text or None),
                    each.look,
                    number=each.number,
                    state=each.state,
                ),
            )
            for each in some
        ]

    def _open(self) -> Reader | None:
        """None while nothing was ever received."""
        if self._reader is not None and self._reader.stale():
            self._reader.close()
            self._reader = None
        if self._reader is None:
            try:
                self._reader = Reader(self._journal)
            except NoJournal:
                return None
        return self._reader

    def export(self, session: str, folder: Path) -> Path:
        """Write a session's transcript as Markdown into a new file of this folder; blocks until it is done.

        Raises OSError, StateError or sqlite3.Error.
        """
        homes = [each.home for each in self._watch.watched()] if self._watch is not None else []
        history = History(homes) if homes else None
        try:
            reader = Reader(self._journal)
        except NoJournal:
            return _write(session, folder, None, history)
        with reader:
            return _write(session, folder, reader, history)


def _write(session: str, folder: Path, reader: Reader | None, history: History | None) -> Path:
    path, descriptor = _new_file(folder, _NOT_IN_NAMES.sub("-", session)[:80].strip("-.") or "session")
    with open(descriptor, "w", encoding="utf-8") as file:
        for line in narrative.markdown(session, transcript(reader, history, session)):
            file.write(f"{line}\n")
    return path


def _new_file(folder: Path, name: str) -> tuple[Path, int]:
    """A file of a name that was free, for its owner alone."""
    for number in range(1, _NAMES):
        path = folder / f"transcript-{name}{f'-{number}' if number > 1 else ''}.md"
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
    raise FileExistsError(f"there are {_NAMES} files named transcript-{name} in {folder}")

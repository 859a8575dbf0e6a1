"""A whole session as a transcript: every entry with its texts, for commands and for files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hermes_tui.hermes.history import History
from hermes_tui.hermes.whole import Texts, portions, read_whole
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.records import timestamp
from hermes_tui.model.changes import read_change
from hermes_tui.model.joined import Joined, JoinedTurn
from hermes_tui.model.live import Live
from hermes_tui.model.live_turns import LiveCall
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.model.transcript import Entry, Said, entries_of, trouble

_TOGETHER = 50  # entries whose texts are in memory

Record = dict[str, Any]


class _Kept:
    """Hermes' records of sessions that were read whole."""

    def __init__(self, history: History, live: Live, sessions: set[str]) -> None:
        parts = [part for name in sessions if (part := live.session(name)) is not None]
        calls = [call for part in parts for turn in part.turns for call in turn.calls]
        self._calls: dict[tuple[str, str, int], LiveCall] = {
            (call.session, call.id, call.asked_ns): call for call in calls
        }
        said = {(turn.session, turn.message) for part in parts for turn in part.turns if turn.message}
        said |= {
            (turn.session, step.message)
            for part in parts
            for turn in part.turns
            for step in turn.steps
            if step.size
        }
        self._messages = history.messages(sorted(said))

    def message(self, session: str, message: int) -> str | None:
        return self._messages.get((session, message))

    def arguments(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        found = self._calls.get((session, call, asked_ns))
        return found.arguments or None if found is not None else None

    def result(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        found = self._calls.get((session, call, asked_ns))
        return found.result if found is not None else None


def transcript(reader: Reader | None, history: History | None, session: str) -> Iterator[Record]:
    """All entries of a session with its subagents, the oldest first. `reader` None: nothing was received
    yet; `history` None: Hermes' records are left alone.
    """
    live, kept = Live(), None
    if history is not None:
        sessions = history.find({session}, subagents=True)
        live = history.live()
        kept = _Kept(history, live, sessions)
    turns = _turns(reader, live, session)
    for number, turn in enumerate(turns, 1):
        for some in portions(entries_of(turn, session), _TOGETHER):
            texts = read_whole(reader, kept, [entry for entry in some if not entry.whole])
            for entry in some:
                found = texts.get(entry.key, Texts())
                if entry.whole or entry.sure or found.text:
                    yield _record(number, entry, found, session)


def _turns(reader: Reader | None, live: Live, session: str) -> list[JoinedTurn]:
    forest = Forest(session)
    if reader is not None:
        for spans in reader.spans_of(reader.traces_of(session)):
            forest.add(spans)
    joined = Joined(session)
    joined.update(live, forest, forest.refresh())
    return joined.turns


def _record(number: int, entry: Entry, texts: Texts, session: str) -> Record:
    item, span = entry.item, entry.span
    text, output = texts.text if texts.text is not None else entry.text, texts.result
    error = texts.error if entry.kind is Said.COMMAND else trouble(entry)
    added = removed = None
    if entry.kind is Said.CHANGE:
        change = read_change(texts.text, texts.result)
        text, output = change.path or entry.text, "\n".join(change.lines)
        added, removed = change.added, change.removed
        error = change.error or error
    return {
        "session": entry.session or session,
        "turn": number,
        "kind": entry.kind.value,
        "depth": entry.depth,
        "started": timestamp(item.start_ns if item is not None else entry.at_ns),
        "duration_s": entry.took_ns / NANOSECONDS if entry.took_ns else None,
        "tool": item.tool if item is not None else None,
        "text": text or None,
        "output": output if entry.kind in (Said.COMMAND, Said.CHANGE) else None,
        "error": error,
        "exit_code": item.exit_code if item is not None else None,
        "outcome": item.outcome if item is not None else None,
        "lines_added": added,
        "lines_removed": removed,
        "truncated": texts.cut,
        "trace": span.trace_id.hex() if span is not None else None,
        "span": span.span_id.hex() if span is not None else None,
    }

"""A thread that looks for a text in the session that is shown: rows first, then all that lies behind them.

Newest first, and a new question ends the one before. It yields often, so that keys are drawn meanwhile.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import msgspec
from textual.message import Message

from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateError
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.searching import Found, in_request, in_row
from hermes_tui.model.joined import AnyTurnKey, Item, JoinedTurn, Source
from hermes_tui.model.needle import Needle
from hermes_tui.model.span import Span
from hermes_tui.model.tree import TraceTree
from hermes_tui.tui.messages import HitsFound
from hermes_tui.tui.rows import RowKey, agent_key, item_key, turn_keys

log = logging.getLogger(__name__)

LIMIT = 2_000
"""Hits after which a search ends."""

_BYTES = 1 << 29  # of stored requests that one search reads
_WHOLES = 500  # results that one search has Hermes' records asked for
_SLICE_S = 0.002  # of work between two pauses …
_PAUSE_S = 0.001  # … in which others run
_TELL_S = 0.05


class Recorded(NamedTuple):
    """What Hermes' records say of one row: in the row, behind it, and where the whole of it is to be had.

    `same`: as it was when it was looked at before.
    """

    key: RowKey
    row: str = ""
    behind: str = ""
    whole: tuple[str, str, int] | None = None
    same: bool = False


class Quest(msgspec.Struct, frozen=True):
    """A text to find in the spans of these trees, and in these turns' records."""

    serial: int
    needle: Needle
    trees: list[TraceTree]
    turns: list[JoinedTurn]


class _State(msgspec.Struct):
    """How far a quest has come, and what is to be told."""

    quest: Quest
    hits: set[tuple[bytes, bytes]] = msgspec.field(default_factory=set)
    found: list[Found] = msgspec.field(default_factory=list)
    history: list[Found] = msgspec.field(default_factory=list)
    records: dict[AnyTurnKey, dict[RowKey, str]] = msgspec.field(default_factory=dict)
    turns: dict[AnyTurnKey, JoinedTurn] = msgspec.field(default_factory=dict)
    wholes: dict[tuple[str, str, int], bool] = msgspec.field(default_factory=dict)
    recorded: int = 0
    read: int = 0
    bounded: bool = False
    rows: bool = False
    told_s: float = 0.0

    @property
    def full(self) -> bool:
        return len(self.hits) + self.recorded >= LIMIT or self.read >= _BYTES


class _Ended(Exception):
    """Another question came."""


class Scanner:
    """`post` takes its messages and is called from its thread, which starts with the first question."""

    def __init__(self, path: Path, post: Callable[[Message], object], watch: Watch | None = None) -> None:
        self._path = path
        self._post = post
        self._watch = watch
        self._wake = threading.Condition()
        self._quest: Quest | None = None
        self._more: deque[tuple[list[Span], list[JoinedTurn]]] = deque()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def ask(self, quest: Quest | None) -> None:
        """Look for this from now on; None: for nothing."""
        with self._wake:
            self._quest = quest
            self._more.clear()
            self._wake.notify()
        if self._thread is None and quest is not None:
            self._thread = threading.Thread(target=self._run, name="search", daemon=True)
            self._thread.start()

    def also(self, spans: list[Span], turns: list[JoinedTurn]) -> None:
        """Look in these too: they came, or changed."""
        with self._wake:
            self._more.append((spans, turns))
            self._wake.notify()

    def stop(self) -> None:
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    # --- its thread

    def _run(self) -> None:
        state: _State | None = None
        while True:
            with self._wake:
                while not self._stopped and not self._more and self._asked(state):
                    self._wake.wait()
                if self._stopped:
                    return
                quest = self._quest
                more = None if not self._asked(state) or not self._more else self._more.popleft()
            if quest is None:
                state = None
                continue
            try:
                if state is None or state.quest is not quest:
                    state = _State(quest)
                    self._search(state, _newest_first(quest.trees), quest.turns[::-1])
                elif more is not None and state.bounded:
                    self._tell(state, done=True)  # it has enough
                elif more is not None:
                    self._search(state, [more[0]], more[1])
            except _Ended:
                continue

    def _asked(self, state: _State | None) -> bool:
        """Whether what is asked for has been answered."""
        return (state.quest if state is not None else None) is self._quest

    def _search(self, state: _State, traces: Sequence[Sequence[Span]], turns: Sequence[JoinedTurn]) -> None:
        work = self._work(state, traces, turns)
        try:
            self._in_slices(state, work)
        except (StateError, sqlite3.Error):
            # What a row shows is found all the same; a journal that is being replaced comes again whole.
            log.exception("searching the journal failed")
            state.bounded = True
        if not state.hits and not state.recorded:
            state.found += state.history
            state.hits.update(each[:2] for each in state.history)
        state.rows = True
        self._tell(state, done=True)

    def _in_slices(self, state: _State, work: Iterator[None]) -> None:
        until = time.monotonic() + _SLICE_S
        for _ in work:
            if state.full:
                state.bounded = True
                return
            now = time.monotonic()
            if now < until:
                continue
            if now >= state.told_s + _TELL_S:
                self._tell(state, done=False)
            with self._wake:
                if not self._stopped and self._asked(state):
                    self._wake.wait(_PAUSE_S)
                if self._stopped or not self._asked(state):
                    raise _Ended
            until = time.monotonic() + _SLICE_S

    def _work(
        self, state: _State, traces: Sequence[Sequence[Span]], turns: Sequence[JoinedTurn]
    ) -> Iterator[None]:
        """A search in small steps."""
        needle = state.quest.needle
        requests: dict[int, list[Span]] = {}
        for spans in traces:
            for span in spans:
                if in_row(needle, span):
                    self._take(state, [Found(span.trace_id, span.span_id)])
                else:
                    requests.setdefault(span.request, []).append(span)
            yield
        yield from self._in_records(state, turns)
        state.rows = True
        self._tell(state, done=False)
        yield from self._in_requests(state, requests)
        yield from self._in_wholes(state, turns)

    def _in_requests(self, state: _State, requests: dict[int, list[Span]]) -> Iterator[None]:
        with Reader(self._path) as reader:
            for number in sorted(requests, reverse=True):
                found, size = in_request(reader, number, requests[number], state.quest.needle)
                state.read += size
                self._take(state, found)
                yield

    def _in_records(self, state: _State, turns: Sequence[JoinedTurn]) -> Iterator[None]:
        """What is at hand of Hermes' records, which shorten long texts."""
        needle = state.quest.needle
        for turn in turns:
            before, state.turns[turn.key] = state.turns.get(turn.key), turn
            known = {id(item) for item in before.items} if before is not None else set()
            known_hits, found = state.records.get(turn.key, {}), dict[RowKey, str]()
            for each in recorded(turn, known):
                if each.same:
                    found.update({each.key: known_hits[each.key]} if each.key in known_hits else {})
                elif needle.within(each.row):
                    found[each.key] = ""
                elif needle.within_value(each.behind):
                    found[each.key] = "records"
            self._note(state, turn, found)
            yield

    def _in_wholes(self, state: _State, turns: Sequence[JoinedTurn]) -> Iterator[None]:
        """Whole results, of calls whose spans lack them."""
        if self._watch is None:
            return
        for turn in turns:
            found = dict(state.records.get(turn.key, {}))
            for each in recorded(turn):
                if each.whole is None or each.key in found:
                    continue
                if each.whole not in state.wholes:
                    if len(state.wholes) >= _WHOLES:
                        state.bounded = True
                        return
                    text = self._watch.result(*each.whole)
                    state.wholes[each.whole] = text is not None and state.quest.needle.within_value(text)
                    yield
                if state.wholes[each.whole]:
                    found[each.key] = "output"
            self._note(state, turn, found)

    def _take(self, state: _State, found: Sequence[Found]) -> None:
        for each in found:
            if each.history:
                if len(state.history) < LIMIT:
                    state.history.append(each)
            else:
                state.hits.add(each[:2])
                state.found.append(each)

    def _note(self, state: _State, turn: JoinedTurn, found: dict[RowKey, str]) -> None:
        before = state.records.get(turn.key, {})
        if found != before:
            state.recorded += len(found) - len(before)
            state.records[turn.key] = found

    def _tell(self, state: _State, *, done: bool) -> None:
        found, state.found = state.found, []
        state.told_s = time.monotonic()
        with self._wake:
            done = done and not self._more
        message = HitsFound(
            state.quest.serial, found, dict(state.records), rows=state.rows, done=done, bounded=state.bounded
        )
        self._post(message)


def _newest_first(trees: list[TraceTree]) -> list[list[Span]]:
    """The spans of each trace, those of the trace that began to arrive last first. The trees grow meanwhile:
    a list of a dict's values is made at one go, and what comes later is searched on its own.
    """
    found = [[node.span for node in list(tree.nodes.values()) if node.span is not None] for tree in trees]
    return sorted((spans for spans in found if spans), key=lambda spans: spans[0].request, reverse=True)


def recorded(turn: JoinedTurn, known: Set[int] = frozenset()) -> Iterator[Recorded]:
    """What Hermes' records tell of a turn that its spans do not, or may have cut; `known` are the ids of
    items that were looked at before.
    """
    if turn.live is not None and turn.prompt:
        yield Recorded(turn_keys(turn)[0], turn.prompt)
    for agent in turn.agents:
        yield Recorded(agent_key(agent.key), agent.prompt or "")
    for item in turn.items:
        if item.span is not None and item.full is None:
            continue
        if id(item) in known:
            yield Recorded(item_key(item), whole=_whole(item), same=True)
            continue
        row = "\n".join([text for text in (item.tool, item.command, item.target) if text])
        behind = "\n".join([text for text in (item.arguments, item.result) if text])
        yield Recorded(item_key(item), row, behind, _whole(item))


def _whole(item: Item) -> tuple[str, str, int] | None:
    """Where the whole result of a call is to be had, when what is at hand of it may be cut."""
    if item.full is not Source.STATE or not item.id or not (item.span is None or item.truncated):
        return None
    return item.session, item.id, item.asked_ns

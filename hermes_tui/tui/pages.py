"""The details pages: what the journal says of one span or turn, read when somebody looks at it."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.delivery import Mark, mark_of, told
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.reader import Reader
from hermes_tui.model.compare import Difference, differences
from hermes_tui.model.conventions import model_texts, tool_texts
from hermes_tui.model.jobs import Job, read_job
from hermes_tui.model.joined import Item, Source
from hermes_tui.model.live_turns import LiveCall
from hermes_tui.model.span import Outcome, Span
from hermes_tui.model.turns import TraceView, is_command
from hermes_tui.tui.describe import describe, differing
from hermes_tui.tui.describe_record import Record, describe_record
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.shown import Subject

if TYPE_CHECKING:
    from hermes_tui.otlp.codec import Detail


class Pages:
    """Makes pages with a reader of its own, which follows the journal when that is replaced."""

    def __init__(self, state: StateDir, glyphs: Glyphs, watch: Watch | None = None) -> None:
        self._state = state
        self._glyphs = glyphs
        self._watch = watch
        self._reader: Reader | None = None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def page(
        self, key: RowKey, subject: Subject, view: TraceView | None, moment: Moment, *, full: bool
    ) -> Text:
        """The page of a row; without a span: it has not come, or belongs to a session that is not shown."""
        try:
            return self._page(key, subject, view, moment, full=full)
        except (StateError, sqlite3.Error) as error:
            return Text(f"cannot read the journal: {error}", "red")

    def _page(
        self, key: RowKey, subject: Subject, view: TraceView | None, moment: Moment, *, full: bool
    ) -> Text:
        span, turn = subject.span, subject.turn
        if key[2] == "session":
            return Text("A session. Enter shows it.", "dim")
        record = self._record(subject)
        head = key[2] == "asked" or (key[2] == "turn" and turn is not None and turn.live is not None)
        if span is None and (key[2] not in ("turn", "span") or subject.item is not None or head):
            return describe_record(subject, record, moment, glyphs=self._glyphs, full=full, head=head)
        reader = self._open()
        found = differing_turn(reader, key, view, moment.now_ns)
        if span is None and key[2] == "span":
            span = reader.span(*key[:2])
        if span is None:
            what = "This turn's own span" if key[2] == "turn" else "This span"
            text = Text(f"{what} has not arrived yet; its children have.\n", "dim")
            return Text.assemble(text, "\n" if found else "", differing(found, self._glyphs))
        detail, mark = self._read(reader, span)
        return describe(
            span, detail, turn.turn if turn is not None else None, glyphs=self._glyphs, full=full, mark=mark,
            differences=found, item=subject.item, record=record,
            whys=_whys(span, subject.item, moment), job=self._job(subject, moment),
            noted=moment.live.session(moment.session) if key[2] == "turn" else None,
        )  # fmt: skip

    def source(self, subject: Subject) -> tuple[dict[str, Any], Record]:
        """Every word of a row's span, and what is known of its call from elsewhere. Raises as `Reader`."""
        span, record = subject.span, self._record(subject)
        found = self._read(self._open(), span)[0] if span is not None else None
        return ({} if found is None else found.attributes), record

    def _job(self, subject: Subject, moment: Moment) -> Job | None:
        """The background job that a command started, by Hermes' records or by the spans of later calls."""
        item = subject.item
        if item is None or item.outcome is not Outcome.BACKGROUND:
            return None
        return moment.job(item) or read_job(
            item.session, self._call(item), [self._call(each) for each in subject.polls]
        )

    def _call(self, item: Item) -> LiveCall:
        """A call with its whole texts, as Hermes would have noted it."""
        attributes, record = self.source(Subject(item.span, item=item))
        arguments, result = tool_texts(attributes)
        return LiveCall(
            (item.session, item.id), item.id, item.tool, record.arguments or arguments or "", item.start_ns,
            command=item.command, ended_ns=item.end_ns, result=record.result or result, outcome=item.outcome,
        )  # fmt: skip

    def route(self, trace_id: bytes) -> dict[str, str]:
        """The headers that the sender of a trace wants to be sent on; none of them is a credential."""
        rows = self._open().rows(
            "SELECT routes.headers FROM spans JOIN requests ON requests.id = spans.request "
            "JOIN routes ON routes.id = requests.route WHERE spans.trace_id = ? LIMIT 1",
            (trace_id,),
        )
        return (
            {str(name).lower(): str(value) for name, value in json.loads(rows[0][0]).items()} if rows else {}
        )

    def _record(self, subject: Subject) -> Record:
        """What a call was given and gave, by the best source there is."""
        item = subject.item
        if item is None:
            return Record()
        arguments = result = None
        if self._watch is not None and item.id and Source.STATE in item.sources:
            arguments = self._watch.arguments(item.session, item.id, item.asked_ns)
            result = self._watch.result(item.session, item.id, item.asked_ns)
        if result is not None:
            return Record(arguments or item.arguments, result, Source.STATE)
        if item.answered_by is not None:
            told = self._told(item)
            return Record(arguments or item.arguments, told or item.result, Source.MODEL)
        return Record(arguments or item.arguments, item.result, Source.STATE if item.result else None)

    def _told(self, item: Item) -> str | None:
        """The whole result of a call, as the next model call's span has it."""
        assert item.answered_by is not None
        reader = self._open()
        span = reader.span(*item.answered_by)
        found = next(iter(reader.details([span])), None) if span is not None else None
        return None if found is None else model_texts(found[1].attributes)[1].get(item.id)

    def _open(self) -> Reader:
        if self._reader is not None and self._reader.stale():
            self.close()
        if self._reader is None:
            self._reader = Reader(self._state.journal)
        return self._reader

    def _read(self, reader: Reader, span: Span) -> tuple[Detail | None, Mark]:
        found = next(iter(reader.details([span])), None)
        return (None if found is None else found[1]), mark_of(reader, span)


def _whys(span: Span, item: Item | None, moment: Moment) -> tuple[str, ...]:
    """Why a command deserves a look."""
    if item is not None:
        return moment.whys(item)
    return moment.flags.whys(span.command, span.cwd) if is_command(span) else ()


def differing_turn(reader: Reader, key: RowKey, view: TraceView | None, now_ns: int) -> list[Difference]:
    """What MLflow says otherwise of a turn's trace; nothing for rows that are no turns."""
    if key[2] != "turn" or view is None:
        return []
    record = told(reader, [key[0]]).get(key[0])
    return [] if record is None else differences(view, record, now_ns)

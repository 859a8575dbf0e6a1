"""The terminal commands of sessions, each once, told by whoever knows: spans, the spans of model calls that
were given their results, and Hermes' own records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermes_tui.hermes.history import History
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.records import timestamp, views
from hermes_tui.model.asked import ARGUMENTS
from hermes_tui.model.calls import all_calls, recorded
from hermes_tui.model.conventions import model_texts, short_command, tool_texts
from hermes_tui.model.live import LiveSession
from hermes_tui.model.live_turns import LiveCall
from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.results import COMMAND_TOOLS, Call, read_call, read_object
from hermes_tui.model.shares import Placed
from hermes_tui.model.span import FAILURES, NANOSECONDS, Outcome, Role, Span, Status
from hermes_tui.model.turns import is_command
from hermes_tui.model.works import Item, Source

_MOVED = "<persisted-output>"  # before what Hermes says in place of a result that is too long for its model

Record = dict[str, Any]


def commands(
    reader: Reader | None, history: History | None, session: str | None, *, failed: bool = False
) -> list[Record]:
    """The terminal commands of a session (None: of all in the journal), oldest first, with their whole
    known text. `reader` None: nothing was received yet; `history` None: Hermes' records are left alone.
    """
    spans = _read_spans(reader, session) if reader is not None else {}
    found: list[Command] = []
    for name, records in _with_records(history, spans, session):
        known = _commands_of(name, spans.get(name) or _Spans(), records)
        found += (each for each in known if not failed or each.outcome in FAILURES)
    return told(reader, found)


def told(reader: Reader | None, found: Iterable[Command]) -> list[Record]:
    """The documents of commands, oldest first, with their whole known text."""
    found = list(found)
    if reader is not None:
        _read_texts(reader, found)
    return [each.record() for each in sorted((each for each in found if each.known), key=_order)]


def outline(
    reader: Reader | None, history: History | None, session: str, *, traces: int | None = None
) -> list[Command]:
    """The commands of a session and its subagents, oldest first, as far as rows tell of them; `told` reads
    the rest. Of more `traces` than these only the newest are looked at.
    """
    spans: dict[str, _Spans] = {}
    if reader is not None:
        spans = _read_spans(reader, None, reader.traces_of(session)[:traces])
    found: list[Command] = []
    wanted = {session, *(name for name, some in spans.items() if some.tools)}
    for name, records in _with_records(history, spans, None, wanted):
        found += _commands_of(name, spans.get(name) or _Spans(), records)
    return sorted(found, key=_order)


@dataclass(slots=True)
class _Spans:
    """What the journal has of a session: its commands' spans, and those of model calls that tell of calls."""

    tools: list[Placed] = field(default_factory=list)
    models: dict[SpanKey, Placed] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the model calls have nothing to add: to join them takes longer than to see that."""
        if not self.models:
            return True
        ids = {span.call_id for span, _ in self.tools}
        asked = (call for span, _ in self.models.values() for call in span.calls or ())
        return not any(_lacks(span) for span, _ in self.tools) and all(
            name in ids for name, tool, _ in asked if tool in COMMAND_TOOLS
        )


@dataclass(slots=True)
class Command:
    """One command, by its span, by what else is known of it (`item`), or both; `live` is Hermes' record.

    `own` is what its own span tells, `asked` and `answered` the whole arguments and the whole result in
    the spans `wants` of model calls. `timed`: it is known when it began.
    """

    session: str
    span: Span | None
    begun_ns: int
    timed: bool = True
    item: Item | None = None
    live: LiveCall | None = None
    wants: Sequence[Span] = ()
    texts: tuple[str | None, str | None, str | None] = (None, None, None)
    said: str | None = None
    own: Call | None = None
    asked: str | None = None
    answered: str | None = None
    folder: str | None = None

    @property
    def text(self) -> str | None:
        """Its command as far as rows tell, perhaps cut."""
        said = self.item.command if self.item is not None else None
        return said or (self.span.command if self.span is not None else None)

    @property
    def tool(self) -> str | None:
        span = self.span
        return span.tool if span is not None else self.item.tool if self.item is not None else None

    @property
    def cwd(self) -> str | None:
        """Where it ran: as it was told, else where its session works (`folder`)."""
        said = self.item.cwd if self.item is not None else self.span and self.span.cwd
        return said or self.folder

    @property
    def exit_code(self) -> int | None:
        if self.item is not None:
            return self.item.exit_code
        return self.span.exit_code if self.span is not None else None

    @property
    def outcome(self) -> str:
        said = self.item.outcome if self.item is not None else self.span and self.span.outcome
        return said or Outcome.UNKNOWN

    @property
    def known(self) -> bool:
        """Whether anything can be told of it: a span's request may be forgotten at any moment."""
        return self.own is not None or self.span is None or self.live is not None

    def take_own(self, span: Span, attributes: dict[str, Any]) -> None:
        """Read what its own span says."""
        texts = *tool_texts(attributes), short_command(attributes)
        said = attributes.get("hermes.tool.outcome")
        self.said = said if isinstance(said, str) else None
        self.own = self._read(span.tool or "", *texts, running=span.running)
        if self.item is not None:
            self.texts = texts

    def take_model(self, key: SpanKey, asked: dict[str, str], answered: dict[str, str]) -> None:
        """Take what a model call's span says of it: arguments and results by the calls' ids."""
        assert self.item is not None
        if self.item.asked_by == key:
            self.asked = asked.get(self.item.id)
        if self.item.answered_by == key:
            self.answered = answered.get(self.item.id)

    def record(self) -> Record:
        item, span = self.item, self.span
        call, source = self._complete(item) if item is not None else (self.own, Source.SPAN)
        assert call is not None
        return {
            "session": self.session,
            "trace": span.trace_id.hex() if span is not None else None,
            "span": span.span_id.hex() if span is not None else None,
            "tool": self.tool,
            "command": call.command,
            "cwd": call.cwd,
            "exit_code": call.exit_code,
            "outcome": self.outcome,
            "started": timestamp(self.begun_ns),
            "duration_s": self.duration_s(),
            "output": call.output,
            "error": call.error,
            "truncated": call.truncated,
            "command_truncated": call.cut,
            "source": source,
        }

    def _complete(self, item: Item) -> tuple[Call, Source]:
        """All that is known, and who told of what the span does not."""
        arguments, result, source = self._best()
        own = self.own
        if own is not None and (own.output or own.exit_code is not None) and not _is_whole(result):
            result = None
        if self.own is not None and arguments is None and result is None:
            return self.own, Source.SPAN
        given, got, short = self.texts
        short = short if arguments is None else None
        given = arguments or given or item.arguments
        call = self._read(item.tool, given, result or got, short, running=item.open)
        cut = arguments is None and self.own is None and len(item.arguments) >= ARGUMENTS
        truncated = call.truncated or cut or (result or "").startswith(_MOVED)
        call = call._replace(exit_code=item.exit_code, truncated=truncated, cut=call.cut or cut)
        if (
            self.own is not None
            and item.completed is None
            and call._replace(outcome=self.own.outcome) == self.own
        ):
            source = Source.SPAN
        return call, source

    def _best(self) -> tuple[str | None, str | None, Source]:
        """Whole arguments and result where they are known, and from where."""
        live = self.live
        arguments, result = (live.arguments or None, live.result) if live is not None else (None, None)
        source = Source.MODEL if live is None else Source.STATE
        if result is None and self.answered is not None:
            result, source = self.answered, Source.MODEL
        return arguments if arguments is not None else self.asked, result, source

    def _read(
        self, tool: str, arguments: str | None, result: str | None, short: str | None, *, running: bool
    ) -> Call:
        error = self.span is not None and self.span.status is Status.ERROR
        return read_call(tool, arguments, result, command=short, said=self.said, error=error, running=running)

    def duration_s(self) -> float | None:
        span, item = self.span, self.item
        if span is not None and (item is None or not span.running):
            return span.duration_s
        if item is None or not item.end_ns or not self.timed:
            return None
        return max(0, item.end_ns - self.begun_ns) / NANOSECONDS


def _is_whole(result: str | None) -> bool:
    """Whether a result is what the tool said, not what Hermes says of it."""
    return result is not None and read_object(result)[1]


def _order(command: Command) -> tuple[int, bytes, str]:
    """By time; calls of a session that were asked for at once stay in their order."""
    return command.begun_ns, command.span.span_id if command.span is not None else b"", command.session


def _read_spans(
    reader: Reader, session: str | None, traces: Sequence[bytes] | None = None
) -> dict[str, _Spans]:
    """The spans that tell of commands, by session, for every session wanted (None: all in the traces)."""
    found: dict[str, _Spans] = {}
    if traces is None:
        traces = reader.traces() if session is None else reader.traces_of(session)
    for tree, view in views(reader, traces):
        for name in view.sessions if session is None else (session,):
            found.setdefault(name, _Spans())
        for span in tree.spans:
            tool = is_command(span)
            if not tool and (span.role is not Role.MODEL_CALL or not (span.calls or span.results)):
                continue
            if (mine := found.get(view.owners[span.span_id])) is None:
                continue
            placed = span, view.turn_of[span.span_id].key
            if tool:
                mine.tools.append(placed)
            else:
                mine.models[span.trace_id, span.span_id] = placed
    return found


def _with_records(
    history: History | None,
    spans: dict[str, _Spans],
    session: str | None,
    wanted: set[str] | None = None,
) -> Iterator[tuple[str, LiveSession | None]]:
    """Every session wanted with Hermes' record of it, if there is one."""
    if wanted is None:
        wanted = {*spans} if session is None else {session}
    if history is not None:
        history.find(wanted, subagents=session is None)
        for records in history.read():
            wanted.discard(records.id)
            yield records.id, records
    for name in wanted:
        yield name, None


def _commands_of(session: str, spans: _Spans, records: LiveSession | None) -> Iterator[Command]:
    turns = records.turns if records is not None else []
    folder = records.row.cwd if records is not None and records.row is not None else None
    if not turns and spans.whole:
        for span, _ in spans.tools:
            yield Command(session, span, span.start_ns, folder=folder)
        return
    known = recorded(turns)
    lone = {key for key, (span, _) in spans.models.items() if len(span.calls or ()) == 1}
    for item in all_calls(session, turns, spans.tools, list(spans.models.values())):
        if item.span is None and item.tool not in COMMAND_TOOLS:
            continue
        record = known.get(item.key)
        live = record.call if record is not None else None
        begun_ns, timed = item.start_ns, item.span is not None or item.asked_by in lone
        if record is not None and item.span is None:
            begun_ns, timed = record.begun_ns, record.sure
        wants = _wanted(item, live, spans.models)
        yield Command(session, item.span, begun_ns, timed, item, live, wants, folder=folder)


def _lacks(span: Span) -> bool:
    """Whether a command's span does not tell all of it."""
    return span.truncated or span.outcome == Outcome.UNKNOWN


def _wanted(item: Item, live: LiveCall | None, models: dict[SpanKey, Placed]) -> list[Span]:
    """Spans of model calls that hold what neither its own span nor Hermes' record has."""
    whole = item.span is not None and not _lacks(item.span) and item.completed is not Source.MODEL
    if whole or not item.id:
        return []
    keys: list[SpanKey | None] = []
    if live is None or not live.arguments:
        keys.append(item.asked_by)
    if live is None or not live.ended_ns:
        keys.append(item.answered_by)
    return [models[key][0] for key in dict.fromkeys(keys) if key is not None]


def _read_texts(reader: Reader, found: Iterable[Command]) -> None:
    """Read the whole texts of all commands out of the journal's requests, each of which is decoded once."""
    own: dict[SpanKey, Command] = {}
    wanted: dict[SpanKey, list[Command]] = {}
    spans: dict[SpanKey, Span] = {}
    for command in found:
        if (span := command.span) is not None:
            key = span.trace_id, span.span_id
            spans[key], own[key] = span, command
        for span in command.wants:
            key = span.trace_id, span.span_id
            spans[key] = span
            wanted.setdefault(key, []).append(command)
    by_place = sorted(spans.values(), key=lambda span: (span.request, span.position))
    for span, detail in reader.details(by_place):
        key = span.trace_id, span.span_id
        if key in own:
            own[key].take_own(span, detail.attributes)
        if key in wanted:
            asked, answered = model_texts(detail.attributes)
            for command in wanted[key]:
                command.take_model(key, asked, answered)

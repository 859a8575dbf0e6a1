"""The whole texts of what was said and done, read for a few entries at a time by whoever has them: Hermes'
own records, the spans of calls, those of the model calls that asked for them or were told of their results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from hermes_tui.journal.reader import Reader
from hermes_tui.model.answers import read_answer
from hermes_tui.model.conventions import model_texts, read_prompt, short_command, tool_texts
from hermes_tui.model.joined import Item, Source
from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.results import read_call
from hermes_tui.model.span import Outcome, Span
from hermes_tui.model.transcript import Entry, EntryKey, Said, span_keys

_Attributes = dict[str, Any]


class Records(Protocol):
    """Hermes' own records, as `Watch` has them."""

    def message(self, session: str, message: int, /) -> str | None: ...
    def arguments(self, session: str, call: str, asked_ns: int = 0, /) -> str | None: ...
    def result(self, session: str, call: str, asked_ns: int = 0, /) -> str | None: ...


class Texts(NamedTuple):
    """Of a prompt or an answer its `text`; of a command that, and what it printed; of another call its
    arguments, and its result. None: nobody knows. `cut`: there was more. `error` is what a command's result
    says went wrong beside that.
    """

    text: str | None = None
    result: str | None = None
    cut: bool = False
    error: str | None = None


class _Known(NamedTuple):
    """What Hermes' records alone say of an entry."""

    text: str | None = None
    result: str | None = None


def read_whole(
    reader: Reader | None, records: Records | None, entries: Iterable[Entry]
) -> dict[EntryKey, Texts]:
    """The texts of some entries. Raises sqlite3.Error when the journal cannot be read."""
    known = {entry.key: (entry, _recorded(records, entry)) for entry in entries}
    wanted = {key for entry, said in known.values() for key in _wanted(entry, said)}
    details = _details(reader, wanted) if reader is not None else {}
    return {key: _texts(entry, said, details) for key, (entry, said) in known.items()}


def _recorded(records: Records | None, entry: Entry) -> _Known:
    item = entry.item
    if records is None:
        return _Known()
    if item is None:
        session = entry.step.session if entry.step is not None else entry.session
        return _Known(records.message(session, entry.message) if entry.message else None)
    if not item.id or Source.STATE not in item.sources:
        return _Known()
    result = records.result(item.session, item.id, item.asked_ns) if item.end_ns else None
    return _Known(records.arguments(item.session, item.id, item.asked_ns), result)


def _wanted(entry: Entry, known: _Known) -> Iterator[SpanKey]:
    """The spans in which what is not known by now may be."""
    item = entry.item
    if item is None:
        if known.text is None:
            yield from span_keys(entry)
        return
    span = item.span
    if span is not None and (known.text is None or known.result is None):
        yield span.trace_id, span.span_id
    short = span is None or span.truncated or span.outcome == Outcome.UNKNOWN
    if known.text is None and item.asked_by is not None and (short or entry.kind is Said.CHANGE):
        yield item.asked_by
    if known.result is None and item.answered_by is not None and short:
        yield item.answered_by


def _details(reader: Reader, wanted: Iterable[SpanKey]) -> dict[SpanKey, _Attributes]:
    spans = [span for key in wanted if (span := reader.span(*key)) is not None]
    spans.sort(key=lambda span: (span.request, span.position))  # a request is decoded once
    return {(span.trace_id, span.span_id): detail.attributes for span, detail in reader.details(spans)}


def _texts(entry: Entry, known: _Known, details: dict[SpanKey, _Attributes]) -> Texts:
    if entry.item is not None:
        return _call(entry, entry.item, known, details)
    if known.text is not None:
        return Texts(known.text)
    read = read_prompt if entry.kind is Said.PROMPT else read_answer
    said = (read(details[key]) for key in span_keys(entry) if key in details)
    text = next((each for each in said if each), None)
    if entry.kind is Said.PROMPT and (text is None or len(text) < len(entry.text)):
        return Texts(entry.text or None)
    return Texts(text)


def _call(entry: Entry, item: Item, known: _Known, details: dict[SpanKey, _Attributes]) -> Texts:
    own = details.get(_key(item.span)) if item.span is not None else None
    given, got = tool_texts(own) if own is not None else (None, None)
    asked = _of_model(details, item.asked_by, item.id, 0)
    answered = _of_model(details, item.answered_by, item.id, 1)
    arguments = known.text or asked or given or item.arguments
    result = known.result or answered or got or item.result
    if entry.kind is not Said.COMMAND:
        return Texts(arguments, result)
    short = short_command(own) if own is not None and not known.text and not asked else None
    call = read_call(item.tool, arguments, result, command=short, running=item.open)
    return Texts(call.command or item.command, call.output, call.truncated, call.error)


def _key(span: Span) -> SpanKey:
    return span.trace_id, span.span_id


def _of_model(details: dict[SpanKey, _Attributes], key: SpanKey | None, call: str, which: int) -> str | None:
    """The arguments (0) or the result (1) of a call in the span of a model call."""
    attributes = details.get(key) if key is not None else None
    return model_texts(attributes)[which].get(call) if attributes is not None else None


def portions(entries: Sequence[Entry], count: int) -> Iterator[Sequence[Entry]]:
    """So many entries at a time."""
    return (entries[at : at + count] for at in range(0, len(entries), count))

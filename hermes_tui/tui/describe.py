"""Pure: everything known of a span as styled text for the details view.

Order: what it is in one sentence, input, output, times within the turn, tokens, status and events,
delivery, ids, and at the end every attribute. Long values are shortened unless `full`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hermes_tui.figures import count_of, short_number, short_time
from hermes_tui.journal.delivery import Mark
from hermes_tui.model.compare import Difference
from hermes_tui.model.conventions import tool_texts
from hermes_tui.model.jobs import Job
from hermes_tui.model.joined import Item
from hermes_tui.model.live import LiveSession
from hermes_tui.model.results import Call, read_call
from hermes_tui.model.span import Delivery, Outcome, Role, Span, Status
from hermes_tui.model.turns import Turn, is_command
from hermes_tui.tui.describe_record import (
    NOTHING,
    Record,
    command_lines,
    completed_lines,
    job_lines,
    noted_lines,
    outcome_words,
    output_lines,
)
from hermes_tui.tui.differing import difference_line
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.page import DIM, HEADING, Page, clock, lay_out

if TYPE_CHECKING:
    from hermes_tui.otlp.codec import Detail

_PAGE_CHARS = 200_000  # after which no more attributes follow, unless `full`
_LIMIT = "tool_output_preview_max_chars (HERMES_OTEL_TOOL_OUTPUT_PREVIEW_MAX_CHARS)"
_PRIVATE = frozenset({"gen_ai.system_instructions"})

_DELIVERY = {
    Delivery.LOCAL: ("none", "arrived", "kept here only: it arrived without a destination"),
    Delivery.QUEUED: ("more", "arrived", "on disk here, not accepted by the destination yet"),
    Delivery.ACCEPTED: ("arrow", "accepted", "accepted by the destination"),
    Delivery.CONFIRMED: ("good", "read back", "read back from MLflow"),
    Delivery.HELD: ("held", "held since", "held: the destination refuses until something is changed"),
    Delivery.QUARANTINED: ("bad", "refused", "quarantined: the destination does not take this very span"),
}
"""Glyph, what the time is of, and words."""


def describe(
    span: Span, detail: Detail | None, turn: Turn | None, *, glyphs: Glyphs, full: bool = False,
    mark: Mark | None = None, differences: Sequence[Difference] = (), item: Item | None = None,
    record: Record = NOTHING, noted: LiveSession | None = None, whys: Sequence[str] = (),
    job: Job | None = None,
) -> Text:  # fmt: skip
    """The details page of a span. `detail` None: its request is gone, only the row is known.

    `item` and `record` are what is known of its call from elsewhere too, `noted` of its session; `whys` say
    why its command deserves a look, `job` is what it started in the background.
    """
    page = Page(glyphs, full=full)
    attributes = {} if detail is None else detail.attributes
    arguments, result = tool_texts(attributes)
    if record.source is not None:
        arguments, result = record.arguments or arguments, record.result or result
    if is_command(span):
        call = read_call(span.tool or "", arguments, result, command=span.command)
        page.line(sentence(span, item, call.error), HEADING)
        _unknown(page, span, item, call)
        _command(page, span, call, record, item, whys)
        job_lines(page, job)
    else:
        page.line(sentence(span, item), HEADING)
        _input_output(page, arguments, result)
    if item is not None:
        completed_lines(page, item, record)
    _times(page, span, turn)
    _usage(page, span)
    _status(page, span, detail)
    noted_lines(page, noted)
    _delivery(page, span, mark)
    _differing(page, differences)
    _ids(page, span, detail)
    if detail is not None:
        _attributes(page, "Attributes", attributes)
        _attributes(page, "Resource", detail.resource)
    else:
        page.heading("Attributes")
        page.line("The request that held this span is no longer in the journal.", DIM)
    return page.text


def sentence(span: Span, item: Item | None = None, error: str | None = None) -> str:
    """What the span is, in one sentence; `error` is what its result says went wrong."""
    took = short_time(span.duration_s)
    time = f" after {took}" if took else ", still running"
    if is_command(span):
        outcome, exit_code = (
            (span.outcome, span.exit_code) if item is None else (item.outcome, item.exit_code)
        )
        code = "" if exit_code is None else f", exit {exit_code}"
        if outcome in (None, Outcome.UNKNOWN):
            return f"Command{code or ('' if span.running else ', exit unknown')}{time}"
        return f"Command, {outcome_words(outcome, error)}{code}{time}"
    if span.role is Role.TOOL:
        return f"Tool {span.tool}, {'failed' if span.failed else 'done'}{time}"
    if span.role is Role.MODEL_CALL:
        led = f", asked for {count_of(span.tool_calls, 'tool call')}" if span.tool_calls else ""
        ended = "failed" if span.status is Status.ERROR else "answered"
        return f"Model call to {span.model or 'a model'}, {ended}{time}{led}"
    if span.role is Role.APPROVAL:
        return f"Approval: {span.decision or 'no decision known'}{time}"
    names = {Role.AGENT: "Agent", Role.SUBAGENT: "Subagent", Role.SKILL: "Skill"}
    status = f", {span.final_status}" if span.final_status else ""
    if span.role is Role.TURN:
        return f"Turn{status}{time}"
    return f"{names.get(span.role, 'Span')} {span.name}{status}{time}"


def _unknown(page: Page, span: Span, item: Item | None, call: Call) -> None:
    """Why nobody knows how a command ended, and what would help."""
    outcome = span.outcome if item is None else item.outcome
    if span.running or outcome not in (None, Outcome.UNKNOWN):
        return
    if span.truncated or call.truncated:
        page.line("The exit code stands behind the output, and hermes-otel cut that off.")
        page.line(f"Raise {_LIMIT}.")
    elif call.output is None:
        page.line("Its span came without a result, in which the exit code would be.")
    else:
        page.line("Its result names no exit code.")


def _command(
    page: Page, span: Span, call: Call, record: Record, item: Item | None, whys: Sequence[str]
) -> None:
    cwd = span.cwd or (item.cwd if item is not None else None)
    command_lines(page, span.tool, call.command or span.command, cwd, whys)
    page.heading("Output")
    output_lines(page, call.output, call.error, "(none arrived)")
    outcome = span.outcome if item is None else item.outcome
    if span.truncated and record.source is None and outcome not in (None, Outcome.UNKNOWN):
        page.line(f"hermes-otel cut this span's values; raise {_LIMIT} to see all", DIM)


def _input_output(page: Page, arguments: str | None, result: str | None) -> None:
    for title, text in (("Input", arguments), ("Output", result)):
        if text:
            page.heading(title)
            page.value(lay_out(text, full=page.full))


def _times(page: Page, span: Span, turn: Turn | None) -> None:
    page.heading("Time")
    page.field("started", clock(span.start_ns))
    page.field("ended", clock(span.end_ns) if span.end_ns else "not yet")
    page.field("took", f"{span.duration_s:.3f} s" if span.duration_s is not None else "")
    if turn is None or turn.end_ns <= turn.start_ns:
        return
    length = turn.end_ns - turn.start_ns
    width = 24
    begin = max(0, min(width - 1, (span.start_ns - turn.start_ns) * width // length))
    end = max(begin + 1, min(width, -(-((span.end_ns or turn.end_ns) - turn.start_ns) * width // length)))
    bar = page.glyphs.rule * begin + page.glyphs.bar * (end - begin) + page.glyphs.rule * (width - end)
    offset = (span.start_ns - turn.start_ns) / 1e9
    where = f"of {length / 1e9:.1f} s" if span.start_ns <= turn.end_ns else "after its start, it had ended"
    page.field("in the turn", f"+{max(0.0, offset):.1f} s {where}")
    page.line(f"  {bar}")


def _usage(page: Page, span: Span) -> None:
    rows = (
        ("input", span.input_tokens), ("output", span.output_tokens), ("cache read", span.cache_read_tokens),
        ("cache write", span.cache_write_tokens), ("reasoning", span.reasoning_tokens),
    )  # fmt: skip
    known = [(name, count) for name, count in rows if count is not None]
    if not known and span.cost is None:
        return
    page.heading("Tokens")
    for name, count in known:
        page.field(name, f"{count:,}" + (f"  ({short_number(count)})" if count >= 1000 else ""))
    if span.cost is not None:
        page.field("cost", f"${span.cost:.4f}")


def _status(page: Page, span: Span, detail: Detail | None) -> None:
    page.heading("Span status")
    message = detail.message if detail is not None else span.error or ""
    page.line(span.status.name, "bold red" if span.status is Status.ERROR else "")
    if message:
        page.value(message, style="red")
    for when, name, attributes in detail.events if detail is not None else ():
        page.line(f"{clock(when)}  event {name}")
        for key, value in attributes.items():
            page.line(f"  {key}", DIM)
            page.value(lay_out(value, full=page.full), indent="    ")


def _delivery(page: Page, span: Span, mark: Mark | None) -> None:
    page.heading("Delivery")
    glyph, when, words = _DELIVERY[span.delivery]
    page.line(f"{getattr(page.glyphs, glyph)} {words}", "" if span.delivery < Delivery.HELD else "bold red")
    if mark is not None and mark.at_ns:
        page.field(when, clock(mark.at_ns))
    if mark is not None and mark.reason:
        page.value(mark.reason, style="red")


def differing(differences: Sequence[Difference], glyphs: Glyphs) -> Text:
    """What MLflow says otherwise of a turn, where there is nothing else to say."""
    page = Page(glyphs, full=False)
    _differing(page, differences)
    return page.text


def _differing(page: Page, differences: Sequence[Difference]) -> None:
    if not differences:
        return
    page.heading("MLflow says otherwise")
    for why, some in groupby(differences, key=lambda difference: difference.why):
        for difference in some:
            page.field(difference.what, difference_line(difference))
        page.value(why, indent="  ", style=DIM)


def _ids(page: Page, span: Span, detail: Detail | None) -> None:
    page.heading("Ids")
    page.field("name", span.name)
    page.field("kind", span.kind.value)
    page.field("session", span.session or "(not named)")
    page.field("trace", span.trace_id.hex())
    page.field("MLflow", f"tr-{span.trace_id.hex()}")
    page.field("span", span.span_id.hex())
    page.field("parent", span.parent_id.hex() or "(root)")
    for trace_id, span_id, _ in detail.links if detail is not None else ():
        page.field("link", f"{trace_id.hex()} {span_id.hex()}")
    if detail is not None and detail.scope:
        page.field("scope", detail.scope)


def _attributes(page: Page, title: str, attributes: dict[str, Any]) -> None:
    page.heading(f"{title} ({len(attributes)})")
    limit = 5 * _PAGE_CHARS if page.full else _PAGE_CHARS
    for number, (key, value) in enumerate(sorted(attributes.items())):
        if len(page.text) > limit:
            page.line(f"{page.glyphs.more} {len(attributes) - number:,} more attributes", DIM)
            return
        if key in _PRIVATE and not page.full:
            page.line(key, DIM)
            page.line(f"  (system prompt, {len(str(value)):,} characters, x shows it)", DIM)
            continue
        text = lay_out(value, full=page.full)
        if "\n" not in text and len(text) <= 60:
            page.text.append(f"{page.cut(key)} ", DIM)
            page.line(text)
        else:
            page.line(key, DIM)
            page.value(text, indent="  ")

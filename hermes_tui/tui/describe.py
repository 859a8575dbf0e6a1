"""Pure: everything known of a span as styled text for the details view.

Order: what it is in one sentence, input, output, times within the turn, tokens, status and events,
delivery, ids, and at the end every attribute. Long values are shortened unless `full`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hermes_tui import neutral
from hermes_tui.figures import short_number, short_time
from hermes_tui.journal.delivery import Mark
from hermes_tui.model.compare import Difference
from hermes_tui.model.conventions import tool_texts
from hermes_tui.model.results import read_call
from hermes_tui.model.span import Delivery, Role, Span, Status
from hermes_tui.model.turns import Turn, is_command
from hermes_tui.tui.delivery import difference_line
from hermes_tui.tui.glyphs import Glyphs

if TYPE_CHECKING:
    from hermes_tui.otlp.codec import Detail

_LINES = 30  # of one value, unless `full`
_CHARS = 3_000
_FULL_CHARS = 400_000
_LAID_OUT = 200_000  # characters of JSON that are laid out, unless `full`
_STRING = 600  # characters of one string inside a laid out JSON value, unless `full`
_NAME = 1_000  # characters of a name, an id, a key
_PAGE_CHARS = 200_000  # after which no more attributes follow, unless `full`
_PRIVATE = frozenset({"gen_ai.system_instructions"})

HEADING = "bold"
DIM = "dim"

_DELIVERY = {
    Delivery.LOCAL: ("none", "arrived", "kept here only: it arrived without a destination"),
    Delivery.QUEUED: ("more", "arrived", "on disk here, not accepted by the destination yet"),
    Delivery.ACCEPTED: ("arrow", "accepted", "accepted by the destination"),
    Delivery.CONFIRMED: ("good", "read back", "read back from MLflow"),
    Delivery.HELD: ("held", "held since", "held: the destination refuses until something is changed"),
    Delivery.QUARANTINED: ("bad", "refused", "quarantined: the destination does not take this very span"),
}
"""Glyph, what the time is of, and words."""


class Page:
    """Collects styled lines. Everything added is neutralised here."""

    def __init__(self, glyphs: Glyphs, *, full: bool) -> None:
        self.text = Text()
        self.glyphs = glyphs
        self.full = full

    def heading(self, title: str) -> None:
        if self.text:
            self.text.append("\n")
        self.text.append(f"{title}\n", HEADING)

    def line(self, text: str, style: str = "") -> None:
        self.text.append(f"{self.cut(text)}\n", style)

    def cut(self, text: str) -> str:
        """One harmless line of bounded length: names, keys and ids come from outside too."""
        more = self.glyphs.more if len(text) > _NAME else ""
        return neutral.line(text[:_NAME]) + more

    def field(self, name: str, value: str, style: str = "") -> None:
        self.text.append(f"{name:<12} ", DIM)
        self.text.append(f"{self.cut(value)}\n", style)

    def value(self, text: str, *, indent: str = "", style: str = "") -> None:
        """A value of any length: whole lines up to the limit, then how much is left out."""
        limit = _FULL_CHARS if self.full else _CHARS
        lines = neutral.block(text[:limit]).rstrip("\n").split("\n")
        count = len(lines) if self.full else _LINES
        for line in lines[:count]:
            self.text.append(f"{indent}{line}\n", style)
        hidden = max(0, len(text) - limit) + len("\n".join(lines[count:]))
        if hidden > 0:
            hint = "" if self.full else ", x shows more"
            self.text.append(f"{indent}{self.glyphs.more} {hidden:,} more characters{hint}\n", DIM)


def describe(
    span: Span, detail: Detail | None, turn: Turn | None, *, glyphs: Glyphs, full: bool = False,
    mark: Mark | None = None, differences: Sequence[Difference] = (),
) -> Text:  # fmt: skip
    """The details page of a span. `detail` None: its request is gone, only the row is known."""
    page = Page(glyphs, full=full)
    page.line(sentence(span), HEADING)
    attributes = {} if detail is None else detail.attributes
    _input_output(page, span, attributes)
    _times(page, span, turn)
    _usage(page, span)
    _status(page, span, detail)
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


def sentence(span: Span) -> str:
    """What the span is, in one sentence."""
    took = short_time(span.duration_s)
    time = f" after {took}" if took else ", still running"
    if is_command(span):
        code = "" if span.exit_code is None else f", exit {span.exit_code}"
        return f"Command, {span.outcome or 'unknown'}{code}{time}"
    if span.role is Role.TOOL:
        return f"Tool {span.tool}, {'failed' if span.failed else 'done'}{time}"
    if span.role is Role.MODEL_CALL:
        led = f", asked for {span.tool_calls} tool calls" if span.tool_calls else ""
        ended = "failed" if span.status is Status.ERROR else "answered"
        return f"Model call to {span.model or 'a model'}, {ended}{time}{led}"
    if span.role is Role.APPROVAL:
        return f"Approval: {span.decision or 'no decision known'}{time}"
    names = {Role.TURN: "Turn", Role.AGENT: "Agent", Role.SUBAGENT: "Subagent", Role.SKILL: "Skill"}
    status = f", {span.final_status}" if span.final_status else ""
    return f"{names.get(span.role, 'Span')} {span.name}{status}{time}"


def _input_output(page: Page, span: Span, attributes: dict[str, Any]) -> None:
    arguments, result = tool_texts(attributes)
    if is_command(span):
        call = read_call(span.tool or "", arguments, result, command=span.command)
        page.heading("Command")
        page.value(call.command or span.command or "(not known)")
        if span.cwd:
            page.field("in", span.cwd)
        page.heading("Output")
        if call.output:
            page.value(call.output)
        else:
            page.line("(empty)" if call.output is not None else "(none arrived)", DIM)
        if span.truncated:
            page.line(
                "hermes-otel cut this span's values; raise tool_output_preview_max_chars "
                "(HERMES_OTEL_TOOL_OUTPUT_PREVIEW_MAX_CHARS) to see all", DIM)  # fmt: skip
        return
    for title, text in (("Input", arguments), ("Output", result)):
        if text:
            page.heading(title)
            page.value(lay_out(text, full=page.full))


def lay_out(value: Any, *, full: bool = False) -> str:
    """A value for reading: JSON indented with its line breaks as such, other text as it is."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] not in ("{", "["):
            return value
        if len(text) > _LAID_OUT and not full:
            return text  # only its beginning is shown anyway
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
    lines: list[str] = []
    try:
        _lay_out(value, "", lines, _FULL_CHARS if full else _STRING)
    except RecursionError:
        return str(value)
    return "\n".join(lines)


def _lay_out(value: Any, indent: str, lines: list[str], limit: int) -> None:
    items: Iterable[tuple[str, Any]]
    if isinstance(value, dict):
        items = ((f"{key}:", each) for key, each in value.items())
    elif isinstance(value, list):
        items = (("-", each) for each in value)
    else:
        lines.extend(f"{indent}{line}" for line in _scalar(value, limit).split("\n"))
        return
    before = len(lines)
    for head, each in items:
        if isinstance(each, dict | list) and each:
            lines.append(f"{indent}{head}")
            _lay_out(each, f"{indent}  ", lines, limit)
            continue
        first, *rest = _scalar(each, limit).split("\n")
        lines.append(f"{indent}{head} {first}")
        lines.extend(f"{indent}  {line}" for line in rest)
    if len(lines) == before:
        lines.append(f"{indent}{'{}' if isinstance(value, dict) else '[]'}")


def _scalar(value: Any, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]} … {len(text) - limit:,} more characters"


def _times(page: Page, span: Span, turn: Turn | None) -> None:
    page.heading("Time")
    page.field("started", _moment(span.start_ns))
    page.field("ended", _moment(span.end_ns) if span.end_ns else "not yet")
    page.field("took", f"{span.duration_s:.3f} s" if span.duration_s is not None else "")
    if turn is None or turn.end_ns <= turn.start_ns:
        return
    length = turn.end_ns - turn.start_ns
    width = 24
    begin = max(0, min(width - 1, (span.start_ns - turn.start_ns) * width // length))
    end = max(begin + 1, min(width, -(-((span.end_ns or turn.end_ns) - turn.start_ns) * width // length)))
    page.field("in the turn", "")
    bar = page.glyphs.rule * begin + page.glyphs.bar * (end - begin) + page.glyphs.rule * (width - end)
    offset = (span.start_ns - turn.start_ns) / 1e9
    where = f"of {length / 1e9:.1f} s" if span.start_ns <= turn.end_ns else "after its start, it had ended"
    page.line(f"  {bar}  +{max(0.0, offset):.1f} s {where}")


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
    page.heading("Status")
    message = detail.message if detail is not None else span.error or ""
    page.line(span.status.name, "bold red" if span.status is Status.ERROR else "")
    if message:
        page.value(message, style="red")
    for when, name, attributes in detail.events if detail is not None else ():
        page.line(f"{_moment(when)}  event {name}")
        for key, value in attributes.items():
            page.line(f"  {key}", DIM)
            page.value(lay_out(value, full=page.full), indent="    ")


def _delivery(page: Page, span: Span, mark: Mark | None) -> None:
    page.heading("Delivery")
    glyph, when, words = _DELIVERY[span.delivery]
    page.line(f"{getattr(page.glyphs, glyph)} {words}", "" if span.delivery < Delivery.HELD else "bold red")
    if mark is not None and mark.at_ns:
        page.field(when, _moment(mark.at_ns))
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
    limit = 10 * _PAGE_CHARS if page.full else _PAGE_CHARS
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


def _moment(ns: int) -> str:
    """Local date and time with milliseconds."""
    try:
        when = datetime.fromtimestamp(ns // 1_000_000_000).astimezone()
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns"
    return f"{when:%Y-%m-%d %H:%M:%S}.{ns // 1_000_000 % 1000:03}"

"""Pure: the delivery view's data as lines of a given width. Text in `DeliveryData` is harmless already."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.cells import cell_len, set_cell_size

from hermes_tui import neutral
from hermes_tui.model.span import Delivery
from hermes_tui.tui.delivery import DeliveryData, DifferingTurn, RefusedRow
from hermes_tui.tui.differing import difference_line
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.lines import Line, cut, fitted, texts, wrapped

KEYS = "r sends held and refused again, v reads this session back"

_REASON_LINES = 5  # of one reason
_LABEL, _NUMBER = 16, 10
_WHERE, _AGE = 16, 6
_STYLES = {"green": "good", "red": "bad", "yellow": "warning", "dim": "dim"}


def delivery_lines(data: DeliveryData, width: int, glyphs: Glyphs) -> list[Line]:
    """The whole page, `width` cells wide at most."""
    width = max(8, width)
    lines = [*_state(data, width), Line(), *_counts(data, glyphs), Line()]
    if data.last_error:
        ago = f" {data.last_error_age} ago" if data.last_error_age else ""
        lines += texts(f"last error{ago}: {data.last_error}", width, "dim", most=3, glyphs=glyphs)
    if data.damage:
        lines += texts(f"{glyphs.bad} {data.damage}", width, "warning", indent=2, glyphs=glyphs)
    lines += texts(KEYS, width, "dim")
    for notice in data.notices:
        glyph = {True: glyphs.good, False: glyphs.bad, None: glyphs.more}[notice.well]
        style = {True: "good", False: "bad", None: "live"}[notice.well]
        lines += texts(f"{glyph} {notice.text}", width, style, indent=2)
    lines += _refused(data, width, glyphs)
    lines += _differing(data, width, glyphs)
    return [fitted(line, width) for line in lines]


def _state(data: DeliveryData, width: int) -> Iterator[Line]:
    state = data.state
    since = f" for {data.since}" if data.since else ""
    head = f"{state.glyph} {state.word}{since}"
    style = _STYLES.get(state.style, "turn")
    room = width - cell_len(head) - 2
    if cell_len(data.address) <= room:
        yield Line(((head, style), ("  ", "dim"), (data.address, "dim")))
    else:
        yield Line(((head, style),))
        for text in wrapped(data.address, width):
            yield Line(((text, "dim"),))
    yield from texts(state.sentence, width, "command")


def _counts(data: DeliveryData, glyphs: Glyphs) -> Iterator[Line]:
    faces = _faces(glyphs)
    session = "session".rjust(_NUMBER)
    yield Line(((f"{' ' * _LABEL}{session}{'journal'.rjust(_NUMBER)}", "dim"),))
    for row in data.counts:
        glyph, style = faces[row.delivery]
        style = style if row.session or row.journal else "dim"
        label = f"{glyph} {row.delivery.name.lower()}".ljust(_LABEL)
        numbers = f"{row.session:,}".rjust(_NUMBER) + f"{row.journal:,}".rjust(_NUMBER)
        note = f"  {row.note}" if row.note else ""
        parts = ((label, style), (numbers, "command"), (note, "dim"))
        yield Line(parts)


def _faces(glyphs: Glyphs) -> dict[Delivery, tuple[str, str]]:
    """Glyph and style of each state of a span."""
    return {
        Delivery.CONFIRMED: (glyphs.good, "good"),
        Delivery.ACCEPTED: (glyphs.arrow, "command"),
        Delivery.QUEUED: (glyphs.more, "command"),
        Delivery.HELD: (glyphs.held, "warning"),
        Delivery.QUARANTINED: (glyphs.bad, "bad"),
        Delivery.LOCAL: (glyphs.none, "dim"),
    }


def _refused(data: DeliveryData, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """Spans below their reason: one that many share is said once."""
    for (delivery, reason), rows in groupby(data.refused, key=lambda row: (row.delivery, row.reason)):
        glyph, style = _faces(glyphs)[delivery]
        yield Line()
        head = f"{glyph} {delivery.name.lower()}: {reason or 'no reason is known'}"
        yield from texts(head, width, style, most=_REASON_LINES, indent=2, glyphs=glyphs)
        for row in rows:
            yield _refused_row(row, width, glyphs)
    if data.unlisted:
        yield Line(((f"  {glyphs.more} and {data.unlisted:,} more", "dim"),))


def _refused_row(row: RefusedRow, width: int, glyphs: Glyphs) -> Line:
    where = set_cell_size(cut(row.where, _WHERE, glyphs), _WHERE)
    tail = f" {where}{row.age.rjust(_AGE)}"
    room = max(0, width - 2 - cell_len(tail))
    name = set_cell_size(cut(row.name, room, glyphs), room)
    parts = (("  ", "dim"), (name, "command"), (tail, "dim"))
    return Line(parts, row.key)


def _differing(data: DeliveryData, width: int, glyphs: Glyphs) -> Iterator[Line]:
    if not data.differing:
        return
    yield Line()
    yield Line((("MLflow says otherwise", "turn"),))
    for turn in data.differing:
        yield from _differing_turn(turn, width, glyphs)
    if data.more_differing:
        yield Line(((f"  {glyphs.more} and {data.more_differing:,} more", "dim"),))


def _differing_turn(turn: DifferingTurn, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """Values that differ for the same reason stand together above it."""
    yield Line((("  ", "dim"), (cut(turn.title, width - 2, glyphs), "turn")), turn.key)
    for why, some in groupby(turn.differences, key=lambda difference: difference.why):
        said = [(f"{each.what}: {difference_line(each)}", "command") for each in some]
        for text, style in (*said, (neutral.line(why), "dim")):
            for line in texts(text, width - 4, style):
                yield Line((("    ", "dim"), *line.parts), turn.key)

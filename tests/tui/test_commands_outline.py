"""The list of commands: counts, filters and jumps without rows, which are made when somebody looks."""

from __future__ import annotations

import pytest

from hermes_tui.model.live import Live
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.state_rows import SessionRow
from hermes_tui.tui.commands_outline import CommandsOutline
from hermes_tui.tui.glyphs import UNICODE
from hermes_tui.tui.review import FAILED, FILTERS, FLAGGED, LONG, UNREVIEWED, Review
from hermes_tui.tui.rows import Row, RowKey, call_key, folder_name, item_key
from hermes_tui.tui.shown import ShownSession
from tests.model.timeline import roots, timeline
from tests.support import LONG_AFTER, SECOND, agent_span, make_span, recorded_spans, trace_id
from tests.tui.stage import rows_of, session_of, show
from tests.tui.test_outline import command

TURNS = 100
BITS = {"failed": FAILED, "long": LONG, "flagged": FLAGGED, "unreviewed": UNREVIEWED}
KINDS = {
    1: {"outcome": "failed", "exit_code": 1},
    2: {"end_ns": 3_000 * SECOND},
    3: {"command": "sudo rm -rf build"},
}


def many() -> ShownSession:
    """A session of turns with five commands each: a plain, a failed, a long, a flagged and a reviewed one."""
    spans = []
    for trace in range(TURNS):
        first, at = trace * 10, SECOND * (1_000 + trace * 10)
        spans.append(agent_span(first, trace=trace, start_ns=at, end_ns=at + 5 * SECOND))
        for each in range(5):
            start = at + SECOND * each
            said = {"start_ns": start, "end_ns": start + SECOND, **KINDS.get(each, {})}
            spans.append(command(first + 1 + each, parent=first, trace=trace, **said))
    shown = ShownSession("s", UNICODE, review=Review())
    shown.commands.review.marks = {
        (span.trace_id, span.span_id, "span") for span in spans if span.command and number(span.span_id) == 5
    }
    shown.add(spans)
    shown.refresh(LONG_AFTER)
    return shown


def number(name: bytes) -> int:
    return int.from_bytes(name, "big") % 10 - 1  # ids begin with 1


def turn_to(outline: CommandsOutline, name: str) -> None:
    while outline.review.filter.name != name:
        outline.review.cycle()
    outline.sift()


def wanted(name: str) -> list[int]:
    return {"all": [1, 2, 3, 4, 5], "failed": [2], "long": [3], "flagged": [4], "unreviewed": [1, 2, 3, 4]}[
        name
    ]


@pytest.mark.parametrize("name", [each.name for each in FILTERS])
def test_counts_keys_and_jumps_need_no_rows(name: str) -> None:
    outline = many().commands
    turn_to(outline, name)
    numbers = wanted(name)
    assert (len(outline), outline.total, outline.failed) == (TURNS * len(numbers), TURNS * 5, TURNS)
    keys = list(outline.keys())
    assert [number(key[1]) for key in keys] == numbers * TURNS
    for at, bit in enumerate(BITS.values()):
        has = [at for at, each in enumerate(numbers * TURNS) if _is(each, bit)]
        for after in (-1, 0, 7 + at, len(keys) - 1):
            expected = next((at for at in has if at > after), has[0] if has else None)
            assert outline.next_with(bit, after) == expected
    assert outline.built == 0
    assert [outline.row(at).key for at in (0, len(keys) - 1, 7)] == [keys[0], keys[-1], keys[7]]
    assert outline.built <= 3 * 5


def _is(each: int, bit: int) -> bool:
    return bit in {2: (FAILED,), 3: (LONG,), 4: (FLAGGED,)}.get(each, ()) or (bit == UNREVIEWED and each < 5)


@pytest.mark.parametrize("name", [each.name for each in FILTERS])
def test_keys_are_found_before_and_after_their_rows_were_made(name: str) -> None:
    outline = many().commands
    turn_to(outline, name)
    places = dict(zip(outline.keys(), range(len(outline)), strict=True))
    some = list(places)[:: max(1, len(places) // 40)]
    for _ in range(2):
        assert [outline.find(key) for key in some] == [places[key] for key in some]
        rows_of(outline)
    turn_to(outline, "all")
    hidden = sorted(set(outline.keys()) - places.keys())[:20]
    turn_to(outline, name)
    assert [outline.find(key) for key in hidden] == [None] * len(hidden)
    assert outline.find((trace_id(1), b"nothing!", "span")) is None
    assert outline.find((b"s", b"call_1", "call")) is None


@pytest.mark.parametrize("few", [1, 80])
def test_marks_change_rows_and_counts(few: int) -> None:
    outline = (shown := many()).commands
    turn_to(outline, "unreviewed")
    names = list(outline.keys())[:few]
    outline.review.mark(names, reviewed=True)
    outline.remark(names)
    outline.update(shown.turns, shown.moment)
    assert len(outline) == TURNS * 4 - few
    turn_to(outline, "all")
    for row in rows_of(outline):
        assert bool(row.mark) == (number(row.key[1]) == 5 or row.key in names)


def test_rows_that_nobody_looks_at_any_more_are_forgotten_and_made_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hermes_tui.tui.blocks._KEPT", 20)
    outline = many().commands
    first = rows_of(outline)
    assert sum(len(block.rows) for block in outline._blocks.values()) <= 20
    assert rows_of(outline) == first
    assert [row.value for row in first[:5]] == ["✓", "✗ 1", "✓", "✓", "✓"]


def test_a_command_that_runs_shows_its_clock_without_a_look() -> None:
    shown = show(
        [agent_span(0, end_ns=0), command(1, parent=0, end_ns=0)], session="s", now_ns=SECOND * 1_001
    )
    assert shown.commands.alive
    shown.add([agent_span(0), command(1, parent=0)])
    shown.refresh(LONG_AFTER)
    assert not shown.commands.alive


@pytest.mark.parametrize("name", ["shell_corners", "v123_parallel"])
def test_rows_are_the_same_made_at_once_or_later(name: str) -> None:
    spans = recorded_spans(name)
    now, later = (ShownSession(session_of(spans), UNICODE) for _ in range(2))
    known: dict[RowKey, Row] = {}
    for span in spans:
        for shown in (now, later):
            shown.add([span])
            shown.refresh(LONG_AFTER)
        known = {row.key: row for row in rows_of(now.commands)}
    assert {row.key: row for row in rows_of(later.commands)} == known
    assert known


def test_a_session_of_other_spans_has_no_commands() -> None:
    shown = show([agent_span(0), make_span(1, parent=0)], session="s", now_ns=LONG_AFTER)
    assert (len(shown.commands), shown.commands.total, shown.commands.newest()) == (0, 0, None)
    assert shown.commands.next_with(FAILED, -1) is None


@pytest.mark.parametrize("name", ["shell_corners", "v123_parallel", "thirty_steps"])
def test_calls_are_found_by_what_they_were_called_before_their_spans_came(name: str) -> None:
    live = Live()
    shown = ShownSession(roots(name)[0], UNICODE, live)
    for _, rows, spans in timeline(name):
        live.take(rows)
        shown.add(spans)
    shown.refresh(LONG_AFTER)
    calls = [item for item in shown.joined.items() if item.tool in COMMAND_TOOLS]
    places = {key: at for at, key in enumerate(shown.commands.keys())}
    assert any(item.also not in (None, item.key) for item in calls)
    for item in calls:
        for key in (item_key(item), call_key(item.key)):
            assert shown.commands.find(key) == places[item_key(item)]
    assert [row.key for row in rows_of(shown.commands)] == list(places)


def test_a_command_says_where_it_ran_when_that_is_not_where_the_session_works() -> None:
    live = Live()
    live.take([SessionRow("home", 1, "s", cwd="/srv/work")])
    shown = ShownSession("s", UNICODE, live)
    folders = ["/srv/work", None, "/srv/work/deep/down", "src", "/a\x1b[2Jb"]
    shown.add([agent_span(9), *(command(at, parent=9, cwd=folder) for at, folder in enumerate(folders))])
    shown.refresh(LONG_AFTER)
    places = [shown.commands.row(at).place for at in range(len(shown.commands))]
    assert places == ["", "", "in …/deep/down", "in src", "in /a␛[2Jb"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "/"),
        ("src", "src"),
        ("/srv", "/srv"),
        ("/srv/work", "/srv/work"),
        ("/srv/work/", "/srv/work/"),
        ("/srv/work/deep", "…/work/deep"),
        ("~/a/b/", "…/a/b"),
        ("/x\ny/ls/\u202eevil", "…/ls/⁞evil"),
    ],
)
def test_a_folder_is_named_by_its_end(path: str, name: str) -> None:
    assert folder_name(path, UNICODE) == name

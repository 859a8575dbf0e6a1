"""Spans → visible rows: what is drawn, in which order, and how little is built anew."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.model.live import Live
from hermes_tui.model.span import Kind, Role, Span, Status
from hermes_tui.model.state_rows import MessageRow, SessionRow
from hermes_tui.tui.blocks import MANY
from hermes_tui.tui.commands_outline import CommandsOutline
from hermes_tui.tui.glyphs import UNICODE
from hermes_tui.tui.heading import heading
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.nature import ERROR
from hermes_tui.tui.outline import TreeOutline
from hermes_tui.tui.rows import Row, turn_keys
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.trust import RelaySays
from tests.support import (
    LONG_AFTER,
    SECOND,
    agent_span,
    make_span,
    recorded_spans,
    recording_names,
    span_id,
    trace_id,
)
from tests.tui.stage import check_rows, last_ns, lines_of, rows_of, session_of, show, spans_until

NOW = SECOND * 2_000


def turn_with(trace: int, *, calls: int = 2, **said: object) -> list[Span]:
    """A finished turn in a trace of its own: a root, a wrapper, and terminal calls below it."""
    first = trace * 100
    at = SECOND * (1_000 + trace * 10)
    root = agent_span(first, trace=trace, start_ns=at, end_ns=at + 5 * SECOND, prompt=f"turn {trace}", **said)
    wrapper = make_span(
        first + 1,
        parent=first,
        trace=trace,
        role=Role.WRAPPER,
        kind=Kind.LLM,
        start_ns=at,
        end_ns=at + 4 * SECOND,
    )
    commands = [
        command(first + 2 + number, parent=first + 1, trace=trace, start_ns=at + SECOND * number)
        for number in range(calls)
    ]
    return [*commands, wrapper, root]


def command(number: int, **said: object) -> Span:
    facts = {"name": "tool.terminal", "kind": Kind.TOOL, "role": Role.TOOL, "tool": "terminal"}
    return make_span(
        number, **{**facts, "command": f"echo {number}", "exit_code": 0, "outcome": "completed", **said}
    )


# ---- what is drawn


def test_a_turn_in_progress_shows_its_children_before_its_root() -> None:
    shown = show(spans_until("shell_corners", 3))
    assert lines_of(shown.tree) == [
        "▾1 (turn in progress) | 93.6k",
        "  ◆ fake-gpt-1 → 1 tool | 15.3k",
        "  $ cat <<'X' | sort | uniq | ✓",
        "  ◆ fake-gpt-1 → 1 tool | 15.4k",
        "  $ ls /nonexistent-dir; exi | ✗ 3",
        "  ◆ fake-gpt-1 → 1 tool | 15.5k",
        "  $ for i in 1 2 3 4 5; do e | ✓",
        "  ◆ fake-gpt-1 → 1 tool | 15.6k",
        "  ▣ write_file /srv/lab/work | ✓",
        "  ◆ fake-gpt-1 → 1 tool | 15.8k",
        "  ▣ read_file /srv/lab/work/ | ✓",
        "  ◆ fake-gpt-1 → 3 tools | 16.0k",
        "  ▣ a tool runs, seen when i",
    ]
    head = shown.tree.row(0)
    assert head.since_ns
    assert head.time == ""


def test_the_same_turn_done() -> None:
    shown = show(spans_until("shell_corners"))
    head, *below = rows_of(shown.tree)
    assert head.text.startswith("[[s:multi]] Exercise the shell")
    assert (head.note, head.time, head.value, head.since_ns) == ("✓", "14s", "254.5k", 0)
    assert [row.value for row in below if row.glyph == "$"] == [
        "✓",
        "✗ 3",
        "✓",
        "✓",
        "✓",
        "exit ?",
        "✓",
        "✓",
    ]
    assert {row.depth for row in below} == {1}
    assert any(row.text.startswith("read_file /nope") and row.value == "✗" for row in below)


def test_only_the_newest_turn_is_open() -> None:
    shown = show(spans_until("approval"))
    turns = [row for row in rows_of(shown.tree) if row.key[2] == "turn"]
    assert [(row.marker, row.glyph, row.note) for row in turns] == [
        ("▾", "4", "✓"),
        ("▸", "3", "✓ 1 $"),
        ("▸", "2", "✓ 1 $"),
        ("▸", "1", "✓ 1 $"),
    ]
    assert "  ? you denied: rm -rf /srv/ | ✗ denied" in lines_of(shown.tree)


def test_a_session_that_was_purged_while_it_was_shown_has_no_rows() -> None:
    shown = show(turn_with(1), now_ns=NOW)
    assert len(shown.tree) == len(shown.commands) + 1 > 1
    shown.begin()
    shown.refresh(NOW)
    assert (len(shown.tree), len(shown.commands)) == (0, 0)
    with pytest.raises(IndexError, match=r"^0$"):
        shown.tree.row(0)
    shown.add(turn_with(2))
    shown.refresh(NOW)
    assert rows_of(shown.tree)[0].text == "turn 2"


def test_turns_nested_by_an_interrupt_become_turns_of_their_own() -> None:
    """After Ctrl-C the next turns join the same trace below an agent span whose llm span never comes."""
    shown = show(spans_until("interrupted"))
    assert lines_of(shown.tree) == [
        "▾3 [[s:turn1]] after interr | 33.0k",
        "  ◆ fake-gpt-1 → 1 tool | 16.5k",
        "  $ echo turn-one | ✓",
        "  ◆ fake-gpt-1 → answer | 16.5k",
        "▸2 [[s:slowllm]] slow llm | 16.3k",
        "▸1 [[s:slow]] slow one | 32.3k",
    ]
    notes = [row.note for row in rows_of(shown.tree) if row.key[2] == "turn"]
    assert notes == ["✓", "✓ 1 $", "◼ 2 $ ✗1"]


def test_subagents_hang_below_their_mark() -> None:
    shown = show(spans_until("v123_subagent"))
    assert lines_of(shown.tree)[2:6] == [
        "  ▣ delegate_task [[s:child] | ✓",
        "  ▾◈ [[s:child]] Count files | ◼ stopped",
        "    ◆ fake-gpt-1 → 1 tool | 9.6k",
        "    $ ls /etc | wc -l; sleep 1 | ✗ stopped",
    ]


def delegated(**said: object) -> list[Span]:
    """A turn with a subagent that made two model calls, the second by a subagent of its own."""
    agent = {"kind": Kind.AGENT, "role": Role.SUBAGENT, "name": "subagent.leaf", "prompt": "job"}
    call = {"kind": Kind.LLM, "role": Role.MODEL_CALL, "input_tokens": 1_000, "model": "m"}
    wrapper = {"kind": Kind.LLM, "role": Role.WRAPPER, "input_tokens": 1_000, "session": "child"}
    return [
        agent_span(0, prompt="turn", end_ns=SECOND * 1_100),
        make_span(1, parent=0, **call),
        make_span(2, parent=0, **{**agent, **said}),
        make_span(3, parent=2, **wrapper),
        make_span(4, parent=3, **call, session="child"),
        make_span(5, parent=2, **agent, final_status="completed"),
        make_span(6, parent=5, **call, session="grandchild"),
    ]


@pytest.mark.parametrize(
    ("said", "value", "note"),
    [
        ({"final_status": "completed"}, "✓", "2.0k"),
        ({"final_status": "interrupted"}, "◼ stopped", "2.0k"),
        ({"final_status": "failed", "status": Status.ERROR}, "✗ failed", "2.0k"),
        ({"final_status": "timeout", "status": Status.ERROR}, "✗ timeout", "2.0k"),
        ({"final_status": "failed"}, "✗ failed", "2.0k"),  # though the span itself tells of no error
        ({"status": Status.ERROR}, "✗ failed", "2.0k"),
        ({}, "✓", "2.0k"),
        ({"end_ns": 0}, "", "2.0k"),
    ],
)
def test_a_subagent_tells_how_it_ended_and_what_it_spent(
    said: dict[str, object], value: str, note: str
) -> None:
    shown = show(delegated(**said), session="s", now_ns=NOW)
    head, _, outer, _, inner, _ = rows_of(shown.tree)
    assert (outer.value, outer.note) == (value, note)
    assert (inner.value, inner.note) == ("✓", "1.0k")
    assert head.value == "3.0k"
    assert bool(outer.nature & ERROR) is value.startswith("✗")


def test_what_a_subagent_spent_grows_with_what_comes_after_its_end() -> None:
    """And is counted once, whatever came first."""
    *some, last = delegated(final_status="completed")
    shown = show(some, session="s", now_ns=NOW)
    assert [row.note for row in rows_of(shown.tree) if row.glyph == "◈"] == ["1.0k", ""]
    shown.add([last])
    shown.refresh(NOW)
    assert [row.note for row in rows_of(shown.tree) if row.glyph == "◈"] == ["2.0k", "1.0k"]
    assert rows_of(shown.tree) == rows_of(show([last, *some[::-1]], session="s", now_ns=NOW).tree)


@pytest.mark.parametrize(
    ("reason", "last", "value"),
    [(None, "Operation interrupted: waiting", "◼ stopped"), ("stop", "Done.", "✓")],
)
def test_a_subagent_without_a_span_tells_what_hermes_noted(reason: str | None, last: str, value: str) -> None:
    live = Live()
    said = {"home": "default", "revision": 1}
    live.take([
        SessionRow(**said, id="s", started_ns=SECOND),
        MessageRow(**said, id=1, session="s", role="user", text="turn", at_ns=SECOND),
        SessionRow(**said, id="kid", source="subagent", parent="s", started_ns=2 * SECOND, input_tokens=900),
        MessageRow(**said, id=2, session="kid", role="user", text="job", at_ns=2 * SECOND),
        MessageRow(
            **said, id=3, session="kid", role="assistant", text=last, finish_reason=reason, at_ns=3 * SECOND
        ),
    ])  # fmt: skip
    shown = ShownSession("s", UNICODE, live)
    shown.refresh(4 * SECOND)
    [agent] = [row for row in rows_of(shown.tree) if row.glyph == "◈"]
    assert (agent.value, agent.note, agent.time) == (value, "900", "1.0s")


def test_a_row_below_which_nothing_is_drawn_cannot_be_folded() -> None:
    """The first child agent of this recording has only wrappers below it, and they are not drawn."""
    shown = show(spans_until("subagent_children"))
    rows = rows_of(shown.tree)
    for at, row in enumerate(rows):
        opens = row.marker == shown.glyphs.open
        deeper = at + 1 < len(rows) and rows[at + 1].depth > row.depth
        assert opens == deeper or row.key[2] == "turn", row


@pytest.mark.parametrize("name", recording_names())
def test_wrappers_are_drawn_only_when_asked_for(name: str) -> None:
    spans = recorded_spans(name)
    wrappers = {(s.trace_id, s.span_id, "span") for s in spans if s.role is Role.WRAPPER}
    for raw in (False, True):
        shown = ShownSession(session_of(spans), show(spans).glyphs)
        shown.tree.set_raw(raw)
        shown.add(spans)
        shown.refresh(LONG_AFTER)
        for turn in shown.forest.turns:
            shown.tree.set_fold((*turn.key, "turn"), False)
        shown.refresh(LONG_AFTER)
        drawn = {row.key for row in rows_of(shown.tree)}
        traces = set(shown.forest.views)
        here = {key for key in wrappers if key[0] in traces}
        assert drawn & here == (here if raw else set())
        if raw:
            own = {turn.span.span_id for turn in shown.forest.turns if turn.span is not None}
            spans_drawn = {key[:2] for key in drawn if key[2] == "span"}
            known = {(s.trace_id, s.span_id) for s in spans if s.span_id not in own and s.trace_id in traces}
            assert known <= spans_drawn


@pytest.mark.parametrize("name", recording_names())
def test_rows_are_found_by_their_keys_at_every_moment(name: str) -> None:
    spans = recorded_spans(name)
    session = session_of(spans)
    shown = ShownSession(session, show(spans).glyphs)
    raw = ShownSession(session, shown.glyphs)
    raw.tree.set_raw(True)
    for span in spans:
        for each in (shown, raw):
            each.add([span])
            each.refresh(span.end_ns + SECOND)
            check_rows(each.tree)
            check_rows(each.commands)


def test_commands_are_listed_oldest_first_with_their_time_of_day() -> None:
    shown = show(spans_until("shell_corners"))
    rows = rows_of(shown.commands)
    assert [row.marker for row in rows] == sorted(row.marker for row in rows)
    assert (rows[0].marker, rows[0].glyph, rows[0].text[:9]) == ("02:30:32", "$", "cat <<'X'")
    assert shown.commands.newest() == rows[-1].key
    assert shown.commands.failed == 1
    check_rows(shown.commands)


def test_an_empty_session_has_no_rows() -> None:
    for outline in (TreeOutline(), CommandsOutline()):
        outline.update([], Moment(0))
        assert len(outline) == 0
        assert outline.newest() is None
        with pytest.raises(IndexError):
            outline.row(0)
        with pytest.raises(IndexError):
            outline.row(-1)


# ---- placeholders, and children before parents


def test_a_placeholder_is_filled_in_place() -> None:
    """A child agent's spans come first; the subagent span that they hang below takes its place's row."""
    child = dict.fromkeys(["session"], "child")
    root = agent_span(0, prompt="turn", end_ns=SECOND * 1_900)
    below = [command(11, parent=10, **child), command(12, parent=10, **child)]
    parent = make_span(
        10,
        parent=0,
        name="subagent.worker",
        kind=Kind.AGENT,
        role=Role.SUBAGENT,
        prompt="job",
        end_ns=SECOND * 1_100,
    )
    shown = show([root, *below], session="s", now_ns=NOW)
    before = rows_of(shown.tree)
    assert lines_of(shown.tree)[1:] == ["  ▾◌ parent never seen", "    $ echo 11 | ✓", "    $ echo 12 | ✓"]
    shown.add([parent])
    shown.refresh(NOW)
    assert lines_of(shown.tree)[1:] == ["  ▾◈ job | ✓", "    $ echo 11 | ✓", "    $ echo 12 | ✓"]
    assert [row.key for row in rows_of(shown.tree)] == [row.key for row in before]


def test_a_late_root_keeps_every_row_in_its_place() -> None:
    spans = turn_with(0, calls=3)
    *early, root = spans
    shown = show(early, session="s", now_ns=SECOND * 1_006)
    *before, waiting = rows_of(shown.tree)
    assert before[0].text == "(turn in progress)"
    assert waiting.text == "waiting for the model"
    assert shown.tree.newest() == before[-1].key
    shown.add([root])
    shown.refresh(SECOND * 1_006)
    after = rows_of(shown.tree)
    assert [row.key for row in after] == [row.key for row in before]
    assert after[0].text == "turn 0"


@pytest.mark.parametrize("name", ["shell_corners", "v123_parallel", "subagent_children", "interrupted"])
def test_the_keys_of_rows_never_change_while_a_recording_arrives(name: str) -> None:
    """Once drawn, an open span's row stays findable.

    Some may turn out to be something else: a placeholder, what was awaited, and a child's agent span when
    the subagent span that it repeats comes.
    """
    spans = recorded_spans(name)
    shown = ShownSession(session_of(spans), show(spans).glyphs)
    seen: dict[tuple[bytes, bytes, str], Row] = {}
    for span in spans:
        shown.add([span])
        shown.refresh(span.end_ns + SECOND)
        for turn in shown.turns:
            shown.tree.set_fold(turn_keys(turn)[0], False)
        shown.refresh(span.end_ns + SECOND)
        may_go = ("missing", "subagent", "waiting")
        lost = [row for key, row in seen.items() if shown.tree.find(key) is None and row.style not in may_go]
        assert lost == []
        seen |= {row.key: row for row in rows_of(shown.tree)}


# ---- any order, any batches


ORDERED = {name: show(recorded_spans(name), now_ns=LONG_AFTER) for name in recording_names()}


@given(data=st.data(), name=st.sampled_from(["interrupted", "subagent_children", "approval", "api_error"]))
def test_any_order_and_any_batches_end_in_the_same_rows(data: st.DataObject, name: str) -> None:
    spans = list(recorded_spans(name))
    shuffled = data.draw(st.permutations(spans))
    expected = ORDERED[name]
    shown = ShownSession(expected.id, expected.glyphs)
    at = 0
    while at < len(shuffled):
        size = data.draw(st.integers(1, 8))
        repeated = shuffled[max(0, at - data.draw(st.integers(0, 3))) : at + size]
        shown.add(repeated)
        shown.refresh(last_ns(shuffled[: at + size]))
        at += size
    shown.refresh(LONG_AFTER)
    assert rows_of(shown.tree) == rows_of(expected.tree)
    assert rows_of(shown.commands) == rows_of(expected.commands)
    check_rows(shown.tree)
    assert heading(shown, RelaySays(), "") == heading(expected, RelaySays(), "")


@given(data=st.data())
def test_folding_and_unfolding_never_loses_a_row(data: st.DataObject) -> None:
    shown = show(recorded_spans("subagent_children"), now_ns=LONG_AFTER)
    for _ in range(data.draw(st.integers(1, 12))):
        foldable = [row for row in rows_of(shown.tree) if row.marker]
        row = data.draw(st.sampled_from(foldable))
        shown.tree.set_fold(row.key, row.marker == shown.glyphs.open)
        if data.draw(st.booleans()):
            shown.tree.set_raw(not shown.tree.raw)
        shown.refresh(LONG_AFTER)
        check_rows(shown.tree)
    _unfold_all(shown)
    shown.tree.set_raw(False)
    shown.refresh(LONG_AFTER)
    fresh = show(recorded_spans("subagent_children"), now_ns=LONG_AFTER)
    _unfold_all(fresh)
    assert rows_of(shown.tree) == rows_of(fresh.tree)


def _unfold_all(shown: ShownSession) -> None:
    folded: Iterable[Row] = [row for row in rows_of(shown.tree) if row.marker == shown.glyphs.folded]
    while folded:
        for row in folded:
            shown.tree.set_fold(row.key, False)
        shown.refresh(LONG_AFTER)
        folded = [row for row in rows_of(shown.tree) if row.marker == shown.glyphs.folded]


# ---- folds, raw, reveal


def test_a_folded_row_hides_what_is_below_and_nothing_else() -> None:
    shown = show(recorded_spans("v123_subagent"))
    before = rows_of(shown.tree)
    mark = next(row for row in before if row.glyph == "◈")
    shown.tree.set_fold(mark.key, True)
    shown.refresh(LONG_AFTER)
    after = rows_of(shown.tree)
    hidden = [row for row in before if row.depth == 2]
    assert hidden
    assert [row.key for row in after] == [row.key for row in before if row not in hidden]
    assert shown.tree.row(3).marker == "▸"


def test_folds_outlive_new_spans() -> None:
    shown = show([*turn_with(0), *turn_with(1)], session="s", now_ns=NOW)
    older = next(row for row in rows_of(shown.tree) if row.text == "turn 0")
    newest = next(row for row in rows_of(shown.tree) if row.text == "turn 1")
    shown.tree.set_fold(older.key, False)
    shown.tree.set_fold(newest.key, True)
    shown.add([*turn_with(2), command(98, parent=1, trace=0), command(99, parent=101, trace=1)])
    shown.refresh(NOW)
    assert [(row.text, row.marker) for row in rows_of(shown.tree) if row.key[2] == "turn"] == [
        ("turn 2", "▾"),
        ("turn 1", "▸"),
        ("turn 0", "▾"),
    ]
    assert any(row.text == "echo 98" for row in rows_of(shown.tree))


def test_reveal_opens_the_turn_and_every_row_above() -> None:
    child = dict.fromkeys(["session"], "child")
    spans = [
        agent_span(0, prompt="old", end_ns=SECOND * 1_500),
        make_span(1, parent=0, name="subagent.a", kind=Kind.AGENT, role=Role.SUBAGENT, prompt="job"),
        make_span(2, parent=1, name="chain", **child),
        command(3, parent=2, **child),
        *turn_with(5),
    ]
    shown = show(spans, session="s", now_ns=NOW)
    job, chain = ((trace_id(0), span_id(number), "span") for number in (1, 2))
    for key in (job, chain):
        shown.tree.set_fold(key, True)
    shown.refresh(NOW)
    wanted = (trace_id(0), span_id(3), "span")
    assert shown.tree.find(wanted) is None
    shown.reveal(wanted)
    line = shown.tree.find(wanted)
    assert line is not None
    assert shown.tree.row(line).text == "echo 3"
    assert shown.tree.parent(line) == shown.tree.find(chain)
    check_rows(shown.tree)


@pytest.mark.parametrize("name", recording_names())
def test_every_command_can_be_revealed(name: str) -> None:
    shown = show(recorded_spans(name), now_ns=LONG_AFTER)
    for row in rows_of(shown.commands):
        shown.reveal(row.key)
        line = shown.tree.find(row.key)
        assert line is not None, row
        assert shown.tree.row(line).text == row.text


# ---- how little is built


def test_only_the_changed_turn_is_built_anew() -> None:
    spans = [span for trace in range(200) for span in turn_with(trace)]
    shown = show(spans, session="s", now_ns=SECOND * 3_100)
    assert len(shown.tree) == 202
    assert shown.tree.built < 2 * MANY  # the others' rows are made when somebody looks
    assert len(rows_of(shown.tree)) == shown.tree.built == 202
    assert (shown.commands.built, len(shown.commands)) == (0, 400)
    assert len(rows_of(shown.commands)) == shown.commands.built == 400

    shown.add([command(98, parent=2, trace=0)])
    shown.refresh(SECOND * 3_100)
    assert shown.tree.built == 202 + 1  # the one line of the folded first turn
    assert shown.commands.built == 400
    assert len(rows_of(shown.commands)) == 401
    assert shown.commands.built == 400 + 3

    shown.add([command(19_999, parent=19_901, trace=199)])
    shown.refresh(SECOND * 3_100)
    assert shown.tree.built == 203 + 4  # the open, newest turn

    shown.add(spans)
    shown.refresh(SECOND * 3_100)
    assert shown.tree.built == 207  # nothing new in what was sent again
    assert len(rows_of(shown.commands)) == 402
    assert shown.commands.built == 403 + 3


def test_a_new_turn_builds_its_own_rows_and_folds_the_last() -> None:
    shown = show([span for trace in range(50) for span in turn_with(trace)], session="s", now_ns=NOW)
    built = shown.tree.built
    shown.add(turn_with(50, calls=5))
    shown.refresh(NOW)
    assert shown.tree.built == built + 6 + 1


def test_the_clock_alone_rebuilds_only_turns_that_fell_silent() -> None:
    turns = [*turn_with(0), *turn_with(1), *turn_with(2)[:-1]]  # the last root never comes
    shown = show(turns, session="s", now_ns=SECOND * 1_030)
    assert shown.tree.row(0).since_ns
    built = shown.tree.built
    shown.refresh(SECOND * 1_031)
    assert shown.tree.built == built
    shown.refresh(SECOND * 4_000)
    assert shown.tree.built == built + 3
    assert shown.tree.row(0).since_ns == 0
    assert shown.tree.row(0).text == "(prompt not seen)"


def test_a_very_deep_trace_is_no_problem() -> None:
    spans = [agent_span(0, end_ns=SECOND * 9_000)]
    spans += [make_span(number, parent=number - 1, start_ns=SECOND * 1_000) for number in range(1, 5_000)]
    shown = show(reversed(spans), session="s", now_ns=SECOND * 9_001)
    assert len(shown.tree) == 5_000
    assert shown.tree.row(4_999).depth == 4_999
    assert shown.tree.parent(4_999) == 4_998


def test_the_work_of_a_subagent_hangs_below_it_though_its_model_span_never_came() -> None:
    lines = lines_of(show(recorded_spans("subagent_children"), now_ns=LONG_AFTER).tree)
    at = next(number for number, line in enumerate(lines) if "◈" in line)
    assert lines[at].startswith("  ▾◈")
    assert [line[:5] for line in lines[at + 1 : at + 3]] == ["    ◆", "    $"]
    assert not any("never seen" in line for line in lines)


# ---- the newest turn of the user's


def heads(shown: ShownSession) -> list[tuple[str, str, str]]:
    return [(row.marker, row.glyph, row.note) for row in rows_of(shown.tree) if not row.depth]


def test_a_background_review_is_one_quiet_line_below_the_open_turn() -> None:
    spans = sorted(recorded_spans("v123_preview"), key=lambda span: span.end_ns)
    shown = ShownSession(session_of(spans), UNICODE)
    for span in spans:
        shown.add([span])
        shown.refresh(span.end_ns + SECOND)
    assert heads(shown) == [("▸", "2", "–"), ("▾", "1", "✓")]  # Hermes ended, nobody interrupted it
    assert shown.tree.newest() == rows_of(shown.tree)[-1].key
    shown.tree.set_fold(shown.tree.row(0).key, False)
    shown.refresh(LONG_AFTER)
    assert [marker for marker, *_ in heads(shown)] == ["▾", "▾"]
    shown.tree.fold_all(True)
    shown.refresh(LONG_AFTER)
    assert [marker for marker, *_ in heads(shown)] == ["▸", "▸"]


def test_a_review_is_open_while_it_runs_and_the_turn_stays_so() -> None:
    review = agent_span(300, trace=3, start_ns=SECOND * 1_040, end_ns=0, prompt="Review", review=True)
    work = command(301, parent=300, trace=3, start_ns=SECOND * 1_041, end_ns=SECOND * 1_042)
    shown = show([*turn_with(1), review, work], now_ns=SECOND * 1_043)
    assert [marker for marker, *_ in heads(shown)] == ["▾", "▾"]
    assert shown.tree.newest() == rows_of(shown.tree)[-1].key  # a reader of the answer is not taken away
    ended = agent_span(
        300, trace=3, start_ns=SECOND * 1_040, end_ns=SECOND * 1_050, prompt="Review", review=True,
        final_status="completed",
    )  # fmt: skip
    shown.add([ended])
    shown.refresh(SECOND * 1_051)
    assert heads(shown) == [("▸", "2", "✓ 1 $"), ("▾", "1", "✓")]
    shown.add(turn_with(9))
    shown.refresh(SECOND * 1_200)
    assert [marker for marker, *_ in heads(shown)] == ["▾", "▸", "▸"]


# ---- retries


def test_a_failed_model_call_was_retried_once_another_came() -> None:
    spans = sorted(recorded_spans("api_error"), key=lambda span: span.end_ns)
    shown = show(spans, now_ns=last_ns(spans) + SECOND)
    *calls, waiting = [row for row in rows_of(shown.tree) if row.glyph == "◆" and row.depth]
    assert waiting.text == "waiting for the model"
    assert [row.value for row in calls[1:]] == ["✗ ↻", "✗ ↻", "✗"]

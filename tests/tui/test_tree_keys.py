"""The tree's own keys: jumps, folds of all turns and by level, filters; and that they look at few rows."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.model.jobs import Job
from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.live import Live
from hermes_tui.model.span import Kind, Outcome, Role, Span, Status
from hermes_tui.tui.blocks import MANY
from hermes_tui.tui.glyphs import UNICODE
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.nature import ERROR, FILTERS, RUNNING, contents, errors_now, nature_of, sift
from hermes_tui.tui.navigating import navigate
from hermes_tui.tui.ordering import ORDERS
from hermes_tui.tui.rows import Row, RowKey
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.standin_rows import call_row
from hermes_tui.tui.standins import StandIn
from tests.model.timeline import roots
from tests.state_player import StatePlayer, state_events, state_names
from tests.support import SECOND, agent_span, make_span, recorded_spans, recording_names
from tests.tui.stage import check_rows, head_of, last_ns, lines_of, rows_of, show

NOW = SECOND * 200_000


def call(number: int, trace: int, *, parent: int, at: int, lasts: float = 0.1, **said: object) -> Span:
    begin = at * SECOND
    return make_span(
        number, trace=trace, parent=parent, start_ns=begin, end_ns=begin + int(lasts * SECOND), **said
    )


def turn_of(trace: int, *parts: str) -> list[Span]:
    """A finished turn: `ok` and `bad` are commands, `llm` and `fail` model calls, `slow` a tool of 11 s,
    `no` a refused approval, `sub` a subagent with a command that fails.
    """
    first, at = trace * 100, 1_000 + trace * 100
    root = agent_span(
        first, trace=trace, start_ns=at * SECOND, end_ns=(at + 90) * SECOND, prompt=f"turn {trace}",
        final_status="completed",
    )  # fmt: skip
    spans = [root]
    for index, part in enumerate(parts, 1):
        number, when = first + 2 * index, at + 2 * index
        command = {
            "role": Role.TOOL,
            "kind": Kind.TOOL,
            "tool": "terminal",
            "command": f"{part} {trace}.{index}",
        }
        said: dict[str, object] = {
            "ok": {**command, "exit_code": 0, "outcome": "completed"},
            "bad": {**command, "exit_code": 3, "outcome": "failed"},
            "llm": {"role": Role.MODEL_CALL, "kind": Kind.LLM, "model": "gpt", "finish_reason": "stop"},
            "fail": {"role": Role.MODEL_CALL, "kind": Kind.LLM, "model": "gpt", "status": Status.ERROR},
            "slow": {"role": Role.TOOL, "kind": Kind.TOOL, "tool": "web_extract", "lasts": 11},
            "no": {"role": Role.APPROVAL, "decision": "denied", "target": "rm x"},
            "sub": {"role": Role.SUBAGENT, "kind": Kind.AGENT, "prompt": "job"},
        }[part]
        spans.append(call(number, trace, parent=first, at=when, **said))
        if part == "sub":
            inner = {**command, "exit_code": 1, "outcome": "failed", "command": f"inner {trace}.{index}"}
            spans.append(call(number + 1, trace, parent=number, at=when + 1, **inner))
    return spans


def session(*turns: Iterable[str]) -> ShownSession:
    """Turns in order of time."""
    return show([span for trace, parts in enumerate(turns, 1) for span in turn_of(trace, *parts)], now_ns=NOW)


def press(shown: ShownSession, cursor: RowKey | None, what: str, by: int = 1) -> tuple[RowKey | None, str]:
    told = navigate(shown.tree, cursor, what, by)
    shown.refresh(NOW)
    return told.goal or cursor, told.says


def text_at(shown: ShownSession, key: RowKey | None) -> str:
    line = shown.tree.find(key)
    assert line is not None
    return shown.tree.row(line).text.strip()


def walk(shown: ShownSession, what: str, by: int, times: int) -> list[str]:
    """Where a key leads from the newest turn's head, and what is said on the way."""
    cursor: RowKey | None = shown.tree.row(0).key
    found = []
    for _ in range(times):
        cursor, says = press(shown, cursor, what, by)
        found.append(text_at(shown, cursor) + (f" ({says})" if says else ""))
    return found


# ---- jumps

TURNS = (("ok", "bad", "llm"), ("ok",), ("fail", "llm", "no"), ("llm", "sub", "ok"))


@pytest.mark.parametrize(
    ("what", "by", "expected"),
    [
        ("error", 1, ["inner 4.2", "gpt", "you denied: rm x", "bad 1.2", "inner 4.2 (Went on at the top.)"]),
        ("error", -1, ["bad 1.2 (Went on at the end.)", "you denied: rm x", "gpt", "inner 4.2"]),
        ("command", 1, ["inner 4.2", "ok 4.3", "ok 2.1", "ok 1.1", "bad 1.2"]),
        ("turn", 1, ["turn 3", "turn 2", "turn 1", "turn 4 (Went on at the top.)"]),
        ("turn", -1, ["turn 1 (Went on at the end.)", "turn 2"]),
    ],
)
def test_jumps_find_what_is_folded_and_go_on_at_the_other_end(
    what: str, by: int, expected: list[str]
) -> None:
    assert walk(session(*TURNS), what, by, len(expected)) == expected


def test_previous_turn_is_first_the_head_of_the_own_turn() -> None:
    shown = session(*TURNS)
    cursor, _ = press(shown, shown.tree.row(0).key, "command")
    assert text_at(shown, press(shown, cursor, "turn", -1)[0]) == "turn 4"


def test_a_jump_unfolds_what_hides_its_goal_and_nothing_else() -> None:
    shown = session(*TURNS)
    subagent = next(row.key for row in rows_of(shown.tree) if row.text == "job")
    shown.tree.set_fold(subagent, True)
    shown.tree.set_fold(head_of(4), True)
    shown.refresh(NOW)
    cursor, _ = press(shown, None, "error")
    assert text_at(shown, cursor) == "inner 4.2"
    assert [row.marker for row in rows_of(shown.tree) if not row.depth] == ["▾", "▸", "▸", "▸"]


def test_without_a_goal_a_jump_says_so_and_stays() -> None:
    shown = session(("ok",), ("bad",))
    cursor, _ = press(shown, None, "error")
    assert press(shown, cursor, "error") == (cursor, "No other error.")
    assert press(ShownSession("s", UNICODE), None, "error") == (None, "No error.")


def test_a_turn_that_failed_without_a_failing_row_is_an_error() -> None:
    root = agent_span(100, trace=1, start_ns=SECOND, end_ns=2 * SECOND, prompt="lost", final_status="failed")
    shown = show([root, *turn_of(2, "ok")], now_ns=NOW)
    assert walk(shown, "error", 1, 1) == ["lost"]


# ---- folds


def test_all_turns_fold_and_unfold() -> None:
    shown = session(*TURNS)
    press(shown, None, "all", 1)
    assert {row.marker for row in rows_of(shown.tree) if not row.depth} == {"▾"}
    press(shown, None, "all", -1)
    assert [row.text for row in rows_of(shown.tree)] == ["turn 4", "turn 3", "turn 2", "turn 1"]
    shown.add(turn_of(5, "ok"))
    shown.refresh(NOW)
    assert [row.text for row in rows_of(shown.tree)][:3] == ["turn 5", "ok 5.1", "turn 4"]


def test_levels() -> None:
    shown = session(("sub",), ("llm", "sub", "ok"))
    cursor = shown.tree.row(0).key

    def below() -> list[str]:
        texts = [row.text for row in rows_of(shown.tree)]
        return texts[1 : texts.index("turn 1")]

    everything = ["gpt → answer", "job", "inner 2.2", "ok 2.3"]
    assert below() == everything
    for by, expected in (
        (-1, ["gpt → answer", "job", "ok 2.3"]),
        (-1, []),
        (1, ["gpt → answer", "job", "ok 2.3"]),
    ):
        press(shown, cursor, "level", by)
        assert below() == expected
    press(shown, cursor, "level", 1)
    assert below() == everything
    press(shown, cursor, "level", 1)
    assert below() == everything


# ---- filters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("errors", ["turn 4", "job", "inner 4.2", "turn 3", "gpt", "you denied: rm x", "turn 1", "bad 1.2"]),
        (
            "commands",
            ["turn 4", "job", "inner 4.2", "ok 4.3", "turn 2", "ok 2.1", "turn 1", "ok 1.1", "bad 1.2"],
        ),
        (
            "model calls",
            ["turn 4", "gpt → answer", "turn 3", "gpt", "gpt → answer", "turn 1", "gpt → answer"],
        ),
        ("other tools", ["turn 4"]),
        ("approvals", ["turn 4", "turn 3", "you denied: rm x"]),
        ("subagents", ["turn 4", "job"]),
        ("over 10 s", ["turn 4"]),
    ],
)
def test_a_filter_leaves_its_kind_and_what_that_hangs_below(name: str, expected: str) -> None:
    shown = session(*TURNS)
    shown.tree.set_filter(next(each for each in FILTERS if each.name == name))
    shown.refresh(NOW)
    assert [row.text.strip() for row in rows_of(shown.tree)] == expected
    assert [row.glyph for row in rows_of(shown.tree) if row.text == "turn 1"] in ([], ["1"])
    check_rows(shown.tree)
    shown.tree.set_filter(FILTERS[0])
    shown.refresh(NOW)
    assert lines_of(shown.tree) == lines_of(session(*TURNS).tree)


def test_the_filter_key_goes_round() -> None:
    shown = session(*TURNS)
    names = []
    for _ in FILTERS:
        press(shown, None, "filter")
        names.append(shown.tree.filter.name)
    assert names == [
        "errors", "commands", "other tools", "model calls", "approvals", "subagents", "over 10 s", "all"
    ]  # fmt: skip


def test_running_work_passes_every_filter() -> None:
    spans = recorded_spans("shell_corners")
    running = [span for span in spans if span.role is Role.MODEL_CALL][:3]
    shown = show(running, now_ns=last_ns(running) + SECOND)
    waiting = rows_of(shown.tree)[-1]
    assert waiting.nature & RUNNING
    shown.tree.set_filter(FILTERS[1])
    shown.refresh(last_ns(running) + SECOND)
    assert waiting.text in [row.text for row in rows_of(shown.tree)]


# ---- what is counted is what is drawn


def counted(rows: list[Row]) -> tuple[int, ...]:
    return (
        len(rows),
        *(sum(bool(row.nature & which.wants) for row in rows) for which in FILTERS[1:]),
    )


@pytest.mark.parametrize("name", recording_names())
def test_contents_are_what_the_rows_of_recordings_are(name: str) -> None:
    spans = recorded_spans(name)
    if not any(span.session for span in spans):
        pytest.skip("no session in it")
    shown = show(spans, now_ns=last_ns(spans) + 3_600 * SECOND)
    for turn in shown.turns:
        known = contents(turn)
        rows = shown.tree._rows(turn, running=False, unfolded=True)[1]
        if known.simple:
            assert tuple(known.count(which.wants) for which in FILTERS) == counted(rows)
            assert known.deep == max((row.depth for row in rows), default=known.deep)
        assert shown.tree.errors(turn) == counted(rows)[1]
        assert known.retries == sum("↻" in row.value for row in rows)


PARTS = st.lists(st.sampled_from(["ok", "bad", "llm", "fail", "slow", "no", "sub"]), max_size=5)


@given(kinds=st.lists(PARTS, min_size=1, max_size=5), which=st.sampled_from(FILTERS))
def test_rows_made_later_are_those_made_at_once(kinds: list[list[str]], which: object) -> None:
    """Many turns are opened in one go: the first are made at once, the others when they are looked at."""
    turns = [kinds[number % len(kinds)] for number in range(MANY + 8)]
    at_once, later = session(*turns), session(*turns)
    for shown in (at_once, later):
        shown.tree.set_filter(which)  # type: ignore[arg-type]
        shown.tree.fold_all(False)
    later.refresh(NOW)
    for turn in range(1, MANY + 9):
        at_once.tree.set_fold(head_of(turn), False)
    at_once.tree._making = -1_000_000
    at_once.tree.update(at_once.turns, at_once.moment)
    expected = lines_of(at_once.tree)
    assert len(later.tree) == len(expected)
    assert lines_of(later.tree) == expected
    check_rows(later.tree)


# ---- little is looked at


def test_unfolding_a_long_session_makes_the_rows_that_are_looked_at() -> None:
    shown = session(*[["llm", "ok"] * 4] * 1_000)
    made = shown.tree.built
    assert made < 100
    press(shown, None, "all", 1)
    assert len(shown.tree) == 9_000
    assert shown.tree.built - made < 20 * MANY
    before = shown.tree.built
    middle = [shown.tree.row(number) for number in range(5_000, 5_040)]
    assert shown.tree.built - before <= 60
    assert [shown.tree.find(row.key) for row in middle] == list(range(5_000, 5_040))


def test_what_was_looked_at_long_ago_is_forgotten_and_made_again() -> None:
    shown = session(*[["llm", "ok"] * 4] * 1_000)
    press(shown, None, "all", 1)
    first = [row.key for row in rows_of(shown.tree)]
    assert sum(len(block.rows) for block in shown.tree._blocks.values()) < 6_000
    assert [shown.tree.find(key) for key in first[::97]] == list(range(0, 9_000, 97))


def test_a_jump_over_a_long_session_makes_the_rows_of_one_turn() -> None:
    shown = session(["bad"], *[["llm", "ok"] * 4] * 500)
    made = shown.tree.built
    assert walk(shown, "error", 1, 1) == ["bad 1.1"]
    assert shown.tree.built - made < 20


def test_sifting_keeps_the_way_up_and_no_more() -> None:
    def row(depth: int, nature: int = 0) -> Row:
        return Row((b"", b"", "span"), depth, "", "", f"{depth}", "", nature=nature)

    rows = [row(1), row(2), row(3, ERROR), row(3), row(2), row(1), row(2, ERROR), row(2), row(3, RUNNING)]
    assert [each.depth for each in sift(rows, ERROR)] == [1, 2, 3, 1, 2, 2, 3]


# ---- what a folded turn says of errors


def test_a_folded_turn_counts_every_error() -> None:
    shown = session(("ok", "bad", "no"), ("no",), ("fail", "llm"), ("sub",), ("ok",))
    notes = [row.note for row in rows_of(shown.tree) if not row.depth]
    assert notes[1:] == ["✓ 1 $ ✗1", "✓ ✗1 ↻1", "✓ ✗1", "✓ 2 $ ✗2"]
    press(shown, None, "all", -1)
    assert [row.note for row in rows_of(shown.tree)] == ["✓ 1 $", *notes[1:]]


def noted(name: str, home: Path) -> Live:
    """Hermes' records as a late reader finds them."""
    player = StatePlayer(home)
    player.play(state_events(name))
    player.close()
    live = Live()
    with closing(Watch(find=lambda: [Home("default", home)])) as records:
        live.take(records.poll())
        for root in roots(name):
            records.pin(root)
        live.take(records.poll())
    return live


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", state_names())
def test_errors_are_counted_alike_with_spans_and_records(name: str, traced: bool, tmp_path: Path) -> None:
    live, spans = noted(name, tmp_path / "home"), recorded_spans(name)
    for root in roots(name):
        shown = ShownSession(root, UNICODE, live)
        shown.add(spans if traced else [])
        shown.refresh(last_ns(spans) + 10**15)
        assert shown.turns
        for turn in shown.turns:
            rows = shown.tree._rows(turn, running=False, unfolded=True)[1]
            assert shown.tree.errors(turn) == counted(rows)[1], lines_of(shown.tree)


_BACKGROUND = {"tool": "terminal", "end_ns": 2 * SECOND, "outcome": Outcome.BACKGROUND, "exit_code": 0}


@pytest.mark.parametrize(
    ("said", "job", "fails"),
    [
        ({"tool": "terminal", "end_ns": 2 * SECOND, "outcome": Outcome.BLOCKED}, {}, True),
        (
            {"tool": "read_file", "end_ns": 2 * SECOND, "outcome": Outcome.BLOCKED},
            {},
            False,
        ),  # as it is drawn
        ({"tool": "read_file", "end_ns": 2 * SECOND, "outcome": Outcome.FAILED}, {}, True),
        ({"tool": "read_file", "dropped": True}, {}, True),
        ({"tool": "read_file"}, {}, True),
        (_BACKGROUND, {}, False),
        (_BACKGROUND, {"ended": True, "exit_code": 1}, True),
        (_BACKGROUND, {"ended": True, "exit_code": 0}, False),
        (_BACKGROUND, {"ended": True}, False),
        (_BACKGROUND, {"heard_ns": NOW}, False),
    ],
)
def test_a_call_without_a_span_is_counted_as_it_is_drawn(
    said: dict[str, Any], job: dict[str, Any], fails: bool
) -> None:
    item = Item(**{
        "key": ("s", "1"), "session": "s", "sources": frozenset(), "asked_ns": SECOND, "start_ns": SECOND,
        "end_ns": 0, **said,
    })  # fmt: skip
    turn = JoinedTurn(("s", SECOND), None, None, None, "asked", SECOND, (item,))
    jobs = {("s", "1"): Job("job", "s", call=("s", "1"), started_ns=SECOND, **job)} if job else {}
    moment = Moment(NOW, "s", jobs=jobs)
    row = call_row(item, turn, moment, UNICODE)
    place = StandIn(row.key, item.start_ns, item)
    assert bool(nature_of(row, place, NOW, UNICODE) & ERROR) is fails
    assert errors_now(turn, contents(turn), moment) == fails


# ---- filters and folds


def errors_only(shown: ShownSession) -> str:
    return press(shown, None, "filter")[1]


def test_a_filter_opens_what_the_user_had_folded_and_gives_the_folds_back() -> None:
    shown = session(("bad",), ("ok",), ("sub", "ok"))
    subagent = next(row.key for row in rows_of(shown.tree) if row.text == "job")
    shown.tree.set_fold(subagent, True)
    press(shown, None, "all", -1)
    before = lines_of(shown.tree)
    assert errors_only(shown) == "Only errors. Esc shows all."
    texts = ["turn 3", "job", "inner 3.1", "turn 1", "bad 1.1"]
    assert [row.text for row in rows_of(shown.tree)] == texts
    shown.tree.set_fold(head_of(1), True)
    shown.refresh(NOW)
    assert [row.text for row in rows_of(shown.tree)] == texts[:-1]
    shown.tree.hold(next(row.key for row in rows_of(shown.tree) if row.depth))
    assert shown.tree.lift()
    shown.refresh(NOW)
    assert lines_of(shown.tree) == before
    press(shown, None, "all", 1)
    assert "job" in [row.text for row in rows_of(shown.tree)]
    assert "inner 3.1" not in [row.text for row in rows_of(shown.tree)]


def test_unfolding_all_outlives_a_filter() -> None:
    shown = session(*TURNS)
    press(shown, None, "all", 1)
    before = lines_of(shown.tree)
    errors_only(shown)
    assert lines_of(shown.tree) != before
    shown.tree.lift()
    shown.refresh(NOW)
    assert lines_of(shown.tree) == before


def test_a_filter_that_lets_nothing_through_says_so() -> None:
    shown = session(("ok",), ("llm",))
    assert errors_only(shown) == "Only errors: none. Esc shows all."
    assert press(shown, None, "filter")[1] == "Only commands. Esc shows all."


# ---- levels of all turns


def test_levels_of_all_turns() -> None:
    shown = session(("sub",), ("ok",), ("llm", "sub"))

    def shapes() -> list[int]:
        return [row.depth for row in rows_of(shown.tree)]

    assert shapes() == [0, 1, 1, 2, 0, 0]
    for by, says, expected in (
        (1, "All turns: level 1 of 2.", [0, 1, 1, 0, 1, 0, 1]),
        (1, "All turns: level 2 of 2.", [0, 1, 1, 2, 0, 1, 0, 1, 2]),
        (1, "All turns: level 2 of 2.", [0, 1, 1, 2, 0, 1, 0, 1, 2]),
        (-1, "All turns: level 1 of 2.", [0, 1, 1, 0, 1, 0, 1]),
        (-1, "All turns folded.", [0, 0, 0]),
    ):
        assert press(shown, None, "levels", by)[1] == says
        assert shapes() == expected
        check_rows(shown.tree)
    press(shown, None, "levels", 1)
    press(shown, None, "all", 1)
    assert shapes() == [0, 1, 1, 2, 0, 1, 0, 1, 2]
    assert press(shown, None, "levels", -1)[1] == "All turns: level 1 of 2."


def test_levels_of_many_turns_count_the_rows_that_are_made_later() -> None:
    shown = session(*[["sub", "ok"]] * (2 * MANY))
    press(shown, None, "levels")
    assert len(shown.tree) == len(rows_of(shown.tree)) == 2 * MANY * 3
    check_rows(shown.tree)
    press(shown, None, "levels")
    assert len(shown.tree) == 2 * MANY * 4
    check_rows(shown.tree)


# ---- orders


def order_of(shown: ShownSession) -> list[tuple[str, str]]:
    return [(row.glyph, row.text) for row in rows_of(shown.tree) if not row.depth]


def timed(trace: int, lasts: int, tokens: int, *parts: str) -> list[Span]:
    root, *spans = turn_of(trace, *parts)
    model = {"role": Role.MODEL_CALL, "kind": Kind.LLM, "model": "gpt", "finish_reason": "stop"}
    spent = call(trace * 100 + 50, trace, parent=trace * 100, at=1_001 + trace * 100, input_tokens=tokens,
                 output_tokens=0, **model)  # fmt: skip
    root = agent_span(
        trace * 100, trace=trace, start_ns=root.start_ns, end_ns=root.start_ns + lasts * SECOND,
        prompt=f"turn {trace}", final_status="completed",
    )  # fmt: skip
    return [root, spent, *spans]


def test_turns_stand_in_other_orders_with_their_own_numbers() -> None:
    turns = [timed(1, 50, 9, "bad"), timed(2, 90, 5), timed(3, 60, 70, "bad", "no"), timed(4, 50, 8)]
    shown = show([span for spans in turns for span in spans], now_ns=NOW)
    orders = []
    for _ in ORDERS:
        _, says = press(shown, None, "order")
        orders.append((says, "".join(number for number, _ in order_of(shown))))
        assert [text for _, text in order_of(shown)] == [f"turn {number}" for number in orders[-1][1]]
        newest = shown.tree.find(shown.tree.newest())
        assert newest is not None
        assert shown.tree.row(shown.tree.head(newest)).text == "turn 4"  # open, wherever it stands
        check_rows(shown.tree)
    assert orders == [
        ("Turns: slowest first. Esc: newest first.", "2341"),
        ("Turns: errors first. Esc: newest first.", "3142"),
        ("Turns: tokens first. Esc: newest first.", "3142"),
        ("Turns: newest first.", "4321"),
    ]


def test_jumps_and_filters_follow_the_order_shown() -> None:
    shown = session(("bad", "bad"), ("ok",), ("bad",), ("ok",))
    press(shown, None, "order")
    press(shown, None, "order")
    assert [text for _, text in order_of(shown)] == ["turn 1", "turn 3", "turn 4", "turn 2"]
    assert walk(shown, "error", 1, 3) == ["bad 1.1", "bad 1.2", "bad 3.1"]
    assert walk(shown, "turn", 1, 3) == ["turn 3", "turn 4", "turn 2"]
    errors_only(shown)
    assert order_of(shown) == [("1", "turn 1"), ("3", "turn 3"), ("4", "turn 4")]
    for lifted, expected in ((True, 4), (True, 4), (False, 4)):
        assert shown.tree.lift() is lifted
        shown.refresh(NOW)
        assert len(order_of(shown)) == expected
    assert [number for number, _ in order_of(shown)] == ["4", "3", "2", "1"]


def test_a_turn_moves_when_more_of_it_comes() -> None:
    shown = session(("bad",), ("bad", "bad"), ("ok",))
    press(shown, None, "order")
    press(shown, None, "order")
    assert [text for _, text in order_of(shown)] == ["turn 2", "turn 1", "turn 3"]
    built = shown.tree.built
    shown.add(turn_of(1, "bad", "bad", "bad"))
    shown.refresh(NOW)
    assert [text for _, text in order_of(shown)] == ["turn 1", "turn 2", "turn 3"]
    assert shown.tree.built - built <= 1 + 2  # the other turns are put elsewhere as they are

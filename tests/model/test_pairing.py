"""Which span is which call, and which spans there are in a stretch of time."""

from __future__ import annotations

import json

import pytest

from hermes_tui.model.live_turns import LiveCall
from hermes_tui.model.pairing import Ask, gather, pair, same_text
from hermes_tui.model.shares import Shares
from hermes_tui.model.span import Kind, Role, Span
from hermes_tui.model.turns import read_trace
from tests.support import SECOND, agent_span, make_span, plant


def ask(number: int, command: str, asked_s: float, ended_s: float = 0, *, name: str = "") -> Ask:
    live = LiveCall(
        ("s", f"c{number}"), name, "terminal", "{}", round(asked_s * SECOND), command=command,
        ended_ns=round(ended_s * SECOND),
    )  # fmt: skip
    return Ask(live.key, name, live.tool, "{}", live.asked_ns, command=command, live=live)


def tool(
    number: int, command: str | None, start_s: float, end_s: float = 0, *, name: str | None = None
) -> Span:
    return make_span(
        number, role=Role.TOOL, kind=Kind.TOOL, tool="terminal", command=command, call_id=name,
        start_ns=round(start_s * SECOND), end_ns=round(end_s * SECOND),
    )  # fmt: skip


LONG = "echo " + "x" * 600


@pytest.mark.parametrize(
    ("asks", "spans", "pairs"),
    [
        pytest.param([ask(0, "ls", 10)], [tool(0, "ls", 10)], {0: 0}, id="the same command"),
        pytest.param([ask(0, "ls", 10)], [tool(0, "pwd", 10)], {}, id="another command"),
        pytest.param([ask(0, "ls", 20, 21)], [tool(0, "ls", 11, 12)], {}, id="a span from before"),
        pytest.param(
            [ask(0, "ls", 10, 11, name="a"), ask(1, "ls", 10, 12, name="b")],
            [tool(0, "ls", 10, 11, name="b"), tool(1, "ls", 10, 12, name="a")],
            {0: 1, 1: 0}, id="ids decide",
        ),
        pytest.param(
            [ask(0, "ls", 10, 11), ask(1, "ls", 12, 13), ask(2, "ls", 14, 15)],
            [tool(0, "ls", 12, 13), tool(1, "ls", 14, 15)],
            {1: 0, 2: 1}, id="the first one's span was lost",
        ),
        pytest.param(
            [ask(0, "ls  -l\n", 10)], [tool(0, "ls -l", 10)], {0: 0}, id="white space is collapsed",
        ),
        pytest.param([ask(0, LONG, 10)], [tool(0, LONG[:500] + "...", 10)], {0: 0}, id="cut with a mark"),
        pytest.param([ask(0, LONG, 10)], [tool(0, LONG[:500], 10)], {0: 0}, id="cut without"),
        pytest.param(
            [ask(0, "echo hello world, dear", 10)], [tool(0, "echo hello world, de", 10)], {}, id="longer",
        ),
        pytest.param([ask(0, "ls", 10)], [tool(0, None, 10)], {0: 0}, id="nothing says otherwise"),
        pytest.param(
            [ask(0, "ls", 10), ask(1, "pwd", 10)], [tool(0, None, 10), tool(1, "ls", 10)], {0: 1, 1: 0},
            id="the surest first",
        ),
    ],
)  # fmt: skip
def test_calls_find_their_spans(asks: list[Ask], spans: list[Span], pairs: dict[int, int]) -> None:
    assert pair(asks, spans) == pairs


def test_very_many_of_the_same() -> None:
    asks = [ask(n, "ls", 10 * n, 10 * n + 1) for n in range(500)]
    spans = [tool(n, "ls", 10 * n, 10 * n + 1) for n in range(500)]
    assert pair(asks, spans) == {n: n for n in range(500)}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ls", "ls", True), ("ls\n -l", "ls -l", True), ("ls", "pwd", None), ("ls", "ls -l", None),
        ("", "", True), (LONG, LONG[:520] + "...", False), (LONG[:520] + "...", LONG, False),
        (LONG, "y" * 520 + "...", None),
        ("a" * 300 + " … " + "b" * 300, "a" * 300 + "c" * 500, False), ("ls...", "ls -l", None),
    ],
)  # fmt: skip
def test_texts_of_one_thing(one: str, other: str, same: bool | None) -> None:
    assert same_text(one, other) is same


def model(number: int, end_s: float, calls: list[list[str]], results: list[list[str]] | None = None) -> Span:
    return make_span(
        number, role=Role.MODEL_CALL, kind=Kind.LLM, calls=calls or None, results=results,
        start_ns=round((end_s - 1) * SECOND), end_ns=round(end_s * SECOND),
    )  # fmt: skip


def test_what_two_tell_of_is_one_call() -> None:
    given = json.dumps({"command": "ls"})
    first = model(1, 10, [["a", "terminal", given], ["b", "terminal", given]])
    second = model(2, 13, [], [["a", "{}"]])
    (known, only_span) = gather("s", [ask(0, "ls", 9.99, name="a").live], [first, second])  # type: ignore[list-item]
    assert (known.id, known.asked_by, known.answered_by) == (
        "a",
        (first.trace_id, first.span_id),
        (second.trace_id, second.span_id),
    )
    assert (only_span.key, only_span.command, only_span.dropped) == (("s", "b"), "ls", True)


def test_one_request_under_two_ids_is_one_call() -> None:
    given = json.dumps({"command": "ls"})
    live = LiveCall(("s", "x"), "x", "terminal", given, 10 * SECOND, command="ls")
    (found,) = gather("s", [live], [model(1, 10, [["fc_x", "terminal", given]])])
    assert (found.key, found.id) == (("s", "x"), "x")


def test_calls_without_ids_are_told_apart() -> None:
    span = model(1, 10, [["", "terminal", "{}"], ["", "terminal", "{}"]])
    assert len({each.key for each in gather("s", [], [span])}) == 2


def test_traces_that_overlap() -> None:
    """A long trace, with others inside it: a look at a moment finds all that were at work."""
    shares = Shares()
    for trace, (start, end) in enumerate([(10, 90), (20, 30), (40, 50), (85, 95)]):
        spans = [
            agent_span(10 * trace, trace=trace, start_ns=start * SECOND, end_ns=end * SECOND),
            *(
                make_span(
                    10 * trace + n, parent=10 * trace, trace=trace, role=Role.TOOL, kind=Kind.TOOL,
                    start_ns=at * SECOND, end_ns=(at + 1) * SECOND,
                )
                for n, at in enumerate((start, end), 1)
            ),
        ]  # fmt: skip
        (tree,) = plant(spans).values()
        shares.replace(tree.trace_id, read_trace(tree))

    def starts(since: int, until: int) -> list[int]:
        return [span.start_ns // SECOND for span, _ in shares.between("s", since * SECOND, until * SECOND)[0]]

    assert starts(0, 100) == [10, 20, 30, 40, 50, 85, 90, 95]
    assert starts(45, 91) == [50, 85, 90]
    assert starts(88, 91) == [90]
    assert starts(90, 90) == []
    (tree,) = plant([agent_span(0, trace=0, start_ns=10 * SECOND)]).values()
    shares.replace(tree.trace_id, read_trace(tree))
    assert starts(0, 100) == [20, 30, 40, 50, 85, 95]
    assert shares.between("nobody", 0, 100) == ([], [])

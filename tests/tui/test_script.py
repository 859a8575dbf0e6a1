"""The lines of a transcript by number and by place, whatever was looked at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_tui.model.span import Kind, Role, Span
from hermes_tui.tui import script as script_module
from hermes_tui.tui.script import Script
from hermes_tui.tui.transcript_lines import guess
from tests.support import agent_span, make_span
from tests.tui.stage import show

COMMAND = {"kind": Kind.TOOL, "role": Role.TOOL, "tool": "terminal", "outcome": "completed"}


def spans(turns: int, calls: int = 2) -> list[Span]:
    return [
        span
        for turn in range(turns)
        for span in (
            agent_span(turn * 100, trace=turn, prompt=f"turn {turn}"),
            *(
                make_span(turn * 100 + 1 + at, parent=turn * 100, trace=turn, **COMMAND,
                          command=f"echo {turn}.{at}")
                for at in range(calls)
            ),
        )
    ]  # fmt: skip


def script(turns: int, calls: int = 2) -> Script:
    made = Script("s", guess)
    made.update(show(spans(turns, calls)).turns)
    return made


def check(made: Script) -> None:
    """Every line is that of an entry, in order, and an entry is where its lines are."""
    line = 0
    while line < len(made):
        spot = made.spot(line)
        assert spot is not None
        first = made.line(spot.place)
        assert first is not None
        assert made.spot(first + spot.line) == spot
        line = first + made.height(spot.place)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9)), max_size=20),
)
def test_lines_and_places_agree(turns: int, sizes: list[tuple[int, int]]) -> None:
    made = script(turns)
    for line, height in sizes:
        spot = made.spot(min(line, len(made) - 1))
        if spot is not None:
            before, old = len(made), made.height(spot.place)
            assert made.resize(spot.place, height) is (height != old)
            assert len(made) == before + height - old
    check(made)


def test_only_what_is_looked_at_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = script(500)
    assert made.built == 0
    assert made.places(len(made) - 10, len(made))
    assert made.built < 30
    monkeypatch.setattr(script_module, "_KEPT", 20)
    for line in range(0, len(made), 7):
        made.places(line, line + 5)
    assert sum(block.entries is not None for block in made._blocks) <= 8
    check(made)


def test_what_changed_stays_where_it_was() -> None:
    shown = show(spans(3))
    made = Script("s", guess)
    assert made.update(shown.turns)
    assert not made.update(shown.turns)
    place = made.places(0, 1)[0]
    made.resize(place, 7)
    shown.add([make_span(50, parent=0, trace=0, **COMMAND, command="late")])
    shown.refresh(10**18)
    assert made.update(shown.turns)
    assert made.height(place) == 7
    texts = [entry.text for each in made.places(0, len(made)) if (entry := made.entry(each)) is not None]
    assert [text for text in texts if text][:4] == ["turn 0", "echo 0.0", "echo 0.1", "late"]


def test_from_entry_to_entry() -> None:
    made = script(3)
    last = made.last()
    seen = []
    while last is not None:
        seen.append(last)
        last = made.next(last, -1)
    texts = [entry.text for place in reversed(seen) if (entry := made.entry(place)) is not None]
    assert [text for text in texts if text.startswith("turn")] == ["turn 0", "turn 1", "turn 2"]
    assert len(texts) == len(set(seen))
    assert made.next(seen[0], 1) is None
    assert made.number(seen[0]) == 3
    assert made.newest(seen[0])
    gone = (seen[0][0], ("command", "no", "where"))
    assert made.entry(gone) is None
    first = next(place for place in reversed(seen) if place[0] == gone[0])
    assert made.line(gone) == made.line(first)

"""All calls of a session at once are the calls that `Joined` shows."""

from __future__ import annotations

from typing import Any

import pytest

from hermes_tui.model.calls import all_calls, recorded
from hermes_tui.model.joined import Item, Joined
from hermes_tui.model.live import Live
from hermes_tui.model.live_turns import LiveCall, LiveTurn
from hermes_tui.model.shares import Placed
from hermes_tui.model.span import Role
from tests.model.timeline import Shown, chosen, everyone
from tests.support import SECOND, make_span, recording_names


def facts(item: Item) -> tuple[Any, ...]:
    span = item.span.span_id.hex() if item.span is not None else ""
    said = (item.outcome, item.exit_code, item.completed, item.full, item.dropped)
    return (str(item.key), item.id, item.tool, item.command or "", span, *map(str, said), item.end_ns)


@pytest.mark.parametrize("records", [True, False], ids=["state", "no-state"])
@pytest.mark.parametrize("name", recording_names())
def test_the_same_as_joined(name: str, records: bool) -> None:
    for session in everyone(name):
        live, shown, joined = Live(), Shown(session), Joined(session)
        for _, rows, spans in chosen(name, records=records, spans=True):
            live.take(rows)
            joined.update(live, shown.forest, shown.add(spans))
        tools, models = list[Placed](), list[Placed]()
        for trace_id, view in shown.forest.views.items():
            for span in shown.forest.trees[trace_id].spans:
                if view.owners[span.span_id] == session and span.role in (Role.TOOL, Role.MODEL_CALL):
                    into = tools if span.role is Role.TOOL else models
                    into.append((span, view.turn_of[span.span_id].key))
        part = live.session(session)
        found = all_calls(session, part.turns if part is not None else [], tools, models)
        expected = [item for item in joined.items() if item.session == session]
        assert sorted(map(facts, found)) == sorted(map(facts, expected))


def test_a_clock_that_was_set_back_makes_no_call_twice() -> None:
    """Rows keep Hermes' order, their times do not."""
    turns = [LiveTurn(("s", at * SECOND), "Go", at * SECOND) for at in (2_000, 1_000)]
    home = (b"t" * 16, b"")
    tools: list[Placed] = [
        (make_span(at, start_ns=at * SECOND, role=Role.TOOL, tool="terminal"), home)
        for at in (500, 1_500, 2_500)
    ]
    found = all_calls("s", turns, tools, [])
    assert [item.span for item in found] == [span for span, _ in tools]


def call(name: str, batch: int, asked_s: int, ended_s: int, arguments: str = "{}") -> LiveCall:
    key = ("s", name)
    return LiveCall(key, name, "terminal", arguments, asked_s * SECOND, batch, ended_ns=ended_s * SECOND)


def test_when_a_call_began() -> None:
    turn = LiveTurn(("s", 1), "Go", 1)
    turn.calls += [
        call("alone", 1, 10, 12),
        call("first", 2, 20, 23),
        call("waited", 2, 20, 25),
        call("waits", 2, 20, 0),
        call("unasked", 3, 30, 30, ""),
    ]
    found = {key[1]: (begun.begun_ns // SECOND, begun.sure) for key, begun in recorded([turn]).items()}
    assert found == {
        "alone": (10, True),
        "first": (20, True),
        "waited": (23, False),
        "waits": (25, False),
        "unasked": (30, False),
    }

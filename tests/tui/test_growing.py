"""A turn that grows: with every span the same as if all had come at once, and little is made anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hermes_tui.model import works
from hermes_tui.model.live import Live
from hermes_tui.model.span import Delivery, Kind, Role, Span, Status
from hermes_tui.model.state_rows import SessionRow
from hermes_tui.tui import commands_outline, outline
from hermes_tui.tui.glyphs import UNICODE
from hermes_tui.tui.nature import FILTERS
from hermes_tui.tui.shown import ShownSession
from tests.support import SECOND, agent_span, make_span, recorded_spans
from tests.tui.stage import rows_of, session_of
from tests.tui.test_outline import command


def check_like_new(shown: ShownSession, spans: list[Span], now_ns: int) -> None:
    """The rows are those of a session that got all of its spans at once."""
    fresh = ShownSession(shown.id, UNICODE)
    fresh.tree.set_raw(shown.tree.raw)
    fresh.tree.set_filter(shown.tree.filter)
    fresh.tree._folds.said = dict(shown.tree._folds.said)
    fresh.add(spans)
    fresh.refresh(now_ns)
    assert rows_of(shown.tree) == rows_of(fresh.tree)
    assert rows_of(shown.commands) == rows_of(fresh.commands)
    assert shown.commands.failed == fresh.commands.failed


@given(data=st.data(), name=st.sampled_from(["shell_corners", "approval", "subagent_children", "api_error"]))
def test_every_step_is_like_all_at_once(data: st.DataObject, name: str) -> None:
    spans = data.draw(st.permutations(recorded_spans(name)))
    shown = ShownSession(session_of(spans), UNICODE)
    come: list[Span] = []
    for at, span in enumerate(spans):
        come.append(span)
        if data.draw(st.integers(0, 3)) == 0:  # one came before, and its delivery moved since
            older = data.draw(st.sampled_from(come))
            come.append(replace(older, revision=at + 1, delivery=Delivery.CONFIRMED))
        if data.draw(st.integers(0, 5)) == 0:
            shown.tree.set_raw(not shown.tree.raw)
        if data.draw(st.integers(0, 5)) == 0:
            shown.tree.set_filter(data.draw(st.sampled_from(FILTERS)))
        rows = [row for row in rows_of(shown.tree) if row.marker and row.depth]
        if rows and data.draw(st.integers(0, 3)) == 0:
            row = data.draw(st.sampled_from(rows))
            shown.tree.set_fold(row.key, row.marker == UNICODE.open)
        shown.add(come)
        now_ns = max(each.end_ns for each in come) + SECOND
        shown.refresh(now_ns)
        check_like_new(shown, come, now_ns)


@pytest.mark.parametrize("size", [40, 400])
def test_one_more_span_makes_its_own_row_and_call(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()

    def counting(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def count(*args: Any, **said: Any) -> Any:
            made[name] += 1
            return real(*args, **said)

        monkeypatch.setattr(module, name, count)

    shown = ShownSession("s", UNICODE)
    spans = [agent_span(0, end_ns=0), *(_step(number) for number in range(1, size))]
    shown.add(spans)
    shown.refresh(_END)
    counting(outline, "node_row")
    counting(commands_outline, "command_row")
    counting(works, "_unasked")
    for number in range(size, size + 4):
        shown.add([_step(number)])
        shown.refresh(_END)
    assert (made["node_row"], made["command_row"], made["_unasked"]) == (4, 2, 2)
    assert len(shown.tree) >= size + 3
    shown.add([replace(spans[1], revision=1, status=spans[1].status, exit_code=3, outcome="failed")])
    shown.refresh(_END)
    assert (made["node_row"], made["command_row"], made["_unasked"]) == (5, 3, 3)
    assert [row.value for row in rows_of(shown.commands)].count("✗ 3") == 1


def test_a_row_follows_its_span_and_what_comes_after_it() -> None:
    """A call gets another version, fails, and is made again once the user has allowed something."""
    call = replace(_step(2), revision=1)
    other = replace(call, model="other", revision=2)
    failed = replace(call, status=Status.ERROR, error="overloaded", revision=3)
    asking = make_span(9, parent=0, name="approval.x", role=Role.APPROVAL, start_ns=call.end_ns, end_ns=0)
    spans = [agent_span(0, end_ns=0), asking, call, other, failed, _step(4)]
    shown = ShownSession("s", UNICODE)
    seen = []
    for come in range(1, len(spans) + 1):
        shown.add(spans[:come])
        shown.refresh(_END)
        check_like_new(shown, spans[:come], _END)
        seen += [(row.text, row.value) for row in rows_of(shown.tree) if row.key[1] == call.span_id]
    retried = ("m overloaded", f"{UNICODE.bad} {UNICODE.retry}")
    assert seen == [("m", ""), ("other", ""), ("m overloaded", UNICODE.bad), retried]


def test_a_flag_comes_when_it_is_known_where_the_session_works() -> None:
    live = Live()
    shown = ShownSession("s", UNICODE, live)
    shown.add(
        [
            agent_span(0, end_ns=0),
            command(1, parent=0, command="echo x > /somewhere/y", start_ns=SECOND * 1_000),
        ]
    )
    shown.refresh(_END)
    assert [row.note for row in (*rows_of(shown.tree)[1:2], *rows_of(shown.commands))] == ["", ""]
    live.take([SessionRow("home", 1, "s", cwd="/srv")])
    shown.add([_step(3)])
    shown.refresh(_END)
    notes = [(row.text, row.note) for row in (*rows_of(shown.tree), *rows_of(shown.commands))]
    assert [note for text, note in notes if text.endswith("/y")] == [UNICODE.flag, UNICODE.flag]
    assert [note for text, note in notes if text == "echo 3"] == ["", ""]


_END = SECOND * 1_100


def _step(number: int) -> Span:
    """A command, or a model call."""
    said = {"parent": 0, "start_ns": SECOND * 1_000 + number * SECOND // 10}
    said["end_ns"] = said["start_ns"] + SECOND // 20
    if number % 2:
        return command(number, **said)
    return make_span(number, name="api.m", kind=Kind.LLM, role=Role.MODEL_CALL, model="m", **said)

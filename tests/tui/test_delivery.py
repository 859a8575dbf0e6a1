"""The delivery view's data and lines: counts, ages, what is refused and why, where MLflow says otherwise."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from hermes_tui.journal.delivery import REFUSED_SHOWN, Refused, Snapshot
from hermes_tui.model.compare import Difference, Told
from hermes_tui.model.span import Delivery, Span
from hermes_tui.tui import delivery as delivery_module
from hermes_tui.tui.delivery import (
    Count,
    DeliveryData,
    DeliveryState,
    DifferingTurn,
    RefusedRow,
)
from hermes_tui.tui.delivery_lines import delivery_lines
from hermes_tui.tui.differing import difference_line
from hermes_tui.tui.glyphs import ASCII, UNICODE, Glyphs
from hermes_tui.tui.lines import Line
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.trust import State
from hermes_tui.tui.wishes import Notice
from tests.support import SECOND, agent_span, make_span, span_id, trace_id
from tests.tui import hostile
from tests.tui.stage import show

NOW = SECOND * 10_000
URL = "http://mlflow:5000"
OK = {"exporter": {"state": "ok", "destination": URL}, "proof": {"state": "ok", "readable": True}}


def turns(count: int = 3, **said: Any) -> list[Span]:
    """Turns 1, 2, 3 … of session "s", each in its own trace with two spans; all read back."""
    spans: list[Span] = []
    for number in range(count):
        start = SECOND * (1_000 + 10 * number)
        times = {"start_ns": start, "end_ns": start + SECOND, "delivery": Delivery.CONFIRMED}
        prompt = f"prompt {number + 1}"
        spans.append(
            agent_span(0, trace=number, final_status="completed", prompt=prompt, **{**times, **said})
        )
        spans.append(make_span(1, parent=0, trace=number, **times))
    return spans


def session(spans: list[Span] | None = None) -> ShownSession:
    return show(turns() if spans is None else spans, now_ns=NOW)


def snapshot(**said: Any) -> Snapshot:
    return Snapshot(**{**OK, **said})


def data(
    news: Snapshot, shown: ShownSession | None = None, address: str | None = None, stopped: str = ""
) -> DeliveryData:
    state = DeliveryState(UNICODE)
    state.take(news, NOW)
    return state.data(shown or session(), address, stopped, NOW)


# ---- data


def test_address_state_and_ages() -> None:
    exporter = {
        "destination": URL, "state": "held", "reason": "no", "since_ns": NOW - 240 * SECOND,
        "last_error": "other", "last_error_ns": NOW - 8 * SECOND,
    }  # fmt: skip
    found = data(snapshot(exporter=exporter))
    assert (found.address, found.state.word, found.since) == (URL, "held", "4m")
    assert (found.last_error, found.last_error_age) == ("other", "8s")
    assert data(snapshot(exporter={**exporter, "last_error": "no"})).last_error == "the same"
    assert data(snapshot(), stopped="gone").state.word == "stopped"
    assert data(snapshot(exporter={**exporter, "state": "ok"})).since == ""
    # Since when it is unreadable, nobody says; a clock may have leapt back.
    unreadable = {"exporter": {**exporter, "state": "ok"}, "proof": {"readable": False}}
    assert data(snapshot(**unreadable)).since == ""
    assert data(snapshot(exporter={**exporter, "since_ns": NOW + 9 * SECOND})).since == "0s"


@pytest.mark.parametrize(
    ("told", "address", "shown"),
    [
        (URL, None, URL),
        (URL, "http://other", URL),
        (None, "http://other", "http://other"),
        (None, None, ""),
        ("http://me:secret@host:5000/a", None, "http://host:5000/a"),
        ("https://token@host", None, "https://host"),
        ("http://host/a@b", None, "http://host/a@b"),
    ],
)
def test_an_address_shows_no_password(told: str | None, address: str | None, shown: str) -> None:
    assert data(snapshot(exporter={"state": "ok", "destination": told}), address=address).address == shown


def test_counts_of_session_and_journal_and_the_age_of_the_oldest() -> None:
    spans = turns()
    spans[0] = replace(spans[0], delivery=Delivery.QUEUED)
    counts = Counter({Delivery.CONFIRMED: 50, Delivery.QUEUED: 3, Delivery.HELD: 2})
    found = data(snapshot(counts=counts, oldest_ns=NOW - 70 * SECOND), session(spans))
    assert found.counts == (
        Count(Delivery.CONFIRMED, 5, 50),
        Count(Delivery.QUEUED, 1, 3, "oldest waits 1m"),
        Count(Delivery.HELD, 0, 2),
    )
    assert data(snapshot(), session([replace(span, delivery=Delivery.LOCAL) for span in spans])).counts == (
        Count(Delivery.CONFIRMED, 0, 0),
        Count(Delivery.LOCAL, 6, 0),
    )


def test_a_journal_that_was_damaged_is_told() -> None:
    found = {"file": "journal.db.damaged-1", "reason": "it is malformed", "at_ns": 1, "requests": None}
    assert data(snapshot(keeping={"damage": found})).damage == (
        "The journal was damaged (it is malformed): what can be read of it is being put back. "
        "Remove journal.db.damaged-1 when you have taken note."
    )
    back = data(snapshot(keeping={"damage": {**found, "requests": 1_200, "lost": 3}})).damage
    assert "1,200 requests were put back, 3 are lost" in back
    for nothing in (None, "x", 7, []):
        assert data(snapshot(keeping={"damage": nothing})).damage == ""


def refused(trace: int, number: int, state: Delivery = Delivery.QUARANTINED, **said: Any) -> Refused:
    base = Refused(
        trace_id(trace), span_id(number), f"n{number}", "far away", state, "why", NOW - 60 * SECOND
    )
    return replace(base, **said)


def test_refused_spans_say_where_they_are_and_stand_below_their_reason() -> None:
    news = snapshot(
        refused=(
            refused(1, 1, at_ns=0),
            refused(0, 0, reason="another"),
            refused(99, 7),
            refused(99, 8, Delivery.HELD, reason="another"),
        )
    )
    assert [(row.name, row.where, row.age, row.reason) for row in data(news).refused] == [
        ("n1", "turn 2", "", "why"),
        ("n7", "far away", "1m", "why"),
        ("n0", "turn 1", "1m", "another"),
        ("n8", "far away", "1m", "another"),
    ]
    state = DeliveryState(UNICODE)
    state.take(news, NOW)
    assert state.session_of(trace_id(99)) == "far away"
    assert state.session_of(trace_id(50)) is None


def test_what_is_not_listed_is_counted() -> None:
    many = tuple(refused(99, number) for number in range(REFUSED_SHOWN))
    counts = Counter({Delivery.QUARANTINED: REFUSED_SHOWN + 7, Delivery.HELD: 1})
    few = (refused(99, 1, Delivery.HELD),)
    assert data(snapshot(refused=many + few, counts=counts)).unlisted == 7
    assert data(snapshot(refused=few, counts=counts)).unlisted == 0


def agreed(**said: Any) -> Told:
    return Told(**{"state": "OK", "duration_s": 1.0, "spans": 2, **said})


def test_where_mlflow_says_otherwise_the_worst_comes_first_then_the_newest() -> None:
    told = {
        trace_id(0): agreed(duration_s=5.0),
        trace_id(1): agreed(spans=9),
        trace_id(2): agreed(duration_s=5.0),
        trace_id(3): agreed(state="ERROR"),
        trace_id(4): agreed(),
        trace_id(77): agreed(spans=9),  # of a session that was left
    }
    found = data(snapshot(told=told), session(turns(5)))
    assert [(turn.title, [each.what for each in turn.differences]) for turn in found.differing] == [
        ("turn 2  prompt 2", ["spans"]),
        ("turn 4  prompt 4", ["state"]),
        ("turn 3  prompt 3", ["duration"]),
        ("turn 1  prompt 1", ["duration"]),
    ]
    assert found.differing[0].key == (trace_id(1), b"", "turn")


def test_turns_that_differ_are_limited() -> None:
    told = {trace_id(number): agreed(spans=9) for number in range(30)}
    found = data(snapshot(told=told), session(turns(30)))
    assert (len(found.differing), found.more_differing) == (20, 10)
    assert found.differing[0].title.startswith("turn 30")


def test_only_what_changed_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Told] = []
    real = delivery_module.differences

    def counted(view: Any, told: Told, now_ns: int) -> list[Difference]:
        compared.append(told)
        return real(view, told, now_ns)

    monkeypatch.setattr(delivery_module, "differences", counted)
    shown, state = session(), DeliveryState(UNICODE)
    told = {trace_id(number): agreed(spans=9) for number in range(3)}
    for at in range(3):
        state.take(snapshot(told=dict(told)), NOW)
        state.data(shown, None, "", NOW + at)
    assert len(compared) == 3
    told[trace_id(1)] = agreed(spans=3)
    state.take(snapshot(told=told), NOW)
    found = state.data(shown, None, "", NOW)
    assert len(compared) == 4
    shown.add([make_span(9, trace=2, delivery=Delivery.CONFIRMED)])
    shown.refresh(NOW)
    assert state.data(shown, None, "", NOW) != found
    assert len(compared) == 5


@pytest.mark.parametrize(
    ("what", "ours", "theirs", "line"),
    [
        ("state", "failed", "OK", "failed here, OK there"),
        ("tokens in", 29_713, 59_426, "29,713 here, 59,426 there"),
        ("tokens out", 29_713, None, "29,713 here, none there"),
        ("cost", None, 0.12345, "none here, $0.1235 there"),
        ("duration", 0.5, 3_700.0, "0.5s here, 1:01:40 there"),
        ("spans", 3, 4, "3 here, 4 there"),
        ("state", "x", "\x1b[2J", "x here, ␛[2J there"),
    ],
)
def test_both_values_of_a_difference(what: str, ours: Any, theirs: Any, line: str) -> None:
    assert difference_line(Difference(what, ours, theirs, "")) == line


# ---- lines

FULL = DeliveryData(
    address=URL,
    state=State("held", "‖", "yellow", "Experiment 7 does not exist. Mend that, then press r."),
    since="4m",
    counts=(Count(Delivery.CONFIRMED, 5, 1_204), Count(Delivery.HELD, 1, 3, "oldest waits 4m")),
    last_error="404: no",
    last_error_age="8s",
    damage="The journal was damaged.",
    notices=(Notice("verified: all there", True), Notice("retry: begun", None), Notice("retry: no", False)),
    refused=(
        RefusedRow((b"t", b"1", "span"), "tool.terminal", "turn 3", "4m", Delivery.QUARANTINED, "bad span"),
        RefusedRow(
            (b"t", b"2", "span"), "api.gpt", "another session", "1h", Delivery.QUARANTINED, "bad span"
        ),
        RefusedRow((b"t", b"3", "span"), "agent", "turn 1", "3d", Delivery.HELD, ""),
    ),
    unlisted=12,
    differing=(
        DifferingTurn(
            (b"t", b"", "turn"),
            "turn 3  a prompt",
            (
                Difference("state", "failed", "OK", "why one"),
                Difference("tokens in", 1_000, 2_000, "why two"),
                Difference("tokens out", 1, 2, "why two"),
            ),
        ),
    ),
    more_differing=1,
)


def texts(shown: DeliveryData, width: int = 58, glyphs: Glyphs = UNICODE) -> list[str]:
    return ["".join(text for text, _ in line.parts).rstrip() for line in delivery_lines(shown, width, glyphs)]


def test_the_whole_page() -> None:
    assert texts(FULL) == [
        "‖ held for 4m  http://mlflow:5000",
        "Experiment 7 does not exist. Mend that, then press r.",
        "",
        "                   session   journal",
        "✓ confirmed              5     1,204",
        "‖ held                   1         3  oldest waits 4m",
        "",
        "last error 8s ago: 404: no",
        "✗ The journal was damaged.",
        "r sends held and refused again, v reads this session back",
        "✓ verified: all there",
        "… retry: begun",
        "✗ retry: no",
        "",
        "✗ quarantined: bad span",
        "  tool.terminal                     turn 3              4m",
        "  api.gpt                           another session     1h",
        "",
        "‖ held: no reason is known",
        "  agent                             turn 1              3d",
        "  … and 12 more",
        "",
        "MLflow says otherwise",
        "  turn 3  a prompt",
        "    state: failed here, OK there",
        "    why one",
        "    tokens in: 1,000 here, 2,000 there",
        "    tokens out: 1 here, 2 there",
        "    why two",
        "  … and 1 more",
    ]


def test_each_span_and_turn_can_be_picked() -> None:
    keys = [line.key for line in delivery_lines(FULL, 58, UNICODE) if line.key is not None]
    assert list(dict.fromkeys(keys)) == [row.key for row in FULL.refused] + [FULL.differing[0].key]


@pytest.mark.parametrize("width", [1, 8, 20, 33, 58, 64, 118, 300])
def test_no_line_is_wider_than_the_view(width: int) -> None:
    strange = hostile.ALL * 3
    rows = tuple(
        RefusedRow((b"t", bytes([n]), "span"), strange, strange, "4m", Delivery.HELD, strange)
        for n in range(3)
    )
    turn = DifferingTurn((b"t", b"", "turn"), strange, (Difference("state", strange, strange, strange),))
    state = State("held", "‖", "yellow", strange)
    wild = replace(
        FULL, address=strange, state=state, refused=rows, differing=(turn,), last_error=strange,
        damage=strange, notices=(Notice(strange, False),),
    )  # fmt: skip
    for shown in (FULL, wild):
        for line in delivery_lines(shown, width, UNICODE):
            assert sum(cell_len(text) for text, _ in line.parts) <= max(8, width), line
    assert all(text.isascii() for text in texts(replace(FULL, state=State("ok", "+", "", "x")), glyphs=ASCII))


def test_a_long_reason_is_cut_and_says_so() -> None:
    row = FULL.refused[0]._replace(reason="word " * 500)
    found = texts(replace(FULL, refused=(row,), unlisted=0, differing=()))
    begin = next(at for at, text in enumerate(found) if text.startswith("✗ quarantined"))
    assert found[begin + 4].endswith("…")
    assert found[begin + 5].startswith("  tool.terminal")


def test_a_quiet_page() -> None:
    quiet = data(snapshot(counts=Counter({Delivery.CONFIRMED: 6})))
    assert texts(quiet) == [
        f"✓ ok  {URL}",
        "Every span was read back.",
        "",
        "                   session   journal",
        "✓ confirmed              6         6",
        "",
        "r sends held and refused again, v reads this session back",
    ]


def test_a_long_address_has_lines_of_its_own() -> None:
    found = texts(replace(FULL, address="http://host/" + "a" * 70))
    assert found[:3] == ["‖ held for 4m", "http://host/" + "a" * 46, "a" * 24]


def test_lines_are_made_of_parts_with_known_styles() -> None:
    from hermes_tui.tui.widgets.delivery_view import DeliveryView

    known = {name.removeprefix("row--") for name in DeliveryView.COMPONENT_CLASSES}
    states = [State("x", "x", style, "x") for style in ("green", "red", "yellow", "dim", "")]
    pages: list[Line] = []
    for state in states:
        everything = tuple(Count(each, 1, 0) for each in Delivery)
        pages += delivery_lines(replace(FULL, state=state, counts=everything), 58, UNICODE)
    assert {style for line in pages for _, style in line.parts} <= known

"""MLflow's record of a trace beside ours. `SAID` is what a real MLflow 3.17.2 said of the recordings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from hermes_tui.model import compare
from hermes_tui.model.compare import UNKNOWN, Difference, Told, differences
from hermes_tui.model.span import Delivery, Kind, Role, Span, Status
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import read_trace
from tests.support import (
    LONG_AFTER,
    SECOND,
    agent_span,
    make_span,
    plant,
    recorded_spans,
    recording_names,
    span_id,
)

# (state, duration in seconds, tokens in, tokens out, spans) by recording and trace
SAID: dict[tuple[str, str], tuple[str, float, int | None, int | None, int]] = {
    ("api_error", "fd31efc5"): ("OK", 2.91, 29622, 44, 7),
    ("api_error", "b3e779ca"): ("OK", 3.258, 29621, 43, 6),
    ("api_error", "1a3ca3fd"): ("IN_PROGRESS", 0.174, None, None, 1),
    ("api_error", "8aec13bc"): ("IN_PROGRESS", 8.67, 14767, 39, 5),
    ("approval", "19bb2812"): ("OK", 1.026, 29624, 43, 5),
    ("approval", "c26e8275"): ("OK", 5.426, 29890, 54, 6),
    ("approval", "aea32ba1"): ("OK", 5.629, 30182, 46, 6),
    ("approval", "959b4e57"): ("OK", 5.026, 30526, 46, 6),
    ("interrupted", "7d2eb218"): ("OK", 18.699, 113692, 240, 13),
    ("metrics_logs", "1b5a23db"): ("OK", 1.119, 45846, 81, 7),
    ("rate_limited", "b0da304a"): ("OK", 2.854, 30476, 44, 7),
    ("shell_corners", "2362dead"): ("OK", 14.594, 253861, 624, 27),
    ("slow_tool", "dc13c5eb"): ("OK", 13.358, 45863, 85, 7),
    ("subagent_children", "847dbd4c"): ("OK", 1.32, 38934, 106, 9),
    ("subagent_children", "c0ff1f52"): ("OK", 1.534, 48084, 154, 13),
    ("subagents", "53029018"): ("OK", 1.148, 49773, 154, 7),
    ("thirty_steps", "310c38b5"): ("OK", 18.183, 428282, 1185, 58),
    ("three_turns", "27942fc5"): ("OK", 0.773, 30466, 43, 5),
    ("three_turns", "05e6c5da"): ("OK", 1.126, 46164, 81, 7),
    ("three_turns", "78aa8897"): ("OK", 0.476, 15494, 7, 3),
    ("timeout_background", "bbe8f1fe"): ("OK", 4.011, 30482, 45, 5),
    ("timeout_background", "52efe97d"): ("OK", 1.09, 46220, 85, 7),
    ("truncated", "5a201496"): ("OK", 1.421, 67597, 1432, 9),
    ("v123_approval", "7311575d"): ("OK", 5.6, 30509, 54, 6),
    ("v123_approval", "815e0b66"): ("OK", 5.971, 30865, 46, 6),
    ("v123_background", "baaaad17"): ("OK", 1.102, 46231, 85, 7),
    ("v123_fatal", "cb49c7dc"): ("OK", 10.475, 15192, 39, 7),
    ("v123_interrupted", "c5f25c0e"): ("OK", 9.075, 62368, 160, 10),
    ("v123_parallel", "55c9d1c9"): ("OK", 7.026, 63930, 321, 14),
    ("v123_preview", "7b98126d"): ("OK", 14.63, 253751, 624, 27),
    ("v123_preview", "aac3e054"): ("OK", 0.73, None, None, 3),
    ("v123_slow_tool", "e0cc48c4"): ("OK", 13.334, 45866, 85, 7),
    ("v123_subagent", "80ee99d9"): ("OK", 1.957, 30656, 66, 10),
    ("v123_truncated", "26988a66"): ("OK", 1.472, 67601, 1432, 9),
    ("v123_turns", "eb17c2ff"): ("OK", 0.787, 30466, 43, 5),
    ("v123_turns", "bf2b8dd3"): ("OK", 1.107, 46167, 81, 7),
    ("v123_weather", "8cb4bb95"): ("OK", 1.186, 30496, 61, 5),
    ("weather", "a4e061bb"): ("OK", 1.238, 29652, 61, 5),
}

NO_ROOT = "no root span came, and MLflow waits for one"
BEYOND = "MLflow counts from the trace's first span to its last, beyond the turn's own"
DIFFERENT: dict[tuple[str, str], list[Difference]] = {
    ("api_error", "1a3ca3fd"): [
        Difference("state", "failed", "IN_PROGRESS", f"{NO_ROOT} (a model call failed for good)")
    ],
    ("api_error", "8aec13bc"): [
        Difference("state", "failed", "IN_PROGRESS", f"{NO_ROOT} (a model call failed for good)")
    ],
    ("interrupted", "7d2eb218"): [
        Difference(
            "state",
            "interrupted and completed",
            "OK",
            "the trace holds 3 turns, and MLflow's one state is that of the root that came first",
        ),
        Difference(
            "tokens in",
            81482,
            113692,
            "MLflow counts 2 model calls twice, whose parent span is not there",
        ),
        Difference(
            "tokens out",
            160,
            240,
            "MLflow counts 2 model calls twice, whose parent span is not there",
        ),
    ],
    ("subagent_children", "847dbd4c"): [Difference("duration", 0.97374812, 1.32, BEYOND)],
    ("subagent_children", "c0ff1f52"): [Difference("duration", 1.117895874, 1.534, BEYOND)],
    ("v123_fatal", "cb49c7dc"): [
        Difference(
            "state",
            "failed",
            "OK",
            'MLflow looks only at the root span\'s status, OK, and not that the turn was "finalized"',
        ),
        Difference("duration", 9.645168048, 10.475, BEYOND),
    ],
    ("v123_interrupted", "c5f25c0e"): [
        Difference(
            "state",
            "interrupted and completed",
            "OK",
            "the trace holds 2 turns, and MLflow's one state is that of the root that came first",
        ),
        Difference(
            "tokens in",
            62804,
            62368,
            "MLflow counts 2 model calls twice, whose parent span is not there, and leaves out 2 model calls "
            "of a turn that joined another's trace",
        ),
        Difference(
            "tokens out",
            123,
            160,
            "MLflow counts 2 model calls twice, whose parent span is not there, and leaves out 2 model calls "
            "of a turn that joined another's trace",
        ),
    ],
    ("v123_preview", "aac3e054"): [
        Difference(
            "state",
            "interrupted",
            "OK",
            'MLflow looks only at the root span\'s status, OK, and not that the turn was "finalized"',
        ),
        Difference("duration", 0.13637614, 0.73, BEYOND),
    ],
    ("v123_subagent", "80ee99d9"): [
        Difference("tokens in", 40206, 30656, "MLflow leaves out 1 model call of subagents"),
        Difference("tokens out", 106, 66, "MLflow leaves out 1 model call of subagents"),
        Difference("duration", 0.967228798, 1.957, BEYOND),
    ],
}


def confirmed(spans: Iterable[Span]) -> list[Span]:
    return [replace(span, delivery=Delivery.CONFIRMED) for span in spans]


def compared(spans: Iterable[Span], told: dict[str, Any], now_ns: int = LONG_AFTER) -> list[Difference]:
    (tree,) = plant(spans).values()
    return differences(read_trace(tree), Told(**told), now_ns)


@pytest.mark.parametrize("name", recording_names())
def test_what_mlflow_said_of_the_recordings_is_explained(name: str) -> None:
    """No reason is "unknown why" there, and where both agree nothing is said."""
    by_trace: dict[bytes, list[Span]] = {}
    for span in confirmed(recorded_spans(name)):
        by_trace.setdefault(span.trace_id, []).append(span)
    assert by_trace
    for trace, spans in by_trace.items():
        key = (name, trace.hex()[:8])
        names = ("state", "duration_s", "input_tokens", "output_tokens", "spans")
        found = compared(spans, dict(zip(names, SAID[key], strict=True)))
        assert found == DIFFERENT.get(key, []), key


# ---- made up


def turn(**root: Any) -> list[Span]:
    """A turn with a wrapper and two model calls of 10 and 20 tokens, all confirmed; 30 on its root."""
    said = {"final_status": "completed", "status": Status.OK, "input_tokens": 30, **root}
    return confirmed(
        [
            agent_span(0, start_ns=SECOND, end_ns=11 * SECOND, **said),
            make_span(1, parent=0, role=Role.WRAPPER, kind=Kind.LLM, start_ns=SECOND, end_ns=10 * SECOND),
            call(2, parent=1, input_tokens=10),
            call(3, parent=1, input_tokens=20),
        ]
    )


def call(number: int, **said: Any) -> Span:
    times = {"start_ns": number * SECOND, "end_ns": (number + 1) * SECOND}
    facts = {
        "role": Role.MODEL_CALL,
        "kind": Kind.LLM,
        "finish_reason": "stop",
        "delivery": Delivery.CONFIRMED,
    }
    return make_span(number, **{**times, **facts, "delivery": Delivery.CONFIRMED, **said})


AGREED = {"state": "OK", "duration_s": 10.0, "input_tokens": 30, "output_tokens": 0, "spans": 4}


def without(spans: list[Span], number: int) -> list[Span]:
    return [span for span in spans if span.span_id != span_id(number)]


def delivered(spans: list[Span], number: int, delivery: Delivery) -> list[Span]:
    return [replace(s, delivery=delivery) if s.span_id == span_id(number) else s for s in spans]


CASES: dict[str, tuple[list[Span], dict[str, Any], list[tuple[str, str]]]] = {
    "all the same": (turn(), {}, []),
    "nothing told": (turn(), dict.fromkeys(AGREED), [("tokens in", UNKNOWN)]),
    "milliseconds": (turn(), {"duration_s": 9.96}, []),
    # what another wrote, or what did not get there
    "strangers": (
        turn(),
        {"spans": 6},
        [("spans", "2 spans came there by another way than this relay, or were forgotten here")],
    ),
    "strangers who spend": (
        turn(),
        {"spans": 5, "input_tokens": 99},
        [
            ("spans", "1 span came there by another way than this relay, or were forgotten here"),
            ("tokens in", f"{UNKNOWN}; it has 1 span more than this journal"),
        ],
    ),
    "fewer": (turn(), {"spans": 2}, [("spans", UNKNOWN)]),
    "refused": (
        delivered(turn(), 3, Delivery.QUARANTINED),
        {"spans": 3},
        [("spans", "1 refused by MLflow")],
    ),
    "refused and local": (
        delivered(delivered(turn(), 3, Delivery.QUARANTINED), 1, Delivery.LOCAL),
        {"spans": 2, "input_tokens": 40},
        [
            ("spans", "1 refused by MLflow and 1 kept here only"),
            ("tokens in", "MLflow counts 1 model call twice, whose parent span is not there"),
        ],
    ),
    # on the way: what MLflow said before is no difference
    "queued": (delivered(turn(), 0, Delivery.QUEUED), {"state": "IN_PROGRESS", "spans": 3}, []),
    "accepted": (delivered(turn(), 0, Delivery.ACCEPTED), {"state": "IN_PROGRESS", "spans": 3}, []),
    "held": (delivered(turn(), 0, Delivery.HELD), {"state": "IN_PROGRESS", "spans": 3}, []),
    "none there": ([replace(s, delivery=Delivery.QUARANTINED) for s in turn()], {"spans": 0}, []),
    # state
    "failed, and says so": (turn(final_status="failed", status=Status.ERROR), {"state": "ERROR"}, []),
    "failed, root OK": (
        turn(final_status="failed"),
        {},
        [("state", "MLflow looks only at the root span's status, OK, and not that the turn was \"failed\"")],
    ),
    "completed, root in error": (
        turn(status=Status.ERROR),
        {"state": "ERROR"},
        [
            (
                "state",
                "MLflow looks only at the root span's status, ERROR, and not that the turn was \"completed\"",
            )
        ],
    ),
    "a state that no root has": (turn(), {"state": "ERROR"}, [("state", UNKNOWN)]),
    "a state of its own": (turn(), {"state": "STATE_UNSPECIFIED"}, [("state", UNKNOWN)]),
    "silent": (
        without(turn(), 0),
        {"state": "IN_PROGRESS", "spans": 3, "duration_s": 9.0},
        [("state", f"{NO_ROOT} (interrupted, killed, or over 10 minutes)")],
    ),
    "settled without a root": (
        without(turn(), 0),
        {"spans": 3, "duration_s": 9.0},
        [("state", UNKNOWN)],
    ),
    # tokens
    "doubled": (
        without(turn(), 1),
        {"input_tokens": 60, "spans": 3},
        [("tokens in", "MLflow counts 2 model calls twice, whose parent span is not there")],
    ),
    "doubled, but otherwise": (
        without(turn(), 1),
        {"input_tokens": 61, "spans": 3},
        [("tokens in", UNKNOWN)],
    ),
    "subagent": (
        [
            *turn(),
            make_span(4, parent=1, role=Role.SUBAGENT, kind=Kind.AGENT, start_ns=SECOND, end_ns=5 * SECOND,
                      delivery=Delivery.CONFIRMED),
            call(5, parent=4, input_tokens=7, session="child"),
        ],
        {"spans": 6},
        [("tokens in", "MLflow leaves out 1 model call of subagents")],
    ),
    "a sum of its own": (
        turn(input_tokens=31),
        {"input_tokens": 31},
        [("tokens in", "MLflow takes the turn's own sum, which is not what its model calls add up to")],
    ),
    # cost
    "its own prices": (turn(), {"cost": 0.5}, [("cost", "Hermes named no price, MLflow has its own list")]),
    "no price": (turn(cost=0.5), {}, []),  # only model calls count
    "no price for the model": (
        [*turn(), call(4, parent=1, cost=0.5)],
        {"spans": 5},
        [("cost", "MLflow has no price for this model")],
    ),
    "other prices": (
        [*turn(), call(4, parent=1, cost=0.5)],
        {"spans": 5, "cost": 0.25},
        [("cost", "MLflow goes by its own list of prices, not by what Hermes says")],
    ),
    "the same price": ([*turn(), call(4, parent=1, cost=0.5)], {"spans": 5, "cost": 0.50001}, []),
    "its price twice": (
        [*without(turn(cost=0.5), 1), call(4, parent=1, cost=0.5)],
        {"spans": 4, "cost": 1.0, "input_tokens": 60},
        [
            ("tokens in", "MLflow counts 2 model calls twice, whose parent span is not there"),
            ("cost", "MLflow counts 1 model call twice, whose parent span is not there"),
        ],
    ),
    # time
    "longer": ([*turn(), call(20, parent=0)], {"spans": 5, "duration_s": 20.0}, [("duration", BEYOND)]),
    "longer, unknown why": (turn(), {"duration_s": 11.0}, [("duration", UNKNOWN)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_differences(case: str) -> None:
    spans, told, expected = CASES[case]
    found = compared(spans, {**AGREED, **told})
    assert [(each.what, each.why) for each in found] == expected


def test_a_running_turn_agrees_with_in_progress() -> None:
    spans = without(turn(), 0)
    told = {**AGREED, "state": "IN_PROGRESS", "spans": 3, "duration_s": 9.0}
    assert compared(spans, told, 12 * SECOND) == []


def test_a_span_that_still_runs_is_not_missed() -> None:
    running = call(4, parent=1, end_ns=0, delivery=Delivery.QUEUED)
    assert compared([*turn(), running], AGREED) == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"state": 7, "spans": "9", "cost": [], "duration_s": {}, "input_tokens": None, "output_tokens": True},
        {"state": "", "spans": float("inf"), "input_tokens": float("nan"), "output_tokens": 1e300},
    ],
)
def test_a_document_of_nonsense_tells_nothing(document: dict[str, object]) -> None:
    assert Told.of(document) == Told()


def test_a_document_is_read() -> None:
    document = {
        "state": "OK",
        "spans": 3,
        "cost": 1,
        "duration_s": 0.5,
        "input_tokens": 4,
        "output_tokens": 5.0,
    }
    assert Told.of(document) == Told("OK", 0.5, 4, 5, 1, 3)


def test_work_is_linear_in_a_deep_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of model calls: looking up each one's ancestors would be 2 million looks."""
    looks = 0
    real = compare._is_there

    def counted(node: Node) -> bool:
        nonlocal looks
        looks += 1
        return real(node)

    monkeypatch.setattr(compare, "_is_there", counted)
    count = 2_000
    spans = [call(number, parent=number - 1 if number else None, input_tokens=1) for number in range(count)]
    found = compared(spans, {"input_tokens": 2})
    assert [each.what for each in found] == ["tokens in"]
    assert looks <= 20 * count

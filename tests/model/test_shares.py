"""A session's tools and model calls by time: the same, however few traces are kept as they were read."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hermes_tui.model import shares as module
from hermes_tui.model.shares import Placed, Shares
from hermes_tui.model.span import Kind, Role
from hermes_tui.model.turns import read_trace
from tests.support import make_span, plant, recorded_spans, recording_names

_TOOL = {"kind": Kind.TOOL, "role": Role.TOOL, "tool": "terminal"}


def found(name: str) -> list[tuple[list[Placed], list[Placed]]]:
    """What is found in the whole of a recording and in its parts; of traces that came twice, too."""
    spans = recorded_spans(name)
    trees = plant(spans)
    shares = Shares()
    for trace_id, tree in (*trees.items(), *trees.items()):
        shares.replace(trace_id, read_trace(tree))
    times = sorted({span.start_ns for span in spans})
    cuts = [0, *times[:: max(1, len(times) // 5)], times[-1] + 1, 2**63]
    sessions = sorted({span.session for span in spans if span.session})
    return [
        each
        for session in sessions
        for since, until in pairwise(cuts)
        for each in (shares.between(session, since, until), shares.before(session, until, list(trees)))
    ]


@pytest.mark.parametrize("name", recording_names())
def test_what_is_found_does_not_depend_on_what_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = found(name)
    monkeypatch.setattr(module, "_KEPT", 0)
    assert found(name) == expected
    assert any(tools or models for tools, models in expected)


def test_traces_at_rest_are_kept_in_their_views_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    shares = Shares()
    for trace in range(10):
        spans = [make_span(number, trace=trace, session="s", **_TOOL) for number in range(2)]
        (tree,) = plant(spans).values()
        shares.replace(tree.trace_id, read_trace(tree))
        assert sum(len(read.tools["s"]) for read in shares._read.values()) <= 3
    assert len(shares.between("s", 0, 2**63)[0]) == 20
    shares.replace(tree.trace_id, None)
    assert len(shares.between("s", 0, 2**63)[0]) == 18
    assert shares._count == sum(read.count for read in shares._read.values())

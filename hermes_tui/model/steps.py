"""Model calls in Hermes' records, each beside the span that came of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from hermes_tui.model.live_turns import LiveStep, LiveTurn
from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.span import NANOSECONDS, Span, Status

StepKey = tuple[str, str]
"""(session, what tells a model call from the session's others)."""

_SAME_NS = 2 * NANOSECONDS
"""Hermes notes an answer this long after the model call's span ended, at most."""


class Step(msgspec.Struct, frozen=True):
    """A model call that Hermes noted the answer of. `key` stays the same when its span comes; `also` is
    then the span's.
    """

    key: StepKey
    live: LiveStep
    span: Span | None = None

    @property
    def session(self) -> str:
        return self.key[0]

    @property
    def also(self) -> SpanKey | None:
        return None if self.span is None else (self.span.trace_id, self.span.span_id)


def step_key(turn: LiveTurn, number: int) -> StepKey:
    """The key of a turn's model call, counted from 0; also of the one that is not answered yet."""
    return turn.session, f"{turn.key[1]}.{number}"


def pair_steps(turn: LiveTurn, models: Sequence[Span]) -> list[Step]:
    """The model calls of a record, with their spans. `models` are the session's in its time, by end.

    A model call that failed leaves no record. The nearest pairs first, each of both once.
    """
    spans = [span for span in models if span.status is not Status.ERROR and not span.running]
    near = [
        (abs(spans[at].end_ns - step.at_ns), number, at)
        for number, step in enumerate(turn.steps)
        for at in range(
            bisect_left(spans, step.at_ns - _SAME_NS, key=_end),
            bisect_left(spans, step.at_ns + _SAME_NS, key=_end),
        )
    ]
    pairs: dict[int, Span] = {}
    taken: set[int] = set()
    for _, number, at in sorted(near):
        if number not in pairs and at not in taken:
            pairs[number] = spans[at]
            taken.add(at)
    return [Step(step_key(turn, at), step, pairs.get(at)) for at, step in enumerate(turn.steps)]


def _end(span: Span) -> int:
    return span.end_ns

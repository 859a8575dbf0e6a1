"""What Hermes noted of a model call is what its span says."""

from __future__ import annotations

import pytest

from hermes_tui.model.joined import Joined
from hermes_tui.model.live import Live
from tests.model.timeline import Shown, roots, timeline
from tests.state_player import state_names

UNKNOWN = {"rate_limited", "v123_fatal", "v123_interrupted"}
"""Recordings in which no model call both succeeds and is noted by itself."""


@pytest.mark.parametrize("name", [name for name in state_names() if name not in UNKNOWN])
def test_tokens_by_the_records_are_those_of_the_span(name: str) -> None:
    known = 0
    for session in roots(name):
        live, shown, joined = Live(), Shown(session), Joined(session)
        for _, rows, spans in timeline(name):
            live.take(rows)
            joined.update(live, shown.forest, shown.add(spans))
        steps = [step for turn in joined.turns for step in turn.steps]
        for step in steps:
            part = live.session(step.session)
            spent = part.spent(step.live) if part is not None else None
            if step.span is None or spent is None:
                continue
            known += 1
            said = step.span
            assert (spent.input_tokens, spent.output_tokens) == (said.input_tokens, said.output_tokens)
            assert spent.cache_read_tokens == (said.cache_read_tokens or 0)
    assert known

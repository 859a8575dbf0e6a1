"""What a real MLflow says of recordings is what `model.compare` knows reasons for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_tui.journal.delivery import told
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.model.compare import UNKNOWN, Told, differences
from hermes_tui.model.span import Delivery
from hermes_tui.model.turns import read_trace
from tests.model.test_compare import DIFFERENT, SAID
from tests.processes import MLflowServer, counts, post, relays
from tests.support import LONG_AFTER, plant, recorded_requests, recorded_spans, wait_for

pytestmark = [pytest.mark.mlflow, pytest.mark.xdist_group("mlflow"), pytest.mark.timeout(600)]

NAMES = ("interrupted", "v123_interrupted", "v123_subagent", "v123_fatal", "truncated")
"""Totals doubled, a nested turn left out, subagents left out, a failure that it calls OK; one that agrees."""


def said(state: str, duration_s: float, tokens_in: int | None, tokens_out: int | None, spans: int) -> Told:
    return Told(state, duration_s, tokens_in, tokens_out, None, spans)


def test_every_difference_of_a_real_mlflow_has_its_reason(mlflow: MLflowServer, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    made = mlflow.call("/api/2.0/mlflow/experiments/create", {"name": "compared"})
    experiment = str(made["experiment_id"])
    spans = [span for name in NAMES for span in recorded_spans(name)]
    with relays(tmp_path) as start:
        relay = start(state, "--mlflow", mlflow.url)
        for name in NAMES:
            for body in recorded_requests(name):
                assert post(relay.address, body, x_mlflow_experiment_id=experiment) == 200
        wait_for(lambda: counts(state)["confirmed"] == len(spans), 120.0)
        assert relay.stop() == 0
    names = {span.trace_id: name for name in NAMES for span in recorded_spans(name)}
    with Reader(state.journal) as reader:
        records = told(reader, names)
        trees = plant(span for page in reader.spans_of(list(names)) for span in page)
    assert records.keys() == names.keys()
    for trace_id, name in names.items():
        key = (name, trace_id.hex()[:8])
        view = read_trace(trees[trace_id])
        assert {span.delivery for span in trees[trace_id].spans} == {Delivery.CONFIRMED}
        found = differences(view, records[trace_id], LONG_AFTER)
        assert not [each for each in found if each.why.startswith(UNKNOWN)], (key, records[trace_id])
        # Another MLflow may count otherwise: then say so here, after measuring again.
        assert records[trace_id] == said(*SAID[key])
        assert found == DIFFERENT.get(key, [])

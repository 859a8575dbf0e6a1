"""A real MLflow behind a real relay: every span arrives, read back by its id."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.model.span import Delivery
from hermes_tui.relay.experiments import Experiment, Server, Unavailable
from hermes_tui.settings import MLflow
from tests.processes import (
    MLflowServer,
    RelayProcess,
    counts,
    document,
    post,
    relays,
    run_cli,
    span_keys,
)
from tests.support import body_of, recorded_requests, wait_for, wire_span

pytestmark = [pytest.mark.mlflow, pytest.mark.xdist_group("mlflow"), pytest.mark.timeout(600)]

FAR_S = 120.0  # MLflow stores some hundred spans a second at best, and its first answer takes seconds


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., RelayProcess]]:
    with relays(tmp_path) as start:
        yield start


def new_experiment(mlflow: MLflowServer, name: str) -> str:
    made = mlflow.call("/api/2.0/mlflow/experiments/create", {"name": name})
    return str(made["experiment_id"])


def read_back(mlflow: MLflowServer, trace: bytes) -> set[tuple[bytes, bytes, int]]:
    """(trace id, span id, end in ns) of what MLflow has of a trace."""
    found = mlflow.call(f"/api/3.0/mlflow/traces/get?trace_id=tr-{trace.hex()}&allow_partial=true")
    return {
        (
            base64.b64decode(span["trace_id"]),
            base64.b64decode(span["span_id"]),
            int(span["end_time_unix_nano"]),
        )
        for span in found["trace"]["spans"]
    }


def everywhere(**wanted: int) -> dict[str, int]:
    return {each.name.lower(): wanted.get(each.name.lower(), 0) for each in Delivery}


def experiment_of(mlflow: MLflowServer, trace: bytes) -> str:
    found = mlflow.call("/api/3.0/mlflow/traces/batchGetInfos", {"trace_ids": [f"tr-{trace.hex()}"]})
    (info,) = found["trace_infos"]
    location: dict[str, Any] = info["trace_location"]["mlflow_experiment"]
    return str(location["experiment_id"])


def test_every_span_of_the_recordings_is_in_mlflow(
    mlflow: MLflowServer, start_relay: Callable[..., RelayProcess], tmp_path: Path
) -> None:
    names = ["weather", "three_turns", "subagent_children", "v123_parallel"]
    state = StateDir(tmp_path / "state")
    experiment = new_experiment(mlflow, "recordings")
    relay = start_relay(state, "--mlflow", mlflow.url)
    wanted = set()
    for name in names:
        for body in recorded_requests(name):
            # The recordings name experiment 1; the sender's header wins, so it says ours here.
            sent = gzip.compress(body) if name == "weather" else body
            encoding = {"Content_Encoding": "gzip"} if name == "weather" else {}
            assert post(relay.address, sent, x_mlflow_experiment_id=experiment, **encoding) == 200
            wanted |= set(span_keys(body))
    wait_for(lambda: counts(state) == everywhere(confirmed=len(wanted)), FAR_S)
    found = set()
    for trace in sorted({key[0] for key in wanted}):
        found |= read_back(mlflow, trace)
        assert experiment_of(mlflow, trace) == experiment
    assert found == wanted
    status = run_cli("status", "--state-dir", str(state.path)).stdout
    assert f"{len(wanted)} confirmed" in status
    assert relay.stop() == 0


def test_settings_name_the_experiment_and_metrics_stay_out(
    mlflow: MLflowServer, start_relay: Callable[..., RelayProcess], tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    experiment = new_experiment(mlflow, "settings say it")
    relay = start_relay(state, "--mlflow", mlflow.url + "/", "--experiment", experiment)
    body = body_of(wire_span(1, trace=7001, name="agent"), wire_span(2, trace=7001, parent=1))
    assert post(relay.address, body) == 200
    assert post(relay.address, b"\x0a\x00", path="/v1/metrics") == 200
    wait_for(lambda: counts(state) == everywhere(confirmed=2), FAR_S)
    (trace,) = {key[0] for key in span_keys(body)}
    assert read_back(mlflow, trace) == set(span_keys(body))
    assert experiment_of(mlflow, trace) == experiment
    assert relay.stop() == 0


def test_what_mlflow_cannot_take_yet_is_held_and_delivered_later(
    mlflow: MLflowServer, start_relay: Callable[..., RelayProcess], tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    known = new_experiment(mlflow, "known")
    unknown = str(int(known) + 1)  # MLflow counts up
    relay = start_relay(state, "--mlflow", mlflow.url)
    held = body_of(wire_span(1, trace=8001, name="agent"))
    nowhere = body_of(wire_span(1, trace=8002, name="agent"))
    fine = body_of(wire_span(1, trace=8003, name="agent"))
    assert post(relay.address, held, x_mlflow_experiment_id=unknown) == 200
    wait_for(lambda: counts(state) == everywhere(held=1), FAR_S)
    wait_for(lambda: f"experiment {unknown} does not exist" in document(state, "exporter")["reason"], FAR_S)
    assert post(relay.address, fine, x_mlflow_experiment_id=known) == 200
    assert post(relay.address, nowhere) == 200
    wait_for(lambda: counts(state) == everywhere(held=2, confirmed=1), FAR_S)
    wait_for(lambda: "MLflow wants an experiment" in document(state, "exporter")["last_error"], FAR_S)
    text = run_cli("status", "--state-dir", str(state.path)).stdout
    assert "2 held" in text
    assert new_experiment(mlflow, "made later") == unknown
    wait_for(lambda: counts(state) == everywhere(held=1, confirmed=2), FAR_S)
    ((trace, *_),) = span_keys(held)
    assert read_back(mlflow, trace) == set(span_keys(held))
    assert relay.stop() == 0
    # The other one needs a setting; the next start has it.
    relay = start_relay(state, "--mlflow", mlflow.url, "--experiment", known)
    wait_for(lambda: counts(state) == everywhere(confirmed=3), FAR_S)
    ((trace, *_),) = span_keys(nowhere)
    assert experiment_of(mlflow, trace) == known
    assert relay.stop() == 0


def test_a_span_that_mlflow_refuses_is_set_apart_alone(
    mlflow: MLflowServer, start_relay: Callable[..., RelayProcess], tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    experiment = new_experiment(mlflow, "refusals")
    bodies = [body_of(wire_span(1, trace=9000 + number, name="agent")) for number in range(8)]
    span = wire_span(1, trace=9100, name="agent")
    span.attributes.add(key="session.id").value.string_value = "x" * 251
    span.attributes.add(key="gen_ai.conversation.id").value.string_value = "x" * 251
    bodies.insert(4, body_of(span))
    relay = start_relay(state, "--mlflow", mlflow.url, "--experiment", experiment)
    for body in bodies:
        assert post(relay.address, body) == 200
    wait_for(lambda: counts(state) == everywhere(confirmed=8, quarantined=1), FAR_S)
    for number, body in enumerate(bodies):
        if number != 4:
            assert read_back(mlflow, span_keys(body)[0][0]) == set(span_keys(body))
    wait_for(lambda: document(state, "exporter")["state"] == "ok", FAR_S)
    assert relay.stop() == 0


def test_a_trace_deleted_in_mlflow_is_missed_and_brought_back(
    mlflow: MLflowServer, start_relay: Callable[..., RelayProcess], tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    experiment = new_experiment(mlflow, "deleted by somebody")
    relay = start_relay(state, "--mlflow", mlflow.url)
    keys = {}
    for name in ("slow_tool", "api_error"):  # no other test here sends them
        for body in recorded_requests(name):
            assert post(relay.address, body, x_mlflow_experiment_id=experiment) == 200
            keys.setdefault(name, set()).update(span_keys(body))
    wanted = keys["slow_tool"] | keys["api_error"]
    wait_for(lambda: counts(state) == everywhere(confirmed=len(wanted)), FAR_S)
    folder = ("--state-dir", str(state.path))
    done = run_cli("verify", *folder)
    assert (done.returncode, done.stderr) == (0, "")
    traces = [f"tr-{trace.hex()}" for trace in {key[0] for key in keys["slow_tool"]}]
    asked = {"experiment_id": experiment, "request_ids": traces}
    assert mlflow.call("/api/3.0/mlflow/traces/delete-traces", asked)["traces_deleted"] == len(traces)
    done = run_cli("verify", "--json", *folder)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    gone = {key[1].hex() for key in keys["slow_tool"]}
    assert set(found["missing"]) == gone
    assert found["spans"] == found["confirmed"] + len(gone) == len(wanted)
    text = run_cli("verify", *folder).stdout
    assert all(span in text for span in gone)
    assert "no longer there" in text
    done = run_cli("retry", *folder)
    assert (done.returncode, done.stdout) == (0, f"Sent {len(gone)} spans again: {len(gone)} accepted.\n")
    done = run_cli("verify", *folder)
    assert (done.returncode, done.stderr) == (0, "")
    for trace in {key[0] for key in wanted}:
        assert read_back(mlflow, trace) == {key for key in wanted if key[0] == trace}
    assert relay.stop() == 0


def test_experiments_of_a_real_mlflow(mlflow: MLflowServer) -> None:
    server = Server(MLflow(url=mlflow.url), {})
    number = server.create("set up / übung")
    assert server.by_name("set up / übung") == Experiment(number, "set up / übung", "active")
    assert server.find(number) == server.by_id(number)
    assert server.find("no such") is None
    assert server.by_id("987654321") is None
    assert number in [each.experiment_id for each in server.newest()]
    with pytest.raises(Unavailable, match="already exists"):
        server.create("set up / übung")

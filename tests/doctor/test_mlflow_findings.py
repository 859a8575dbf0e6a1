"""What the doctor finds of MLflow: real servers, without and with credentials, with files for a store."""

from __future__ import annotations

import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermes_tui.doctor.finding import Verdict
from hermes_tui.relay import launch
from tests.doctor.stage import Stage, is_well
from tests.processes import MLflowServer, counts

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.process,
    pytest.mark.xdist_group("mlflow"),
    pytest.mark.timeout(600),
]

BAD = Verdict.BAD
ADMIN, PASSWORD = "admin", "a-password-of-its-own"
USER, USERS = "hermes", "another-password-of-its-own"


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}


def at(stage: Stage, mlflow: MLflowServer, experiment: str, **headers: str) -> None:
    """The stage with this MLflow as its destination, and its plugin with this experiment."""
    stage.patch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    stage.otel(backend={"headers": {"x-mlflow-experiment-id": experiment, **headers}})


def new_experiment(mlflow: MLflowServer, name: str, **headers: str) -> str:
    return str(mlflow.call("/api/2.0/mlflow/experiments/create", {"name": name}, **headers)["experiment_id"])


def test_a_probe_span_goes_the_whole_way_and_away_again(stage: Stage, mlflow: MLflowServer) -> None:
    experiment = new_experiment(mlflow, "doctor")
    at(stage, mlflow, experiment)
    stage.start()
    found = stage.examine(probe=True)
    assert [each for each in found.values() if each.verdict is BAD] == []
    probe = found["probe span"]
    assert is_well(probe)
    assert "deleted again" in probe.proof
    trace = probe.proof.partition("trace ")[2].partition(";")[0]
    assert mlflow.call("/api/3.0/mlflow/traces/batchGetInfos", {"trace_ids": [trace]}) == {}
    assert sum(counts(stage.state).values()) == 0


def test_a_deleted_experiment_is_restored(stage: Stage, mlflow: MLflowServer) -> None:
    experiment = new_experiment(mlflow, "deleted")
    mlflow.call("/api/2.0/mlflow/experiments/delete", {"experiment_id": experiment})
    at(stage, mlflow, experiment)
    stage.start()
    found = stage.examine(probe=True)
    assert (found["experiment"].verdict, "is deleted" in found["experiment"].finding) == (BAD, True)
    assert found["probe span"].verdict is Verdict.UNKNOWN, "it would be held for nothing"
    stage.follow(found["experiment"].fix)
    again = stage.examine(probe=True)
    assert is_well(again["experiment"])
    assert is_well(again["probe span"])


def test_an_experiment_that_does_not_exist_is_made(stage: Stage, mlflow: MLflowServer) -> None:
    at(stage, mlflow, "123456789")
    stage.start()
    found = stage.ask("experiment")
    assert (found.verdict, "does not exist" in found.finding) == (BAD, True)
    stage.follow(found.fix)
    made = mlflow.call("/api/2.0/mlflow/experiments/get-by-name?experiment_name=hermes")
    at(stage, mlflow, str(made["experiment"]["experiment_id"]))  # "write its number where this one is named"
    again = stage.examine(probe=True)
    assert is_well(again["experiment"])
    assert is_well(again["probe span"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """MLflow's own basic auth, with a user who may do nothing."""
    python = os.environ.get("HERMES_TRACE_TEST_MLFLOW_PYTHON") or shutil.which("python3") or "python3"
    probe = subprocess.run([python, "-c", "import flask_wtf"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("MLflow's basic auth needs its extra: pip install 'mlflow[auth]'")
    folder = tmp_path_factory.mktemp("guarded")
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = {ADMIN}\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test"}
    server = MLflowServer(folder, "--app-name", "basic-auth", environment=environment)
    try:
        server.wait_ready()
        body = {"username": USER, "password": USERS}
        server.call("/api/2.0/mlflow/users/create", body, **basic(ADMIN, PASSWORD))
        yield server
    finally:
        server.close()


def test_missing_credentials_and_missing_rights(stage: Stage, guarded: MLflowServer) -> None:
    experiment = new_experiment(guarded, "guarded", **basic(ADMIN, PASSWORD))
    at(stage, guarded, experiment)
    stage.start("--started-by", "pane")
    found = stage.examine(probe=True)
    assert (found["credentials"].verdict, "not accept" in found["credentials"].finding) == (BAD, True)
    assert (found["probe span"].verdict, "401" in found["probe span"].proof) == (BAD, True)
    stage.placeholders |= {"NAME": USER, "PASSWORD": USERS}
    stage.follow(found["credentials"].fix)
    launch.stop(stage.state)  # `hermes-trace-tui stop` and `hermes-trace-tui doctor --fix`, as it says
    subprocess.run(
        [stage.bin / "hermes-trace-tui", "doctor", "--fix"], stdout=subprocess.DEVNULL, check=False
    )
    found = stage.examine(probe=True)
    assert (found["credentials"].verdict, "no rights" in found["credentials"].finding) == (BAD, True)
    assert (found["probe span"].verdict, "does not allow" in found["probe span"].proof) == (BAD, True)
    stage.placeholders = {"ADMIN": f"{ADMIN}:{PASSWORD}", "NAME": USER}
    stage.follow(found["probe span"].fix)
    again = stage.examine(probe=True)
    assert is_well(again["credentials"])
    assert is_well(again["probe span"]), again["probe span"]


def test_credentials_of_the_plugin_travel_with_the_probe(stage: Stage, guarded: MLflowServer) -> None:
    experiment = new_experiment(guarded, "travelling", **basic(ADMIN, PASSWORD))
    at(stage, guarded, experiment, **basic(ADMIN, PASSWORD))
    stage.start()
    found = stage.examine(probe=True)
    assert is_well(found["credentials"])
    assert "the plugin's configuration" in found["credentials"].proof
    assert is_well(found["probe span"])


def test_credentials_that_only_the_relay_has_are_no_reason_to_complain(
    stage: Stage, guarded: MLflowServer
) -> None:
    experiment = new_experiment(guarded, "only the relay", **basic(ADMIN, PASSWORD))
    at(stage, guarded, experiment)
    stage.start(MLFLOW_TRACKING_USERNAME=ADMIN, MLFLOW_TRACKING_PASSWORD=PASSWORD)
    found = stage.examine(probe=True)
    assert is_well(found["credentials"])
    assert "relay's own" in found["credentials"].finding
    probe = found["probe span"]
    assert (is_well(probe), "it stays there" in probe.proof) == (True, True)


def test_a_store_of_files(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    allowed = {"MLFLOW_ALLOW_FILE_STORE": "true"}  # MLflow itself advises against it
    server = MLflowServer(folder, store=str(folder / "mlruns"), environment=allowed)
    try:
        server.wait_ready()
        at(stage, server, new_experiment(server, "files"))
        stage.start()
        found = stage.examine(probe=True)
        assert found["MLflow store"].verdict is BAD, found["probe span"]
        assert found["MLflow store"].fix is not None
        (command,) = found["MLflow store"].fix.commands
        assert f"--port {server.port} --backend-store-uri sqlite:///" in command
    finally:
        server.close()

"""Fixtures of all rooms, and how Hypothesis runs here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from tests.processes import MLflowServer

# The same examples on every machine: a run that was green yesterday is green today.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings, the state folder or the Hermes home of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("HERMES_", "MLFLOW_", "OTEL_")):
            monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state folder that does not exist yet."""
    return StateDir(tmp_path / "state")


@pytest.fixture
def open_writer(state: StateDir) -> Iterator[Callable[..., Writer]]:
    """Open the writer of `state`; closed at the end. fsync is off: these tests do not pull the plug."""
    with ExitStack() as stack:

        def opened(**said: object) -> Writer:
            writer = Writer(state, **{"synchronous": "OFF", **said})  # type: ignore[arg-type]
            stack.callback(writer.close)
            return writer

        yield opened


@pytest.fixture
def open_reader(state: StateDir) -> Iterator[Callable[[], Reader]]:
    """Open a reader of `state`'s journal; closed at the end."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Reader(state.journal))


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A real MLflow for all tests that need one; they run one after the other (xdist_group)."""
    server = MLflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()

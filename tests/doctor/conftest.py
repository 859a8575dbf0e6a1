"""The stage for the doctor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.stage import Stage
from tests.fake_mlflow import FakeMLflow
from tests.processes import relays


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("LANGSMITH_"):
            monkeypatch.delenv(name)
    mlflow = FakeMLflow()
    mlflow.experiments = {"1"}
    with mlflow, relays(tmp_path) as start:
        there = Stage(tmp_path / "machine", monkeypatch, mlflow, start)
        try:
            yield there
        finally:
            there.close()

"""Fixtures for the relay: parts of it in this process, whole ones in processes of their own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.otlp.http import HttpReceiver
from hermes_tui.relay import exporter as exporter_module
from hermes_tui.relay import prover as prover_module
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.intake import Intake
from hermes_tui.relay.tee import Tee
from hermes_tui.settings import MLflow
from tests.processes import Destination, RelayProcess, Reply, relays


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., RelayProcess]]:
    """Start real relays; none outlives its test."""
    with relays(tmp_path) as start:
        yield start


@pytest.fixture
def destination() -> Iterator[Callable[..., Destination]]:
    """Make destinations that answer from a script; closed at the end."""
    with ExitStack() as stack:

        def opened(*script: Reply, **said: Any) -> Destination:
            return stack.enter_context(Destination(*script, **said))

        yield opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The exporter's waiting times in milliseconds; what they are in truth is tested apart."""
    monkeypatch.setattr(exporter_module, "backoff_s", lambda *_: 0.01)
    monkeypatch.setattr(exporter_module, "_HOLD_S", 0.05)
    return monkeypatch


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The prover's waiting times in milliseconds; what they are in truth is tested apart."""
    for name, value in (
        ("_SETTLED_S", 0.01),
        ("_OLD_S", 0.05),
        ("_GRACE_S", 0.02),
        ("_UNREADABLE_S", 0.05),
    ):
        monkeypatch.setattr(prover_module, name, value)
    monkeypatch.setattr(prover_module, "backoff_s", lambda *_: 0.02)
    return monkeypatch


class Parts:
    """Intake, journal and exporter in this process."""

    def __init__(self, state: StateDir, mlflow: MLflow) -> None:
        self.state = state
        self.news: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()

        def on_index() -> None:
            for call in self.news:
                loop.call_soon_threadsafe(call)

        self.writer = Writer(state, forward=mlflow.url is not None, on_index=on_index, synchronous="OFF")
        self.credentials = Credentials(state.credentials)
        self.intake = Intake(self.writer, self.credentials)
        self.tee = Tee(self.writer, self.credentials, state, mlflow)
        self.exporter, self.prover, self.outbox = self.tee.exporter, self.tee.prover, self.tee.outbox

    async def export(self) -> None:
        """Start to send."""
        self.news.append(self.exporter.wake)
        await self.tee.start()

    @asynccontextmanager
    async def receiver(self, **said: Any) -> AsyncIterator[HttpReceiver]:
        where: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "identity": {"service": "test"}}
        receiver = HttpReceiver(self.intake.accept, **{**where, **said})
        await receiver.start()
        try:
            yield receiver
        finally:
            await receiver.stop()

    async def close(self) -> None:
        failed = self.tee.failed()
        await self.tee.stop(0.0)
        assert not failed, f"the exporter or the prover ended by itself: {failed!r}"
        self.writer.close()


@pytest.fixture
async def parts(state: StateDir, destination: object) -> AsyncIterator[Callable[..., Parts]]:
    """Make the parts of a relay; closed at the end, before the destinations are."""
    async with AsyncExitStack() as stack:

        def made(url: str | None = None, **said: Any) -> Parts:
            found = Parts(state, MLflow(url=url, **said))
            stack.push_async_callback(found.close)
            return found

        yield made


@pytest.fixture
def sql(state: StateDir) -> Callable[..., list[Any]]:
    """Run statements on the journal over another connection, such as triggers that make it fail."""

    def run(statement: str, *parameters: object) -> list[Any]:
        with closing(sqlite3.connect(state.journal, isolation_level=None, timeout=20)) as connection:
            return connection.execute(statement, parameters).fetchall()

    return run

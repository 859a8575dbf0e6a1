"""How the pane looks, on recordings of real sessions. `pytest --snapshot-update` makes the pictures anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.tui.app import TraceApp
from tests.support import SECOND, caught_up, recorded_requests, store, wait_for
from tests.tui.stage import NARROW, WIDE, Clock, FakeRelay, FakeSupervisor, Stage, last_ns, spans_until

Compare = Callable[..., bool]
Picture = Callable[..., None]


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spinners stand still, and nothing pops up for a while."""
    monkeypatch.setattr(TraceApp, "notify", lambda *_, **__: None)
    monkeypatch.setattr("hermes_tui.tui.widgets.row_list._TICK_S", 3_600.0)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")


@pytest.fixture
def picture(
    state: StateDir,
    open_writer: Callable[..., Writer],
    snap_compare: Compare,
    monkeypatch: pytest.MonkeyPatch,
) -> Picture:
    """Compare the pane after the first requests of a recording, and some keys, with its picture."""

    def compare(
        name: str | None,
        *,
        requests: int | None = None,
        size: tuple[int, int] = NARROW,
        keys: tuple[str, ...] = (),
        later_s: float = 0.4,
        delivery: Delivery | None = None,
        exporter: dict[str, Any] | None = None,
        wait: Callable[[Stage], Awaitable[None]] | None = None,
    ) -> None:
        spans = spans_until(name, requests) if name is not None else []
        clock = Clock(last_ns(spans) + int(later_s * SECOND) if spans else SECOND).install(monkeypatch)
        if name is not None:
            writer = open_writer(forward=delivery is not None)
            for at, body in enumerate(recorded_requests(name)[:requests]):
                store(writer, body, received_ns=clock.now_ns - (100 - at) * SECOND)
            with Reader(state.journal) as reader:
                wait_for(lambda: caught_up(reader))
            if delivery is not None and delivery is not Delivery.QUEUED:
                marks = [(span.trace_id, span.span_id, span.end_ns) for span in spans]
                writer.mark(marks, delivery, destination="d").result(20)
            writer.set_meta("exporter", exporter or {}).result(20)
            writer.close()

        async def prepare(pilot: Pilot[None]) -> None:
            assert isinstance(pilot.app, TraceApp)
            stage = Stage(pilot.app, pilot)
            if name is not None:
                await stage.until(lambda: stage.app.shown.totals.spans and stage.app._journal.newest)
            await stage.press(*keys)
            if wait is not None:
                await wait(stage)

        relay = FakeRelay(destination="http://127.0.0.1:5000")
        app = TraceApp(state, supervisor=FakeSupervisor(relay))
        assert snap_compare(app, terminal_size=size, run_before=prepare)

    return compare


def test_mid_turn_narrow(picture: Picture) -> None:
    picture("shell_corners", requests=3, delivery=Delivery.ACCEPTED)


def test_mid_turn_wide(picture: Picture) -> None:
    picture("shell_corners", requests=3, size=WIDE, delivery=Delivery.QUEUED)


def test_done_narrow(picture: Picture) -> None:
    picture("shell_corners", delivery=Delivery.CONFIRMED)


def test_done_wide(picture: Picture) -> None:
    picture(
        "shell_corners", size=WIDE, delivery=Delivery.CONFIRMED, keys=("home", "down", "down", "down", "down")
    )


def test_interrupted_narrow(picture: Picture) -> None:
    exporter = {"state": "held", "reason": "experiment 7 does not exist"}
    picture("interrupted", delivery=Delivery.QUEUED, exporter=exporter)


def test_subagents_wide(picture: Picture) -> None:
    exporter = {"state": "retrying", "reason": "503 Service Unavailable"}
    picture("subagent_children", size=WIDE, delivery=Delivery.QUEUED, exporter=exporter)


def test_approval_narrow(picture: Picture) -> None:
    picture("approval", keys=("end", "up", "up", "right"))


def test_parallel_narrow(picture: Picture) -> None:
    picture("v123_parallel", delivery=Delivery.QUARANTINED, keys=("w",))


def test_commands_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("2", "up"))


def test_commands_wide(picture: Picture) -> None:
    picture("approval", size=WIDE, keys=("2",))


def test_details_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("home", "down", "down", "down", "down", "enter"))


def test_empty_narrow(picture: Picture) -> None:
    picture(None, wait=_listening)


def test_help_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("question_mark",))


def test_sessions_wide(picture: Picture) -> None:
    picture("subagent_children", size=WIDE, keys=("s",))


async def _listening(stage: Stage) -> None:
    await stage.shows("http://127.0.0.1:54321")

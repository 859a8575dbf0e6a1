"""How the pane looks, on recordings of real sessions. `pytest --snapshot-update` makes the pictures anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from textual.pilot import Pilot

from hermes_tui.journal.checkup import Trouble, remember
from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import LOST
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.tui.app import TraceApp
from tests.support import SECOND, caught_up, recorded_requests, store, wait_for
from tests.tui.stage import (
    NARROW,
    WIDE,
    Clock,
    FakeRelay,
    FakeSupervisor,
    Stage,
    deliver,
    last_ns,
    spans_until,
    tell,
)
from tests.tui.stage import says as set_says

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
        refused: Sequence[tuple[range, Delivery, str]] = (),
        told: Sequence[dict[str, Any]] = (),
        says: dict[str, dict[str, Any]] | None = None,
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
            for some, refusal, reason in refused:
                deliver(
                    writer,
                    (spans[at] for at in some),
                    refusal,
                    reason=reason,
                    at_ns=clock.now_ns - 240 * SECOND,
                )
            if delivery is not None and delivery is not Delivery.QUEUED:
                rest = [span for at, span in enumerate(spans) if not any(at in each[0] for each in refused)]
                deliver(writer, rest, delivery, at_ns=clock.now_ns - 90 * SECOND)
            for trace, document in zip(dict.fromkeys(span.trace_id for span in spans), told, strict=False):
                tell(writer, trace, **document)
            set_says(writer, **_before(says or {}, clock.now_ns))
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


async def _was_read(stage: Stage) -> None:
    """Until the transcript's texts are there."""
    view = stage.app.board.transcript
    await stage.until(lambda: view._script and not view._asked)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_transcript(picture: Picture, size: tuple[int, int]) -> None:
    picture("shell_corners", size=size, delivery=Delivery.CONFIRMED, keys=("5",), wait=_was_read)


def test_transcript_of_subagents_wide(picture: Picture) -> None:
    picture("v123_subagent", size=WIDE, delivery=Delivery.CONFIRMED, keys=("5",), wait=_was_read)


def test_transcript_of_approvals_narrow(picture: Picture) -> None:
    picture("v123_approval", delivery=Delivery.CONFIRMED, keys=("5",), wait=_was_read)


def test_interrupted_narrow(picture: Picture) -> None:
    picture("interrupted", delivery=Delivery.QUEUED, says=HELD)


def test_subagents_wide(picture: Picture) -> None:
    picture("subagent_children", size=WIDE, delivery=Delivery.QUEUED, says=RETRYING)


def test_approval_narrow(picture: Picture) -> None:
    picture("approval", keys=("end", "up", "up", "right"))


def test_parallel_narrow(picture: Picture) -> None:
    picture("v123_parallel", delivery=Delivery.QUARANTINED, keys=("w",))


def test_bars_wide(picture: Picture) -> None:
    picture("shell_corners", requests=3, size=WIDE, keys=("b", "home"))


def test_retries_filtered_narrow(picture: Picture) -> None:
    picture("api_error", keys=("F", "home"))


def test_approvals_unfolded_narrow(picture: Picture) -> None:
    picture("approval", keys=("Z", "end"))


def test_commands_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("2", "up"))


def test_commands_wide(picture: Picture) -> None:
    picture("approval", size=WIDE, keys=("2",))


async def _every(stage: Stage) -> None:
    listing = stage.app.board.listing
    await stage.until(lambda: listing.every is not None and listing.every.complete)


@pytest.mark.parametrize(
    "size", [(40, 20), NARROW, (80, 24), WIDE], ids=["smallest", "narrow", "middle", "wide"]
)
def test_commands_reviewed(picture: Picture, size: tuple[int, int]) -> None:
    """Flags beside rows, marks before them; the details tell why."""
    picture("approval", size=size, keys=("2", "m", "up"))


def test_commands_failed_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("2", "F"))


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_commands_of_all_sessions(picture: Picture, size: tuple[int, int]) -> None:
    picture("subagent_children", size=size, keys=("2", "a"), wait=_every)


def test_commands_export_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("2", "X"))


async def _searched(stage: Stage) -> None:
    await stage.until(lambda: stage.app.board.search._finder.done)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_search(picture: Picture, size: tuple[int, int]) -> None:
    picture("shell_corners", size=size, keys=("slash", *"echo", "enter", "n"), wait=_searched)


def test_search_typed_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("slash", *"printf"), wait=_searched)


def test_details_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("home", "down", "down", "down", "down", "enter"))


def test_empty_narrow(picture: Picture) -> None:
    picture(None, wait=_listening)


def test_help_narrow(picture: Picture) -> None:
    picture("shell_corners", keys=("question_mark",))


async def facts_told(stage: Stage) -> None:
    """Until the list says of every session what its spans say."""
    await stage.until(lambda: stage.text.count(" turn,") + stage.text.count(" turns,") == 2)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_sessions(picture: Picture, size: tuple[int, int]) -> None:
    picture("subagent_children", size=size, keys=("s",), wait=facts_told)


def test_doctor_narrow(picture: Picture, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_tui.tui.examination.short_age", lambda _: "5m")
    troubles = [
        Trouble("bad", "relay", "No relay runs for this state folder", "hermes-trace-tui doctor --fix"),
        Trouble("warn", "limits", "outputs are cut after 1,200 characters, and the exit code with them",
                "write `tool_output_preview_max_chars: 20000` into ~/.hermes/hermes_otel.yaml"),
    ]  # fmt: skip
    with Desk(state) as desk:
        remember(desk, bad=1, warn=1, first_fix="", troubles=troubles)
    picture(None, keys=("d",), wait=_diagnosed)


# ---- the delivery view

WHERE = "http://127.0.0.1:5000"
PROVEN = {"state": "ok", "readable": True, "reason": "", "at_ns": 0}
OK = {"exporter": {"destination": WHERE, "state": "ok"}, "proof": PROVEN}
WHY = "experiment 7 does not exist at the destination"
HELD = {
    "exporter": {
        "destination": WHERE,
        "state": "held",
        "reason": WHY,
        "since_ns": -240 * SECOND,
        "last_error": WHY,
        "last_error_ns": -8 * SECOND,
    },
    "proof": PROVEN,
}
BUSY = "the destination is busy (503: Service Unavailable)"
RETRYING = {
    "exporter": {
        "destination": WHERE,
        "state": "retrying",
        "reason": BUSY,
        "since_ns": -75 * SECOND,
        "last_error": BUSY,
        "last_error_ns": -12 * SECOND,
    },
    "proof": PROVEN,
}
COLLECTOR = {
    "exporter": {"destination": "http://collector.example:4318", "state": "ok"},
    "proof": {
        "state": "unreadable",
        "readable": False,
        "reason": "it has no MLflow API to read traces back (404 for /api/3.0/mlflow/traces/batchGetInfos)",
    },
}
BAD = "refused with 422: Failed to convert OTLP span: attribute 'gen_ai.usage' is neither a number nor a text"
DOUBLED = {"state": "OK", "duration_s": 18.699, "input_tokens": 113_692, "output_tokens": 240, "spans": 13}
SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])


def _before(says: dict[str, dict[str, Any]], now_ns: int) -> dict[str, dict[str, Any]]:
    """Negative times are before `now_ns`."""
    return {
        name: {
            key: now_ns + value if key.endswith("_ns") and value < 0 else value for key, value in each.items()
        }
        for name, each in says.items()
    }


async def _delivery(stage: Stage) -> None:
    await stage.until(lambda: stage.proof._lines)


@SIZES
def test_delivery_held(picture: Picture, size: tuple[int, int]) -> None:
    some = range(3, 9)
    picture(
        "shell_corners", size=size, delivery=Delivery.QUEUED, refused=[(some, Delivery.HELD, WHY)], says=HELD,
        keys=("4", "down", "down"), wait=_delivery,
    )  # fmt: skip


@SIZES
def test_delivery_quarantined(picture: Picture, size: tuple[int, int]) -> None:
    picture(
        "interrupted", size=size, delivery=Delivery.CONFIRMED, says=OK, wait=_delivery,
        refused=[(range(2, 3), Delivery.QUARANTINED, BAD), (range(4, 6), Delivery.QUARANTINED, LOST)],
        keys=("4", "down", "down"),
    )  # fmt: skip


@SIZES
def test_delivery_retrying(picture: Picture, size: tuple[int, int]) -> None:
    picture(
        "subagent_children", size=size, delivery=Delivery.QUEUED, says=RETRYING, keys=("4",), wait=_delivery,
        refused=[(range(5), Delivery.CONFIRMED, "")],
    )  # fmt: skip


@SIZES
def test_delivery_confirmed(picture: Picture, size: tuple[int, int]) -> None:
    """All is there, and MLflow's totals are explained where they are not ours."""
    picture(
        "interrupted", size=size, delivery=Delivery.CONFIRMED, says=OK, told=[DOUBLED],
        keys=("4", "down"), wait=_delivery,
    )  # fmt: skip


@SIZES
def test_delivery_unreadable(picture: Picture, size: tuple[int, int]) -> None:
    picture("approval", size=size, delivery=Delivery.ACCEPTED, says=COLLECTOR, keys=("4",), wait=_delivery)


async def _diagnosed(stage: Stage) -> None:
    await stage.shows("The proofs")


async def _listening(stage: Stage) -> None:
    await stage.shows("http://127.0.0.1:54321")


# ---- the usage view

EVERY_SIZE = pytest.mark.parametrize(
    "size", [(40, 20), NARROW, (80, 24), WIDE], ids=["smallest", "narrow", "middle", "wide"]
)


async def _usage(stage: Stage) -> None:
    await stage.until(lambda: "all today" in "\n".join(_lines(stage)))


def _lines(stage: Stage) -> list[str]:
    return ["".join(text for text, _ in line.parts) for line in stage.app.board.usage._lines]


@EVERY_SIZE
def test_usage(picture: Picture, size: tuple[int, int]) -> None:
    picture("shell_corners", size=size, delivery=Delivery.CONFIRMED, keys=("3",), wait=_usage)


@EVERY_SIZE
def test_usage_mid_turn(picture: Picture, size: tuple[int, int]) -> None:
    picture("thirty_steps", requests=9, size=size, delivery=Delivery.QUEUED, keys=("3",), wait=_usage)


@EVERY_SIZE
def test_usage_further_down(picture: Picture, size: tuple[int, int]) -> None:
    """A slow span is picked; MLflow counts a turn's tokens twice."""

    async def pick(stage: Stage) -> None:
        await _usage(stage)
        while stage.app.board.usage.cursor is None or stage.app.board.usage.cursor[2] != "span":
            await stage.press("down")

    picture("interrupted", size=size, delivery=Delivery.CONFIRMED, told=[DOUBLED], keys=("3",), wait=pick)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("theme", ["light", "contrast", "plain"])
def test_themes(picture: Picture, monkeypatch: pytest.MonkeyPatch, theme: str, size: tuple[int, int]) -> None:
    monkeypatch.setattr("hermes_tui.tui.themes.first", lambda *_: theme)
    picture("shell_corners", requests=3, size=size, delivery=Delivery.ACCEPTED, keys=("k", "k"))


@pytest.mark.parametrize("size", [(40, 20), NARROW, WIDE], ids=["40", "narrow", "wide"])
def test_palette(picture: Picture, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.setattr("textual.widgets._input.Input._toggle_cursor", lambda _: None)  # it does not blink
    picture("shell_corners", size=size, keys=("ctrl+p", *"copy"), wait=_offered)


async def _offered(stage: Stage) -> None:
    await stage.shows("Copy the output")


def test_paused(picture: Picture) -> None:
    picture("shell_corners", requests=3, keys=("P",))

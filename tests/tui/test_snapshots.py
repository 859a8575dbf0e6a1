"""How the pane looks, on recordings of real sessions. `pytest --snapshot-update` makes the pictures anew."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from hermes_tui.journal.checkup import Trouble, remember
from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import LOST
from hermes_tui.model.span import Delivery
from tests.tui.gallery import Gallery, Scene, Wait
from tests.tui.stage import NARROW, WIDE, Stage

SIZES = ((40, 20), NARROW, (80, 24), WIDE)
EVERY_SIZE = pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
BOTH_SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=lambda size: str(size[0]))
BOTH_LOOKS = ("dark", "light")

# ---- what the relay and MLflow say

WHERE = "http://127.0.0.1:5000"
PROVEN = {"state": "ok", "readable": True, "reason": "", "at_ns": 0}
OK = {"exporter": {"destination": WHERE, "state": "ok"}, "proof": PROVEN}
WHY = "experiment 7 does not exist at the destination"
BUSY = "the destination is busy (503: Service Unavailable)"


def _troubled(state: str, reason: str, since_s: int, last_s: int) -> dict[str, dict[str, object]]:
    """The relay's documents when it cannot send, for so many seconds; the last error is `last_s` old."""
    second = 1_000_000_000
    exporter = {
        "destination": WHERE, "state": state, "reason": reason, "since_ns": -since_s * second,
        "last_error": reason, "last_error_ns": -last_s * second,
    }  # fmt: skip
    return {"exporter": exporter, "proof": PROVEN}


HELD = _troubled("held", WHY, 240, 8)
RETRYING = _troubled("retrying", BUSY, 75, 12)
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

# ---- scenes

PARALLEL_RUN = Scene("shell_corners", until_s=9.0, delivery=Delivery.ACCEPTED, said=OK)
"""Mid-turn: quotes and wide characters, a failure, of three calls at once one goes on."""
LONG_RUN = Scene("thirty_steps", until_s=9.6, delivery=Delivery.QUEUED, said=OK)
ASKS = Scene("v123_approval", until_s=12.5, delivery=Delivery.ACCEPTED, said=OK)
"""Mid-turn: a command waits for the user's decision."""
SHELL = Scene("shell_corners", delivery=Delivery.CONFIRMED, said=OK)
DECIDED = Scene("approval", delivery=Delivery.CONFIRMED, said=OK)
AGENTS = Scene("subagent_children", delivery=Delivery.CONFIRMED, said=OK)
BUSY_WITH = Scene(
    "subagent_children", requests=6, delivery=Delivery.QUEUED, said=RETRYING,
    refused=[(range(5), Delivery.CONFIRMED, "")],
)  # fmt: skip
PROVED = Scene("interrupted", delivery=Delivery.CONFIRMED, said=OK, told=[DOUBLED])

# ---- what is waited for


async def _usage(stage: Stage) -> None:
    view = stage.app.board.later.usage
    await stage.until(
        lambda: "all today" in "\n".join("".join(text for text, _ in line.parts) for line in view._lines)
    )


async def _slow(stage: Stage) -> None:
    """The cursor is on one of the slowest spans."""
    await _usage(stage)
    while stage.app.board.later.usage.cursor is None or stage.app.board.later.usage.cursor[2] != "span":
        await stage.press("down")


async def _delivery(stage: Stage) -> None:
    await stage.until(lambda: stage.proof._lines and stage.app.board.later.delivery.snapshot.counts)


async def _transcript(stage: Stage) -> None:
    view = stage.app.board.later.transcript
    await stage.until(lambda: view._script and not view._asked)


async def _every(stage: Stage) -> None:
    listing = stage.app.board.listing
    await stage.until(lambda: listing.every is not None and listing.every.complete)


async def _searched(stage: Stage) -> None:
    await stage.until(lambda: stage.app.board.search._finder.done)


async def _facts(stage: Stage) -> None:
    """The list says of every session what its spans say."""
    await stage.until(lambda: len(stage.app._parts.facts.known) >= 2 and stage.text.count("29.9k") >= 2)


async def _offered(stage: Stage) -> None:
    await stage.shows("Copy the output")


async def _diagnosed(stage: Stage) -> None:
    """The screen says it, and what stands behind it."""
    await stage.until(lambda: "1 finding" in stage.app.board.empty._doctor)
    await stage.shows("1 finding")


async def _listening(stage: Stage) -> None:
    await stage.shows("listening on", "54321")


# ---- the views


class Look(NamedTuple):
    """A scene, the keys that lead to what is looked at, and what that waits for."""

    scene: Scene | None
    keys: tuple[str, ...] = ()
    wait: Wait | None = None


VIEWS = {
    "tree-mid": Look(PARALLEL_RUN),
    "tree-done": Look(DECIDED, ("Z",)),
    "commands-mid": Look(PARALLEL_RUN, ("2",)),
    "commands-done": Look(DECIDED, ("2", "m", "up")),
    "usage-mid": Look(LONG_RUN, ("3",), _usage),
    "usage-done": Look(SHELL, ("3",), _usage),
    "delivery-mid": Look(BUSY_WITH, ("4",), _delivery),
    "delivery-done": Look(PROVED, ("4", "down"), _delivery),
    "transcript-mid": Look(ASKS, ("5",), _transcript),
    "transcript-done": Look(SHELL, ("5",), _transcript),
}


@EVERY_SIZE
@pytest.mark.parametrize("name", VIEWS)
async def test_views(gallery: Gallery, name: str, size: tuple[int, int]) -> None:
    look = VIEWS[name]
    await gallery.compare(look.scene, size, look.keys, look.wait, themes=BOTH_LOOKS)


SCREENS = {
    "details": Look(SHELL, ("home", "down", "down", "down", "down", "enter")),
    "sessions": Look(AGENTS, ("s",), _facts),
    "help": Look(SHELL, ("question_mark",)),
    "search": Look(SHELL, ("slash", *"echo", "enter", "n"), _searched),
    "commands of all": Look(AGENTS, ("2", "a"), _every),
    "palette": Look(SHELL, ("ctrl+p", *"copy"), _offered),
    "export": Look(SHELL, ("2", "X")),
    "empty": Look(None, (), _listening),
}


@EVERY_SIZE
@pytest.mark.parametrize("name", SCREENS)
async def test_screens(gallery: Gallery, name: str, size: tuple[int, int]) -> None:
    look = SCREENS[name]
    themes = BOTH_LOOKS if size == NARROW else ("dark",)
    await gallery.compare(look.scene, size, look.keys, look.wait, themes, anew=True)


@EVERY_SIZE
async def test_doctor(
    gallery: Gallery, state: StateDir, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("hermes_tui.tui.examination.short_age", lambda _: "5m")
    troubles = [
        Trouble("bad", "relay", "No relay runs for this state folder", "hermes-trace-tui doctor --fix"),
        Trouble("warn", "limits", "outputs are cut after 1,200 characters, and the exit code with them",
                "write `tool_output_preview_max_chars: 20000` into ~/.hermes/hermes_otel.yaml"),
    ]  # fmt: skip
    with Desk(state) as desk:
        remember(desk, bad=1, warn=1, first_fix="", troubles=troubles)
    themes = BOTH_LOOKS if size == NARROW else ("dark",)
    await gallery.compare(None, size, ("d",), _diagnosed, themes, anew=True)


# ---- what else is looked at

MORE = {
    "held": Look(
        Scene("interrupted", delivery=Delivery.QUEUED, said=HELD),
    ),
    "subagents": Look(Scene("subagent_children", delivery=Delivery.QUEUED, said=RETRYING)),
    "quarantined, raw": Look(Scene("v123_parallel", delivery=Delivery.QUARANTINED), ("w",)),
    "retries alone": Look(Scene("api_error"), ("F", "home")),
    "paused": Look(PARALLEL_RUN, ("P",)),
    "waits for the user": Look(ASKS),
    "details hidden": Look(PARALLEL_RUN, ("b", "home")),
    "failed commands": Look(SHELL, ("2", "F")),
    "search typed": Look(SHELL, ("slash", *"printf"), _searched),
    "usage further down": Look(PROVED, ("3",), _slow),
    "delivery held": Look(
        Scene("shell_corners", delivery=Delivery.QUEUED, said=HELD,
              refused=[(range(3, 9), Delivery.HELD, WHY)]),
        ("4", "down", "down"), _delivery,
    ),
    "delivery quarantined": Look(
        Scene("interrupted", delivery=Delivery.CONFIRMED, said=OK,
              refused=[(range(2, 3), Delivery.QUARANTINED, BAD), (range(4, 6), Delivery.QUARANTINED, LOST)]),
        ("4", "down", "down"), _delivery,
    ),
    "delivery unreadable": Look(
        Scene("approval", delivery=Delivery.ACCEPTED, said=COLLECTOR), ("4",), _delivery
    ),
    "transcript of subagents": Look(AGENTS, ("5",), _transcript),
}  # fmt: skip


@BOTH_SIZES
@pytest.mark.parametrize("name", MORE)
async def test_more(gallery: Gallery, name: str, size: tuple[int, int]) -> None:
    look = MORE[name]
    await gallery.compare(look.scene, size, look.keys, look.wait)


@BOTH_SIZES
async def test_other_themes(gallery: Gallery, size: tuple[int, int]) -> None:
    await gallery.compare(PARALLEL_RUN, size, ("k", "k"), themes=("contrast", "plain"))

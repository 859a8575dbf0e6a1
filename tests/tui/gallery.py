"""Pictures of the pane: a recording as far as it has come, the pane on it, and what it then looks like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pytest_textual_snapshot import SVGImageExtension
from syrupy.assertion import SnapshotAssertion

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch, Watched
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.model.state_rows import StateRow
from hermes_tui.tui.app import TraceApp
from tests.joint import at_s, joint_events, wall_s
from tests.model.timeline import row_of
from tests.state_player import StateEvent
from tests.support import SECOND, caught_up, recorded_requests, spans_in, store, wait_for
from tests.tui.stage import Clock, FakeRelay, FakeSupervisor, Stage, deliver, last_ns, says, tell

Wait = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """A recording and what became of it.

    `requests`: its first ones alone. `until_s`: what was sent and noted in that many seconds, Hermes' own
    records too. `refused` spans have another delivery than the rest. `told`: what MLflow says of the first
    traces. `said`: the relay's documents; negative times are before now.
    """

    recording: str
    requests: int | None = None
    until_s: float | None = None
    delivery: Delivery | None = None
    refused: Sequence[tuple[range, Delivery, str]] = ()
    told: Sequence[dict[str, Any]] = ()
    said: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def bodies(self) -> Sequence[bytes]:
        if self.until_s is None:
            return recorded_requests(self.recording)[: self.requests]
        events = joint_events(self.recording)
        return [
            each.body for each in events if not isinstance(each, StateEvent) and at_s(each) <= self.until_s
        ]

    @property
    def notes(self) -> list[StateEvent]:
        """What Hermes had noted."""
        if self.until_s is None:
            return []
        events = joint_events(self.recording)
        return [each for each in events if isinstance(each, StateEvent) and each.t <= self.until_s]

    def now_ns(self) -> int:
        if self.until_s is not None:
            first = joint_events(self.recording)[0]
            return int((wall_s(first) - at_s(first) + self.until_s) * SECOND)
        return last_ns([span for body in self.bodies for span in spans_in(body)]) + SECOND * 2 // 5

    def play(self, writer: Writer, journal: Path, now_ns: int) -> None:
        """Into the journal, as received one second after the other, and delivered."""
        bodies = self.bodies
        spans = [span for body in bodies for span in spans_in(body)]
        for at, body in enumerate(bodies):
            store(writer, body, received_ns=now_ns - (len(bodies) - at) * SECOND)
        with Reader(journal) as reader:
            wait_for(lambda: caught_up(reader))
        for some, refusal, reason in self.refused:
            refused = [spans[at] for at in some]
            deliver(writer, refused, refusal, reason=reason, at_ns=now_ns - 240 * SECOND)
        if self.delivery is not None and self.delivery is not Delivery.QUEUED:
            rest = [span for at, span in enumerate(spans) if not any(at in each[0] for each in self.refused)]
            deliver(writer, rest, self.delivery, at_ns=now_ns - 90 * SECOND)
        for trace, document in zip(dict.fromkeys(span.trace_id for span in spans), self.told, strict=False):
            tell(writer, trace, **document)
        says(writer, **{name: _before(each, now_ns) for name, each in self.said.items()})


def _before(document: dict[str, Any], now_ns: int) -> dict[str, Any]:
    return {
        key: now_ns + value if key.endswith("_ns") and value < 0 else value for key, value in document.items()
    }


class Noted(Watch):
    """Hermes' records as they were in a recording."""

    def __init__(self, notes: Sequence[StateEvent]) -> None:
        super().__init__(find=tuple)
        self._notes = notes
        self._rows: list[StateRow] = [row_of(each, number + 1) for number, each in enumerate(notes)]

    def poll(self) -> list[StateRow]:
        rows, self._rows = self._rows, []
        return rows

    def watched(self) -> list[Watched]:
        return [Watched(Home("default", Path("hermes")), True, "")]

    def _messages(self, role: str) -> Iterator[dict[str, Any]]:
        return (each.row for each in self._notes if each.row.get("role") == role)

    def result(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        found = (each["content"] for each in self._messages("tool") if each["tool_call_id"] == call)
        return next(found, None)

    def arguments(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        for message in self._messages("assistant"):
            for each in json.loads(message["tool_calls"] or "[]"):
                if each["id"] == call:
                    return str(each["function"]["arguments"])
        return None

    def message(self, session: str, message: int) -> str | None:
        return next((each.row["content"] for each in self._notes if each.row.get("id") == message), None)


async def arrived(stage: Stage) -> None:
    """Until everything that lies in the journal and in Hermes' records is on the board."""
    app = stage.app
    await stage.until(lambda: app.shown.totals.spans and app._journal.newest and not app.board.filling)
    await stage.until(lambda: app.board.relay is not None)
    if isinstance(app._watch, Noted):
        await stage.until(lambda: app.shown.record is not None)


class Gallery:
    """Hangs pictures, and compares those that hang already."""

    def __init__(
        self, state: StateDir, writer: Callable[..., Writer], snapshot: SnapshotAssertion, patch: Any
    ) -> None:
        self.state = state
        self._writer = writer
        self._snapshot = snapshot.use_extension(SVGImageExtension)
        self._patch = patch

    async def compare(
        self,
        scene: Scene | None,
        size: tuple[int, int],
        keys: Sequence[str] = (),
        wait: Wait | None = None,
        themes: Sequence[str] = ("dark",),
        *,
        anew: bool = False,
    ) -> None:
        """Look at a scene in some themes after some keys, once what `wait` waits for is there.

        `anew`: each theme in a pane of its own; some of Textual's screens do not follow another theme.
        """
        now_ns = scene.now_ns() if scene is not None else SECOND
        Clock(now_ns).install(self._patch)
        if scene is not None:
            writer = self._writer(forward=scene.delivery is not None)
            scene.play(writer, self.state.journal, now_ns)
            writer.close()
        shots: dict[str, str] = {}
        for some in [[theme] for theme in themes] if anew else [themes]:
            async with self._pane(scene, size, some[0]) as stage:
                await stage.press(*keys)
                if wait is not None:
                    await wait(stage)
                for theme in some:
                    shots[theme] = await _shot(stage, theme)
        changed = [theme for theme, shot in shots.items() if self._snapshot(name=theme) != shot]
        assert not changed, f"look at it: pytest --snapshot-update, git diff ({', '.join(changed)})"

    @asynccontextmanager
    async def _pane(self, scene: Scene | None, size: tuple[int, int], theme: str) -> AsyncIterator[Stage]:
        """A pane on what was played, with all of it."""
        watch = Noted(scene.notes) if scene is not None and scene.until_s is not None else None
        relay = FakeRelay(destination="http://127.0.0.1:5000")
        app = TraceApp(self.state, supervisor=FakeSupervisor(relay), watch=watch)
        app.theme = theme
        async with app.run_test(size=size) as pilot:
            stage = Stage(app, pilot)
            if scene is not None:
                await arrived(stage)
            yield stage


async def _shot(stage: Stage, theme: str) -> str:
    app = stage.app
    if theme != app.theme:
        app.use_theme(theme)
    await stage.until(lambda: not app.board.side._due and all(worker.is_finished for worker in app.workers))
    return app.export_screenshot(title="")


@pytest.fixture
def gallery(
    state: StateDir,
    open_writer: Callable[..., Writer],
    snapshot: SnapshotAssertion,
    monkeypatch: pytest.MonkeyPatch,
) -> Gallery:
    """Spinners and cursors stand still, and nothing pops up for a while."""
    monkeypatch.setattr(TraceApp, "notify", lambda *_, **__: None)
    monkeypatch.setattr("hermes_tui.tui.widgets.row_list._TICK_S", 3_600.0)
    monkeypatch.setattr("textual.widgets._input.Input._toggle_cursor", lambda _: None)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return Gallery(state, open_writer, snapshot, monkeypatch)

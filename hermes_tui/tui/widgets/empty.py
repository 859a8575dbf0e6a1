"""What the pane says while nothing has arrived: how to make something arrive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from rich.text import Text
from textual import work
from textual.containers import VerticalScroll
from textual.widgets import Static

from hermes_tui import neutral
from hermes_tui.hermes.state_db import Watched
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.tui.examination import words
from hermes_tui.tui.messages import RelayInfo

log = logging.getLogger(__name__)

_LOOK_S = 3.0  # at what the doctor found last
_SOON_S = 0.3  # a session that is there takes this view away before


class Empty(VerticalScroll):
    """Setup help with the relay's real address, and how long ago the doctor found what."""

    def __init__(self, watched: Sequence[Watched] | None, state: StateDir, *, id: str | None = None) -> None:
        self._state = state
        self._relay: RelayInfo | None = None
        self._trouble = ""
        self._watched = watched
        self._doctor = words(None)
        self._text = Static(setup_text(None, "", watched, self._doctor), markup=False)
        super().__init__(self._text, id=id)

    def on_mount(self) -> None:
        self.set_interval(_LOOK_S, self._look)
        self.set_timer(_SOON_S, self._look)

    def show(self, relay: RelayInfo | None, trouble: str) -> None:
        self._relay, self._trouble = relay, trouble
        self._draw()

    def show_watched(self, watched: Sequence[Watched] | None) -> None:
        """Say which of Hermes' homes are watched; None: that is switched off."""
        if watched != self._watched:
            self._watched = watched
            self._draw()

    def _draw(self) -> None:
        self._text.update(setup_text(self._relay, self._trouble, self._watched, self._doctor))

    @work(exclusive=True)
    async def _look(self) -> None:
        if not self.display:
            return
        from hermes_tui.journal import checkup

        try:
            doctor = words(await asyncio.to_thread(checkup.last, self._state))
        except StateError as error:
            log.info("cannot look at the desk: %s", error)  # the key shows it
            return
        if doctor != self._doctor:
            self._doctor = doctor
            self._draw()


def watched_words(watched: Sequence[Watched] | None) -> str:
    """Which of Hermes' own records the pane looks at, in a line."""
    if watched is None:
        return "not watched (watch_hermes is off)"
    there = [neutral.line(each.home.name) for each in watched if each.present]
    troubled = next((neutral.line(each.trouble) for each in watched if each.trouble), "")
    if troubled:
        return f"cannot be read: {troubled}"
    if there:
        return f"watching {', '.join(there)}"
    return "no state.db yet" if watched else "no Hermes home found"


def setup_text(relay: RelayInfo | None, trouble: str, watched: Sequence[Watched] | None, doctor: str) -> Text:
    """How things stand, and what to do about it: the commands that help, and what they would write."""
    text = Text()
    text.append("No spans yet.\n", "bold")
    if trouble:
        text.append(f"{neutral.line(trouble)}\n", "bold red")
    address = neutral.line(relay.http) if relay is not None and relay.http else "127.0.0.1:4318"
    state = f"listening on {address}" if relay is not None and relay.http else "not running"
    text.append(f"relay   {state}\n", "dim")
    if relay is not None:
        mlflow = relay.destination or "not set; start with --mlflow URL"
        text.append(f"MLflow  {neutral.line(mlflow)}\n", "dim")
    text.append(f"Hermes  {watched_words(watched)}\n", "dim")
    text.append(f"doctor  {doctor} (d shows)\n\n", "dim")
    text.append("hermes-trace-tui setup", "bold")
    text.append("   points Hermes here\n")
    text.append("hermes-trace-tui doctor", "bold")
    text.append("  finds out why nothing comes\n\n")
    text.append("By hand, hermes-otel's endpoint becomes\n")
    text.append(f"    http://{address}/v1/traces\n", "bold")
    text.append("and that of a type: mlflow backend\n")
    text.append(f"    http://{address}\n", "bold")
    text.append("in ~/.hermes/plugins/hermes_otel/config.yaml\n", "dim")
    text.append("(from 1.0 on $HERMES_HOME/hermes_otel.yaml).\n", "dim")
    text.append("If there is none yet:\n\n")
    lines = (
        "backends:",
        "  - type: otlp",
        "    name: mlflow",
        f"    endpoint: http://{address}/v1/traces",
        "    metrics: false",
        "    logs: false",
        "    headers:",
        '      x-mlflow-experiment-id: "1"',
    )
    text.append("\n".join(lines) + "\n\n", "bold")
    text.append("Restart Hermes and ask it something.\n")
    return text

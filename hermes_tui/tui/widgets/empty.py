"""What the pane says while nothing has arrived: how to make something arrive."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from hermes_tui import neutral
from hermes_tui.hermes.state_db import Watched
from hermes_tui.tui.messages import RelayInfo


class Empty(VerticalScroll):
    """Setup help with the relay's real address."""

    def __init__(self, watched: Sequence[Watched] | None = None, *, id: str | None = None) -> None:
        self._relay: RelayInfo | None = None
        self._trouble = ""
        self._watched = watched
        self._text = Static(setup_text(None, "", watched), markup=False)
        super().__init__(self._text, id=id)

    def show(self, relay: RelayInfo | None, trouble: str) -> None:
        self._relay, self._trouble = relay, trouble
        self._text.update(setup_text(relay, trouble, self._watched))

    def show_watched(self, watched: Sequence[Watched] | None) -> None:
        """Say which of Hermes' homes are watched; None: that is switched off."""
        if watched != self._watched:
            self._watched = watched
            self._text.update(setup_text(self._relay, self._trouble, watched))


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


def setup_text(relay: RelayInfo | None, trouble: str, watched: Sequence[Watched] | None = ()) -> Text:
    """What to write into hermes-otel's configuration, and how things stand."""
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
    text.append("\nIn hermes-otel's config, send to this relay:\n\n")
    text.append("~/.hermes/plugins/hermes_otel/config.yaml\n", "dim")
    text.append("($HERMES_HOME/hermes_otel.yaml from 1.0 on)\n\n", "dim")
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
    text.append("An existing type: mlflow backend only needs\n")
    text.append(f"    endpoint: http://{address}\n\n", "bold")
    text.append("Restart Hermes and ask it something.\n")
    return text

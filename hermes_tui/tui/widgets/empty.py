"""What the pane says while nothing has arrived: how to make something arrive."""

from __future__ import annotations

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from hermes_tui import neutral
from hermes_tui.tui.messages import RelayInfo


class Empty(VerticalScroll):
    """Setup help with the relay's real address."""

    def __init__(self, *, id: str | None = None) -> None:
        self._text = Static(setup_text(None, ""), markup=False)
        super().__init__(self._text, id=id)

    def show(self, relay: RelayInfo | None, trouble: str) -> None:
        self._text.update(setup_text(relay, trouble))


def setup_text(relay: RelayInfo | None, trouble: str) -> Text:
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

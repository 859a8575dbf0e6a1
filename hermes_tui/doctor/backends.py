"""Where the plugin's backends lead: to the relay, to MLflow, or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from hermes_tui.hermes.plugin_config import EXPERIMENT_HEADER, TRACES, Backend, aims_at
from hermes_tui.hermes.pointing import ENOUGH_CHARS


@dataclass(frozen=True, slots=True)
class Relay:
    """Where the relay listens, or should: "host:port". `experiment`: it names one itself."""

    address: str
    running: bool = False
    destination: str | None = None
    experiment: str | None = None
    forwards: bool = True
    """It sends on what it takes; else the plugin sends to MLflow by itself, too."""
    token: bool = False
    """It wants a token of its senders."""
    delivers: bool = False
    """Spans that came without an experiment were accepted lately."""

    @property
    def traces_url(self) -> str:
        return f"http://{self.address}{TRACES}"


def nearest(backends: tuple[Backend, ...], relay: Relay) -> Backend | None:
    """The backend that sends to the relay; else the one that looks most like MLflow."""
    ours = next((each for each in backends if each.traces and is_relay(each.endpoint, relay)), None)
    mlflow = next((each for each in backends if each.is_mlflow), None)
    return ours or mlflow or next((each for each in backends if each.may_be_mlflow), None)


def to_mlflow(backends: tuple[Backend, ...], relay: Relay) -> Backend | None:
    """The backend whose headers reach MLflow."""
    if relay.forwards:
        return nearest(backends, relay)
    others = tuple(each for each in backends if each.traces and not is_relay(each.endpoint, relay))
    mlflow = next((each for each in others if each.is_mlflow), None)
    return mlflow or next((each for each in others if each.may_be_mlflow), None)


def minimal(relay: Relay, experiment: str = "EXPERIMENT_ID") -> str:
    """The configuration of MLflow's page, with the relay's address."""
    return (
        f"enabled: true\ntool_output_preview_max_chars: {ENOUGH_CHARS}\n"
        f"backends:\n  - type: otlp\n    name: mlflow\n    endpoint: {relay.traces_url}\n"
        f'    metrics: false\n    logs: false\n    headers:\n      {EXPERIMENT_HEADER}: "{experiment}"\n'
    )


def is_relay(endpoint: str | None, relay: Relay) -> bool:
    """Whether an address is the relay's."""
    host, _, port = relay.address.rpartition(":")
    return aims_at(endpoint, host, int(port))


def plain(url: str | None) -> str:
    """An address without what may be a credential."""
    if url is None:
        return "nowhere"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "no address"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

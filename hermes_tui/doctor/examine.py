"""The examination: gather, judge, and put what was found into the order of causes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hermes_tui.doctor import (
    config_checks,
    hermes_checks,
    look_relay,
    look_traces,
    mlflow_checks,
    other_plugins,
    probe,
    relay_checks,
    trace_checks,
)
from hermes_tui.doctor.ask_mlflow import Client
from hermes_tui.doctor.backends import Relay, nearest, to_mlflow
from hermes_tui.doctor.config_checks import ConfigFacts
from hermes_tui.doctor.finding import Finding, Group, Verdict, about
from hermes_tui.doctor.hermes_checks import HermesFacts
from hermes_tui.doctor.mlflow_checks import Arrived, MlflowFacts, ProbeFacts
from hermes_tui.doctor.probe import PATIENCE_S
from hermes_tui.doctor.relay_checks import RelayFacts
from hermes_tui.hermes import installation, plugin_config
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.home import homes as all_homes
from hermes_tui.hermes.plugin_config import Backend, Reading, header
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.access import TOKEN_HEADER
from hermes_tui.settings import Settings

Progress = Callable[[str], None]
"""Called with what is looked at next."""

_PROBE_HEADERS = ("authorization", "x-mlflow-")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be examined. `home` is Hermes' home or a profile; `probe`: also send a span, and wait
    `patience_s` for it.

    `environment` is the one that Hermes would be started with.
    """

    settings: Settings
    home: Home
    hermes: str | None = None
    python: str | None = None
    probe: bool = True
    token: str = ""
    patience_s: float = PATIENCE_S
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def examine(wanted: Wanted, progress: Progress = lambda _: None) -> list[Finding]:
    """All findings, causes before effects. Takes some seconds, and up to a minute when MLflow is slow."""
    hermes = _hermes(wanted, progress)
    progress("the plugin's configuration")
    reading = plugin_config.read(wanted.home, wanted.environment)
    progress("the relay")
    relay = look_relay.look(wanted.settings, wanted.token)
    headers, own = _headers(hermes, reading, _relay(relay, wanted))
    client = None if relay.url is None else Client(wanted.settings.mlflow, relay.url, own)
    progress("MLflow")
    mlflow = MlflowFacts(None) if client is None else client.facts()
    sent, why_not = _probe(wanted, relay, mlflow, headers, client, progress)
    delivers = _delivers(relay, sent)
    mlflow = replace(mlflow, delivers=delivers, settings_file=str(relay.settings_file))
    progress("what arrived")
    return [
        *hermes_checks.judge(hermes),
        *_configured(wanted, hermes, reading, _relay(relay, wanted, delivers=delivers), mlflow.settings_file),
        *relay_checks.judge(relay),
        *mlflow_checks.judge(mlflow, sent),
        mlflow_checks.judge_probe(sent, mlflow, why_not),
        *_arrived(wanted, hermes, reading),
    ]


def _hermes(wanted: Wanted, progress: Progress) -> HermesFacts:
    home, environment = wanted.home.path, wanted.environment
    progress("Hermes")
    path = installation.find_launcher(home, wanted.hermes, environment)
    launcher = None if path is None else installation.ask_launcher(path, environment)
    found = installation.find_python(launcher, home)
    if wanted.python is not None:
        found = Path(wanted.python).expanduser(), "--python names it"
    progress("the Python that runs Hermes")
    runtime = None if found is None else installation.ask_python(*found, environment)
    packaged = () if runtime is None else runtime.plugins
    reading = plugin_config.read(wanted.home, environment)
    return HermesFacts(
        home,
        launcher,
        runtime,
        (*installation.plugins_in(home), *packaged),
        installation.hermes_config(home),
        reading.plugin,
        tuple(each.name for each in all_homes((), environment) if each.name != wanted.home.name),
    )


def _configured(
    wanted: Wanted, hermes: HermesFacts, reading: Reading, relay: Relay, settings_file: str
) -> list[Finding]:
    if (tracer := _another(hermes)) is not None:
        return other_plugins.judge(tracer, reading.environment, wanted.home, relay, settings_file)
    launcher = None if hermes.launcher is None else hermes.launcher.path
    python = None if hermes.runtime is None else hermes.runtime.python
    return config_checks.judge(
        ConfigFacts(
            reading,
            relay,
            dotenv=config_checks.dotenv_names(reading.environment, wanted.environment),
            running=tuple(installation.running(wanted.home.path, launcher, python)),
            shows_token=_shows(wanted.token, reading, relay),
            changed_ns=config_checks.changed_ns(wanted.home, reading),
        )
    )


def _relay(facts: RelayFacts, wanted: Wanted, *, delivers: bool = False) -> Relay:
    running = facts.running
    address = running.http if running is not None and running.http else facts.wanted
    return Relay(
        address,
        running=running is not None,
        destination=facts.url,
        experiment=wanted.settings.mlflow.experiment,
        forwards=facts.forwards,
        token=bool(wanted.token),
        delivers=delivers,
    )


def _shows(token: str, reading: Reading, relay: Relay) -> bool:
    """Whether the plugin sends the relay's token."""
    if reading.config is None or (backend := nearest(reading.config.backends, relay)) is None:
        return False
    shown = header(backend.headers, TOKEN_HEADER), header(backend.headers, "authorization")
    return token in (shown[0], (shown[1] or "").removeprefix("Bearer "))


def _another(hermes: HermesFacts) -> installation.Plugin | None:
    """The plugin that traces, when it is not hermes-otel."""
    tracer = hermes.tracer
    return tracer if tracer is not None and tracer.name != installation.TRACER else None


def _headers(hermes: HermesFacts, reading: Reading, relay: Relay) -> tuple[dict[str, str], dict[str, str]]:
    """What the plugin sends beside the spans, as far as it travels on: to the relay, and to MLflow."""
    if _another(hermes) is not None:
        sent = _travelling(other_plugins.headers(reading.environment))
        return sent, sent
    backends = reading.config.backends if reading.config is not None else ()
    return _of(nearest(backends, relay)), _of(to_mlflow(backends, relay))


def _of(backend: Backend | None) -> dict[str, str]:
    return {} if backend is None else _travelling(backend.headers)


def _travelling(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower().startswith(_PROBE_HEADERS) and value.isascii() and value.isprintable()
    }


def _probe(
    wanted: Wanted,
    relay: RelayFacts,
    mlflow: MlflowFacts,
    headers: Mapping[str, str],
    client: Client | None,
    progress: Progress,
) -> tuple[ProbeFacts | None, str]:
    """What became of a probe span; None and why, when none was worth sending."""
    if not wanted.probe:
        return None, "--no-probe"
    if relay.running is None or not relay.running.ready or relay.silence:
        return None, "no relay takes it"
    if client is not None and not mlflow.up:
        return None, "MLflow does not answer: it would only wait"
    experiment = mlflow.experiment
    if experiment is not None and (experiment.answer.status in (400, 404) or experiment.stage == "deleted"):
        return None, "the experiment must be put right first"
    progress("a span on its way to MLflow and back")
    try:
        state = StateDir(relay.folder)
        beside = not relay.forwards
        sent = probe.send(
            state, relay.running, headers, wanted.token, client, wanted.patience_s, beside=beside
        )
    except StateError as error:
        return None, str(error)
    return sent, ""


def _delivers(relay: RelayFacts, sent: ProbeFacts | None) -> bool:
    """Whether MLflow takes what the relay sends: the probe tells, or else what was sent before."""
    if sent is not None:
        return sent.arrived in (Arrived.ACCEPTED, Arrived.UNPROVEN, Arrived.CONFIRMED)
    taken = relay.counts[Delivery.ACCEPTED] + relay.counts[Delivery.CONFIRMED]
    return relay.exporter.get("state") == "ok" and taken > 0


def _arrived(wanted: Wanted, hermes: HermesFacts, reading: Reading) -> list[Finding]:
    tracer = hermes.tracer
    journal = StateDir(wanted.settings.state_path.absolute()).journal
    try:
        facts = look_traces.look(
            journal,
            wanted.home,
            base_url=hermes.config.base_url,
            plugin=tracer is not None and hermes.enables(tracer),
            since_ns=config_checks.changed_ns(wanted.home, reading),
        )
    except (StateError, sqlite3.Error) as error:
        said = about("spans arrive", Group.NO_TRACES)
        return [said(Verdict.UNKNOWN, "What arrived is not known: the journal cannot be read", str(error))]
    return trace_checks.judge(facts)

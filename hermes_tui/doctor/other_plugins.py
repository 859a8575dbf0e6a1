"""Plugins other than hermes-otel that export spans over OTLP.

`otel_tracing` (package hermes-plugin-otel-tracing) was read in version 0.1; it is set by variables alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from hermes_tui.doctor.backends import Relay, is_relay, plain
from hermes_tui.doctor.finding import Finding, Fix, Group, Verdict, about
from hermes_tui.doctor.relay_checks import FIX, STOP
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.installation import Plugin
from hermes_tui.hermes.plugin_config import EXPERIMENT_HEADER

_EXPORTER, _ENDPOINT = "HERMES_OTEL_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT, _ENABLED = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "HERMES_OTEL_ENABLED"
_HEADERS, _TRACES_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
_DEFAULT = "http://localhost:4318"
_YES = ("", "true", "1", "yes")


def headers(environment: Mapping[str, str]) -> dict[str, str]:
    """What OpenTelemetry's exporters send beside the spans, by their variables: name=value, and so on."""
    said = environment.get(_TRACES_HEADERS) or environment.get(_HEADERS) or ""
    pairs = (pair.partition("=") for pair in said.split(",") if "=" in pair)
    return {unquote(name).strip().lower(): unquote(value).strip() for name, _, value in pairs}


def judge(
    tracer: Plugin, environment: Mapping[str, str], home: Home, relay: Relay, settings_file: str
) -> list[Finding]:
    """Whether its variables let it send to the relay, and from there into an experiment.

    `environment` is Hermes' own, `.env` included.
    """
    return [
        _sending(tracer, environment, home, relay),
        _experiment(tracer, environment, relay, settings_file),
    ]


def _sending(tracer: Plugin, environment: Mapping[str, str], home: Home, relay: Relay) -> Finding:
    said = about("configuration", Group.NO_TRACES)
    if tracer.name != "otel_tracing":
        finding = f"How {tracer.name} is configured is not known here"
        address = f"point its OTLP endpoint at {relay.traces_url}"
        return said(Verdict.UNKNOWN, finding, f"this program knows hermes_otel and otel_tracing; {address}")
    exporter = environment.get(_EXPORTER, "").lower() or "console"
    endpoint = environment.get(_TRACES_ENDPOINT) or environment.get(_ENDPOINT) or _DEFAULT
    shown = plain(endpoint)
    proof = f"{_EXPORTER} is {exporter}, {_ENDPOINT} is {shown} (the shell and {home.path / '.env'})"
    fix = Fix(
        "Write this, then restart Hermes.",
        file=str(home.path / ".env"),
        lines=f"{_ENABLED}=true\n{_EXPORTER}=otlp\n{_ENDPOINT}=http://{relay.address}\n",
    )
    if environment.get(_ENABLED, "").lower() not in _YES:
        return said(Verdict.BAD, f"otel_tracing is switched off by {_ENABLED}", proof, fix)
    if exporter != "otlp":
        return said(Verdict.BAD, f"otel_tracing exports to {exporter}, not over OTLP/HTTP", proof, fix)
    if not is_relay(endpoint, relay):
        return said(Verdict.BAD, f"otel_tracing sends to {shown}, not to the relay", proof, fix)
    return said(Verdict.OK, f"otel_tracing sends to the relay ({shown})", proof)


def _experiment(tracer: Plugin, environment: Mapping[str, str], relay: Relay, settings_file: str) -> Finding:
    """Such a plugin knows nothing of MLflow: an exporter's header names the experiment, or the relay does."""
    said = about("experiment set", Group.NO_TRACES)
    named = headers(environment).get(EXPERIMENT_HEADER)
    if named:
        return said(
            Verdict.OK, f"{tracer.name} names experiment {named}", f"{EXPERIMENT_HEADER} in {_HEADERS}"
        )
    if relay.experiment:
        how = "MLFLOW_EXPERIMENT_ID, a flag or settings"
        return said(Verdict.OK, f"the relay names experiment {relay.experiment}", how)
    if relay.delivers:
        return said(Verdict.OK, "the relay names the experiment", "MLflow accepted spans that name none")
    proof = f"{_HEADERS} has no {EXPERIMENT_HEADER}, and the relay's settings have no experiment"
    if relay.destination is None:
        return said(Verdict.UNKNOWN, "no experiment is named, and there is no MLflow yet", proof)
    fix = Fix(
        "Let the relay's settings name one (MLFLOW_EXPERIMENT_ID does as well), for what is held, too; "
        f"then run `{STOP}` and `{FIX}`.",
        file=settings_file,
        lines='mlflow:\n  experiment: "EXPERIMENT_ID"\n',
    )
    return said(Verdict.BAD, "no experiment is named: MLflow answers 422", proof, fix)

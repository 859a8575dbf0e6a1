"""Plugins other than hermes-otel that export spans over OTLP.

`otel_tracing` (package hermes-plugin-otel-tracing) was read in version 0.1; it is set by variables alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from hermes_tui.doctor.backends import Relay, is_relay, plain
from hermes_tui.doctor.finding import Finding, Fix, Group, Verdict, about
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.installation import Plugin

_EXPORTER, _ENDPOINT = "HERMES_OTEL_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT, _ENABLED = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "HERMES_OTEL_ENABLED"
_DEFAULT = "http://localhost:4318"
_YES = ("", "true", "1", "yes")


def judge(tracer: Plugin, environment: Mapping[str, str], home: Home, relay: Relay) -> list[Finding]:
    """Whether its variables let it send to the relay; `environment` is Hermes' own, `.env` included."""
    said = about("configuration", Group.NO_TRACES)
    if tracer.name != "otel_tracing":
        finding = f"How {tracer.name} is configured is not known here"
        address = f"point its OTLP endpoint at {relay.traces_url}"
        return [said(Verdict.UNKNOWN, finding, f"this program knows hermes_otel and otel_tracing; {address}")]
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
        return [said(Verdict.BAD, f"otel_tracing is switched off by {_ENABLED}", proof, fix)]
    if exporter != "otlp":
        return [said(Verdict.BAD, f"otel_tracing exports to {exporter}, not over OTLP/HTTP", proof, fix)]
    if not is_relay(endpoint, relay):
        return [said(Verdict.BAD, f"otel_tracing sends to {shown}, not to the relay", proof, fix)]
    return [said(Verdict.OK, f"otel_tracing sends to the relay ({shown})", proof)]

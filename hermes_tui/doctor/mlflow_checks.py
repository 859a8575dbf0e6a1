"""MLflow: reachable, new enough, with a SQL store, an experiment that is there, and rights in it.

OTLP is taken since MLflow 3.6.0 (its documentation, "Collect OpenTelemetry Traces into MLflow").
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from shlex import quote
from urllib.parse import urlsplit

from hermes_tui.doctor.finding import Finding, Fix, Group, Verdict, about
from hermes_tui.doctor.relay_checks import FIX, STOP

OLDEST = (3, 6)
_NUMBER = re.compile(r"(\d+)\.(\d+)")
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to one question; `status` 0 when nothing did, then `said` is why."""

    status: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """The experiment that spans go to, as MLflow tells it. `stage` is active or deleted."""

    id: str
    answer: Answer
    name: str = ""
    stage: str = ""


@dataclass(frozen=True, slots=True)
class MlflowFacts:
    """What MLflow answered. `credentials` says which were used, never what they are.

    `delivers`: the relay has lately had spans accepted. None as an answer: it was not asked.
    """

    url: str | None
    health: Answer | None = None
    version: Answer | None = None
    experiment: Experiment | None = None
    credentials: str = "none"
    settings_file: str = ""
    delivers: bool = False

    @property
    def up(self) -> bool:
        return self.health is not None and self.health.status == 200


class Arrived(StrEnum):
    """How far the probe span came."""

    REFUSED = "refused"  # the relay did not take it
    LOST = "lost"  # taken, and not in the journal
    LOCAL = "local"
    QUEUED = "queued"
    HELD = "held"
    QUARANTINED = "quarantined"
    UNPROVEN = "unproven"  # accepted, and not read back in time
    ACCEPTED = "accepted"  # by a destination that cannot be read back
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """A span that was sent the whole way. `reason` is why it came no further, `seconds` how long it took.

    `deleted` is what became of it at MLflow: True gone, False still there (`kept` says why), None: it never
    was there.
    """

    arrived: Arrived
    reason: str = ""
    seconds: float = 0.0
    trace: str = ""
    deleted: bool | None = None
    kept: str = ""


def judge(facts: MlflowFacts, probe: ProbeFacts | None) -> list[Finding]:
    if facts.url is None:
        return []
    return [_reachable(facts), _version(facts), _credentials(facts), _experiment(facts), _store(facts, probe)]


def _reachable(facts: MlflowFacts) -> Finding:
    said, health = about("MLflow", Group.NO_TRACES), facts.health or Answer(said="it was not asked")
    asked = f"GET {facts.url}/health: {health.status or ''} {health.said}".rstrip()
    if health.status == 200:
        return said(Verdict.OK, f"MLflow answers at {facts.url}", asked)
    if health.status == 0:
        fix = Fix(
            f"Start it, or name the right address (`url` in the settings, then `{STOP}` and `{FIX}`).",
            _start(facts),
        )
        return said(Verdict.BAD, f"MLflow cannot be reached at {facts.url}", asked, fix)
    if health.status == 403:
        host = urlsplit(facts.url or "").netloc
        fix = Fix(
            "Let MLflow accept this host name: start it with --allowed-hosts.",
            (f"mlflow server --allowed-hosts {quote(host)} …",),
        )
        return said(Verdict.BAD, "MLflow refuses the host name in its address", asked, fix)
    fix = Fix(
        "Something else listens there, or MLflow is behind a path: name its base address in the settings.",
        _start(facts),
    )
    return said(Verdict.BAD, f"What answers at {facts.url} is no healthy MLflow", asked, fix)


def _start(facts: MlflowFacts) -> tuple[str, ...]:
    parts = urlsplit(facts.url or "")
    if parts.hostname not in _LOCAL:
        return (f"curl -v {quote(f'{facts.url}/health')}",)
    where = f"--host {parts.hostname} --port {parts.port or 5000}"
    return (f"mlflow server {where} --backend-store-uri sqlite:///mlflow.db",)


def _version(facts: MlflowFacts) -> Finding:
    said, answer = about("MLflow version", Group.NO_TRACES), facts.version
    if answer is None or answer.status != 200 or not (number := _NUMBER.match(answer.said)):
        why = (
            "it does not answer"
            if answer is None
            else f"GET {facts.url}/version: {answer.status} {answer.said}"
        )
        return said(Verdict.UNKNOWN, "MLflow's version is not known", why)
    proof = f"GET {facts.url}/version: {answer.said}"
    if (int(number[1]), int(number[2])) >= OLDEST:
        return said(Verdict.OK, f"MLflow {answer.said} takes OTLP", proof)
    oldest = ".".join(map(str, OLDEST))
    fix = Fix(
        "Upgrade MLflow where its server runs, and restart it.",
        (f"pip install --upgrade 'mlflow>={oldest}'",),
    )
    return said(
        Verdict.BAD, f"MLflow {answer.said} takes no OTLP; {oldest} is the first that does", proof, fix
    )


def _credentials(facts: MlflowFacts) -> Finding:
    said, experiment = about("credentials", Group.NO_TRACES), facts.experiment
    if experiment is None or not facts.up:
        return said(
            Verdict.UNKNOWN,
            "Whether the credentials are accepted is not known",
            "nothing could be asked with them",
        )
    answer, used = experiment.answer, f"credentials: {facts.credentials}"
    proof = f"asked for experiment {experiment.id}: {answer.status} {answer.said} ({used})"
    if answer.status == 401:
        if facts.delivers:
            return said(Verdict.OK, "The relay's own credentials are accepted", f"{proof}; but its spans are")
        lines = "mlflow:\n  username: NAME\n  password: PASSWORD   # or: token: TOKEN\n"
        again = f"run `{STOP}` and `{FIX}`"
        fix = Fix(
            f"Write them here (MLFLOW_TRACKING_USERNAME and …_PASSWORD do as well), and {again}.",
            file=facts.settings_file,
            lines=lines,
        )
        return said(Verdict.BAD, "MLflow does not accept the credentials", proof, fix)
    if answer.status == 403:
        return said(
            Verdict.BAD,
            "The credentials give no rights in the experiment",
            proof,
            permit(facts.url, experiment.id),
        )
    return said(Verdict.OK, "The credentials are accepted", used)


def permit(url: str | None, experiment: str) -> Fix:
    """What an administrator of MLflow's basic auth does; read in its `server/auth` of 3.17, and older."""
    new = {"username": "NAME", "resource_type": "experiment", "resource_id": experiment, "permission": "EDIT"}
    old = {"username": "NAME", "experiment_id": experiment, "permission": "EDIT"}
    ways = (
        ("/api/3.0/mlflow/users/permissions/grant", new),
        ("/api/2.0/mlflow/experiments/permissions/create", old),
    )
    post = "curl -f -u ADMIN -H 'Content-Type: application/json'"
    command = " || ".join(f"{post} -d {quote(json.dumps(body))} {url}{path}" for path, body in ways)
    says = "An administrator of MLflow gives the right to write there (older versions want the second way)."
    return Fix(says, (command,))


def _experiment(facts: MlflowFacts) -> Finding:
    said, experiment = about("experiment", Group.NO_TRACES), facts.experiment
    if experiment is None or not facts.up:
        return said(
            Verdict.UNKNOWN,
            "Whether the experiment is there is not known",
            "none is named" if facts.up else "MLflow does not answer",
        )
    answer, number = experiment.answer, quote(experiment.id)
    asked = f"GET {facts.url}/api/2.0/mlflow/experiments/get?experiment_id={experiment.id}"
    proof = f"{asked}: {answer.status} {answer.said}".rstrip()
    cli = f"MLFLOW_TRACKING_URI={quote(facts.url or '')} mlflow experiments"
    if answer.status == 200 and experiment.stage in ("active", ""):
        return said(Verdict.OK, f"Experiment {experiment.id} ({experiment.name}) is there", proof)
    if answer.status == 200:
        fix = Fix(
            "Restore it, or let `hermes-trace-tui setup` choose another.",
            (f"{cli} restore --experiment-id {number}",),
        )
        return said(Verdict.BAD, f"Experiment {experiment.id} ({experiment.name}) is deleted", proof, fix)
    if answer.status in (400, 404):
        fix = Fix(
            "Make one, and write its number where this one is named; `hermes-trace-tui setup` does both.",
            (f"{cli} create --experiment-name hermes",),
        )
        return said(Verdict.BAD, f"Experiment {experiment.id} does not exist", proof, fix)
    if answer.status in (401, 403):
        return said(Verdict.UNKNOWN, f"Whether experiment {experiment.id} is there is not known", proof)
    return said(
        Verdict.WARN,
        f"MLflow could not tell about experiment {experiment.id}",
        proof,
        Fix("Look into MLflow's log."),
    )


def _store(facts: MlflowFacts, probe: ProbeFacts | None) -> Finding:
    said = about("MLflow store", Group.NO_TRACES)
    if probe is not None and "SQL store" in probe.reason:
        host = _start(facts)
        fix = Fix("Start MLflow with a SQL store (SQLite will do).", host)
        return said(
            Verdict.BAD, "MLflow keeps its data in files, and takes no spans that way", probe.reason, fix
        )
    if facts.delivers or (probe is not None and probe.arrived in (Arrived.ACCEPTED, Arrived.CONFIRMED)):
        return said(Verdict.OK, "MLflow's store takes spans", "it accepted some")
    return said(
        Verdict.UNKNOWN, "Whether MLflow's store takes spans is not known", "no span was accepted yet"
    )


def judge_probe(probe: ProbeFacts | None, facts: MlflowFacts, why_not: str) -> Finding:
    """What became of the span that was sent the whole way; None: none was sent, `why_not` says why."""
    said = about("probe span", Group.NO_TRACES)
    if probe is None:
        return said(Verdict.UNKNOWN, "No probe span was sent", why_not)
    took = f"{probe.seconds:.1f} s" + (f"; trace {probe.trace}" if probe.trace else "")
    if probe.arrived in _GOOD:
        after = {True: "; deleted again", None: "", False: f"; it stays there: {probe.kept}"}[probe.deleted]
        return said(Verdict.OK, _GOOD[probe.arrived], took + after)
    proof = f"{probe.reason or 'nothing was said'}; {took}"
    match probe.arrived:
        case Arrived.REFUSED | Arrived.LOST:
            fix = Fix("Ask what it says; its log is in the state folder.", ("hermes-trace-tui status",))
            return said(Verdict.BAD, "The relay did not take a probe span", proof, fix)
        case Arrived.UNPROVEN:
            fix = Fix(
                "Look again; what is accepted and is not there is sent again.", ("hermes-trace-tui verify",)
            )
            return said(Verdict.WARN, "MLflow accepted a probe span, but it was not read back", proof, fix)
        case Arrived.QUEUED:
            fix = Fix("MLflow is slow, down or busy; ask how far it is.", ("hermes-trace-tui status",))
            return said(Verdict.WARN, "A probe span waits: MLflow has not accepted it yet", proof, fix)
        case Arrived.HELD if "does not allow" in probe.reason and facts.experiment is not None:
            fix = permit(facts.url, facts.experiment.id)
        case _:
            fix = Fix("Put right what it says; the findings above tell how.", ("hermes-trace-tui doctor",))
    return said(Verdict.BAD, f"MLflow did not take a probe span: it was {probe.arrived}", proof, fix)


_GOOD = {
    Arrived.CONFIRMED: "A probe span went the whole way and was read back",
    Arrived.ACCEPTED: "A probe span was accepted; this destination cannot be read back",
    Arrived.LOCAL: "A probe span reached the journal; the relay sends to nobody",
}

"""What arrives: any at all, with tool spans, whole, and on to MLflow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from hermes_tui.doctor.backends import plain
from hermes_tui.doctor.errors_log import Trouble
from hermes_tui.doctor.finding import Finding, Fix, Group, Verdict, about
from hermes_tui.doctor.hermes_checks import REPOSITORY
from hermes_tui.journal.delivery import Refused
from hermes_tui.model.span import NANOSECONDS, Delivery, Kind
from hermes_tui.relay.logs import discreet

_LATE_S = 60.0  # a turn that ended so long ago has been exported
_LATELY_S = 24 * 3600.0
_SHOWN = 3  # of a list in a sentence


@dataclass(frozen=True, slots=True)
class Stuck:
    """A trace whose root never came: MLflow shows it as IN_PROGRESS for good. `last_ns`: its last end."""

    trace: str
    session: str
    last_ns: int
    why: str
    state: str | None = None


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What is in the journal and in Hermes' own records. Times are ns since the epoch, 0: never.

    `kinds` are those of the newest traces' spans; `called` is how many tools Hermes ran in their
    sessions, None when its records cannot be read; `worked_ns` when Hermes last wrote a message, `since_ns`
    when its configuration last changed.
    """

    now_ns: int
    counts: Counter[Delivery] = field(default_factory=Counter)
    kinds: Counter[Kind] = field(default_factory=Counter)
    newest_ns: int = 0
    called: int | None = None
    worked_ns: int = 0
    since_ns: int = 0
    refused: Sequence[Refused] = ()
    stuck: Sequence[Stuck] = ()
    trouble: Trouble | None = None
    log: str = ""
    unreadable: str = ""
    gateway: str = ""
    """Hermes' `model.base_url` when that is an MLflow AI Gateway."""
    plugin: bool = False
    """A plugin that exports spans is installed and enabled."""


def judge(facts: TraceFacts) -> list[Finding]:
    return [
        _arrive(facts), _errors(facts), _tools(facts), _gateway(facts),
        _held(facts), _quarantined(facts), _stuck(facts),
    ]  # fmt: skip


def _arrive(facts: TraceFacts) -> Finding:
    said = about("spans arrive", Group.NO_TRACES)
    newest, worked = facts.newest_ns, facts.worked_ns
    proof = f"newest span in the journal: {_when(newest)}; Hermes' newest message: {_when(worked)}"
    settled = facts.since_ns < worked < facts.now_ns - _LATE_S * NANOSECONDS
    if settled and worked - newest > _LATE_S * NANOSECONDS:
        fix = Fix(
            "Put right what is wrong above, then restart Hermes.",
            ("hermes",),
        )
        finding = (
            "Hermes has worked, and none of it arrived"
            if newest == 0
            else "Hermes has worked since, and no more arrived"
        )
        return said(Verdict.BAD, finding, proof, fix)
    if newest == 0:
        fix = Fix(
            "Restart Hermes and ask it something that needs a tool, such as: list the files here.",
            ("hermes",),
        )
        return said(Verdict.WARN, "No span has arrived yet", proof, fix)
    return said(Verdict.OK, "Spans arrive", proof)


def _errors(facts: TraceFacts) -> Finding:
    said, trouble = about("errors.log", Group.NO_TRACES), facts.trouble
    if facts.unreadable:
        return said(Verdict.UNKNOWN, "Hermes' errors.log cannot be read", f"{facts.log}: {facts.unreadable}")
    if trouble is None:
        return said(Verdict.OK, "Hermes' log names no trouble in exporting spans", facts.log)
    times = "once" if trouble.times == 1 else f"{trouble.times} times"
    proof = f"{facts.log}, {_when(trouble.at_ns)}: {discreet(trouble.text[:400])}"
    past = facts.newest_ns > trouble.at_ns
    old = trouble.at_ns < facts.now_ns - _LATELY_S * NANOSECONDS
    if past or old:
        since = "spans arrived since" if past else "that is more than a day ago"
        return said(Verdict.OK, f"Hermes' log: {trouble.meaning} ({times}); {since}", proof)
    fix = Fix(
        "Put right what is wrong above, then restart Hermes; what was lost meanwhile is lost.", ("hermes",)
    )
    return said(Verdict.BAD, f"Hermes could not export: {trouble.meaning} ({times})", proof, fix)


def _tools(facts: TraceFacts) -> Finding:
    said, kinds = about("tool spans", Group.NO_TOOLS), facts.kinds
    names = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "none"
    called = (
        "" if facts.called is None else f"; Hermes' records name {facts.called} tool calls in their sessions"
    )
    proof = f"spans of the newest traces: {names}{called}"
    if not kinds:
        return said(Verdict.UNKNOWN, "Whether tool spans arrive is not known", "no span has arrived")
    if kinds[Kind.TOOL]:
        return said(Verdict.OK, "Tool spans arrive", proof)
    if facts.called == 0:
        return said(Verdict.OK, "No tool was called, so there are no tool spans", proof)
    if facts.called is None:
        fix = Fix("Confirm that a tool is called: ask Hermes to list the files here.", ("hermes",))
        return said(Verdict.WARN, "No tool spans have arrived; perhaps no tool was called", proof, fix)
    fix = Fix(
        "Upgrade the plugin, so that it knows this Hermes, and restart Hermes.",
        (f"hermes plugins install {REPOSITORY} --force --enable",),
    )
    return said(Verdict.BAD, "Hermes called tools, but no tool spans arrived", proof, fix)


def _gateway(facts: TraceFacts) -> Finding:
    said = about("gateway", Group.GATEWAY)
    if not facts.gateway:
        return said(
            Verdict.OK, "Hermes does not use an MLflow AI Gateway", "model.base_url in its config.yaml"
        )
    proof = f"Hermes' model.base_url is {plain(facts.gateway)}"
    if facts.newest_ns:
        return said(
            Verdict.OK, "Hermes uses the AI Gateway, and its traces arrive beside the gateway's logs", proof
        )
    finding = "The gateway's logs are all there is: it logs model requests, never what the agent did"
    command = f"hermes plugins install {REPOSITORY} --enable" if not facts.plugin else "hermes"
    says = (
        "Agent traces need the plugin."
        if not facts.plugin
        else "The plugin is there; put right what is wrong above and restart Hermes."
    )
    return said(Verdict.BAD, finding, f"{proof}; no span has arrived", Fix(says, (command,)))


def _held(facts: TraceFacts) -> Finding:
    said, number = about("held", Group.NOT_WHOLE), facts.counts[Delivery.HELD]
    if not number:
        return said(Verdict.OK, "No span is held", "counted in the journal")
    reasons = _reasons(facts.refused, Delivery.HELD)
    fix = Fix(
        "Put right what the reason says; they go by themselves then, or at once with this.",
        ("hermes-trace-tui retry",),
    )
    return said(
        Verdict.BAD, f"{number} spans are held: {_first(reasons)}", _listed(reasons), fix, fixable=True
    )


def _quarantined(facts: TraceFacts) -> Finding:
    said, number = about("quarantined", Group.NOT_WHOLE), facts.counts[Delivery.QUARANTINED]
    if not number:
        return said(Verdict.OK, "No span is quarantined", "counted in the journal")
    reasons = _reasons(facts.refused, Delivery.QUARANTINED)
    fix = Fix(
        "They are kept here. Try again after MLflow was upgraded or put right; or forget their session.",
        ("hermes-trace-tui retry",),
    )
    return said(
        Verdict.WARN, f"MLflow refuses {number} spans: {_first(reasons)}", _listed(reasons), fix, fixable=True
    )


def _stuck(facts: TraceFacts) -> Finding:
    said, stuck = about("in progress", Group.NOT_WHOLE), facts.stuck
    if not stuck:
        return said(
            Verdict.OK, "No trace waits for a root that will not come", "looked through the newest traces"
        )
    why = Counter(each.why for each in stuck)
    most = why.most_common(1)[0][0]
    finding = f"{len(stuck)} traces never got their root, so MLflow shows them as IN_PROGRESS: {most}"
    shown = [f"{each.trace} of {each.session} ({_when(each.last_ns)}, {each.why})" for each in stuck[:_SHOWN]]
    proof = "; ".join(shown) + ("; …" if len(stuck) > _SHOWN else "")
    sessions = list(dict.fromkeys(each.session for each in stuck))
    fix = Fix(
        "Nothing has to be done: what came is there. To be rid of this, forget the session here; "
        "MLflow keeps its part.",
        tuple(
            f"hermes-trace-tui purge --session {session} --yes"
            for session in sessions
            if _SAFE.fullmatch(session)
        ),
    )
    return said(Verdict.WARN, finding, proof, fix)


_SAFE = re.compile(r"[\w.-]+")


def _reasons(refused: Sequence[Refused], state: Delivery) -> Counter[str]:
    return Counter(each.reason or "no reason was given" for each in refused if each.delivery is state)


def _first(reasons: Counter[str]) -> str:
    return reasons.most_common(1)[0][0] if reasons else "the reason is not known"


def _listed(reasons: Counter[str]) -> str:
    return (
        "; ".join(f"{number} × {reason}" for reason, number in reasons.most_common(_SHOWN))
        or "no marks are left"
    )


def _when(ns: int) -> str:
    if ns <= 0:
        return "never"
    try:
        return datetime.fromtimestamp(ns // NANOSECONDS).astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        return "at an impossible time"

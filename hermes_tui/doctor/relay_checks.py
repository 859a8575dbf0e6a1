"""The relay: it runs, it is ours and of this version, it can write, it knows where to send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from hermes_tui import __version__
from hermes_tui.doctor.finding import Finding, Fix, Group, Verdict, about
from hermes_tui.figures import short_number
from hermes_tui.model.span import Delivery
from hermes_tui.relay.lock import Running

FIX = "hermes-trace-tui doctor --fix"
STOP = "hermes-trace-tui stop"
RESTART_SERVICE = "systemctl --user restart hermes-trace-tui"

_MIB = 1024**2
_LITTLE = 100 * _MIB  # a turn with full content is a few MiB
_FEW = 1024 * _MIB  # what the journal may grow to by default


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port; `pid` 0 and `who` "" when that cannot be told."""

    who: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """What was found of the relay of one state folder.

    `wanted` is the "host:port" of the settings; `holder` whoever listens there if it is not this relay.
    `identity` is what answers at the relay's address, `silence` why nothing does. `trouble` is why the
    folder cannot be used, `remedy` the command that helps, `unreadable` why the journal cannot be read. The
    documents are the relay's; see `schema.sql`. `free` bytes; -1: not known.
    """

    folder: Path
    settings_file: Path
    wanted: str
    running: Running | None = None
    holder: Holder | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    silence: str = ""
    trouble: str = ""
    remedy: str = ""
    unreadable: str = ""
    keeping: Mapping[str, Any] = field(default_factory=dict)
    exporter: Mapping[str, Any] = field(default_factory=dict)
    proof: Mapping[str, Any] = field(default_factory=dict)
    counts: Counter[Delivery] = field(default_factory=Counter)
    free: int = -1
    destination: str | None = None
    """The destination in the settings."""

    forward: bool = True
    """The settings say that the relay sends on what it takes."""

    @property
    def forwards(self) -> bool:
        """Whether it does; else Hermes sends to MLflow by itself, and the relay only confirms."""
        if self.running is not None and isinstance(said := self.exporter.get("forwards"), bool):
            return said
        return self.forward

    @property
    def url(self) -> str | None:
        """Where spans go, or would."""
        return (self.running.destination if self.running is not None else None) or self.destination


def judge(facts: RelayFacts) -> list[Finding]:
    return [
        _running(facts),
        _port(facts),
        _version(facts),
        _journal(facts),
        _disk(facts),
        _destination(facts),
    ]


def _running(facts: RelayFacts) -> Finding:
    said, running = about("relay", Group.NO_TRACES), facts.running
    if facts.trouble:
        return said(Verdict.UNKNOWN, "Whether a relay runs cannot be told", facts.trouble)
    if running is None:
        proof = f"nobody holds the lock in {facts.folder}"
        if facts.holder is not None:
            return said(Verdict.BAD, "No relay runs, and its port is taken", proof)
        fix = Fix("Start it; the pane does so too, and docs/service.md makes a service of it.", (FIX,))
        return said(Verdict.BAD, "No relay runs, so nobody takes the spans", proof, fix, fixable=True)
    if not running.ready:
        return said(
            Verdict.WARN,
            "The relay is just starting or stopping",
            f"pid {running.pid}",
            Fix("Look again.", ("hermes-trace-tui status",)),
        )
    if facts.silence:
        end = f"kill -9 {running.pid}"  # a relay that hangs does not heed less, and what it took is on disk
        fix = Fix("End it and start it again; what it has taken is on disk.", (end, FIX))
        proof = f"GET http://{running.http}/: {facts.silence}"
        return said(Verdict.BAD, "The relay runs, but does not answer", proof, fix, fixable=_may(running))
    listens = f"http://{running.http}/v1/traces" + (f" and gRPC on {running.grpc}" if running.grpc else "")
    said_it = f"GET http://{running.http}/ says {facts.identity.get('service')}"
    proof = f"pid {running.pid}, started by the {running.started_by}; {said_it}"
    return said(Verdict.OK, f"The relay takes spans on {listens}", proof)


def _port(facts: RelayFacts) -> Finding:
    said, holder, running = about("port", Group.NO_TRACES), facts.holder, facts.running
    if holder is None:
        here = (
            "the relay listens there"
            if running is not None and running.http == facts.wanted
            else "nobody else listens there"
        )
        if running is not None and running.http != facts.wanted:
            here = f"the relay listens on {running.http} instead"
        return said(Verdict.OK, f"{facts.wanted} is not taken by another program", here)
    who = holder.who or "a program that this user may not look at"
    elsewhere = f"`http_port` in {facts.settings_file}, then `hermes-trace-tui setup`"
    ways = f"or let the relay listen elsewhere: {elsewhere}"
    commands = (
        (f"kill {holder.pid}", FIX)
        if holder.pid
        else (f"sudo ss -ltnp 'sport = :{facts.wanted.rpartition(':')[2]}'",)
    )
    fix = Fix(f"Stop it, {ways}.", commands)
    bad = running is None
    finding = f"{facts.wanted} is taken by {who}" + (
        "" if bad else f"; the relay listens on {running.http}" if running else ""
    )
    return said(
        Verdict.BAD if bad else Verdict.WARN,
        finding,
        f"connected to {facts.wanted}; asked the system who listens",
        fix,
    )


def _version(facts: RelayFacts) -> Finding:
    said, running = about("relay version", Group.NO_TRACES), facts.running
    if running is None or not running.version:
        return said(Verdict.UNKNOWN, "Which version of the relay runs is not known", "none runs")
    proof = f"the relay says {running.version}, this program is {__version__}"
    if running.version == __version__:
        return said(Verdict.OK, f"The relay is of this version, {__version__}", proof)
    finding = f"The relay is of another version: {running.version}, not {__version__}"
    if running.started_by == "pane":
        return said(
            Verdict.WARN, finding, proof, Fix("Replace it; nothing is lost.", (STOP, FIX)), fixable=True
        )
    fix = Fix(f"Restart what started it; a service with `{RESTART_SERVICE}`.", (STOP, FIX))
    return said(Verdict.WARN, finding, proof, fix)


def _journal(facts: RelayFacts) -> Finding:
    said, keeping = about("journal", Group.NO_TRACES), facts.keeping
    proof = f"state folder {facts.folder}"
    if facts.trouble:
        fix = Fix(
            "Make it usable, or choose another with --state-dir.", (facts.remedy,) if facts.remedy else ()
        )
        return said(Verdict.BAD, facts.trouble, proof, fix)
    if facts.unreadable:
        fix = Fix(
            "Restart the relay: it moves a damaged journal aside and puts back what can be read.", (FIX,)
        )
        if facts.running is not None:
            fix = replace(fix, commands=(STOP, FIX))
        return said(
            Verdict.BAD, "The journal cannot be read", facts.unreadable, fix, fixable=_may(facts.running)
        )
    if keeping.get("full"):
        ways = "Make room, let MLflow take what waits, or raise retention.undelivered_bytes in the settings."
        fix = Fix(ways, ("hermes-trace-tui retry", "hermes-trace-tui purge --before 7d"))
        return said(Verdict.BAD, "The relay takes no more spans", str(keeping.get("reason")), fix)
    if isinstance(damage := keeping.get("damage"), Mapping):
        file = facts.folder / str(damage.get("file"))
        fix = Fix("Take note, then remove the damaged file.", (f"rm {quote(str(file))}",))
        finding = f"The journal was damaged; {damage.get('lost')} requests are lost"
        return said(Verdict.WARN, finding, f"{damage.get('reason')}; moved to {file}", fix)
    spans = sum(facts.counts.values())
    return said(Verdict.OK, f"The journal can be written and holds {short_number(spans)} spans", proof)


def _disk(facts: RelayFacts) -> Finding:
    said = about("disk", Group.NO_TRACES)
    if facts.free < 0:
        return said(Verdict.UNKNOWN, "How much room is left is not known", str(facts.folder))
    left = f"{facts.free / _MIB:,.0f} MiB are left for {facts.folder}"
    if facts.free >= _FEW:
        return said(Verdict.OK, "There is room on the disk", left)
    fix = Fix(
        "Make room on this disk; then, if need be, forget what is old.",
        ("hermes-trace-tui purge --before 7d",),
    )
    return said(Verdict.BAD if facts.free < _LITTLE else Verdict.WARN, "The disk is nearly full", left, fix)


def _destination(facts: RelayFacts) -> Finding:
    said, running, wanted = about("destination", Group.NO_TRACES), facts.running, facts.destination
    if running is None:
        if wanted is None:
            return said(
                Verdict.BAD,
                "No MLflow is named: spans would stay here",
                "settings and environment name none",
                _name_it(facts),
            )
        return said(Verdict.OK, f"The relay would send to {wanted}", "settings or MLFLOW_TRACKING_URI")
    theirs = running.destination
    proof = f"the running relay says {theirs or 'none'}; the settings here say {wanted or 'none'}"
    if wanted is not None and _plain(theirs) != _plain(wanted):
        mine = running.started_by == "pane"
        fix = Fix(
            "Restart the relay with these settings" + ("." if mine else f"; a service: `{RESTART_SERVICE}`."),
            (STOP, FIX),
        )
        finding = f"The running relay sends to {theirs or 'nobody'}, not to {wanted}"
        return said(Verdict.WARN if theirs else Verdict.BAD, finding, proof, fix, fixable=mine)
    if theirs is None:
        return said(Verdict.BAD, "The relay sends to nobody: spans stay here", proof, _name_it(facts))
    if not facts.forwards:
        return said(
            Verdict.OK, f"The relay forwards nothing, and confirms what Hermes sends to {theirs}", proof
        )
    return said(Verdict.OK, f"The relay sends to {theirs}", proof)


def _may(running: Running | None) -> bool:
    """Whether `--fix` may restart it: a service is its supervisor's to restart."""
    return running is None or running.started_by == "pane"


def _name_it(facts: RelayFacts) -> Fix:
    restart = f"run `{STOP}` and `{FIX}`" if facts.running is not None else f"run `{FIX}`"
    return Fix(
        f"Let `hermes-trace-tui setup` name it; or write this, with your own, and {restart}.",
        file=str(facts.settings_file),
        lines='mlflow:\n  url: http://localhost:5000\n  experiment: "EXPERIMENT_ID"\n',
    )


def _plain(url: str | None) -> str:
    return (url or "").rstrip("/")

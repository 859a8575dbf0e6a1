"""The plugin's configuration: which file wins, where it sends, and what it leaves out."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

from hermes_tui.doctor.backends import Relay, is_relay, minimal, nearest, plain, to_mlflow
from hermes_tui.doctor.finding import Finding, Fix, Group, Say, Verdict, about
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.plugin_config import (
    EXPERIMENT_HEADER,
    TRACES,
    Backend,
    Reading,
    Setting,
)
from hermes_tui.hermes.plugin_places import Rules
from hermes_tui.hermes.pointing import ENOUGH_CHARS
from hermes_tui.otlp.access import TOKEN_HEADER

_FEW_CHARS = 4_000  # below it, ordinary test runs and listings lose their end
_SETUP = "hermes-trace-tui setup"
_RESTART = "then restart Hermes"


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """`dotenv` are the names that the home's .env sets; `changed_ns` when the winning file last changed;
    `shows_token` whether the plugin sends the token that the relay wants.
    """

    reading: Reading
    relay: Relay
    dotenv: frozenset[str] = frozenset()
    running: tuple[tuple[int, int], ...] = ()
    shows_token: bool = False
    changed_ns: int = 0


def judge(facts: ConfigFacts) -> list[Finding]:
    found = [_configuration(facts)]
    config = facts.reading.config
    if config is None or not config.usable:
        return found
    checks = (_switched_on, _endpoint, _token, _experiment, _proxy, _sampling, _content, _limits, _restarted)
    return [*found, *(check(facts) for check in checks)]


def _anew(relay: Relay) -> str:
    """How `setup` begins with nothing: it must be told what no file says."""
    where = "" if relay.destination else " --mlflow URL"
    return f"{_SETUP}{where} --experiment NAME"


def _configuration(facts: ConfigFacts) -> Finding:
    said = about("configuration", Group.NO_TRACES)

    reading = facts.reading
    proof = "; ".join(f"{place.path}: {place.why}" for place in reading.places)
    if reading.config is None:
        others = [place for place in reading.places if place.exists]
        if others and reading.rules is Rules.OLD:
            wanted, there = reading.places[0].path, others[0].path
            fix = Fix(
                f"This version reads one place only, whatever HERMES_HOME says: put it there, {_RESTART}.",
                (f"mkdir -p {quote(str(wanted.parent))} && ln -s {quote(str(there))} {quote(str(wanted))}",),
            )
            return said(Verdict.BAD, f"hermes-otel does not look into {there}: it sends nothing", proof, fix)
        if (winner := reading.winner) is not None:
            without = _without(facts, "HERMES_OTEL_CONFIG")
            fix = Fix(
                f"{without}, or let it name a file that is there; {_RESTART}.",
                (_drop(facts, "HERMES_OTEL_CONFIG"),),
            )
            return said(
                Verdict.BAD, f"HERMES_OTEL_CONFIG names {winner.path}, which is not there", proof, fix
            )
        fix = Fix("Let `setup` write one.", (_anew(facts.relay),))
        return said(Verdict.BAD, "hermes-otel has no configuration, so it sends nothing", proof, fix)
    fatal = [each for each in reading.problems if each.fatal]
    path = reading.config.path
    if not reading.config.usable or (fatal and not reading.config.backends):
        what = fatal[0]
        where = f", line {what.line}" if what.line else ""
        fix = Fix(
            f"Mend it{where}; or replace it with this ({_RESTART}).",
            file=str(path),
            lines=minimal(facts.relay),
        )
        return said(Verdict.BAD, f"{path} cannot be used{where}: {what.text}", proof, fix)
    return _understood(facts, said, proof)


def _understood(facts: ConfigFacts, said: Say, proof: str) -> Finding:
    """The winning file can be read; what of it, and of the others, is passed over?"""
    reading = facts.reading
    assert reading.config is not None
    path = reading.config.path
    if problems := reading.problems:
        what = next((each for each in problems if each.fatal), problems[0])
        text = f"{what.text} (line {what.line})" if what.line else what.text
        langsmith = "LANGSMITH" in what.text
        fix = Fix(f"Mend it in {path}, {_RESTART}.", ("${EDITOR:-vi} " + quote(str(path)),))
        if langsmith:
            fix = Fix(f"Switch LangSmith off, {_RESTART}.", (_drop(facts, "LANGSMITH_TRACING"),))
        return said(Verdict.BAD if what.fatal else Verdict.WARN, text, proof, fix)
    if not reading.config.backends:
        fix = Fix(f"Let `setup` add the backend, {_RESTART}.", (_anew(facts.relay),))
        return said(Verdict.BAD, f"{path} names no backend, so hermes-otel sends nothing", proof, fix)
    ignored = [place for place in reading.places if place.exists and not place.wins]
    if ignored:
        names = ", ".join(str(place.path) for place in ignored)
        moves = tuple(f"mv {quote(str(each.path))} {quote(str(each.path) + '.ignored')}" for each in ignored)
        fix = Fix("Move away what is not read, so that nobody edits the wrong file.", moves)
        return said(Verdict.WARN, f"{path} wins; ignored: {names}", proof, fix)
    return said(Verdict.OK, f"hermes-otel reads {path}", proof)


def _switched_on(facts: ConfigFacts) -> Finding:
    setting = facts.reading.settings["enabled"]
    proof = _said_where(setting)
    if setting.value:
        return about("switched on", Group.NO_TRACES)(Verdict.OK, "hermes-otel is switched on", proof)
    fix = _set(facts, setting, "enabled: true\n")
    return about("switched on", Group.NO_TRACES)(Verdict.BAD, "hermes-otel is switched off", proof, fix)


def _endpoint(facts: ConfigFacts) -> Finding:
    said = about("endpoint", Group.NO_TRACES)

    reading, relay = facts.reading, facts.relay
    assert reading.config is not None
    backends = reading.config.backends
    listens = "listens on" if relay.running else "would listen on"
    proof = ", ".join(f"{each.label} sends to {plain(each.endpoint)}" for each in backends) or "no backend"
    proof += f"; the relay {listens} {relay.address}"
    for each in backends:
        if is_relay(each.endpoint, relay):
            if not each.traces:
                fix = _backend(facts, each, "traces: true")
                return said(Verdict.BAD, f"the backend {each.label} has its traces switched off", proof, fix)
            if urlsplit(each.endpoint or "").path.rstrip("/") != TRACES:
                fix = _backend(facts, each, f"endpoint: {relay.traces_url}")
                return said(
                    Verdict.BAD, f"{plain(each.endpoint)} lacks {TRACES}: the relay answers 404", proof, fix
                )
            if to_mlflow(backends, relay) is None and not relay.forwards:
                fix = Fix(
                    f"Let `setup` put the relay in between again, {_RESTART}.", (f"{_SETUP} --mode tee",)
                )
                return said(Verdict.BAD, "Nobody sends to MLflow: the relay forwards nothing", proof, fix)
            return said(Verdict.OK, f"hermes-otel sends to the relay ({plain(each.endpoint)})", proof)
    fix = Fix(f"Let `setup` point it at the relay, {_RESTART}.", (_SETUP,))
    return said(Verdict.BAD, "hermes-otel does not send to the relay", proof, fix)


def _token(facts: ConfigFacts) -> Finding:
    said = about("token", Group.NO_TRACES)
    if not facts.relay.token:
        return said(Verdict.OK, "the relay wants no token", "HERMES_TRACE_TOKEN and the settings")
    proof = f"looked for {TOKEN_HEADER} and Authorization: Bearer in the backend's headers"
    if facts.shows_token:
        return said(Verdict.OK, "hermes-otel shows the relay its token", proof)
    config = facts.reading.config
    assert config is not None
    backend = nearest(config.backends, facts.relay)
    finding = "hermes-otel does not show the token that the relay wants: its spans are refused (401)"
    if backend is None:
        return said(Verdict.BAD, finding, proof, Fix("Let `setup` point it at the relay.", (_SETUP,)))
    lines = f'headers:\n  {TOKEN_HEADER}: "TOKEN"'
    return said(Verdict.BAD, finding, proof, _backend(facts, backend, lines))


def _experiment(facts: ConfigFacts) -> Finding:
    said = about("experiment set", Group.NO_TRACES)

    config, relay = facts.reading.config, facts.relay
    assert config is not None
    backend = to_mlflow(config.backends, relay)
    named = None if backend is None else backend.experiment
    if named is not None:
        proof = f"{config.path}: {EXPERIMENT_HEADER} is {named}"
        if named.isdigit():
            return said(Verdict.OK, f"spans are sent to experiment {named}", proof)
        finding = f"experiment {named!r} is not the number of an experiment"
    elif relay.experiment:
        return said(
            Verdict.OK,
            f"the relay names experiment {relay.experiment}",
            "MLFLOW_EXPERIMENT_ID, a flag or settings",
        )
    elif relay.delivers:
        return said(Verdict.OK, "the relay names the experiment", "MLflow accepted spans that name none")
    elif relay.destination is None:
        return said(Verdict.UNKNOWN, "no experiment is named, and there is no MLflow yet", str(config.path))
    else:
        proof, finding = (
            f"{config.path} has no {EXPERIMENT_HEADER}",
            "no experiment is named: MLflow answers 422",
        )
    if backend is None:
        return said(Verdict.BAD, finding, proof, Fix("Let `setup` name one.", (_SETUP,)))
    lines = f'headers:\n  {EXPERIMENT_HEADER}: "EXPERIMENT_ID"'
    if backend.type == "mlflow":
        lines = 'experiment_id: "EXPERIMENT_ID"'
    return said(Verdict.BAD, finding, proof, _backend(facts, backend, lines))


def _proxy(facts: ConfigFacts) -> Finding:
    """Python's requests sends even to this machine through a proxy, unless told not to."""
    said, environment = about("proxy", Group.NO_TRACES), facts.reading.environment
    proxies = {
        name: value
        for name, value in environment.items()
        if name.lower() in ("http_proxy", "all_proxy") and value
    }
    host = urlsplit(f"//{facts.relay.address}").hostname or ""
    exempt = environment.text("no_proxy") or environment.text("NO_PROXY")
    if not proxies:
        return said(Verdict.OK, "no proxy is in the way", "http_proxy and all_proxy are not set")
    if urllib.request.proxy_bypass_environment(host, {"no": exempt}):  # type: ignore[attr-defined]
        return said(Verdict.OK, "the proxy is not used for the relay", "no_proxy names it")
    path = facts.reading.home.path / ".env"
    value = ",".join(filter(None, (exempt, host)))
    fix = Fix(
        f"Except this machine, {_RESTART}.", file=str(path), lines=f"no_proxy={value}\nNO_PROXY={value}\n"
    )
    names = " and ".join(sorted(proxies))
    proof = f"{names} is set, and no_proxy does not name {host}; requests, which exports them, obeys that"
    return said(Verdict.BAD, "spans for the relay go to a proxy", proof, fix)


def _sampling(facts: ConfigFacts) -> Finding:
    setting = facts.reading.settings["sample_rate"]
    proof = _said_where(setting)
    if setting.value is None or setting.value >= 1:
        return about("sampling", Group.NO_TRACES)(Verdict.OK, "every turn is traced", proof)
    none = setting.value <= 0
    finding = (
        "no turn is traced: sample_rate is 0" if none else f"only {setting.value:.0%} of all turns are traced"
    )
    fix = _set(facts, setting, "sample_rate: 1.0\n")
    return about("sampling", Group.NO_TRACES)(Verdict.BAD if none else Verdict.WARN, finding, proof, fix)


def _content(facts: ConfigFacts) -> Finding:
    settings = facts.reading.settings
    previews, capture = settings["capture_previews"], settings["content_capture"]
    off = previews if not previews.value else capture
    if previews.value and capture.value != "off":
        how = f"content_capture is {capture.value}" if capture.value else "capture_previews is on"
        return about("content", Group.NOT_WHOLE)(Verdict.OK, "spans carry prompts, commands and outputs", how)
    line = "capture_previews: true\n" if off is previews else "content_capture: full\n"
    return about("content", Group.NOT_WHOLE)(
        Verdict.WARN, "spans carry no commands, outputs or exit codes",
        _said_where(off), _set(facts, off, line),
    )  # fmt: skip


def _limits(facts: ConfigFacts) -> Finding:
    settings = facts.reading.settings
    own, general = settings["tool_output_preview_max_chars"], settings["preview_max_chars"]
    used = own if own.value is not None else general
    proof = _said_where(used)
    if used.value >= _FEW_CHARS:
        return about("limits", Group.NOT_WHOLE)(
            Verdict.OK, f"{used.value:,} characters of a tool's output are kept", proof
        )
    finding = f"outputs are cut after {used.value:,} characters, and the exit code with them"
    lines = f"tool_output_preview_max_chars: {ENOUGH_CHARS}\n"
    return about("limits", Group.NOT_WHOLE)(Verdict.WARN, finding, proof, _set(facts, own, lines))


def _restarted(facts: ConfigFacts) -> Finding:
    older = [pid for pid, started_ns in facts.running if started_ns < facts.changed_ns]
    running = ", ".join(f"pid {pid}" for pid, _ in facts.running) or "none"
    proof = f"Hermes processes that run: {running}"
    if not older:
        return about("restarted", Group.NO_TRACES)(
            Verdict.OK, "no Hermes runs with an older configuration", proof
        )
    pids = ", ".join(f"pid {pid}" for pid in older)
    finding = f"Hermes ({pids}) was started before its configuration last changed"
    fix = Fix(
        "End it and start it again; it reads its configuration at its start only.",
        tuple(f"kill {pid}" for pid in older),
    )
    return about("restarted", Group.NO_TRACES)(Verdict.WARN, finding, proof, fix)


def changed_ns(home: Home, reading: Reading) -> int:
    """When what decides about the plugin last changed; 0 when nothing is there."""
    places = [home.path / "config.yaml", home.path / ".env"]
    if reading.config is not None:
        places.append(reading.config.path)
    times = [_changed(path) for path in places]
    return max(times)


def _changed(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


# ---- how to put it right


def _set(facts: ConfigFacts, setting: Setting, lines: str) -> Fix:
    """Lines for the winning file; or the variable that overrides it must go."""
    variable = f"HERMES_OTEL_{setting.name.upper()}"
    if setting.source == variable:
        return Fix(f"{_without(facts, variable)}, {_RESTART}.", (_drop(facts, variable),))
    assert facts.reading.config is not None
    return Fix(f"Write this, {_RESTART}.", file=str(facts.reading.config.path), lines=lines)


def _without(facts: ConfigFacts, variable: str) -> str:
    if variable in facts.dotenv:
        return f"Take {variable} out of {facts.reading.home.path / '.env'}"
    return f"Unset {variable} where Hermes is started"


def _drop(facts: ConfigFacts, variable: str) -> str:
    if variable in facts.dotenv:
        return f"sed -i.bak '/{variable}=/d' {quote(str(facts.reading.home.path / '.env'))}"
    return f"unset {variable}"


def _backend(facts: ConfigFacts, backend: Backend, lines: str) -> Fix:
    assert facts.reading.config is not None
    where = f"Write this into the backend {backend.label} (line {backend.line}), {_RESTART}."
    return Fix(where, file=str(facts.reading.config.path), lines=lines + "\n")


def _said_where(setting: Setting) -> str:
    return f"{setting.name} is {setting.value} ({setting.source or 'the default'})"


def dotenv_names(values: Mapping[str, str], shell: Mapping[str, str]) -> frozenset[str]:
    """The names whose values come from the home's .env."""
    return frozenset(name for name, value in values.items() if shell.get(name) != value)

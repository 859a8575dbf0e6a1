"""Hermes and its plugin: found, installed, enabled, able to import what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from hermes_tui.doctor.finding import Finding, Fix, Group, Verdict, about
from hermes_tui.hermes import plugin_places
from hermes_tui.hermes.installation import PACKAGES, TRACER, TRACERS, HermesConfig, Launcher, Plugin, Runtime

REPOSITORY = "briancaffey/hermes-otel"
_INSTALL = "curl -fsSL https://hermes-agent.nousresearch.com/install.sh | bash"


@dataclass(frozen=True, slots=True)
class HermesFacts:
    """What was found of the user's Hermes. `plugins` are all that it would find, packages too.

    `otel` is hermes-otel as its own folder shows it, whose manifest is not to be trusted;
    `profiles` are the others of this user.
    """

    home: Path
    launcher: Launcher | None
    runtime: Runtime | None
    plugins: tuple[Plugin, ...]
    config: HermesConfig
    otel: plugin_places.Plugin | None = None
    profiles: tuple[str, ...] = ()

    @property
    def tracer(self) -> Plugin | None:
        """The plugin that exports spans: hermes-otel first, then one that is enabled, then any."""
        found = [each for each in self.plugins if each.name in TRACERS or each.names & TRACERS]
        order = sorted(found, key=lambda each: (each.name != TRACER, not self.enables(each)))
        enabled = [each for each in order if self.enables(each)]
        return next(iter(enabled or order), None)

    def enables(self, plugin: Plugin) -> bool:
        return bool(plugin.names & (self.config.enabled or frozenset())) and not self.disables(plugin)

    def disables(self, plugin: Plugin) -> bool:
        return bool(plugin.names & self.config.disabled)


def judge(facts: HermesFacts) -> list[Finding]:
    return [_hermes(facts), _python(facts), _plugin(facts), _enabled(facts), _packages(facts)]


def _hermes(facts: HermesFacts) -> Finding:
    said = about("hermes", Group.NO_TOOLS)

    launcher, home = facts.launcher, facts.home
    there = f"its home {home} " + ("is there" if home.is_dir() else "is not there")
    if launcher is None:
        how = Fix(
            "Install Hermes Agent; if it is installed, tell where: "
            "`hermes-trace-tui doctor --hermes FILE`, or put its folder on PATH.",
            (_INSTALL,),
        )
        return said(
            Verdict.BAD, "Hermes is not found", f"no `hermes` on PATH or in ~/.local/bin; {there}", how
        )
    if launcher.error:
        again = Fix(
            "Hermes itself must work first: run this and follow what it says.", (f"{launcher.path} doctor",)
        )
        return said(Verdict.BAD, "Hermes is found, but does not run", launcher.error, again)
    proof = f"`{launcher.path} --version` says {launcher.version or 'no version'}; {there}"
    if not home.is_dir():
        fix = Fix(
            "Start Hermes once, so that it makes its home; or name another with --home.",
            (f"{launcher.path} setup",),
        )
        return said(Verdict.BAD, f"Hermes {launcher.version} has no home yet", proof, fix)
    others = f"; other profiles, for --home: {', '.join(facts.profiles)}" if facts.profiles else ""
    return said(Verdict.OK, f"Hermes {launcher.version} with its home in {home}", proof + others)


def _python(facts: HermesFacts) -> Finding:
    said = about("python", Group.NO_TOOLS)

    runtime = facts.runtime
    if runtime is None:
        if facts.launcher is None or facts.launcher.error:
            return said(
                Verdict.UNKNOWN,
                "Which Python runs Hermes is not known",
                "Hermes is not found or does not run",
            )
        fix = Fix("Tell which one it is.", ("hermes-trace-tui doctor --python FILE",))
        asked = "`hermes --version` names no folder, and the launcher's first line no Python"
        return said(Verdict.UNKNOWN, "The Python that runs Hermes is not found", asked, fix)
    if runtime.error:
        fix = Fix("Install Hermes again: its Python does not work.", (_INSTALL,))
        return said(
            Verdict.BAD,
            f"The Python that runs Hermes does not work: {runtime.error}",
            str(runtime.python),
            fix,
        )
    return said(Verdict.OK, f"Hermes runs in Python {runtime.version}", f"{runtime.python}: {runtime.how}")


def _plugin(facts: HermesFacts) -> Finding:
    said = about("plugin", Group.NO_TOOLS)

    tracer = facts.tracer
    looked = f"{facts.home / 'plugins'} and the packages of its Python"
    if tracer is None:
        others = ", ".join(each.name for each in facts.plugins) or "none"
        fix = Fix(
            "Install the plugin, then let `setup` point it at the relay.",
            (f"hermes plugins install {REPOSITORY} --enable", "hermes-trace-tui setup"),
        )
        return said(
            Verdict.BAD, "No plugin that exports spans is installed", f"looked in {looked}: {others}", fix
        )
    where = str(tracer.folder) if tracer.folder is not None else "a package of Hermes' Python"
    if tracer.name != TRACER or facts.otel is None:
        finding = f"{tracer.name} {tracer.version}".strip() + " is installed"
        return said(Verdict.OK, finding, f"{where}; this program knows the configuration of {TRACER} only")
    version = facts.otel.version or "of an unknown version"
    reads = f"it looks for its configuration as {facts.otel.rules.value} does"
    return said(Verdict.OK, f"{tracer.name} {version} is installed", f"{where}; {reads}")


def _enabled(facts: HermesFacts) -> Finding:
    said = about("plugin enabled", Group.NO_TOOLS)

    config, tracer = facts.config, facts.tracer
    if config.error:
        fix = Fix("Mend the file; Hermes says more.", ("hermes config check",))
        return said(Verdict.BAD, f"{config.path} cannot be read", config.error, fix)
    if tracer is None:
        return said(Verdict.UNKNOWN, "Whether the plugin is enabled cannot be told", "it is not installed")
    lists = f"plugins.enabled {_listed(config.enabled)}, plugins.disabled {_listed(config.disabled)}"
    proof = f"{config.path}: {lists}"
    if facts.enables(tracer):
        return said(Verdict.OK, f"{tracer.name} is enabled", proof)
    finding = f"{tracer.name} is " + (
        "disabled: plugins.disabled wins" if facts.disables(tracer) else "not enabled"
    )
    return said(Verdict.BAD, finding, proof, _enable(facts, tracer))


def _enable(facts: HermesFacts, tracer: Plugin) -> Fix:
    if tracer.folder is not None:
        key = min(tracer.names, key=lambda name: ("/" not in name, name))
        return Fix("Enable it and restart Hermes.", (f"hermes plugins enable {quote(key)}",))
    # `hermes plugins` knows only plugins in folders, up to Hermes 0.19 at least.
    names = sorted((facts.config.enabled or frozenset()) | {tracer.name})
    off = sorted(facts.config.disabled - tracer.names)
    lines = "plugins:\n  enabled:\n" + "".join(f"    - {name}\n" for name in names)
    lines += f"  disabled: [{', '.join(off)}]\n" if facts.config.disabled else ""
    return Fix(
        "Enable it in Hermes' configuration and restart Hermes.", file=str(facts.config.path), lines=lines
    )


def _packages(facts: HermesFacts) -> Finding:
    said = about("packages", Group.NO_TOOLS)

    runtime = facts.runtime
    if runtime is None or runtime.error:
        return said(
            Verdict.UNKNOWN, "Whether OpenTelemetry can be imported is not known", "its Python is not found"
        )
    missing = [name for name, (version, error) in runtime.packages.items() if version is None or error]
    found = [
        f"{name} {version}".strip() for name, (version, _) in runtime.packages.items() if name not in missing
    ]
    if not missing:
        return said(
            Verdict.OK,
            "OpenTelemetry can be imported in Hermes' Python",
            f"{runtime.python}: {', '.join(found)}",
        )
    why = "; ".join(f"{name}: {runtime.packages[name][1]}" for name in missing)
    wanted = " ".join(PACKAGES[module] for module in PACKAGES if PACKAGES[module] in missing)
    python = quote(str(runtime.python))
    fix = Fix(
        "Install them into the Python that runs Hermes, then restart Hermes. (Without pip there: "
        f"`uv pip install --python {python} {wanted}`.)",
        (f"{python} -m pip install {wanted}",),
    )
    return said(
        Verdict.BAD, f"Hermes' Python cannot import {', '.join(missing)}", f"{runtime.python}: {why}", fix
    )


def _listed(names: frozenset[str] | None) -> str:
    return "is missing" if names is None else f"[{', '.join(sorted(names))}]"

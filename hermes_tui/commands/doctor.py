"""`doctor`: find out why traces are missing, and prove it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hermes_tui import __version__, neutral
from hermes_tui.commands.common import (
    own_token,
    relay_arguments,
    relay_environment,
    relay_flags,
    settings,
    with_destination,
    with_json,
    with_state_dir,
)
from hermes_tui.journal.files import StateDir, StateError

if TYPE_CHECKING:
    from hermes_tui.doctor.examine import Wanted
    from hermes_tui.doctor.finding import Finding


@click.command()
@click.option(
    "--fix", is_flag=True, help="Do what is safe: start or replace the relay, send held spans again."
)
@click.option("--no-probe", is_flag=True, help="Send no span of its own through the relay to MLflow.")
@click.option("-v", "--verbose", is_flag=True, help="Show the proof of what is well, too.")
@click.option(
    "--home",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Hermes' home, or a profile in it (HERMES_HOME; default ~/.hermes).",
)
@click.option("--hermes", metavar="FILE", help="Hermes' launcher (default: `hermes` on PATH).")
@click.option(
    "--python", metavar="FILE", help="The Python that runs Hermes (default: found by the launcher)."
)
@with_json
@with_destination
@with_state_dir
def doctor(
    fix: bool,
    no_probe: bool,
    verbose: bool,
    home: str | None,
    hermes: str | None,
    python: str | None,
    as_json: bool,
    state_dir: str | None,
    **flags: Any,
) -> None:
    """Find out why traces are missing: Hermes, its plugin, the relay, MLflow. Exit 1 when something is wrong.

    Each finding comes with its proof and its way out. A span of its own is sent through the relay to MLflow,
    read back and removed again. Nothing else is changed, but by --fix.
    """
    from hermes_tui.doctor.examine import Wanted, examine
    from hermes_tui.output import print_examined

    chosen = settings(destination=True, **relay_flags(state_dir, **flags))
    place, environment = _home(home)
    wanted = Wanted(
        chosen, place, hermes, python, probe=not no_probe, token=own_token(chosen), environment=environment
    )
    done: list[str] = []
    with _progress() as progress:
        found = examine(wanted, progress)
        if fix and any(each.fixable for each in found):
            done = _mend(found, wanted, relay_flags(state_dir, **flags), progress)
            found = examine(wanted, progress)
    record = _record(found, wanted, done)
    _remember(record, found, StateDir(chosen.state_path.absolute()))
    if as_json:
        click.echo(neutral.dump_json(record))
    else:
        print_examined(record, verbose=verbose)
    sys.exit(1 if record["bad"] else 0)


def for_pane(flags: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The command, and its environment, that examines what a pane with these flags shows."""
    said = {f"HERMES_TRACE_{name.upper()}": value for name, value in flags.items() if "." not in name}
    said["MLFLOW_EXPERIMENT_ID"] = flags.get("mlflow.experiment")
    given = {name: str(value) for name, value in said.items() if value is not None}
    environment = {**relay_environment(flags), **given}
    if "HERMES_TRACE_TOKEN_FILE" in given:
        environment.pop("HERMES_TRACE_TOKEN", None)  # a flag is stronger
    return [sys.executable, "-m", "hermes_tui", "doctor", "--json"], environment


def _home(named: str | None) -> tuple[Any, dict[str, str]]:
    """Hermes' home, and the environment that Hermes would have there."""
    from hermes_tui.hermes import home

    environment = dict(os.environ)
    if named is not None:
        environment["HERMES_HOME"] = os.path.abspath(os.path.expanduser(named))
    said = environment.get("HERMES_HOME", "").strip()
    path = Path(said).expanduser() if said else home.root(environment)
    return home.Home(
        path.name if path.parent.name == "profiles" else home.DEFAULT, path.absolute()
    ), environment


def _mend(
    found: list[Finding], wanted: Wanted, flags: dict[str, Any], progress: Callable[[str], None]
) -> list[str]:
    from hermes_tui.doctor.fixes import fix
    from hermes_tui.relay.launch import Launcher

    state = StateDir(wanted.settings.state_path.absolute())
    arguments = relay_arguments({**flags, "state_dir": str(state.path)})
    return fix(found, Launcher(state, arguments, environment=relay_environment(flags)), progress)


def _record(found: list[Finding], wanted: Wanted, done: list[str]) -> dict[str, Any]:
    from hermes_tui.doctor.finding import Group, Verdict, count, first_fix

    return {
        "ok": count(found, Verdict.BAD) == 0,
        **{str(each): count(found, each) for each in (Verdict.BAD, Verdict.WARN, Verdict.UNKNOWN)},
        "first_fix": first_fix(found) or None,
        "version": __version__,
        "hermes_home": str(wanted.home.path),
        "state_dir": str(wanted.settings.state_path.absolute()),
        "fixed": done,
        "groups": [str(group) for group in Group if any(each.group is group for each in found)],
        "findings": [each.record() for each in found],
    }


def _remember(record: dict[str, Any], found: list[Finding], state: StateDir) -> None:
    """For panes; a folder that is not there is not made for it."""
    from hermes_tui.doctor.finding import Verdict
    from hermes_tui.journal import checkup
    from hermes_tui.journal.desk import Desk

    if not state.path.is_dir():
        return
    try:
        with Desk(state) as desk:
            checkup.remember(
                desk,
                bad=record["bad"],
                warn=record["warn"],
                first_fix=record["first_fix"] or "",
                troubles=[
                    checkup.Trouble(
                        each.verdict, each.name, each.finding, "" if each.fix is None else each.fix.first()
                    )
                    for each in sorted(found, key=lambda each: each.verdict is not Verdict.BAD)
                    if each.verdict in (Verdict.BAD, Verdict.WARN)
                ],
            )
    except StateError as error:
        click.echo(f"Note: {neutral.line(str(error))}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on standard error, where that is a terminal; it is gone when this ends."""
    shown = sys.stderr.isatty()

    def progress(what: str) -> None:
        if shown:
            click.echo(f"\rlooking at {neutral.line(what)} …\x1b[K", nl=False, err=True)

    try:
        yield progress
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)

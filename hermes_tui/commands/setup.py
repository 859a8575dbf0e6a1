"""`setup`: point hermes-otel at the relay, and back."""

from __future__ import annotations

from typing import Any

import click

from hermes_tui.commands.asking import Asking
from hermes_tui.commands.common import with_state_dir


@click.command()
@click.option(
    "--mode",
    type=click.Choice(["tee", "side"]),
    default="tee",
    show_default=True,
    help="tee: Hermes sends to the relay, which sends on. side: Hermes sends to MLflow and to the relay.",
)
@click.option("--profile", metavar="NAME", help="A Hermes profile (default: the one that HERMES_HOME names).")
@click.option("--backend", metavar="NAME", help="The MLflow backend in its file, by name or number.")
@click.option("--mlflow", metavar="URL", help="Where MLflow is, if Hermes does not know yet.")
@click.option("--experiment", metavar="NAME", help="MLflow experiment by name or id; a new name is created.")
@click.option("--http-port", type=click.IntRange(1, 65535), metavar="PORT", help="Where the relay listens.")
@click.option("--service", is_flag=True, help="Install and start the relay as a service of yours.")
@click.option("--gateway", metavar="NAME", help="Also let Hermes use this endpoint of MLflow's AI Gateway.")
@click.option("--undo", is_flag=True, help="Put back what the last setup changed, byte for byte.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_state_dir
def setup(undo: bool, dry_run: bool, yes: bool, state_dir: str | None, **options: Any) -> None:
    """Point hermes-otel at the relay, and the relay at MLflow. Shows every change before it makes it.

    One value of the plugin's file is exchanged, nothing else; --undo gives back the same bytes. What is not
    understood is left alone, with the lines to paste. Exit 1: refused, 2: something has to be said first.
    """
    from hermes_tui.commands import setting_up  # it reads YAML: no other command waits for that

    asking = Asking(dry_run, yes)
    if undo:
        setting_up.undo(state_dir, options["profile"], asking)
    else:
        setting_up.set_up(state_dir, asking, **options)

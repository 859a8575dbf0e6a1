"""`sessions` and `commands`: what Hermes did, by its spans and completed from its own records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from hermes_tui import neutral
from hermes_tui.commands.common import fail, open_journal, settings, with_json, with_session, with_state_dir

if TYPE_CHECKING:
    from hermes_tui.hermes.history import History


@click.command()
@with_json
@with_state_dir
def sessions(as_json: bool, state_dir: str | None) -> None:
    """All sessions: turns, commands, tokens, how they ended."""
    from hermes_tui.journal import records
    from hermes_tui.output import print_sessions

    found: list[dict[str, Any]] = []
    with open_journal(state_dir) as reader:
        if reader is not None:
            found = records.sessions(reader, time.time_ns())
    history = hermes_history(state_dir) if found else None
    titles = history.titles([each["session"] for each in found]) if history is not None else {}
    found = [{**each, "title": titles.get(each["session"])} for each in found]
    say_troubles(history)
    if as_json:
        click.echo(neutral.dump_json(found))
    else:
        print_sessions(found)


@click.command()
@with_session
@click.option("--failed", is_flag=True, help="Only failed, timed-out, interrupted and blocked ones.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "sh", "md"]),
    default="text",
    show_default=True,
    help="A table, a shell script to read, or Markdown with all output.",
)
@with_json
@with_state_dir
def commands(session: str | None, failed: bool, form: str, as_json: bool, state_dir: str | None) -> None:
    """Every terminal command Hermes ran, oldest first, with exit code, duration and output.

    What spans cut or never told of comes from the spans of model calls and from Hermes' own records
    (`watch_hermes: false` leaves those alone); "source" says so.
    """
    from hermes_tui import output

    history = hermes_history(state_dir)
    found = _find(state_dir, history, session, failed)
    say_troubles(history)
    if as_json:
        click.echo(neutral.dump_json(found))
    elif form == "text":
        output.print_commands(found)
    else:
        click.echo(output.shell_script(found) if form == "sh" else output.markdown(found), nl=False)


def hermes_history(state_dir: str | None) -> History | None:
    from hermes_tui.hermes.history import History
    from hermes_tui.hermes.home import homes

    chosen = settings(state_dir=state_dir)
    return History(homes(chosen.hermes_homes)) if chosen.watch_hermes else None


def say_troubles(history: History | None) -> None:
    for trouble in history.troubles if history is not None else ():
        click.echo(f"Left out of Hermes' own records: {neutral.line(trouble)}", err=True)


def _find(
    state_dir: str | None, history: History | None, session: str | None, failed: bool
) -> Sequence[dict[str, Any]]:
    from hermes_tui.hermes import completed
    from hermes_tui.journal import records

    with open_journal(state_dir) as reader:
        try:
            if reader is not None:
                session = records.find_session(reader, session)
            elif session is not None:
                raise records.UnknownSession("there is no session yet; nothing has been received")
        except records.UnknownSession as error:
            # One that no span has told of can be in Hermes' records all the same.
            if session == "last" or history is None or not history.find({session or ""}):
                fail(str(error), 1)
        return completed.commands(reader, history, session, failed=failed)

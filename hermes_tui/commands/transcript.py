"""`transcript`: what was said and done in a session, to read."""

from __future__ import annotations

import click

from hermes_tui import neutral
from hermes_tui.commands.common import fail, open_journal, with_state_dir
from hermes_tui.commands.listing import hermes_history, say_troubles


@click.command()
@click.option(
    "--session",
    metavar="ID",
    default="last",
    show_default=True,
    help="Which session; 'last' is the one with the newest activity.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "json", "text"]),
    default="md",
    show_default=True,
    help="Markdown, one JSON document, or plain text with long outputs shortened.",
)
@with_state_dir
def transcript(session: str, form: str, state_dir: str | None) -> None:
    """A session to read: prompts, answers, commands with results, file changes, approvals.

    From spans and Hermes' own records (`watch_hermes: false` leaves those alone), whichever has it.
    """
    from hermes_tui import narrative
    from hermes_tui.hermes.transcript import transcript as read
    from hermes_tui.journal import records

    history = hermes_history(state_dir)
    with open_journal(state_dir) as reader:
        try:
            if reader is None:
                raise records.UnknownSession("there is no session yet; nothing has been received")
            session = records.find_session(reader, session) or session
        except records.UnknownSession as error:
            # One that no span has told of can be in Hermes' records all the same.
            if session == "last" or history is None or not history.find({session}):
                fail(str(error), 1)
        found = read(reader, history, session)
        if form == "json":
            click.echo(neutral.dump_json(list(found)))
        else:
            lines = (narrative.markdown if form == "md" else narrative.plain)(session, found)
            for line in lines:
                click.echo(line)
    say_troubles(history)

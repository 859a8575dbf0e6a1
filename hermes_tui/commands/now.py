"""`now`: what runs at this moment, for scripts and status bars."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from hermes_tui import neutral
from hermes_tui.commands.common import settings, with_json, with_state_dir
from hermes_tui.journal.files import StateDir

if TYPE_CHECKING:
    from hermes_tui.hermes.now import Now, Present

CELLS = 60
"""Of a line for a status bar, at most."""

_LOOK_S = 0.05
_CLOCK_S = 0.25  # between two looks at the clock alone: some things end by it
_LINE_S = 1.0  # between two lines of which only the clock differs
_OBEYED = str.maketrans("#", "♯")  # tmux obeys what a number sign begins, also in what a command printed


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "line"]),
    default="text",
    show_default=True,
    help="A line for each session, or one short line for a tmux or zellij status bar.",
)
@click.option("--follow", is_flag=True, help="Print again whenever it changes, until you stop it.")
@click.option(
    "--home",
    "homes",
    multiple=True,
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Look only into this Hermes home and its profiles; may be given several times.",
)
@with_json
@with_state_dir
def now(form: str, follow: bool, homes: tuple[str, ...], as_json: bool, state_dir: str | None) -> None:
    """What runs at this moment, per session: a tool, the model, a question to you, or nothing.

    Looks into Hermes' own records and into the journal, whichever is there. With --json --follow each line
    is a document. Hermes writes down no approval before it is decided: that one waits is a guess, made when
    a risky command does not go on.
    """
    from hermes_tui.hermes.home import homes as all_homes
    from hermes_tui.hermes.now import WINDOW, Present
    from hermes_tui.hermes.state_db import Watch

    chosen = settings(state_dir=state_dir)
    watch = None
    if homes:
        watch = Watch(find=lambda: all_homes(homes, {"HERMES_HOME": homes[0]}), window=WINDOW)
    elif chosen.watch_hermes:
        watch = Watch(chosen.hermes_homes, window=WINDOW)
    with closing(Present(watch, StateDir(chosen.state_path).journal)) as present:
        if not follow:
            now_ns = time.time_ns()
            present.poll(now_ns)
            click.echo(_say(present.sessions(now_ns), now_ns, form, as_json))
            return
        try:
            _follow(present, form, as_json)
        except KeyboardInterrupt:
            sys.exit(0)


def _follow(present: Present, form: str, as_json: bool) -> None:
    """Print on every change; where times are shown, for the clock too, but not more than once a second."""
    told: object = None
    said, told_s, looked_s = "", float("-inf"), float("-inf")
    while True:
        now_ns, now_s = time.time_ns(), time.monotonic()
        if present.poll(now_ns) or now_s - looked_s >= _CLOCK_S:
            looked_s = now_s
            found = present.sessions(now_ns)
            state = [
                (each.session, each.title, each.doing.state, each.doing.since_ns, each.doing.call)
                for each in found
            ]
            ticked = not as_json and now_s - told_s >= _LINE_S
            if state != told or ticked:
                words = _say(found, now_ns, form, as_json, indent=None)
                if words != said or (as_json and state != told):
                    click.echo(words)
                    sys.stdout.flush()
                said, told, told_s = words, state, now_s
        time.sleep(_LOOK_S)  # two other programs' files: there is nothing to be woken by


def _say(found: Sequence[Now], now_ns: int, form: str, as_json: bool, indent: int | None = 2) -> str:
    if as_json:
        return neutral.dump_json([each.record(now_ns) for each in found], indent)
    return line(found, now_ns) if form == "line" else text(found, now_ns)


def text(found: Sequence[Now], now_ns: int) -> str:
    """A line for each session."""
    from hermes_tui.hermes.now import words

    lines = []
    for each in found:
        what, since = words(each.doing, now_ns)
        title = f"  ({each.title[:CELLS]})" if each.title else ""
        lines.append(neutral.line(f"{each.session}  {what[: 4 * CELLS]} {since}".rstrip() + title))
    return "\n".join(lines) or "Nothing runs."


def line(found: Sequence[Now], now_ns: int) -> str:
    """The most pressing session in one short line, and how many others are at work."""
    from rich.cells import cell_len, set_cell_size

    from hermes_tui.hermes.now import words
    from hermes_tui.model.doing import State

    if not found:
        return "idle"
    what, since = words(found[0].doing, now_ns)
    others = sum(each.doing.state is not State.IDLE for each in found[1:])
    tail = f" {since}".rstrip() + (f" +{others}" if others else "")
    what = neutral.line(what[: 4 * CELLS]).translate(_OBEYED)
    room = CELLS - cell_len(tail)
    if cell_len(what) > room:
        what = set_cell_size(what, room - 1).rstrip() + "…"
    return what + tail

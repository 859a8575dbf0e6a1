"""The views of the pane, and what the footer says of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hermes_tui.tui.ordering import NEWEST
from hermes_tui.tui.rows import folder_name
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.widgets.bars import FooterData
from hermes_tui.tui.widgets.command_list import ReviewData

if TYPE_CHECKING:
    from hermes_tui.tui.every_command import EveryCommand


class View(NamedTuple):
    """`name` is also the id of the widget that it is."""

    key: str
    name: str
    title: str


VIEWS = (
    View("1", "tree", "Tree"),
    View("2", "commands", "Commands"),
    View("3", "usage", "Usage"),
    View("4", "delivery", "MLflow"),
    View("5", "transcript", "Transcript"),
)
"""In the order of the footer."""

_HINTS = ("m reviewed", "u next", "X export")


def footer(
    view: str, session: ShownSession, safe: str, *, unseen: int, following: bool, others: bool,
    paused: bool = False, search: str = "",
) -> FooterData:  # fmt: skip
    """`safe` is the glyph for how safe the session is; `others`: a newer session waits; `search`: how the
    search stands.
    """
    failed = f" {session.glyphs.bad}{session.commands.failed}" if session.commands.failed else ""
    tree = session.tree
    said = [tree.filter.name] * bool(tree.filter.wants) + [tree.order] * (tree.order != NEWEST)
    only = f": {', '.join(said)}" if said else ""
    marks = {"tree": only, "commands": f" {session.commands.total}{failed}", "delivery": f" {safe}".rstrip()}
    own = {"delivery": (("r", "retry"), ("v", "verify"))}
    sessions = (("s", "new session" if others else "sessions"),)
    find = (("/", "search"),) if view in ("tree", "commands") else ()
    return FooterData(
        views=tuple((each.key, f"{each.title}{marks.get(each.name, '')}") for each in VIEWS),
        view=next((each.key for each in VIEWS if each.name == view), ""),
        unseen=unseen,
        following=following,
        keys=(*own.get(view, sessions), *find, ("?", "keys"), ("q", "quit")),
        search=search,
        spoken=others or view in own,
        paused=paused,
        others=others,
    )


def review_line(session: ShownSession, every: EveryCommand | None) -> ReviewData:
    """The line above the commands; `every`: those of all sessions are listed."""
    name = session.commands.review.filter.name
    if every is None:
        folder = session.moment.folder_of(session.id)
        where = (f"in {folder_name(folder, session.glyphs)}",) if folder else ()
        return ReviewData(name, len(session.commands), session.commands.total, hints=(*where, *_HINTS))
    more = session.glyphs.more if not every.complete else "+" if every.cut else ""
    return ReviewData(name, every.listed, every.total, more, f"all sessions at {every.as_of}", _HINTS)

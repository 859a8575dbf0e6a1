"""The views of the pane, and what the footer says of them. Pure."""

from __future__ import annotations

from typing import NamedTuple

from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.widgets.bars import FooterData


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
)
"""In the order of the footer."""


def footer(
    view: str, session: ShownSession, safe: str, *, unseen: int, following: bool, others: bool,
    search: str = "",
) -> FooterData:  # fmt: skip
    """`safe` is the glyph for how safe the session is; `others`: a newer session waits; `search`: how the
    search stands.
    """
    failed = f" {session.glyphs.bad}{session.commands.failed}" if session.commands.failed else ""
    wanted = session.tree.filter
    only = f": {wanted.name}" if wanted.wants else ""
    marks = {"tree": only, "commands": f" {len(session.commands)}{failed}", "delivery": f" {safe}".rstrip()}
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
    )

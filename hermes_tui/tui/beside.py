"""The Hermes beside the pane: of several that run, the one that works in the same folder."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

from hermes_tui.model.live import Live, LiveSession

_RECENT_NS = 3600 * 10**9  # a session that was active within this time is still somebody's


def own_folders() -> frozenset[str]:
    """The working folder of this process, by each name that it goes by."""
    found = set()
    with suppress(OSError):  # it may have been removed
        found.add(os.getcwd())
        named = os.environ.get("PWD")
        if named and os.path.samefile(named, os.curdir):
            found.add(os.path.normpath(named))
    return frozenset(found)


def beside(live: Live, folders: Collection[str], now_ns: int) -> str | None:
    """The user's session that was active last in one of `folders`; None when none or all are there."""
    if not folders:
        return None
    known = [part for name in live.sessions() if (part := live.session(name)) is not None]
    running = [
        part for part in known
        if part.parent is None and (part.has_open or now_ns - part.active_ns < _RECENT_NS)
    ]  # fmt: skip
    here = [part for part in running if _works_in(part, folders)]
    if not here or len(here) == len(running):
        return None
    return max(here, key=lambda part: part.active_ns).id


def elsewhere(live: Live, session: str, folders: Collection[str]) -> bool:
    """Whether a session is known to work in another folder than these."""
    part = live.session(session)
    return bool(folders) and part is not None and not _works_in(part, folders)


def _works_in(part: LiveSession, folders: Collection[str]) -> bool:
    said = part.row.cwd if part.row is not None else None
    return bool(said) and os.path.normpath(said or "") in folders

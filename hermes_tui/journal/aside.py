"""Damaged journals: moved out of the way, and what is known of them.

What is to be put back is noted in a file of its own before anything is moved, so that a relay killed at any
moment leaves the rest to the next.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hermes_tui.journal.files import StateDir, write_private

log = logging.getLogger(__name__)

FRESH = 2**40
"""Ids of requests that arrive after a damage begin here; below is room for all that is put back."""

_SUFFIXES = ("-wal", "-shm", "")  # the journal itself last: as long as it lies there, it is to be moved


class Damage(msgspec.Struct, frozen=True):
    """A journal that is not wholly put back yet. `file` is its name in the state folder, once `moved`."""

    file: str
    reason: str
    at_ns: int
    moved: bool = False


def pending(state: StateDir) -> list[Damage]:
    """What is still to be put back, the oldest first."""
    try:
        return msgspec.json.decode(state.salvage.read_bytes(), type=list[Damage])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.error("%s cannot be read (%s); damaged journals stay where they are", state.salvage, error)
        return []


def set_aside(state: StateDir, reason: str, at_ns: int) -> None:
    """Move the journal out of the way, to be put back later. Raises OSError."""
    damages = pending(state)
    when = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y%m%d-%H%M%S")
    first = name = f"{state.journal.name}.damaged-{when}"
    count = 1
    while (state.path / name).exists():
        count += 1
        name = f"{first}-{count}"
    _save(state, [*damages, Damage(name, reason, at_ns)])
    finish_moving(state)
    log.error("the journal is damaged (%s); it was moved to %s and a new one is begun", reason, name)


def finish_moving(state: StateDir) -> None:
    """Do what was noted; a relay that was killed while it did leaves the rest to the next."""
    damages = pending(state)
    if not damages or damages[-1].moved:
        return
    for suffix in _SUFFIXES:
        part = state.path / f"{state.journal.name}{suffix}"
        if part.exists() and not (state.path / damages[-1].file).exists():
            part.rename(state.path / f"{damages[-1].file}{suffix}")
    _save(state, [*damages[:-1], msgspec.structs.replace(damages[-1], moved=True)])


def settle(state: StateDir, damage: Damage) -> None:
    """This one is put back as far as it can be."""
    _save(state, [each for each in pending(state) if each != damage])


def copies(state: StateDir) -> list[Path]:
    """Damaged journals that lie in the state folder, the oldest first; each with its parts beside it."""
    found = state.path.glob(f"{state.journal.name}.damaged-*")
    return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))


def moved_ns(copy: Path) -> int:
    """When a damaged journal was moved aside, as its name says; nanoseconds since the epoch."""
    found = re.search(r"-(\d{8}-\d{6})", copy.name)
    try:
        when = datetime.strptime(found[1] if found else "", "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(when.timestamp()) * 1_000_000_000


def remove(copy: Path) -> None:
    for suffix in _SUFFIXES:
        copy.with_name(f"{copy.name}{suffix}").unlink(missing_ok=True)


def _save(state: StateDir, damages: Sequence[Damage]) -> None:
    if damages:
        write_private(state.salvage, msgspec.json.encode(damages).decode())
    else:
        state.salvage.unlink(missing_ok=True)


def make_room(connection: sqlite3.Connection) -> None:
    """Let new requests begin at FRESH, so that what is put back comes before them."""
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()
    if last < FRESH:
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'requests'")
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('requests', ?)", (FRESH,))

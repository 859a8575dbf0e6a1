"""Writes the commands that are listed into a file of the current folder, as `commands` prints them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from hermes_tui import neutral, output
from hermes_tui.hermes.completed import Command, outline, told
from hermes_tui.hermes.history import History
from hermes_tui.hermes.home import Home
from hermes_tui.journal.files import open_private
from hermes_tui.journal.reader import NoJournal, Reader
from hermes_tui.tui.every_command import names
from hermes_tui.tui.rows import RowKey

_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_TRIES = 1_000

Record = dict[str, Any]


def collect(
    journal: Path, homes: Sequence[Home] | None, sessions: Iterable[str], wanted: AbstractSet[RowKey]
) -> list[Record]:
    """The documents of the commands with these names, oldest first, with their whole texts.

    `homes` None: Hermes' records are left alone. Raises StateError, sqlite3.Error.
    """
    try:
        reader = Reader(journal)
    except NoJournal:
        return told(None, _picked(None, homes, sessions, wanted))
    with reader:
        return told(reader, _picked(reader, homes, sessions, wanted))


def _picked(
    reader: Reader | None, homes: Sequence[Home] | None, sessions: Iterable[str], wanted: AbstractSet[RowKey]
) -> list[Command]:
    history = History(homes) if homes is not None else None
    found: dict[RowKey, Command] = {}
    for session in sessions:
        for command in outline(reader, history, session):
            called = names(command)
            if not wanted.isdisjoint(called):
                found.setdefault(called[0], command)
    return list(found.values())


def write(records: Sequence[Record], form: str, name: str, folder: Path) -> Path:
    """Write documents as sh, md or json, into a file that was not there before. Raises OSError."""
    if form == "json":
        text = neutral.dump_json(list(records)) + "\n"
    else:
        text = output.shell_script(records) if form == "sh" else output.markdown(records)
    stem = _NAME.sub("-", name).strip("-.")[:60] or "commands"
    for number in range(1, _TRIES):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.{form}"
        try:
            descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path
    raise FileExistsError(f"{stem}.{form} and {_TRIES - 2} more of that name are there already")

"""Write the session that is shown into a file."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import TextIO

from hermes_tui.journal.files import StateDir, open_private
from hermes_tui.journal.reader import Reader

_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
_NAME = 80  # characters of a session's name


def save_session(state: StateDir, session: str, folder: Path) -> tuple[Path, int]:
    """Its requests as OTLP JSON lines in a new file that only its owner can read; the file, how many.

    No file is left when there is nothing to write. Blocks. Raises OSError, StateError, sqlite3.Error.
    """
    from hermes_tui.journal.export import export  # only here: it reads protobuf, which a pane does not

    with Reader(state.journal) as reader:
        path, file = _create(folder, session)
        count = 0
        try:
            with file:
                for line in export(reader, session):
                    file.write(f"{line}\n")
                    count += 1
        finally:
            if not count:
                path.unlink(missing_ok=True)
    return path, count


def _create(folder: Path, session: str) -> tuple[Path, TextIO]:
    """A file with the session's name, or with a number behind it: none is ever written over."""
    name = _STRANGE.sub("_", session)[:_NAME].lstrip(".") or "session"
    for number in itertools.count(1):
        path = folder / f"hermes-{name}{f'-{number}' if number > 1 else ''}.otlp.jsonl"
        try:
            descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            continue
        return path, os.fdopen(descriptor, "w", encoding="ascii")
    raise AssertionError("numbers do not end")

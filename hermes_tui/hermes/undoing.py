"""Several files changed together, with a way back: what they were is kept before the first is touched.

    <state folder>/setup/<number>/record.json, 0, 1, …

A record lies there until it is undone. Killed at any moment, each file is the old or the new one.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hermes_tui.hermes import rewriting
from hermes_tui.hermes.rewriting import CannotWrite, Change
from hermes_tui.journal.files import StateDir, write_private

_RECORD = "record.json"


class Kept(msgspec.Struct, frozen=True):
    """A file as it was: `backup` is its copy's name in the record's folder, None when there was none.

    `before` and `after` are digests, `made` the folders that were made for it, the innermost first.
    """

    path: str
    target: str
    backup: str | None
    after: str
    mode: int = 0o600
    made: tuple[str, ...] = ()


class Document(msgspec.Struct, frozen=True):
    at_ns: int
    what: str
    homes: tuple[str, ...]
    files: tuple[Kept, ...]
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What one setup changed. `folder` holds the copies."""

    folder: Path
    document: Document


def apply(
    state: StateDir, changes: Sequence[Change], *, what: str, homes: Sequence[str], service: str | None = None
) -> Record:
    """Keep a copy of every file, then write all of them; none stays changed when one cannot be written.

    Raises CannotWrite, StateError.
    """
    for change in changes:
        rewriting.check(change)
    state.create()
    folder = _new_folder(state)
    try:
        kept = tuple(_keep(folder, number, change) for number, change in enumerate(changes))
        document = Document(time.time_ns(), what, tuple(homes), kept, service)
        write_private(folder / _RECORD, msgspec.json.encode(document).decode())
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CannotWrite(f"no copy can be kept in {folder}: {error.strerror or error}") from error
    record = Record(folder, document)
    try:
        for change in changes:
            rewriting.write(change)
    except CannotWrite:
        undo(record)
        raise
    return record


def records(state: StateDir) -> list[Record]:
    """What can be undone, the newest first. A record that cannot be read is left out."""
    found = []
    folder = state.path / "setup"
    for name in sorted(_numbers(folder), reverse=True):
        with suppress(OSError, msgspec.DecodeError):
            content = (folder / str(name) / _RECORD).read_bytes()
            found.append(Record(folder / str(name), msgspec.json.decode(content, type=Document)))
    return found


def changes_back(
    record: Record, may_stay: Collection[Path] = ()
) -> tuple[list[tuple[Kept, Change | None]], list[str]]:
    """What undoing would do to each file (None: nothing, it is as it was), and what would stay, with why.

    What was changed by someone else since stays where `may_stay` has it. Raises CannotWrite where not.
    """
    found: list[tuple[Kept, Change | None]] = []
    stays: list[str] = []
    for kept in record.document.files:
        now = rewriting.read(Path(kept.target))
        was = None if kept.backup is None else (record.folder / kept.backup).read_bytes()
        if now == was:
            found.append((kept, None))
        elif now is None or rewriting.digest(now) != kept.after:
            copy = (
                "there was no such file before"
                if was is None
                else f"as it was, it is kept in {record.folder / str(kept.backup)}"
            )
            stays.append(f"{kept.path} has been changed since; {copy}")
            if Path(kept.path) not in may_stay:
                raise CannotWrite(stays[-1])
        else:
            found.append((kept, Change(Path(kept.target), now, was if was is not None else b"")))
    return found, stays


def undo(record: Record, may_stay: Collection[Path] = ()) -> list[str]:
    """Put every file back as it was, byte for byte; the files put back. The record goes when none stays.

    Raises CannotWrite before anything is touched when a file was changed by someone else since, unless
    `may_stay` has it.
    """
    done = []
    found, stays = changes_back(record, may_stay)
    for kept, change in found:
        if change is None:
            continue
        if kept.backup is None:
            rewriting.remove(Path(kept.target))
            for folder in kept.made:
                with suppress(OSError):  # somebody else uses it by now
                    os.rmdir(folder)
        else:
            rewriting.write(change, mode=kept.mode)
        done.append(kept.path)
    if not stays:
        shutil.rmtree(record.folder, ignore_errors=True)
    return done


def _keep(folder: Path, number: int, change: Change) -> Kept:
    target = change.target
    after = rewriting.digest(change.after)
    if change.before is None:
        made = [str(each) for each in target.parents if not each.exists()]
        return Kept(str(change.path), str(target), None, after, made=tuple(made))
    copy = folder / str(number)
    handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(change.before)
        file.flush()
        os.fsync(handle)
    return Kept(str(change.path), str(target), copy.name, after, stat.S_IMODE(target.stat().st_mode))


def _new_folder(state: StateDir) -> Path:
    above = state.path / "setup"
    try:
        above.mkdir(exist_ok=True, mode=0o700)
        folder = above / str(max(_numbers(above), default=0) + 1)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise CannotWrite(f"{above} cannot be made: {error.strerror or error}") from error
    return folder


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(each.name) for each in folder.iterdir() if each.name.isdigit()]
    except OSError:
        return []

"""The state folder: private to its user, and where everything in it lies."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

JOURNAL = "journal.db"


class StateError(Exception):
    """The state folder or a file in it cannot be used; the message names the cause and the fix."""


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths in one state folder. The folder is 0700, its files 0600."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    @property
    def credentials(self) -> Path:
        return self.path / "credentials.json"

    @property
    def lock(self) -> Path:
        return self.path / "relay.lock"

    @property
    def address(self) -> Path:
        """Where the running relay says who it is and where it listens."""
        return self.path / "relay.json"

    @property
    def log(self) -> Path:
        return self.path / "relay.log"

    def create(self) -> None:
        """Make the folder and check that it is ours to write. Raises StateError."""
        try:
            for folder in (*reversed(self.path.parents), self.path):  # mkdir's mode leaves parents out
                folder.mkdir(exist_ok=True, mode=0o700)
            state = self.path.stat()
            if state.st_uid == os.getuid() and stat.S_IMODE(state.st_mode) & 0o077:
                self.path.chmod(0o700)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise self._unusable("not writable")

    def _unusable(self, why: str) -> StateError:
        return StateError(
            f"cannot use the state folder {self.path}: {why}. "
            "Choose another with --state-dir or HERMES_TRACE_STATE_DIR."
        )


def open_private(path: Path, flags: int) -> int:
    """`os.open` for a file that only its owner can read, whatever the umask says."""
    return os.open(path, flags | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)


def write_private(path: Path, text: str) -> None:
    """Replace a file's content in one step; readers see the old or the new, never a part."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

"""The state folder: private to its user, and where everything in it lies."""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

JOURNAL = "journal.db"
_OURS = (JOURNAL, "desk.db", "credentials.json", "relay.", "pane.json", "copied.txt")
"""How the names of all files in a state folder begin; SQLite and the log add to them."""

_LINKS = 40  # followed at most, as Linux does
_REMOTE = re.compile(
    r"nfs.*|smb.*|cifs.*|9p|acfs|afpfs|afs|beegfs|ceph|ceph-fuse|cephfs|coda|curlftpfs|cvmfs|davfs2?|drvfs"
    r"|fhgfs|ftpfs|gcsfuse|gfs2?|glusterfs|gpfs|gvfsd-fuse|juicefs|lustre|mfs|moosefs|ncp|ncpfs|ocfs2"
    r"|orangefs|osxfs|panfs|prl_fs|pvfs2|quobyte|rclone|rozofs|s3fs|seaweedfs|sshfs|vboxsf|vmhgfs(-fuse)?"
    r"|webdav|weka|wekafs"
)
"""File systems of other machines, or of this one as seen from a virtual machine (mount types)."""


class StateError(Exception):
    """The state folder or a file in it cannot be used; the message names the cause and the fix."""


class StateDir(msgspec.Struct, frozen=True):
    """Paths in one state folder. The folder is 0700, its files 0600."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    @property
    def desk(self) -> Path:
        """What users do; see journal.desk."""
        return self.path / "desk.db"

    @property
    def credentials(self) -> Path:
        return self.path / "credentials.json"

    @property
    def salvage(self) -> Path:
        """Which damaged journals are still to be put back; see journal.aside."""
        return self.path / f"{JOURNAL}.salvage"

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

    @property
    def output(self) -> Path:
        """What a relay in the background printed since its start: its last words, should it fail."""
        return self.path / "relay.out"

    @property
    def pane(self) -> Path:
        """What the pane remembers of the user's choices."""
        return self.path / "pane.json"

    @property
    def copied(self) -> Path:
        """What was copied last and fits no clipboard."""
        return self.path / "copied.txt"

    def create(self) -> None:
        """Make the folder and check that it and what it holds are ours alone. Raises StateError."""
        try:
            link = _foreign_link(self.path)
            if link is not None:
                raise self._unusable(f"{link} is a symbolic link of another user ({_owner(link.lstat())})")
            for folder in (*reversed(self.path.parents), self.path):  # mkdir's mode leaves parents out
                if not folder.is_dir():
                    folder.mkdir(exist_ok=True, mode=0o700)
                    folder.chmod(0o700)  # also under a umask that takes the owner's rights away
            state = self.path.stat()
            if state.st_uid != os.geteuid():
                raise self._unusable(f"it belongs to another user ({_owner(state)})")
            if stat.S_IMODE(state.st_mode) & 0o077:
                self.path.chmod(0o700)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise self._unusable("not writable")
            self._check_files()
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def _check_files(self) -> None:
        """Nobody else can put anything into the folder; what lay in it before may be another's."""
        way_out = "Remove it, or choose another folder"
        for name in os.listdir(self.path):
            if not name.lstrip(".").startswith(_OURS):
                continue
            file = self.path / name
            try:
                found = file.lstat()
                if not stat.S_ISREG(found.st_mode):
                    what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a regular file"
                    raise self._unusable(f"{name} in it is {what}", way_out)
                if found.st_uid != os.geteuid():
                    raise self._unusable(f"{name} in it belongs to another user ({_owner(found)})", way_out)
                if stat.S_IMODE(found.st_mode) != 0o600:
                    file.chmod(0o600)
            except FileNotFoundError:
                continue  # who closes a journal takes its companions away

    def _unusable(self, why: str, way_out: str = "Choose another") -> StateError:
        return StateError(
            f"cannot use the state folder {self.path}: {why}. "
            f"{way_out} with --state-dir or HERMES_TRACE_STATE_DIR."
        )


def open_private(path: Path, flags: int) -> int:
    """`os.open` for a file that only its owner can read and write, whatever the umask says."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Replace a file's content in one step; readers see the old or the new, never a part."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def check_local(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> None:
    """Raise StateError when a folder is on a network file system.

    `mounts` are (mount point, type); default: those of this machine. Where they cannot be told, the
    folder counts as local.
    """
    place = os.path.realpath(path)
    over = [each for each in (_mounts() if mounts is None else mounts) if _is_below(place, each[0])]
    # Of several at one place the last one is on top.
    where, kind = max(reversed(over), key=lambda mount: len(mount[0]), default=("", ""))
    if _REMOTE.fullmatch(kind.lower().removeprefix("fuse.")):
        raise StateError(
            f"cannot use the state folder {path}: it is on a network file system ({kind}, mounted at "
            f"{where}). SQLite's write-ahead log needs memory that all its users share, and locks that "
            "hold; there the journal could be damaged. Choose a local folder with --state-dir or "
            "HERMES_TRACE_STATE_DIR."
        )


def _mounts() -> list[tuple[str, str]]:
    import psutil  # only here: a pane and the other commands do not need it

    try:
        return [(each.mountpoint, each.fstype) for each in psutil.disk_partitions(all=True)]
    except (OSError, RuntimeError):  # no /proc, or not for us
        return []


def _is_below(place: str, mount: str) -> bool:
    return place == mount or place.startswith(mount.rstrip("/") + "/")


def _foreign_link(path: Path) -> Path | None:
    """The first symbolic link on the way to `path` that another user made."""
    # Root's links are the system's; in a user namespace root may have another number.
    trusted = {0, os.geteuid(), os.stat("/").st_uid}
    path = path.absolute()
    at, rest, links = Path(path.anchor), list(reversed(path.parts[1:])), 0
    while rest:
        part = rest.pop()
        at = at.parent if part == ".." else at / part
        if not at.is_symlink():
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if at.lstat().st_uid not in trusted:
            return at
        target = at.readlink()
        at = Path(target.anchor) if target.is_absolute() else at.parent
        rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return None


def _owner(state: os.stat_result) -> str:
    try:
        return pwd.getpwuid(state.st_uid).pw_name
    except KeyError:
        return f"uid {state.st_uid}"

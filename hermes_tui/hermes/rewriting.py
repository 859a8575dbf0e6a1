"""Replace a user's file whole or not at all, keep what it was, and put that back byte for byte."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import re
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hermes_tui.hermes import marked_yaml

_SECRET_NAMES = re.compile(
    r"key|secret|token|passw|authorization|credential|cookie|dsn|username|\buser\b", re.IGNORECASE
)
_HARMLESS_HEADERS = ("x-mlflow-experiment-id", "x-mlflow-workspace", "content-type")
_IN_COMMENTS = re.compile(
    r"(?im)(#.*?(?:key|secret|token|passw|authorization|credential|cookie|dsn)[^:=\n]*[:=][^\S\n]*)\S.*$"
)
_USERINFO = re.compile(r"(?<=://)[^/\s'\"@]*@")
HIDDEN = "•••"


class CannotWrite(Exception):
    """A file cannot be replaced; the message names it and says why. It is as it was."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file before and after; `before` None: there is none yet. `path` is as the user names it.

    `private`: from now on it holds what nobody else may read.
    """

    path: Path
    before: bytes | None
    after: bytes
    private: bool = False

    @property
    def target(self) -> Path:
        """The file itself, behind whatever links lead to it."""
        return Path(os.path.realpath(self.path))

    def diff(self) -> list[str]:
        """The change as people read it, with every value that may be secret hidden."""
        before, after = shown(self.before or b""), shown(self.after)
        names = ("/dev/null" if self.before is None else str(self.path), str(self.path))
        found = []
        for line in difflib.unified_diff(_lines(before), _lines(after), *names, n=2):
            found.append(line.rstrip("\r\n"))
            if line[:1] in "+- " and not line.endswith(("\n", "\r")) and not line.startswith(("+++", "---")):
                found.append("\\ No newline at end of file")
        return found


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def shown(content: bytes) -> str:
    """A YAML file's text without the values that may be secret."""
    text = content.decode("utf-8", "replace")
    try:
        marked = marked_yaml.parse(text)
    except marked_yaml.YamlError:
        return "\n".join(HIDDEN for _ in text.splitlines())
    for start, end in sorted(_secret_places(marked), reverse=True):
        text = text[:start] + HIDDEN + text[end:]
    return _USERINFO.sub(f"{HIDDEN}@", _IN_COMMENTS.sub(rf"\g<1>{HIDDEN}", text))


def check(change: Change) -> None:
    """Whether this could be written now. Raises CannotWrite."""
    target = change.target
    now = read(target)
    if now != change.before:
        raise CannotWrite(f"{change.path} has changed meanwhile; begin again")
    if now is None:
        folder = next(each for each in target.parents if each.exists())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CannotWrite(f"{folder} is not writable")
        return
    state = target.stat()
    if not state.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise CannotWrite(f"{change.path} is read-only")
    if state.st_nlink > 1:
        raise CannotWrite(f"{change.path} has other names (hard links), which would keep the old content")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise CannotWrite(f"{target.parent} is not writable")


def write(change: Change, *, mode: int | None = None) -> None:
    """Put the new content in the old one's place, with its owner and, without a `mode`, its permissions.

    Whoever reads sees the old file or the new one. Raises CannotWrite.
    """
    check(change)
    target = change.target
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        old = target.stat() if change.before is not None else None
        if mode is None:
            mode = stat.S_IMODE(old.st_mode) if old is not None else 0o600
        _replace(target, change.after, old, mode & ~0o077 if change.private else mode)
    except OSError as error:
        raise CannotWrite(f"{change.path} cannot be written: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Take away a file that was made. Raises CannotWrite."""
    try:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be removed: {error.strerror or error}") from error


def read(path: Path) -> bytes | None:
    """A file's content, None when there is none. Raises CannotWrite."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CannotWrite(f"{path} is not a regular file")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotWrite(f"{path} cannot be read: {error.strerror or error}") from error


def _replace(target: Path, content: bytes, old: os.stat_result | None, mode: int) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.fstat(handle).st_gid):
                os.fchown(handle, old.st_uid, old.st_gid)
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no such thing
            raise
    finally:
        os.close(handle)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _secret_places(marked: marked_yaml.Marked) -> set[tuple[int, int]]:
    """Where scalars are written whose name sounds secret, or that are headers."""
    found = set()
    for name, in_headers, start, end in marked.named_scalars():
        secret = _SECRET_NAMES.search(name) and not name.endswith("_env")
        if start < end and name not in _HARMLESS_HEADERS and (in_headers or secret):
            found.add((start, end))
    return found

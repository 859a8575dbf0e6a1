"""The relay's log: a rotating file in the state folder, and standard error in the foreground.

A record is one line, and what came from outside is shown, never obeyed; lines of a traceback are indented,
so that no text can pose as a record.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from hermes_tui import neutral
from hermes_tui.journal.files import StateError, open_private

_FILE_BYTES = 5 * 1024 * 1024
_FILES = 3  # with the rotated ones
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Nothing logs credentials on purpose; an exception's text may quote what it choked on.
_SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{6,}"), r"\1\2…"),
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)[^\s'\",;]+"), r"\1…"),
    (re.compile(r"(?i)(x-hermes-trace-token['\"]?\s*[:=]\s*['\"]?)[^\s'\",;]+"), r"\1…"),
    (re.compile(r"(//)[^/\s@]+@"), r"\1…@"),
)


class Formatter(logging.Formatter):
    """Harmless text without credentials."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        lines = [_harmless(self.formatMessage(record))]
        # Not the record's own cache of this text: another handler may have filled it.
        more = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([*lines, *(f"    {_harmless(line)}" for line in more)])


def discreet(text: str) -> str:
    """A text from elsewhere without what looks like a credential."""
    for pattern, stand_in in _SECRETS:
        text = pattern.sub(stand_in, text)
    return text


def _harmless(text: str) -> str:
    return neutral.line(discreet(text))


class _File(RotatingFileHandler):
    """Private whatever the umask says. A disk that is full costs records, not the relay."""

    def _open(self) -> TextIOWrapper:
        descriptor = open_private(Path(self.baseFilename), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="replace")

    def handleError(self, record: logging.LogRecord) -> None:
        """logging would print every failure to standard error, which is on the same disk."""


def to_standard_error() -> None:
    """For a relay that somebody watches."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    _add(handler)


@contextmanager
def to_file(path: Path) -> Iterator[None]:
    """Also into this file, meanwhile. For the one relay that holds the state folder. Raises StateError."""
    try:
        handler = _File(path, maxBytes=_FILE_BYTES, backupCount=_FILES - 1, encoding="utf-8")
    except OSError as error:
        raise StateError(f"cannot write the log {path}: {error.strerror or error}") from error
    handler.setFormatter(Formatter())
    _add(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):  # what a full disk would not take is still in its buffer
            handler.close()


def _add(handler: logging.Handler) -> None:
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)

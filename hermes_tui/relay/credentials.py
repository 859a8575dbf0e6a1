"""Senders' Authorization values: kept apart from the journal, private, and only while needed."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Collection
from pathlib import Path

from hermes_tui.journal.files import write_private

log = logging.getLogger(__name__)


class Credentials:
    """A file (0600) of values by name. A name says nothing about its value: it is a keyed hash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = {}
        self._salt = secrets.token_hex(16)
        if path.exists():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                self._salt, self._values = document["salt"], dict(document["values"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("%s cannot be read (%s); senders' credentials are asked for anew", path, error)

    def __repr__(self) -> str:
        return f"Credentials({len(self._values)} kept)"

    def keep(self, value: str) -> str:
        """Keep a value, on disk before this returns; its name. Raises OSError."""
        name = hmac.new(self._salt.encode(), value.encode(), hashlib.sha256).hexdigest()[:24]
        if name not in self._values:
            self._values[name] = value
            self._save()
        return name

    def value(self, name: str) -> str | None:
        return self._values.get(name)

    def keep_only(self, names: Collection[str]) -> None:
        """Erase every value that no waiting request needs any more."""
        if self._values.keys() - set(names):
            self._values = {name: value for name, value in self._values.items() if name in names}
            self._save()

    def _save(self) -> None:
        write_private(self._path, json.dumps({"salt": self._salt, "values": self._values}))

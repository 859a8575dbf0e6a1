"""Senders' Authorization values: kept apart from the journal, private, and only while needed."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from hermes_tui.journal.files import write_private

log = logging.getLogger(__name__)


class Credentials:
    """A file (0600) of values by name. A name says nothing about its value: it is a keyed hash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = {}
        self._arriving: Counter[str] = Counter()
        self.keep_all = False
        """While not all requests that may need one are known."""
        self._salt = secrets.token_hex(16)
        for half_written in path.parent.glob(f".{path.name}.*"):  # by a relay that was killed
            half_written.unlink(missing_ok=True)
        if path.exists():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                self._salt, self._values = document["salt"], dict(document["values"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("%s cannot be read (%s); senders' credentials are asked for anew", path, error)

    def __repr__(self) -> str:
        return f"Credentials({len(self._values)} kept)"

    def keep(self, value: str) -> str:
        """Keep a value, on disk before this returns; its name. Raises OSError.

        It is not erased before `settle`: the request that needs it is not in the journal yet.
        """
        name = hmac.new(self._salt.encode(), value.encode(), hashlib.sha256).hexdigest()[:24]
        if name not in self._values:
            self._save({**self._values, name: value})
        self._arriving[name] += 1
        return name

    def settle(self, name: str) -> None:
        """The request that a value was kept for is in the journal, or never will be."""
        self._arriving -= Counter([name])

    def value(self, name: str) -> str | None:
        return self._values.get(name)

    def values(self) -> list[str]:
        """All that is kept, to find it where it must not be."""
        return list(self._values.values())

    def keep_only(self, names: Collection[str]) -> None:
        """Erase every value that no waiting request needs any more."""
        needed = {*names, *self._arriving}
        if not self.keep_all and self._values.keys() - needed:
            self._save({name: value for name, value in self._values.items() if name in needed})

    def _save(self, values: dict[str, str]) -> None:
        write_private(self._path, json.dumps({"salt": self._salt, "values": values}))
        self._values = values

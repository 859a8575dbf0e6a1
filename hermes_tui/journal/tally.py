"""How many bytes wait to be delivered, exact after every commit, however requests change."""

from __future__ import annotations

import sqlite3

from hermes_tui.figures import short_size
from hermes_tui.journal.marks import WAITING

_WAITING = f"state IN ({', '.join(map(str, WAITING))})"
# Not old.body or new.body: SQLite would read whole bodies for them, a length is in the row's header.
_NOTE = f"SELECT tally({{sign}}length(body)) FROM main.requests WHERE id = {{row}}.id AND {_WAITING};"
_TRIGGERS = (
    f"CREATE TEMP TRIGGER tally_insert AFTER INSERT ON main.requests WHEN new.{_WAITING} "
    f"BEGIN {_NOTE.format(sign='', row='new')} END",
    f"CREATE TEMP TRIGGER tally_before BEFORE UPDATE OF state, body ON main.requests WHEN old.{_WAITING} "
    f"BEGIN {_NOTE.format(sign='-', row='old')} END",
    f"CREATE TEMP TRIGGER tally_after AFTER UPDATE OF state, body ON main.requests WHEN new.{_WAITING} "
    f"BEGIN {_NOTE.format(sign='', row='new')} END",
    f"CREATE TEMP TRIGGER tally_delete BEFORE DELETE ON main.requests WHEN old.{_WAITING} "
    f"BEGIN {_NOTE.format(sign='-', row='old')} END",
)


class Tally:
    """Follows every change that its connection makes; tell it how each transaction ended."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._change = 0
        self.bytes: int
        (self.bytes,) = connection.execute(
            f"SELECT coalesce(sum(length(body)), 0) FROM requests WHERE {_WAITING}"
        ).fetchone()
        connection.create_function("tally", 1, self._note)
        for statement in _TRIGGERS:
            connection.execute(statement)

    def excess(self, limit: int) -> str:
        """What is wrong when `limit` bytes are reached (0: no limit); "" when they are not."""
        if 0 < limit <= self.bytes:
            return (
                f"{short_size(self.bytes)} wait to be delivered, and the limit is {short_size(limit)}; "
                "more is taken once the destination accepts some"
            )
        return ""

    def _note(self, change: int) -> None:
        self._change += change

    def committed(self) -> None:
        self.bytes += self._change
        self._change = 0

    def rolled_back(self) -> None:
        self._change = 0

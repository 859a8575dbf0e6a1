"""What Hermes wrote down a second time.

Compacting a conversation archives its rows and writes the newest again, with new ids, mostly with the time
of the compacting, and with older results and arguments shortened (`hermes_state.archive_and_compact`); or
it goes on in a new session, as `/branch` does, into which the rows are copied.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from hermes_tui.model.state_rows import MessageRow


class Copies:
    """Take the rows of one session in the order of their ids.

    `before` are the ids of the calls in the session that this one goes on from. A model that uses an id
    again is told from a copy by the first row, which was not archived.
    """

    def __init__(self, before: Collection[str] = ()) -> None:
        self._asked = set(before)
        self._answered = set(before)

    def fresh(self, row: MessageRow, *, archived: bool) -> MessageRow | None:
        """The row without calls that were noted before; None when it answers one that was answered."""
        if row.role == "tool":
            if row.tool_call_id in self._answered:
                return None
            if archived and row.tool_call_id:
                self._answered.add(row.tool_call_id)
            return row
        if not row.calls:
            return row
        calls = tuple(call for call in row.calls if call.id not in self._asked)
        if archived:
            self._asked.update(call.id for call in calls if call.id)
        return row if len(calls) == len(row.calls) else replace(row, calls=calls)

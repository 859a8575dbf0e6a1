"""What Hermes wrote down a second time.

Compacting a conversation archives its rows and writes the newest again, with new ids, mostly with the time
of the compacting, and with older results and arguments shortened (`hermes_state.archive_and_compact`); or
it goes on in a new session, as `/branch` does, into which the rows are copied.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from msgspec.structs import replace

from hermes_tui.model.span import NANOSECONDS
from hermes_tui.model.state_rows import MessageRow, Told

TOGETHER_NS = 5_000
"""Rows that compacting writes are a microsecond apart, unless they keep the times that they had."""

COPIED_NS = NANOSECONDS
"""Rows that `/branch` copies are not further apart than this."""

_TEXT = 500  # characters that tell one text from another
_SUMMARIES = ("[CONTEXT COMPACTION", "[CONTEXT SUMMARY]:")
_PRIOR, _PRIOR_END = "[PRIOR CONTEXT —", "[END OF PRIOR CONTEXT —"  # around what a summary was added to
_AGAIN = "[STILL IN PROGRESS —"  # before a prompt that is told again because it is not done
_IMAGE = "[Attached image — stripped"  # in place of what was attached


def unwrapped(text: str) -> tuple[str, bool]:
    """What somebody said, without what compacting put around it; and whether it is compacting's own words."""
    if text.startswith(_PRIOR) and _PRIOR_END in text:
        text = text.partition("\n")[2].partition(_PRIOR_END)[0].strip()
        return text, not text or text.startswith(_SUMMARIES)
    if text.startswith(_AGAIN):
        return text.partition("]")[2].strip(), False
    return text, text.lstrip().startswith(_SUMMARIES)


def told(row: MessageRow) -> list[Told]:
    """What makes a row or its copy the same: of the calls in it one by one, else of itself."""
    if row.role == "tool":
        return [("tool", row.tool_call_id or "", "" if row.tool_call_id else row.text[:_TEXT])]
    if row.calls:
        return [
            ("call", call.id, "" if call.id else f"{call.name} {call.arguments[:_TEXT]}")
            for call in row.calls
        ]
    return [(row.role, "", row.text.partition(_IMAGE)[0].strip()[:_TEXT])]


class Copies:
    """Take the rows of one session in the order of their ids.

    `before` is what the session that this one goes on from has in its records, in their order, and when. A
    model that uses an id again, and a user who says the same again, are told from a copy by that copies are
    written at one moment: `near_ns` is how far the nearest row beside it is. `unsure`: the last row would
    have been taken for a copy, had there been one nearer.
    """

    def __init__(self, before: Iterable[tuple[int, Told]] = ()) -> None:
        self.unsure = False
        self._rows: set[tuple[object, ...]] = set()
        self._archived: dict[Told, set[int]] = {}
        self._times: dict[Told, set[int]] = {}
        self._places: dict[Told, list[int]] = {}
        self._place = 0
        for place, (at_ns, each) in enumerate(before):
            self._times.setdefault(each, set()).add(at_ns)
            self._places.setdefault(each, []).append(place)

    def fresh(self, row: MessageRow, near_ns: int) -> MessageRow | None:
        """The row without the calls that were noted before; None when nothing in it is new.

        One that was taken back was so only because its copy stands for it, if there is one of the same time.
        """
        self.unsure = False
        same = (row.role, row.at_ns, row.text, row.tool_call_id, row.calls)
        parts = told(row)
        known = row.at_ns > 0 and same in self._rows
        twice = [known or self._again(each, row.at_ns, near_ns) for each in parts]
        if row.archived:
            for each in parts:
                self._archived.setdefault(each, set()).add(row.at_ns)
        if row.active or all(twice):
            self._rows.add(same)
        if all(twice):
            return None
        if not any(twice):
            return row
        return replace(
            row, calls=tuple(call for call, known in zip(row.calls, twice, strict=True) if not known)
        )

    def _again(self, each: Told, at_ns: int, near_ns: int) -> bool:
        if (times := self._archived.get(each)) is not None:
            if near_ns <= TOGETHER_NS or at_ns in times:
                return True
            self.unsure = True
        places = self._places.get(each, [])
        at = bisect_left(places, self._place)
        if at == len(places):
            return False
        if near_ns > COPIED_NS and at_ns not in self._times[each]:
            self.unsure = True
            return False
        self._place = places[at] + 1
        return True

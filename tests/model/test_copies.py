"""What Hermes wrote a second time is told from what happened a second time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from hermes_tui.model.copies import Copies
from hermes_tui.model.state_rows import CallRow, MessageRow

Entry = tuple[str, str, bool]
"""(role, ids of calls, archived)."""

CASES: dict[str, tuple[str, list[Entry], list[str]]] = {
    "nothing twice": ("", [("assistant", "a b", False), ("tool", "a", False)], ["assistant a b", "tool a"]),
    "an id used again": (
        "",
        [("assistant", "a", False), ("tool", "a", False), ("assistant", "a", False), ("tool", "a", False)],
        ["assistant a", "tool a", "assistant a", "tool a"],
    ),
    "compacted": (
        "",
        [
            ("user", "", True), ("assistant", "a b", True), ("tool", "a", True), ("tool", "b", True),
            ("user", "", False), ("assistant", "b", False), ("tool", "b", False), ("assistant", "c", False),
        ],
        ["user", "assistant a b", "tool a", "tool b", "user", "assistant", "assistant c"],
    ),
    "compacted twice": (
        "",
        [
            ("assistant", "a", True), ("tool", "a", True),
            ("assistant", "a", True), ("tool", "a", True), ("assistant", "b", True), ("tool", "b", True),
            ("assistant", "b", False), ("tool", "b", False),
        ],
        ["assistant a", "tool a", "assistant", "assistant b", "tool b", "assistant"],
    ),
    "archived before it was answered": (
        "",
        [("assistant", "a", True), ("assistant", "a", False), ("tool", "a", False)],
        ["assistant a", "assistant", "tool a"],
    ),
    "goes on from another": (
        "a b",
        [
            ("assistant", "a b", False), ("tool", "b", False),
            ("assistant", "b c", False), ("tool", "c", False),
        ],
        ["assistant", "assistant c", "tool c"],
    ),
    "no ids": (
        "",
        [("assistant", "-", True), ("tool", "", True), ("assistant", "-", False), ("tool", "", False)],
        ["assistant -", "tool", "assistant -", "tool"],
    ),
}  # fmt: skip


def rows(entries: Iterable[Entry]) -> Iterable[tuple[MessageRow, bool]]:
    for number, (role, ids, archived) in enumerate(entries):
        names = ["" if name == "-" else name for name in ids.split()]
        calls = tuple(CallRow(name, "terminal", "{}") for name in names) if role == "assistant" else ()
        answered = ids or None if role == "tool" else None
        yield MessageRow("h", 1, number, "s", role, calls=calls, tool_call_id=answered), archived


@pytest.mark.parametrize("name", CASES)
def test_copies(name: str) -> None:
    before, entries, expected = CASES[name]
    copies = Copies(before.split())
    found = []
    for row, archived in rows(entries):
        if (fresh := copies.fresh(row, archived=archived)) is not None:
            ids = [call.id or "-" for call in fresh.calls] or [fresh.tool_call_id or ""]
            found.append(" ".join([row.role, *ids]).strip())
    assert found == expected

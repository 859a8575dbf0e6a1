"""What Hermes wrote a second time is told from what happened a second time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from hermes_tui.model.copies import COPIED_NS, TOGETHER_NS, Copies, told, unwrapped
from hermes_tui.model.state_rows import CallRow, MessageRow
from tests.support import SECOND

Entry = tuple[str, str, tuple[bool, bool]]
"""(role, ids of calls or text, (archived, written at one moment with others))."""

N, A, C, CA = (False, False), (True, False), (False, True), (True, True)

CASES: dict[str, tuple[str, list[Entry], list[str]]] = {
    "nothing twice": ("", [("assistant", "a b", N), ("tool", "a", N)], ["assistant a b", "tool a"]),
    "an id used again": (
        "",
        [("assistant", "a", N), ("tool", "a", N), ("assistant", "a", N), ("tool", "a", N)],
        ["assistant a", "tool a", "assistant a", "tool a"],
    ),
    "compacted": (
        "",
        [
            ("user", "Go", A), ("assistant", "a b", A), ("tool", "a", A), ("tool", "b", A),
            ("user", "Go", C), ("assistant", "b", C), ("tool", "b", C), ("assistant", "c", N),
        ],
        ["user Go", "assistant a b", "tool a", "tool b", "assistant c"],
    ),
    "compacted twice": (
        "",
        [
            ("assistant", "a", A), ("tool", "a", A),
            ("assistant", "a", CA), ("tool", "a", CA), ("assistant", "b", A), ("tool", "b", A),
            ("assistant", "b", C), ("tool", "b", C),
        ],
        ["assistant a", "tool a", "assistant b", "tool b"],
    ),
    "an id used and a word said again after it": (
        "",
        [
            ("user", "go on", A), ("assistant", "a", A), ("tool", "a", A),
            ("user", "go on", C), ("assistant", "a", C), ("tool", "a", C),
            ("user", "go on", N), ("assistant", "a", N), ("tool", "a", N),
        ],
        ["user go on", "assistant a", "tool a", "user go on", "assistant a", "tool a"],
    ),
    "noted for the first time by compacting": (
        "", [("user", "One", A), ("user", "One", C), ("user", "Two", C)], ["user One", "user Two"],
    ),
    "archived before it was answered": (
        "",
        [("assistant", "a", A), ("assistant", "a", C), ("tool", "a", N)],
        ["assistant a", "tool a"],
    ),
    "goes on from another": (
        "user:Go assistant:a assistant:b tool:a tool:b",
        [
            ("user", "Go", C), ("assistant", "a b", C), ("tool", "b", C), ("assistant", "b c", C),
            ("tool", "c", N), ("user", "Go", N), ("assistant", "b", N),
        ],
        ["assistant b c", "tool c", "user Go", "assistant b"],
    ),
    "goes on from another that had a part more": (
        "user:One assistant:a tool:a user:Two assistant:b tool:b",
        [("user", "Two", C), ("assistant", "b", C), ("tool", "b", C), ("user", "One", N)],
        ["user One"],
    ),
    "begins as the other did": (
        "user:Go assistant:a tool:a", [("user", "Go", N), ("assistant", "a", N)], ["user Go", "assistant a"],
    ),
    "no ids": (
        "",
        [("assistant", "-", A), ("tool", "", A), ("assistant", "-", N), ("tool", "", N)],
        ["assistant -", "tool", "assistant -", "tool"],
    ),
    "no ids, compacted": (
        "",
        [("assistant", "-", A), ("tool", "", A), ("assistant", "-", C), ("tool", "", C)],
        ["assistant -", "tool"],
    ),
}  # fmt: skip


def row(number: int, role: str, said: str, *, archived: bool = False, at_ns: int | None = None) -> MessageRow:
    names = ["" if name == "-" else name for name in said.split()]
    calls = tuple(CallRow(name, "terminal", "{}") for name in names) if role == "assistant" else ()
    answered = said or None if role == "tool" else None
    text = said if role == "user" else ""
    at_ns = number * SECOND if at_ns is None else at_ns
    return MessageRow(
        "h", 1, number, "s", role, text, calls=calls, tool_call_id=answered, at_ns=at_ns, archived=archived
    )


def found(copies: Copies, rows: Iterable[tuple[MessageRow, int]]) -> list[str]:
    said = []
    for each, near_ns in rows:
        if (fresh := copies.fresh(each, near_ns)) is not None:
            ids = [call.id or "-" for call in fresh.calls] or [fresh.tool_call_id or fresh.text]
            said.append(" ".join([each.role, *ids]).strip())
    return said


@pytest.mark.parametrize("name", CASES)
def test_copies(name: str) -> None:
    before, entries, expected = CASES[name]
    there = []
    for number, each in enumerate(before.split()):
        role, _, said = each.partition(":")
        there += [(number * SECOND, part) for part in told(row(number, role, said))]
    near = COPIED_NS if before else TOGETHER_NS
    rows = (
        (row(number + 100, role, said, archived=archived), near if copied else near + 1)
        for number, (role, said, (archived, copied)) in enumerate(entries)
    )
    assert found(Copies(there), rows) == expected


def test_a_copy_that_keeps_its_time_needs_no_other_beside_it() -> None:
    """A conversation that was taken up again, then compacted."""
    rows = [row(1, "tool", "a", archived=True), row(2, "tool", "a", at_ns=SECOND), row(3, "tool", "a")]
    assert found(Copies(), ((each, 2**63) for each in rows)) == ["tool a", "tool a"]
    copies = Copies([(SECOND, ("tool", "a", ""))])
    assert found(copies, [(row(2, "tool", "a", at_ns=SECOND), 2**63)]) == []


def test_an_image_that_was_taken_out_makes_no_other_prompt() -> None:
    first, second = (
        row(1, "user", "Look", archived=True),
        row(2, "user", "Look\n[Attached image — stripped …]"),
    )
    assert found(Copies(), [(first, 2**63), (second, 1)]) == ["user Look"]


@pytest.mark.parametrize(
    ("text", "said", "own"),
    [
        ("Go", "Go", False),
        ("[CONTEXT COMPACTION — REFERENCE ONLY] Earlier turns", None, True),
        ("[CONTEXT SUMMARY]: We did", None, True),
        (
            "[PRIOR CONTEXT — for reference only; not a new message]\nGo\non\n\n"
            "[END OF PRIOR CONTEXT — COMPACTION SUMMARY BELOW]\n\n[CONTEXT COMPACTION — …",
            "Go\non", False,
        ),
        ("[PRIOR CONTEXT — x]\n\n[END OF PRIOR CONTEXT — x]\n", "", True),
        ("[PRIOR CONTEXT — nobody ends it", None, False),
        ("[STILL IN PROGRESS — this is the active request, restated.]\n\nGo", "Go", False),
    ],
)  # fmt: skip
def test_what_compacting_puts_around_a_message(text: str, said: str | None, own: bool) -> None:
    assert unwrapped(text) == (text if said is None else said, own)

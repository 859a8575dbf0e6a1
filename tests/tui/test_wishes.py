"""What this pane asks of the relay: one wish of a kind at a time, and how its answer reads."""

from __future__ import annotations

from typing import Any

import pytest

from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir
from hermes_tui.tui.wishes import Notice, Wishes, withdraw
from tests.support import SECOND
from tests.tui.stage import Clock

NOW = SECOND * 1_500
pytestmark = pytest.mark.usefixtures("clock")


async def made(state: StateDir, kind: str = "verify") -> tuple[Wishes, str]:
    wishes = Wishes()
    assert await wishes.make(state, kind, "s")
    (wish,) = wishes.open
    return wishes, wish


@pytest.mark.parametrize(("kind", "argument"), [("verify", {"session": "s"}), ("retry", {})])
async def test_a_wish_lies_on_the_desk_until_it_is_withdrawn(
    state: StateDir, kind: str, argument: dict[str, Any]
) -> None:
    _, wish = await made(state, kind)
    with Desk(state) as desk:
        assert [(each.id, each.kind, each.argument) for each in desk.wishes()] == [(wish, kind, argument)]
        withdraw(state, wish)
        assert desk.wishes() == []


async def test_one_of_a_kind_at_a_time(state: StateDir) -> None:
    wishes, first = await made(state)
    assert not await wishes.make(state, "verify", "s")
    assert await wishes.make(state, "retry", "s")
    assert len(wishes.open) == 2
    assert wishes.answered({first: ("done", {}), "stranger": ("done", {})}, NOW) == [first]
    assert wishes.answered({first: ("done", {})}, NOW) == []  # told once
    assert await wishes.make(state, "verify", "s")
    with Desk(state) as desk:
        assert len(desk.wishes()) == 3


async def test_a_desk_that_cannot_be_used_is_said(state: StateDir, clock: Clock) -> None:
    state.create()
    state.desk.write_bytes(b"no database, but long enough to be taken for one" * 100)
    wishes = Wishes()
    assert await wishes.make(state, "retry", "s")
    assert wishes.open == ()
    (notice,) = wishes.notices("s", clock.now_ns + 3 * SECOND)
    assert notice.well is False
    assert notice.text.startswith("retry: ")
    assert notice.text.endswith("(3s ago)")
    withdraw(state, "any")  # no error


async def test_what_was_verified_of_another_session_is_not_shown(state: StateDir) -> None:
    wishes, _ = await made(state)
    await wishes.make(state, "retry", "s")
    assert [notice.text.split(":")[0] for notice in wishes.notices("s", NOW)] == ["verify", "retry"]
    assert [notice.text.split(":")[0] for notice in wishes.notices("other", NOW)] == ["retry"]


WORKING: dict[str, tuple[str, str, dict[str, Any], Notice]] = {
    "seen": ("verify", "working", {}, Notice("verify: begun", None)),
    "progress": (
        "verify",
        "working",
        {"done": 1_200, "of": 3_400},
        Notice("verify: 1,200 of 3,400 traces read back", None),
    ),
    "sending": ("retry", "working", {"done": 1, "of": 2}, Notice("retry: 1 of 2 spans decided", None)),
    "nonsense": ("retry", "working", {"done": "x"}, Notice("retry: begun", None)),
}
ENDED: dict[str, tuple[str, str, dict[str, Any], Notice]] = {
    "all there": (
        "verify",
        "done",
        {"spans": 41, "confirmed": 41, "missing": [], "error": None},
        Notice("verified: all 41 spans are there", True),
    ),
    "some missing": (
        "verify",
        "done",
        {
            "spans": 41,
            "confirmed": 36,
            "missing": ["a"] * 5,
            "not_found": ["a", "a"],
            "quarantined": [{}],
            "held": [],
            "queued": ["a"],
            "local": ["a"],
        },
        Notice("verified: 36 of 41 are there; 2 not found, 1 quarantined, 1 queued, 1 local", False),
    ),
    "unreadable": (
        "verify",
        "done",
        {"spans": 2, "confirmed": 0, "missing": ["a", "b"], "error": "no \x1b[2JAPI"},
        Notice("verify: no ␛[2JAPI", False),
    ),
    "verify failed": ("verify", "failed", {"error": "why\n"}, Notice("verify: why", False)),
    "retried": (
        "retry",
        "done",
        {"sent_again": 3, "accepted": 3, "held": 0, "quarantined": 0, "queued": 0},
        Notice("retry: sent 3 again: 3 accepted", True),
    ),
    "refused again": (
        "retry",
        "done",
        {"sent_again": 3, "accepted": 1, "held": 1, "quarantined": 1, "queued": 0},
        Notice("retry: sent 3 again: 1 accepted, 1 held, 1 quarantined", False),
    ),
    "nothing to retry": (
        "retry", "done", {"sent_again": 0}, Notice("retry: nothing was held or refused", True)
    ),
    "all forgotten": ("retry", "done", {"sent_again": 2}, Notice("retry: sent 2 again", True)),
    "nonsense": ("verify", "done", {"spans": None, "missing": 7, "error": 3},
                 Notice("verified: 0 of 0 are there", False)),
}  # fmt: skip


@pytest.mark.parametrize("case", WORKING)
async def test_a_wish_under_way(state: StateDir, case: str) -> None:
    kind, name, document, expected = WORKING[case]
    wishes, wish = await made(state, kind)
    assert wishes.answered({wish: (name, document)}, NOW) == []
    assert wishes.notices("s", NOW + 100 * SECOND) == (expected,)
    assert wishes.open == (wish,)


@pytest.mark.parametrize("case", ENDED)
async def test_a_wish_that_has_ended(state: StateDir, case: str) -> None:
    kind, name, document, expected = ENDED[case]
    wishes, wish = await made(state, kind)
    assert wishes.answered({wish: (name, document)}, NOW) == [wish]
    assert wishes.notices("s", NOW + 130 * SECOND) == (Notice(f"{expected.text} (2m ago)", expected.well),)
    assert wishes.open == ()
    assert wishes.notices("s", NOW + 601 * SECOND) == ()


async def test_a_wish_that_no_relay_sees(state: StateDir) -> None:
    wishes, wish = await made(state)
    assert wishes.notices("s", NOW + 19 * SECOND) == (Notice("verify: waits for the relay", None),)
    (notice,) = wishes.notices("s", NOW + 21 * SECOND)
    assert "does not answer; `hermes-trace-tui stop` ends one that is too old" in notice.text
    assert wishes.open == (wish,)  # it may still come

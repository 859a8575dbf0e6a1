"""The note that the doctor leaves for panes."""

from __future__ import annotations

import sqlite3

import pytest

from hermes_tui.journal.checkup import Trouble, last, remember, summary
from hermes_tui.journal.desk import _STEPS, Desk
from hermes_tui.journal.files import StateDir


def test_the_last_examination_is_kept_and_no_other(state: StateDir) -> None:
    with Desk(state) as desk:
        assert summary(desk) is None
        remember(desk, bad=4, warn=0, first_fix="hermes-trace-tui setup")
        remember(desk, bad=2, warn=1, first_fix="x" * 10_000)
    with Desk(state) as desk:
        found = summary(desk)
    assert found is not None
    assert (found.bad, found.warn, found.first_fix) == (2, 1, "x" * 500)
    assert 0 <= found.age_s < 60


def test_what_is_wrong_is_kept_with_it(state: StateDir) -> None:
    assert last(state) is None
    assert not state.desk.exists()
    trouble = Trouble("bad", "relay", "y" * 1_000, "")
    with Desk(state) as desk:
        remember(desk, bad=1, warn=0, first_fix="", troubles=[trouble] * 100)
        found = last(state)
        assert found is not None
        assert found.troubles == (trouble._replace(finding="y" * 500),) * 30
        desk.keep(
            "doctor", {"bad": 1, "warn": 0, "first_fix": "", "troubles": [["bad"], "x", ["a", 1, "c", "d"]]}
        )
    found = last(state)
    assert found is not None
    assert found.troubles == ()


def test_a_clock_that_leapt_back_makes_no_negative_age(state: StateDir) -> None:
    with Desk(state) as desk:
        remember(desk, bad=0, warn=0, first_fix="")
        with sqlite3.connect(state.desk) as other:
            other.execute("UPDATE notes SET at_ns = ?", (2**62,))
        other.close()
        found = summary(desk)
    assert found is not None
    assert found.age_s == 0


@pytest.mark.parametrize("document", ["{}", "[]", "nonsense", '{"bad": "two", "warn": 1, "first_fix": ""}'])
def test_what_another_version_left_is_nothing(state: StateDir, document: str) -> None:
    with Desk(state) as desk:
        remember(desk, bad=1, warn=1, first_fix="")
        with sqlite3.connect(state.desk) as other:
            other.execute("UPDATE notes SET document = ?", (document,))
        other.close()
        assert summary(desk) is None


def test_a_desk_of_the_version_before_is_carried_on(state: StateDir) -> None:
    state.create()
    with sqlite3.connect(state.desk) as old:
        for statement in _STEPS[0]:
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO wishes (id, kind, argument, made_ns) VALUES ('a', 'verify', '{}', 1)")
    old.close()
    state.desk.chmod(0o600)
    with Desk(state) as desk:
        assert summary(desk) is None
        assert [wish.id for wish in desk.wishes()] == ["a"]

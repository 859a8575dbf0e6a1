"""The model's fold of every recording, against what the bytes say."""

from __future__ import annotations

import pytest

from hermes_tui.model.turns import members, read_trace
from tests.support import LONG_AFTER, fold, plant, recorded_spans, recording_names
from tests.truths import check_against_truth

NAMES = recording_names()


@pytest.mark.parametrize("name", NAMES)
def test_fold_agrees_with_the_bytes(name: str) -> None:
    check_against_truth(name, recorded_spans(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_span_is_in_exactly_one_turn(name: str) -> None:
    for tree in plant(recorded_spans(name)).values():
        view = read_trace(tree)
        placed = [node.span_id for turn in view.turns for node in members(turn)]
        assert sorted(placed) == sorted(tree.nodes)
        assert len(set(placed)) == len(placed)
        assert set(view.turn_of) == set(tree.nodes) == set(view.owners)


def test_a_session_asked_in_three_turns_has_them_in_order() -> None:
    (session,) = fold(recorded_spans("three_turns")).values()
    assert [turn.prompt for turn in session.turns] == [
        "[[s:turn1]] First",
        "[[s:turn2]] Second",
        "[[s:turn3]] Third",
    ]
    assert [turn.key[1] for turn in session.turns] == [b"", b"", b""]


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("interrupted", ["interrupted", "completed", "completed"]),
        ("v123_interrupted", ["interrupted", "completed"]),
        ("v123_fatal", ["failed"]),
        ("approval", ["completed", "completed", "completed", "completed"]),
    ],
)
def test_turns_end_as_they_did(name: str, statuses: list[str]) -> None:
    (session,) = fold(recorded_spans(name)).values()
    assert [turn.status(LONG_AFTER) for turn in session.turns] == statuses


def test_orphans_of_an_interrupted_turn_are_given_to_it() -> None:
    """The llm span between root and calls never came: seven spans without a known parent."""
    (session,) = fold(recorded_spans("interrupted")).values()
    tokens = [turn.totals.usage.input_tokens for turn in session.turns]
    assert [turn.totals.commands for turn in session.turns] == [2, 1, 1]
    assert sum(tokens) == session.totals.usage.input_tokens == 81_482
    assert all(tokens)


def test_a_background_review_is_known_as_one_and_does_not_judge_the_session() -> None:
    (session,) = fold(recorded_spans("v123_preview")).values()
    assert [turn.review for turn in session.turns] == [False, True]
    assert session.status(LONG_AFTER) == "completed"


def test_a_fatal_turn_finds_its_prompt_in_the_model_calls() -> None:
    (session,) = fold(recorded_spans("v123_fatal")).values()
    (turn,) = session.turns
    assert turn.span is not None
    assert turn.span.prompt is None
    assert turn.prompt is not None
    assert turn.prompt.startswith("[[s:")


def test_a_trace_whose_root_never_comes_is_running_then_failed() -> None:
    sessions = fold(recorded_spans("api_error"))
    session = sessions["20261123_020723_7f91c2"]
    last = session.totals.last_ns
    assert session.status(last + 1) == "running"
    assert session.status(last + 3600 * 10**9) == "failed"


def test_subagents_tokens_count_in_their_own_session_only() -> None:
    sessions = fold(recorded_spans("subagent_children"))
    assert sessions["20261123_020441_a59f27"].totals.usage.input_tokens == 29_806
    assert sessions["20261123_020445_af00fc"].totals.usage.input_tokens == 9_128
    assert sessions["20261123_020445_af00fc"].turn_count == 0

"""How safe spans are: the header's word, and the delivery view's word and sentence."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest

from hermes_tui.model.span import Delivery
from hermes_tui.model.turns import Totals
from hermes_tui.tui.glyphs import ASCII, UNICODE
from hermes_tui.tui.trust import RelaySays, session_word, state
from tests.tui import hostile

WHY = "experiment 7 does not exist"
NOBODY: dict[str, Any] = {}
NONE = {"exporter": {"state": "none", "destination": None}}
OK = {"exporter": {"state": "ok"}, "proof": {"state": "ok", "readable": True}}
YOUNG = {"exporter": {"state": "ok"}, "proof": {"state": "ok", "readable": None}}
HELD = {"exporter": {"state": "held", "reason": WHY}, "proof": OK["proof"]}
RETRYING = {"exporter": {"state": "retrying", "reason": "503"}, "proof": OK["proof"]}
FAILING = {
    "exporter": {"state": "ok"},
    "proof": {"state": "failing", "readable": True, "reason": "it cannot be read now (500)"},
}
UNREADABLE = {
    "exporter": {"state": "ok"},
    "proof": {"state": "unreadable", "readable": False, "reason": "it has no MLflow API"},
}
FULL = {**OK, "keeping": {"full": True, "reason": "4 GiB wait to be delivered"}}


def totals(**counts: int) -> Totals:
    found = Counter({Delivery[name]: count for name, count in counts.items()})
    return Totals(spans=sum(counts.values()), deliveries=found)


@pytest.mark.parametrize(
    ("counts", "says", "expected", "style"),
    [
        # all read back, whatever else is said
        ({"CONFIRMED": 41}, OK, "MLflow ✓ 41/41", "green"),
        ({"CONFIRMED": 41}, NOBODY, "MLflow ✓ 41/41", "green"),
        ({"CONFIRMED": 41}, NONE, "MLflow ✓ 41/41", "green"),
        ({"CONFIRMED": 4}, HELD, "MLflow ✓ 4/4", "green"),
        ({"CONFIRMED": 4}, UNREADABLE, "MLflow ✓ 4/4", "green"),
        # on the way: the number is that of the tick, what was read back
        ({"CONFIRMED": 38, "ACCEPTED": 3}, OK, "MLflow … 38/41", ""),
        ({"CONFIRMED": 38, "ACCEPTED": 2, "QUEUED": 1}, OK, "MLflow … 38/41", ""),
        ({"ACCEPTED": 41}, OK, "MLflow … 0/41", ""),
        ({"ACCEPTED": 41}, YOUNG, "MLflow … 0/41", ""),
        ({"ACCEPTED": 4}, HELD, "MLflow … 0/4", ""),
        ({"QUEUED": 4}, NOBODY, "MLflow … 0/4", ""),
        ({}, OK, "MLflow … 0/0", ""),  # all still runs
        ({}, HELD, f"MLflow ‖ held: {WHY}", "yellow"),
        ({"CONFIRMED": 2, "QUEUED": 2}, RETRYING, "MLflow … 2/4: 503", "yellow"),
        ({"CONFIRMED": 4}, RETRYING, "MLflow ✓ 4/4", "green"),
        ({"ACCEPTED": 4}, FAILING, "MLflow … 0/4: it cannot be read now (500)", "yellow"),
        # the user must act
        ({"QUEUED": 2, "ACCEPTED": 2}, HELD, f"MLflow ‖ held: {WHY}", "yellow"),
        ({"HELD": 4}, HELD, f"MLflow ‖ held: {WHY}", "yellow"),
        ({"HELD": 1, "CONFIRMED": 4}, YOUNG, "MLflow ‖ held", "yellow"),
        ({"CONFIRMED": 40, "QUARANTINED": 1}, OK, "MLflow ✗ 1 refused", "red"),
        ({"QUARANTINED": 1, "HELD": 3}, HELD, "MLflow ✗ 1 refused", "red"),
        ({"CONFIRMED": 4}, FULL, "MLflow ‖ full: 4 GiB wait to be delivered", "yellow"),
        # no tick is possible
        ({"ACCEPTED": 41}, UNREADABLE, "OTLP → 41/41 accepted", "green"),
        ({"CONFIRMED": 1, "ACCEPTED": 40}, UNREADABLE, "OTLP → 41/41 accepted", "green"),
        ({"ACCEPTED": 38, "QUEUED": 3}, UNREADABLE, "OTLP … 38/41 accepted", ""),
        ({"ACCEPTED": 3, "QUARANTINED": 1}, UNREADABLE, "MLflow ✗ 1 refused", "red"),
        # nowhere to go
        ({}, NOBODY, "MLflow – not configured", "dim"),
        ({}, NONE, "MLflow – not configured", "dim"),
        ({"LOCAL": 41}, NOBODY, "MLflow – not configured", "dim"),
        ({"LOCAL": 41}, NONE, "MLflow – not configured", "dim"),
        ({"QUEUED": 3}, NONE, "MLflow – not configured", "dim"),
        ({"LOCAL": 41}, OK, "MLflow – 0/41, 41 kept here only", "dim"),
        ({"CONFIRMED": 40, "LOCAL": 1}, OK, "MLflow – 40/41, 1 kept here only", "dim"),
        ({"CONFIRMED": 30, "LOCAL": 1, "QUEUED": 1}, OK, "MLflow … 30/32", ""),
    ],
)
def test_session_word(
    counts: dict[str, int], says: dict[str, dict[str, Any]], expected: str, style: str
) -> None:
    word = session_word(totals(**counts), RelaySays(**says), UNICODE)
    assert (word.text, word.style) == (expected, style)
    assert word.glyph == expected.split()[1]
    assert session_word(totals(**counts), RelaySays(**says), ASCII).text.isascii()


SAYS = (NOBODY, NONE, OK, YOUNG, HELD, RETRYING, FAILING, UNREADABLE, FULL)


@pytest.mark.parametrize("other", [each for each in Delivery if each is not Delivery.CONFIRMED])
def test_a_tick_means_that_every_span_was_read_back(other: Delivery) -> None:
    for says, confirmed in product(SAYS, (0, 4)):
        counts = Counter({Delivery.CONFIRMED: confirmed, other: 1})
        word = session_word(Totals(spans=confirmed + 1, deliveries=counts), RelaySays(**says), UNICODE)
        assert UNICODE.good not in word.text, says


@pytest.mark.parametrize(
    ("counts", "says", "stopped", "word", "sentence"),
    [
        ({}, NOBODY, "", "none", "Spans are kept here only. Start the relay with --mlflow URL, or"),
        ({"CONFIRMED": 1}, NONE, "", "none", "Spans are kept here only."),
        ({}, OK, "", "ok", "Nothing was sent yet."),
        ({"CONFIRMED": 9}, OK, "", "ok", "Every span was read back."),
        ({"CONFIRMED": 9, "QUEUED": 1, "ACCEPTED": 2_000}, OK, "", "ok",
         "On the way: 1 to send, 2,000 to read back."),
        ({"HELD": 1}, YOUNG, "", "ok", "On the way: 1 held."),
        ({"CONFIRMED": 9, "QUARANTINED": 1}, OK, "", "ok", "1 span refused for good, see below;"),
        ({"CONFIRMED": 9, "LOCAL": 3}, OK, "", "ok", "3 spans came before it was set:"),
        ({"HELD": 1}, HELD, "", "held", "Experiment 7 does not exist. Mend that, then press r;"),
        ({"HELD": 1}, {"exporter": {"state": "held"}}, "", "held", "The destination refuses. Mend that,"),
        ({"QUEUED": 1}, RETRYING, "", "retrying", "503. It is tried again; spans wait on disk."),
        ({"ACCEPTED": 1}, FAILING, "", "retrying",
         "Spans are accepted, but not read back. It cannot be read now (500). It is tried again."),
        ({"ACCEPTED": 1}, UNREADABLE, "", "unreadable",
         "Accepted spans cannot be confirmed. It has no MLflow API."),
        ({"QUEUED": 1}, {**UNREADABLE, "exporter": HELD["exporter"]}, "", "held", "Experiment 7"),
        ({"QUEUED": 1}, FULL, "", "full", "4 GiB wait to be delivered. New spans are turned away."),
        ({"QUEUED": 1}, {"keeping": {"full": True}}, "", "full", "No room is left."),
        ({"CONFIRMED": 1}, OK, "the relay does not run; starting it", "stopped",
         "The relay does not run; starting it. Nothing is received or sent meanwhile."),
    ],
)  # fmt: skip
def test_state(
    counts: dict[str, int], says: dict[str, dict[str, Any]], stopped: str, word: str, sentence: str
) -> None:
    found = state(RelaySays(**says), totals(**counts).deliveries, stopped, UNICODE)
    assert found.word == word
    assert found.sentence.startswith(sentence)
    assert found.sentence.endswith((".", "them"))
    plain = state(RelaySays(**says), totals(**counts).deliveries, stopped, ASCII)
    assert f"{plain.glyph} {plain.sentence}".isascii()


@pytest.mark.parametrize("document", ["exporter", "proof", "keeping"])
def test_a_reason_cannot_steer_the_terminal(document: str) -> None:
    documents = {
        "exporter": {"state": "held" if document == "exporter" else "ok"},
        "proof": {"state": "failing" if document == "proof" else "ok"},
        "keeping": {"full": document == "keeping"},
    }
    documents[document]["reason"] = hostile.ALL
    says = RelaySays(**documents)
    counts = {"QUEUED": 1} if document == "exporter" else {"ACCEPTED": 1}
    word = session_word(totals(**counts), says, UNICODE)
    found = state(says, totals(**counts).deliveries, "", UNICODE)
    for text in (word.text, found.sentence):
        assert "␛" in text
        assert hostile.OBEYED.search(text) is None


@pytest.mark.parametrize("junk", [None, 7, [], {"a": 1}, "\x00", "x" * 100_000])
def test_documents_of_nonsense(junk: Any) -> None:
    """The relay may be newer, older, or somebody else's."""
    says = RelaySays({"state": junk, "reason": junk}, {"state": junk, "reason": junk}, {"reason": junk})
    for counts in ({}, {"QUEUED": 1}, {"ACCEPTED": 1}, {"HELD": 1}, {"LOCAL": 1}):
        assert len(session_word(totals(**counts), says, UNICODE).text) < 3_000
        assert len(state(says, totals(**counts).deliveries, "", UNICODE).sentence) < 3_000

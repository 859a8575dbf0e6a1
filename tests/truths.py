"""Compare spans, however they were got, with `truth.json`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from hermes_tui.model.conventions import ROW_TEXT
from hermes_tui.model.span import Span
from hermes_tui.model.turns import is_command, members, read_trace
from tests.support import LONG_AFTER, fold, plant, truth


def check_against_truth(name: str, spans: Iterable[Span]) -> None:
    """Sessions, turns, tokens, commands and status of a recording are what the bytes say."""
    spans = list(spans)
    expected = truth()[name]
    sessions = fold(spans)
    owned = _owned(spans)
    assert sorted(sessions) == sorted(expected["sessions"])
    assert sorted({span.trace_id.hex() for span in spans}) == expected["traces"]
    for session_id, session in sessions.items():
        wanted = expected["sessions"][session_id]
        usage = session.totals.usage
        found = {
            "spans": session.totals.spans,
            "turns": session.turn_count,
            "turn_spans": [turn.span.span_id.hex() for turn in session.turns if turn.span is not None],
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "errors": session.totals.errors,
            "span_ids": sorted(span.span_id.hex() for span in owned[session_id]),
        }
        assert found == {key: wanted[key] for key in found}, session_id
        assert session.totals.commands == len(wanted["commands"])
        assert sum(session.totals.deliveries.values()) == wanted["spans"]
        if wanted["status"] is not None:
            assert session.status(LONG_AFTER) == wanted["status"]
        own = [turn for turn in session.turns if turn.span is not None]
        for turn, prompt in zip(own, wanted["prompts"], strict=True):
            assert prompt is None or turn.prompt == prompt[:ROW_TEXT]
        _check_commands(owned[session_id], wanted["commands"])


def _owned(spans: list[Span]) -> dict[str, list[Span]]:
    owned: dict[str, list[Span]] = {}
    for tree in plant(spans).values():
        view = read_trace(tree)
        for turn in view.turns:
            for node in members(turn):
                if node.span is not None:
                    owned.setdefault(view.owners[node.span_id], []).append(node.span)
    return owned


def _check_commands(spans: list[Span], wanted: list[dict[str, Any]]) -> None:
    commands = sorted(filter(is_command, spans), key=lambda span: (span.start_ns, span.span_id))
    assert [span.span_id.hex() for span in commands] == [each["span"] for each in wanted]
    for span, each in zip(commands, wanted, strict=True):
        found = (span.trace_id.hex(), span.tool, span.exit_code, span.outcome, span.truncated)
        keys = ("trace", "tool", "exit_code", "outcome", "truncated")
        assert found == tuple(each[key] for key in keys), each["begins"]
        assert span.command is not None
        if each["command"] is not None:
            assert span.command == each["command"][:ROW_TEXT]
        else:
            assert _words(span.command).startswith(_words(each["begins"]))


def _words(text: str) -> str:
    """The plugin collapses runs of white space in what it cuts."""
    return re.sub(r"\s+", " ", text)

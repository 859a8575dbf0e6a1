"""How many tokens a model's context holds, by whoever said so."""

from __future__ import annotations

import pytest

from hermes_tui.model.windows import Window, Windows

CHOSEN = {"claude-*": 200_000, "claude-opus-4*": 1_000_000, "*": 8_000, "GPT-5": 400_000}


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-sonnet-4-6", 200_000),
        ("claude-opus-4-8", 1_000_000),
        ("Claude-Opus-4.6", 1_000_000),
        ("anthropic/claude-sonnet-4", 200_000),
        ("openrouter/anthropic/claude-opus-4", 1_000_000),
        ("gpt-5", 400_000),
        ("openai/gpt-5", 400_000),
        ("gpt-5.5", 8_000),
    ],
)
def test_the_longest_pattern_that_fits(model: str, tokens: int) -> None:
    assert Windows(CHOSEN).of(model) == Window(tokens, "settings")


@pytest.mark.parametrize(
    ("noted", "window"),
    [
        ((), None),
        ((("gpt-5.5", 272_000),), Window(272_000, "Hermes")),
        ((("openai/gpt-5.5", 272_000), ("GPT-5.5", 272_000)), Window(272_000, "Hermes")),
        ((("gpt-5.5", 272_000), ("openai/gpt-5.5", 1_050_000)), None),
        ((("gpt-5", 400_000),), None),
        ((("claude-sonnet-4", 5),), None),
    ],
)
def test_what_hermes_noted_where_it_is_one_number(
    noted: tuple[tuple[str, int], ...], window: Window | None
) -> None:
    assert Windows({"claude-*": 200_000}, noted).of("gpt-5.5") == window


def test_the_settings_win_and_no_name_has_no_window() -> None:
    windows = Windows({"*": 1}, (("m", 2), ("", 3)))
    assert windows.of("m") == Window(1, "settings")
    assert windows.of("") is None
    assert windows.of(" ") is None

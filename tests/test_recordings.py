"""The recordings are what their description says, and `truth.json` is up to date with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import RECORDINGS, recording_names, truth

# name: spans, traces, input tokens, output tokens, terminal calls, as whoever recorded them counted
COUNTED = {
    "weather": (5, 1, 29_652, 61, 1),
    "shell_corners": (27, 1, 253_861, 624, 8),
    "slow_tool": (7, 1, 45_863, 85, 2),
    "thirty_steps": (58, 1, 428_282, 1_185, 30),
    "three_turns": (15, 3, 92_124, 131, 3),
    "approval": (23, 4, 120_222, 189, 4),
    "interrupted": (13, 1, 81_482, 160, 4),
    "api_error": (19, 4, 74_010, 126, 3),
    "rate_limited": (7, 1, 30_476, 44, 1),
    "subagents": (7, 1, 49_773, 154, 0),
    "subagent_children": (22, 2, 87_018, 260, 3),
    "timeout_background": (12, 2, 76_702, 130, 2),
    "truncated": (9, 1, 67_597, 1_432, 3),
    "metrics_logs": (7, 1, 45_846, 81, 2),
    "v123_weather": (5, 1, 30_496, 61, 1),
    "v123_turns": (12, 2, 76_633, 124, 3),
    "v123_parallel": (14, 1, 63_930, 321, 3),
    "v123_slow_tool": (7, 1, 45_866, 85, 2),
    "v123_truncated": (9, 1, 67_601, 1_432, 3),
    "v123_approval": (12, 2, 61_374, 100, 2),
    "v123_interrupted": (10, 1, 62_804, 123, 3),
    "v123_subagent": (10, 1, 40_206, 106, 1),
    "v123_fatal": (7, 1, 15_192, 39, 1),
    "v123_preview": (30, 2, 253_751, 624, 8),
    "v123_background": (7, 1, 46_231, 85, 1),
}


def test_every_recording_is_counted() -> None:
    assert recording_names() == sorted(COUNTED) == sorted(truth())


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_truth_agrees_with_the_count_of_whoever_recorded(name: str) -> None:
    found = truth()[name]
    assert (
        found["spans"],
        len(found["traces"]),
        found["input_tokens"],
        found["output_tokens"],
        found["commands"],
    ) == COUNTED[name]


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_sessions_add_up_to_their_recording(name: str) -> None:
    found = truth()[name]
    for key in ("spans", "turns", "input_tokens", "output_tokens", "cache_read_tokens"):
        assert sum(session[key] for session in found["sessions"].values()) == found[key], key


def test_truth_is_up_to_date_and_made_without_the_project() -> None:
    script = RECORDINGS / "make_truth.py"
    assert "hermes_tui" not in script.read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", str(script), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"run make_truth.py again\n{done.stderr}"

"""Reading what tools were called with and answered, whole and cut."""

from __future__ import annotations

import json

import pytest

from hermes_tui.model.results import read_call, read_object, read_target
from hermes_tui.model.span import Outcome
from tests.support import recorded_requests, recording_names, wire_spans_in


def real_results() -> list[str]:
    """Every different answer of a terminal tool in the recordings."""
    found = set()
    for name in recording_names():
        for body in recorded_requests(name):
            for span in wire_spans_in(body):
                said = {pair.key: pair.value.string_value for pair in span.attributes}
                if span.name == "tool.terminal" and said.get("output.value"):
                    found.add(said["output.value"])
    return sorted(found)


REAL = real_results()
HOSTILE = [
    '{"output": "say \\"exit_code\\": 7 aloud", "exit_code": 3, "error": null}',
    '{"output": "{\\"exit_code\\": 9}", "exit_code": 12, "error": null}',
    '{"output": "caf\\u00e9 \\ud83d\\ude80 \\\\", "exit_code": 130, "error": null}',
    '{"output": "", "error": {"exit_code": 5}, "exit_code": 1}',
]


def test_there_are_enough_real_results() -> None:
    assert len(REAL) > 40
    assert any(text.endswith("...") for text in REAL)


@pytest.mark.parametrize("suffix", ["", "..."])
@pytest.mark.parametrize("text", [*HOSTILE, *REAL], ids=range(len(HOSTILE) + len(REAL)))
def test_a_result_cut_anywhere_is_read_and_no_exit_code_is_invented(text: str, suffix: str) -> None:
    whole, _ = read_object(text)
    for at in range(len(text)):
        cut = text[:at] + suffix
        found, is_whole = read_object(cut)
        assert not is_whole
        assert found.get("exit_code") in (None, whole.get("exit_code"))
        call = read_call("terminal", None, cut)
        assert call.exit_code in (None, whole.get("exit_code"))
        if call.exit_code is None:
            assert call.outcome in (Outcome.UNKNOWN, Outcome.BLOCKED)


def test_a_number_that_may_go_on_is_not_taken_for_the_exit_code() -> None:
    """130 cut after its first digit is not exit 1."""
    text = '{"output": "x", "exit_code": 130, "error": null}'
    cut = text[: text.index("130") + 1]
    assert read_call("terminal", None, cut).exit_code is None
    assert read_call("terminal", None, cut + "...").exit_code is None


def test_of_a_cut_object_the_pairs_before_the_cut_remain() -> None:
    found, whole = read_object('{"output": "line 1\\nline 2", "exit_code": 3, "error": "it bro...')
    assert found == {"output": "line 1\nline 2", "exit_code": 3, "error": "it bro"}
    assert not whole


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ('{"output": "abc...', "abc"),
        ('{"output": "abc\\...', "abc"),
        ('{"output": "abc\\u00...', "abc"),
        ('{"output": "a\\"b...', 'a"b'),
        ('{"output": "tab\\tend...', "tab\tend"),
        ('{"output": "raw\nline...', "raw\nline"),
    ],
)
def test_a_cut_string_ends_before_a_broken_escape(text: str, output: str) -> None:
    assert read_object(text) == ({"output": output}, False)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "null", "[1, 2]", '"text"', "plain text", "{", "{}x", "[" * 5_000, '{"a": ' * 5_000, "{]"],
)
def test_what_is_no_object_gives_no_pairs(text: str) -> None:
    found, whole = read_object(text)
    assert not whole
    assert all(isinstance(key, str) for key in found)


def answer(output: str = "", exit_code: object = 0, **more: object) -> str:
    return json.dumps({"output": output, "exit_code": exit_code, "error": None, **more})


@pytest.mark.parametrize(
    ("tool", "arguments", "result", "said", "error", "expected"),
    [
        ("terminal", {}, answer("ok"), "completed", False, (0, "completed")),
        ("terminal", {}, answer("no", 3), "completed", False, (3, "failed")),
        ("terminal", {}, answer("[Command timed out after 3s]", 124), None, False, (124, "timeout")),
        ("terminal", {}, answer("mine", 124), None, False, (124, "failed")),
        ("terminal", {}, answer("a\n\n[Command interrupted]", 130), None, False, (130, "interrupted")),
        ("terminal", {}, answer("mine", 130), None, False, (130, "failed")),
        ("terminal", {}, answer("", -1, status="blocked"), "blocked", False, (-1, "blocked")),
        (
            "terminal",
            {},
            '{"output": "", "exit_code": null, "status": "yielded_to_background"}',
            None,
            False,
            (None, "background"),
        ),
        ("terminal", {"background": True}, answer("started"), None, False, (None, "background")),
        ("terminal", {"background": True}, answer("no", 1), None, False, (1, "failed")),
        ("terminal", {"background": False}, answer("ok"), None, False, (0, "completed")),
        ("terminal", {}, '{"output": "xxx...', "completed", False, (None, "unknown")),
        ("terminal", {}, None, None, False, (None, "unknown")),
        ("terminal", {}, None, None, True, (None, "failed")),
        ("terminal", {}, None, "timeout", False, (None, "timeout")),
        ("terminal", {}, None, "cancelled", False, (None, "interrupted")),
        ("terminal", {}, answer("x", True), None, False, (None, "unknown")),
        ("terminal", {}, answer("x", "0"), None, False, (None, "unknown")),
        ("execute_code", {}, '{"status": "success", "output": "1"}', None, False, (None, "completed")),
        ("execute_code", {}, '{"status": "error", "output": ""}', None, False, (None, "failed")),
        ("execute_code", {}, '{"status": "timeout"}', None, False, (None, "timeout")),
        ("execute_code", {}, '{"status": "interrupted"}', None, False, (None, "interrupted")),
    ],
)
def test_the_exit_code_judges_a_command(
    tool: str,
    arguments: dict[str, object],
    result: str | None,
    said: str | None,
    error: bool,
    expected: tuple[int | None, str],
) -> None:
    call = read_call(tool, json.dumps(arguments), result, said=said, error=error)
    assert (call.exit_code, call.outcome.value) == expected


def test_a_running_command_has_no_outcome_yet() -> None:
    assert read_call("terminal", '{"command": "ls"}', None, running=True).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("arguments", "short", "expected"),
    [
        ('{"command": "ls  -l"}', "ls  -l", ("ls  -l", False)),
        ('{"command": "a b"}', "a \n b", ("a \n b", False)),  # the short form keeps white space
        ('{"command": "ls"}', None, ("ls", False)),
        ('{"cmd": "ls"}', None, ("ls", False)),
        ('{"code": "print(1)"}', None, ("print(1)", False)),
        (json.dumps({"command": "y" * 700}), "y" * 497 + "...", ("y" * 700, False)),
        ('{"command": "' + "y" * 1_100 + "...", "y" * 497 + "...", ("y" * 1_100, True)),
        ('{"command": "y...', "y" * 497 + "...", ("y" * 497 + "...", True)),
        ("{}", None, (None, False)),
        ('{"command": 5}', None, (None, False)),
    ],
)
def test_the_fullest_text_of_a_command(
    arguments: str, short: str | None, expected: tuple[str | None, bool]
) -> None:
    call = read_call("terminal", arguments, answer(), command=short)
    assert (call.command, call.truncated) == expected


def test_a_cut_result_is_called_truncated_and_its_output_kept() -> None:
    call = read_call("terminal", '{"command": "seq 9"}', '{"output": "1\\n2\\n3...')
    assert call.truncated
    assert call.output == "1\n2\n3"


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ('{"path": "/etc/hosts", "limit": 5}', "/etc/hosts"),
        ('{"query": "weather", "url": ""}', "weather"),
        ('{"tasks": [{"goal": "a"}, {"goal": "b"}]}', "2 tasks"),
        ('{"other": 5, "text": "hello"}', "hello"),
        ('{"path": 5}', None),
        (None, None),
        ("no json", None),
        ('{"path": "/very/long...', "/very/long"),
    ],
)
def test_what_another_tool_was_pointed_at(arguments: str | None, target: str | None) -> None:
    assert read_target(arguments) == target

"""The details page: what it says of each kind of span, and that it stays small."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui.journal.delivery import Mark
from hermes_tui.model.compare import UNKNOWN, Difference
from hermes_tui.model.span import Delivery, Span
from hermes_tui.model.turns import read_trace
from hermes_tui.neutral import block
from hermes_tui.otlp.codec import Request
from hermes_tui.tui.describe import describe, lay_out, sentence
from hermes_tui.tui.glyphs import ASCII, UNICODE
from hermes_tui.tui.highlight import highlighted
from tests.support import (
    SECOND,
    agent_span,
    body_of,
    make_span,
    plant,
    recorded_requests,
    recording_names,
    spans_in,
    wire_span,
)

BIG = 5_000_000


def page_of(wire: trace_pb2.Span, *, full: bool = False, glyphs: Any = UNICODE, **said: Any) -> str:
    body = body_of(wire)
    (span,) = spans_in(body)
    span = replace(span, **said)
    turn = read_trace(plant([span])[span.trace_id]).turns[0]
    return describe(span, Request(body).detail(0), turn, glyphs=glyphs, full=full).plain


def terminal(**attributes: Any) -> trace_pb2.Span:
    arguments = {"command": "ls /nope; exit 3", "workdir": "/srv"}
    result = {"output": "ls: no such file\nsecond line\n", "exit_code": 3, "error": None}
    said = {"input.value": json.dumps(arguments), "output.value": json.dumps(result), "session.id": "s"}
    return wire_span(1, name="tool.terminal", **{**said, **attributes})


SENTENCES = {
    "command": (terminal(), "Command, failed, exit 3 after 1.0s"),
    "running command": (
        wire_span(1, name="tool.terminal", end_ns=0, input__value='{"command": "sleep 9"}'),
        "Command, still running",
    ),
    "tool": (wire_span(1, name="tool.read_file"), "Tool read_file, done after 1.0s"),
    "failed tool": (wire_span(1, name="tool.read_file", status=2), "Tool read_file, failed after 1.0s"),
    "model call": (
        wire_span(
            1,
            name="api.gpt",
            gen_ai__response__model="gpt",
            llm__token_count__prompt=4,
            llm__response__tool_calls=2,
        ),
        "Model call to gpt, answered after 1.0s, asked for 2 tool calls",
    ),
    "failed model call": (wire_span(1, name="api.gpt", status=2), "Model call to a model, failed after 1.0s"),
    "approval": (
        wire_span(1, name="approval.rm", hermes__approval__granted=True, hermes__approval__choice="once"),
        "Approval: allowed once after 1.0s",
    ),
    "turn": (
        wire_span(1, name="agent", hermes__turn__final_status="completed"),
        "Turn, completed after 1.0s",
    ),
    "subagent": (wire_span(1, name="subagent.worker"), "Subagent subagent.worker after 1.0s"),
    "skill": (wire_span(1, name="skill.git"), "Skill skill.git after 1.0s"),
    "other": (wire_span(1, name="chain"), "Span chain after 1.0s"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_first_line_is_one_sentence(case: str) -> None:
    wire, expected = SENTENCES[case]
    (span,) = spans_in(body_of(wire))
    assert sentence(span) == expected
    assert page_of(wire).split("\n")[0] == expected


def test_a_command_page_has_its_parts_in_order() -> None:
    page = page_of(terminal(**{"some.key": "some value"}), input_tokens=1_200, cost=0.5)
    parts = [
        "Command",
        "Output",
        "Time",
        "Tokens",
        "Span status",
        "Delivery",
        "Ids",
        "Attributes (4)",
        "Resource (0)",
    ]
    lines = page.split("\n")
    assert [line for line in lines if line in parts] == parts
    assert lines[lines.index("Command") + 1] == "ls /nope; exit 3"
    assert lines[lines.index("Output") + 1 :][:2] == ["ls: no such file", "second line"]
    for text in (
        "in           /srv",
        "took         1.000 s",
        "input        1,200  (1.2k)",
        "cost         $0.5000",
        "session      s",
        "trace        " + "0" * 31 + "1",
        "MLflow       tr-" + "0" * 31 + "1",
        "parent       (root)",
        "some.key some value",
        "started      1970-01-01 00:16:41.000",
    ):
        assert text in lines, text
    assert "more characters" not in page


def test_output_stands_as_a_terminal_leaves_it() -> None:
    printed = "\x1b[1mBuild\x1b[0m\n 10 %\r 55 %\r100 %\ndone\x1b]0;owned\x07\n"
    page = page_of(terminal(**{"output.value": json.dumps({"output": printed, "exit_code": 0})}))
    assert "Output\nBuild\n100 %\ndone␛]0;owned\n" in page


def test_a_command_is_told_apart_by_styles_and_stays_what_it_is() -> None:
    body = body_of(
        terminal(**{"input.value": json.dumps({"command": "for i in 'a b'; do echo \x1b[2J$i; done # x"})})
    )
    (span,) = spans_in(body)
    page = describe(span, Request(body).detail(0), None, glyphs=UNICODE, whys=["deletes \x1b[2J folders"])
    assert "Command\nfor i in 'a b'; do echo ␛[2J$i; done # x\n! deletes ␛[2J folders\n" in page.plain
    styles = {page.plain[part.start : part.end]: str(part.style) for part in page.spans}
    assert styles["for"] == "bold"
    assert styles["'a b'"] == "green"
    assert any("dim" in style for part, style in styles.items() if part.startswith("# x"))


@given(st.text(max_size=200), st.sampled_from(["bash", "python"]))
def test_highlighting_changes_no_character(text: str, language: str) -> None:
    assert highlighted(block(text), language).plain == block(text)


def test_an_empty_output_is_called_so() -> None:
    empty = terminal(**{"output.value": json.dumps({"output": "", "exit_code": 0})})
    assert "\nOutput\n(empty)\n" in page_of(empty)
    assert "\nOutput\n(none arrived)\n" in page_of(wire_span(1, name="tool.terminal"))


DENIED = "BLOCKED: User denied this command. The user has NOT consented."


def blocked(error: str | None) -> trace_pb2.Span:
    result = {"output": "", "exit_code": -1, "error": error, "status": "blocked"}
    return terminal(**{"output.value": json.dumps(result)})


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (DENIED, "denied"),
        ("BLOCKED: Approval timed out.", "blocked, nobody answered"),
        ("BLOCKED: by \x1b[2J rule", "blocked"),
        (None, "blocked"),
    ],
)
def test_a_blocked_command_says_why_in_place_of_an_output(error: str | None, word: str) -> None:
    page = page_of(blocked(error))
    assert page.startswith(f"Command, {word}, exit -1 after 1.0s\n")
    shown = block(error) if error else "(empty)"
    assert f"\nOutput\n{shown}\n\nTime" in page


def test_an_output_and_what_went_wrong_stand_both() -> None:
    page = page_of(terminal(**{"output.value": '{"output": "half", "exit_code": 1, "error": "boom"}'}))
    assert "\nOutput\nhalf\nboom\n" in page


UNKNOWNS = {
    "cut": ('{"output": "1\\n2...', "cut that off.\nRaise tool_output_preview_max_chars ("),
    "nothing": ("", "Its span came without a result"),
    "other": ('{"output": "done"}', "Its result names no exit code."),
}


@pytest.mark.parametrize("case", UNKNOWNS)
def test_an_unknown_exit_says_why_right_below_the_first_line(case: str) -> None:
    result, says = UNKNOWNS[case]
    head, below = page_of(terminal(**{"output.value": result})).split("\n\n")[0].split("\n", 1)
    assert head == "Command, exit unknown after 1.0s"
    assert says in below
    assert below.count("\n") <= 1


def test_a_known_or_awaited_exit_needs_no_explanation() -> None:
    for wire in (terminal(), wire_span(1, name="tool.terminal", end_ns=0)):
        assert page_of(wire).split("\n")[1] == ""


def test_line_ends_of_a_value_are_not_called_hidden() -> None:
    for output in ("a\n\n\n\n", "a\r\nb\r\nc\r\n", "a\tb\n", "e" + "\u0301" * 9):
        result = json.dumps({"output": output, "exit_code": 0})
        for full in (False, True):
            assert "more characters" not in page_of(terminal(**{"output.value": result}), full=full)


def test_what_is_left_out_is_counted() -> None:
    lines = "\n".join(f"line {number:03}" for number in range(100))
    page = page_of(terminal(**{"output.value": json.dumps({"output": lines, "exit_code": 0})}))
    shown = page.split("Output\n")[1].split("\n\n")[0].split("\n")
    assert shown[:-1] == lines.split("\n")[:30]
    assert shown[-1] == f"… {70 * 9 - 1:,} more characters, x shows more"
    page = page_of(terminal(**{"output.value": json.dumps({"output": lines, "exit_code": 0})}), full=True)
    assert "line 099" in page
    assert "more characters" not in page


def test_json_is_laid_out() -> None:
    value = {"a": {"b": [1, "two\nlines", {}], "c": None}, "d": []}
    expected = "a:\n  b:\n    - 1\n    - two\n      lines\n    - {}\n  c: null\nd: []"
    assert lay_out(json.dumps(value)) == expected
    assert lay_out(value) == expected


@pytest.mark.parametrize("text", ["{not json", "[1, 2", "[[s:multi]] a prompt", "{" * 200_000, "[" * 200_000])
def test_what_only_looks_like_json_is_shown_as_it_is(text: str) -> None:
    assert lay_out(text) == text


def test_a_deeply_nested_value_is_shown() -> None:
    value: Any = "x"
    for _ in range(900):
        value = [value]
    assert "x" in lay_out(json.dumps(value))


BIGS: dict[str, trace_pb2.Span] = {
    "text": wire_span(1, name="tool.terminal", output__value="x" * BIG),
    "lines": wire_span(1, name="tool.terminal", output__value="y\n" * (BIG // 2)),
    "json": terminal(**{"output.value": json.dumps({"output": "z" * BIG, "exit_code": 0})}),
    "list": wire_span(1, some=json.dumps(list(range(BIG // 8)))),
    "name": wire_span(1, name="n" * BIG),
    "key": wire_span(1, **{"k" * BIG: "v"}),
    "session": wire_span(1, session__id="s" * BIG),
    "model": wire_span(1, name="api.x", gen_ai__response__model="m" * BIG),
    "tool": wire_span(1, name="tool." + "t" * BIG),
}


@pytest.mark.parametrize("case", BIGS)
@pytest.mark.parametrize("full", [False, True])
def test_a_huge_attribute_makes_no_huge_page(case: str, full: bool) -> None:
    page = page_of(BIGS[case], full=full)
    assert len(page) < (800_000 if full else 20_000)
    assert page.count("\n") < (11_000 if full else 500)
    assert "Delivery" in page


PARTS: dict[str, Any] = {
    "numbers": list(range(BIG // 8)),
    "texts": ["t" * 5_000 for _ in range(BIG // 5_000)],
    "lines": {"output": "y\n" * (BIG // 2)},
}


@pytest.mark.parametrize("case", PARTS)
def test_of_a_huge_value_only_a_beginning_is_laid_out(case: str) -> None:
    text = lay_out(json.dumps(PARTS[case]), full=True)
    assert len(text) < 1_000_000
    assert text.endswith(("(only its beginning is laid out)", "more characters"))


def test_what_is_not_shown_in_full_can_be_taken_along() -> None:
    page = page_of(
        terminal(**{"output.value": json.dumps({"output": "y\n" * BIG, "exit_code": 0})}), full=True
    )
    output = page.split("Output\n")[1].split("\n\n")[0].split("\n")
    assert output[:5_000] == ["y"] * 5_000
    assert output[5_000:] == [
        f"… {2 * BIG - 10_001:,} more characters: y or Y copies all of it, X exports it"
    ]


def test_a_page_in_full_has_an_end() -> None:
    wire = wire_span(1, **{f"key.{number:05}": "v\n" * 20_000 for number in range(200)})
    page = page_of(wire, full=True)
    assert page.count("v\n") < 20_000
    assert page.count("more characters: y or Y copies") == 200
    assert page.endswith("Resource (0)\n")


def test_a_huge_event_and_a_huge_message_make_no_huge_page() -> None:
    wire = wire_span(1, status=2)
    wire.status.message = "m" * BIG
    wire.events.add(name="e" * BIG).attributes.add(key="k" * BIG).value.string_value = "v" * BIG
    assert len(page_of(wire)) < 30_000


def test_many_attributes_make_no_endless_page() -> None:
    wire = wire_span(1, **{f"key.{number:05}": "v" * 3_000 for number in range(2_000)})
    assert len(page_of(wire)) < 500_000


def test_the_system_prompt_is_folded_away() -> None:
    wire = wire_span(1, name="api.x", gen_ai__system_instructions="secret " * 50)
    assert "secret" not in page_of(wire)
    assert "(system prompt, 350 characters, x shows it)" in page_of(wire)
    assert "secret" in page_of(wire, full=True)


def test_events_status_and_links_are_there() -> None:
    wire = wire_span(1, status=2)
    wire.status.message = "boom\nbang"
    event = wire.events.add(name="exception", time_unix_nano=1_500 * SECOND)
    event.attributes.add(key="exception.type").value.string_value = "ValueError"
    wire.links.add(trace_id=b"t" * 16, span_id=b"l" * 8)
    page = page_of(wire)
    assert (
        "ERROR\nboom\nbang\n1970-01-01 00:25:00.000  event exception\n  exception.type\n    ValueError\n"
        in page
    )
    assert f"link         {(b't' * 16).hex()} {(b'l' * 8).hex()}" in page


@pytest.mark.parametrize(
    ("delivery", "glyph", "when"),
    [
        (Delivery.LOCAL, "–", "arrived"),
        (Delivery.QUEUED, "…", "arrived"),
        (Delivery.ACCEPTED, "→", "accepted"),
        (Delivery.CONFIRMED, "✓", "read back"),
        (Delivery.HELD, "‖", "held since"),
        (Delivery.QUARANTINED, "✗", "refused"),
    ],
)
def test_every_delivery_has_its_words_its_time_and_its_reason(
    delivery: Delivery, glyph: str, when: str
) -> None:
    (span,) = spans_in(body_of(wire_span(1)))
    span = replace(span, delivery=delivery)
    mark = Mark(SECOND * 1_500, "because")
    words = describe(span, None, None, glyphs=UNICODE, mark=mark).plain.split("Delivery\n")[1].split("\n")
    assert words[0].startswith(f"{glyph} ")
    assert words[1:3] == [f"{when:<12} 1970-01-01 00:25:00.000", "because"]
    assert ("read back" in words[0]) == (delivery is Delivery.CONFIRMED)
    unknown = describe(span, None, None, glyphs=UNICODE).plain.split("Delivery\n")[1].split("\n")
    assert unknown[:2] == [words[0], ""]


def test_what_mlflow_says_otherwise_of_a_turn_is_there_with_why() -> None:
    (span,) = spans_in(body_of(wire_span(1, name="agent")))
    found = [
        Difference("state", "interrupted", "OK", "because"),
        Difference("tokens in", 29_713, 59_426, UNKNOWN),
        Difference("cost", None, 0.25, "\x1b[2J"),
        Difference("duration", 1.5, 75, "why"),
    ]
    page = describe(span, None, None, glyphs=UNICODE, differences=found).plain
    assert (
        "MLflow says otherwise\n"
        "state        interrupted here, OK there\n  because\n"
        "tokens in    29,713 here, 59,426 there\n  unknown why\n"
        "cost         none here, $0.2500 there\n  ␛[2J\n"
        "duration     1.5s here, 1:15 there\n  why\n"
    ) in page
    assert page.index("Delivery") < page.index("MLflow says") < page.index("Ids")
    assert "MLflow says" not in describe(span, None, None, glyphs=UNICODE).plain


def test_a_span_whose_request_is_gone_is_still_described() -> None:
    page = describe(make_span(1, prompt="p"), None, None, glyphs=UNICODE).plain
    assert page.startswith("Span step after 1.0s")
    assert "no longer in the journal" in page


def test_times_of_nonsense_are_shown_as_numbers() -> None:
    span = make_span(1, start_ns=2**80, end_ns=0)
    assert f"{2**80} ns" in describe(span, None, None, glyphs=UNICODE).plain


def test_the_bar_shows_where_in_the_turn_the_span_was() -> None:
    spans = [
        agent_span(0, start_ns=500 * SECOND, end_ns=600 * SECOND),
        make_span(1, parent=0, start_ns=550 * SECOND, end_ns=575 * SECOND),
        make_span(2, parent=0, start_ns=599 * SECOND, end_ns=599 * SECOND),
    ]
    turn = read_trace(plant(spans)[spans[0].trace_id]).turns[0]

    def bar(span: Span) -> tuple[str, str]:
        lines = describe(span, None, turn, glyphs=ASCII).plain.split("\n")
        at = next(at for at, line in enumerate(lines) if line.startswith(("  -", "  =")))
        return lines[at].strip(), lines[at - 1].removeprefix("in the turn").strip()

    whole, half, last = (bar(span) for span in spans)
    width = len(whole[0])
    assert whole[0] == "=" * width
    assert half == (
        "-" * (width // 2) + "=" * (width // 4) + "-" * (width - width // 2 - width // 4),
        "+50.0 s of 100.0 s",
    )
    assert last[0] == "-" * (width - 1) + "="


@pytest.mark.parametrize("name", recording_names())
def test_every_span_of_every_recording_has_a_page(name: str) -> None:
    for body in recorded_requests(name):
        request = Request(body)
        for position, span in enumerate(spans_in(body)):
            turn = read_trace(plant([span])[span.trace_id]).turns[0]
            page = describe(span, request.detail(position), turn, glyphs=UNICODE).plain
            said = page.split("\n")[0].replace("Command, denied", "Command, blocked")
            assert said == sentence(span).split("\n")[0]
            for heading in ("Time", "Span status", "Delivery", "Ids"):
                assert f"\n{heading}\n" in page

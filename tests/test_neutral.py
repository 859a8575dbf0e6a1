"""Nothing from a span's text reaches a terminal as anything but something to read."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hermes_tui.neutral import block, copied, dump_json, line

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
MARKS = "\u200e\u200f\u061c"  # LRM, RLM, ALM: directions that have no bidi class of their own

NASTY = (
    "\x1b[31m\x9b2J\x07\x08\x00\x7f\x85\r\n\t\u202e\u2066\u200b\ufeff\u2028\ud800\udfff\U000e0041\ufe0fé日🚀"
)
texts = st.one_of(
    st.text(alphabet=st.characters(), max_size=60),
    st.text(alphabet=st.sampled_from(NASTY + "ab"), max_size=40),
    st.text(alphabet=st.characters(max_codepoint=0xFF), max_size=40),
)


def obeyed(character: str) -> bool:
    """Whether a terminal might act on a character: the Unicode database says, not our own table."""
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in BIDI
        or character in MARKS
    )


@settings(max_examples=300)
@example(NASTY)
@given(texts)
def test_line_is_one_line_that_no_terminal_obeys(text: str) -> None:
    shown = line(text)
    assert not [character for character in shown if obeyed(character)]
    assert shown.encode("utf-8").decode() == shown
    assert len(shown.splitlines()) <= 1


@settings(max_examples=300)
@example(NASTY)
@given(texts)
def test_block_keeps_line_breaks_and_nothing_else_that_is_obeyed(text: str) -> None:
    shown = block(text)
    assert {character for character in shown if obeyed(character)} <= {"\n"}
    assert shown.encode("utf-8").decode() == shown
    assert shown.count("\n") == text.replace("\r\n", "\n").count("\n")


def test_every_character_there_is() -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert not [hex(ord(c)) for c in line(everything) if obeyed(c)]
    assert {c for c in block(everything) if obeyed(c)} == {"\n"}
    dump_json(everything).encode("ascii")


@given(
    st.text(
        alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\xa0"), max_size=60
    )
)
def test_text_that_is_only_text_stays_as_it_is(text: str) -> None:
    invisible = "\u115f\u1160\u3164\uffa0"  # fillers: letters by category, shown as nothing
    text = "".join(character for character in text if character not in invisible)
    assert line(text) == block(text) == text


@given(texts)
def test_made_harmless_twice_is_made_harmless_once(text: str) -> None:
    assert line(line(text)) == line(text)
    assert block(block(text)) == block(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a\nb", "a⏎b"),
        ("a\r\nb", "a⏎b"),
        ("a\rb", "a␍b"),
        ("a\tb", "a b"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b31m", "\N{REPLACEMENT CHARACTER}31m"),
        ("a\u202eb", "a⁞b"),
        ("zero\u200bwidth", "zero·width"),
        ("👩\u200d💻", "👩·💻"),
        ("☀\ufe0f", "☀"),
        ("e" + "\u0301" * 50, "e" + "\u0301" * 3),
        ("lone \ud800", "lone \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_line_shows_what_was_there(text: str, shown: str) -> None:
    assert line(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nb\n", "a\nb\n"), ("ab\tc\n\td", "ab      c\n        d"), ("a\rb", "a␍b"), ("\x1b[2J", "␛[2J")],
)
def test_block_keeps_lines_and_tab_stops(text: str, shown: str) -> None:
    assert block(text) == shown


documents = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


@settings(max_examples=150)
@given(documents)
def test_json_is_exact_and_harmless(document: Any) -> None:
    text = dump_json(document)
    assert re.fullmatch(r"[\x20-\x7e\n]*", text)
    # Two halves of a pair side by side are, in JSON, the character that they make.
    assert json.loads(text) == json.loads(json.dumps(document))
    if not re.search(r"[\ud800-\udbff][\udc00-\udfff]", json.dumps(document, ensure_ascii=False)):
        assert json.loads(text) == document


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_has_no_number_that_is_none(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"cost": number})


@pytest.mark.parametrize(("text", "shown"), [("👍🏽 ok", "👍 ok"), ("☰☷ ㉈ 𝌆", "�� � �")])
def test_what_terminals_draw_in_different_widths_is_replaced_but_not_in_copies(text: str, shown: str) -> None:
    assert (line(text), block(text), copied(text)) == (shown, shown, text)

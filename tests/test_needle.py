"""What a search's text is found in."""

from __future__ import annotations

import json

import pytest

from hermes_tui.model.needle import Needle


@pytest.mark.parametrize(
    ("text", "within", "found"),
    [
        ("make", "Makefile", True),
        ("Make", "makefile", False),
        ("Make", "Makefile", True),
        ("ß", "STRASSE", True),
        ("über", "ÜBERALL", True),
        ("a.c", "abc", False),
        ("[x", "a[x]", True),
        ("日本", "(日本)", True),
    ],
)
def test_case_counts_only_for_a_text_with_capitals(text: str, within: str, found: bool) -> None:
    needle = Needle(text)
    assert needle.within(within) is found
    assert needle.within_value(within) is found
    assert not found or needle.may_be_within(f"\x00{within}\x00".encode())
    assert bool(needle.places(within)) is found


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("text", ['say "hi"', "C:\\tmp", "Über alles", "über", "plain", "naïve 日本", "a/b"])
def test_a_value_may_hold_it_as_json_writes_it(text: str, depth: int, ascii_only: bool) -> None:
    value = f"before {text} behind"
    for _ in range(depth):
        value = json.dumps({"output": value}, ensure_ascii=ascii_only)
    needle = Needle(text)
    assert needle.within_value(value)
    assert needle.may_be_within(value.encode())
    assert Needle(text.lower()).within_value(value)
    assert not Needle(text + "~").within_value(value)


@pytest.mark.parametrize(
    ("needle", "text", "places"),
    [
        ("ab", "abAB", [(0, 2), (2, 4)]),
        ("ss", "Straße", [(4, 5)]),
        ("e", "Straße", [(5, 6)]),
        ("aa", "aaa", [(0, 2)]),
        ("i", "İi", [(0, 1), (1, 2)]),
        ("x", "abc", []),
        ("", "abc", []),
    ],
)
def test_places_are_those_of_the_text_as_it_is(needle: str, text: str, places: list[tuple[int, int]]) -> None:
    assert Needle(needle).places(text) == places

"""Pure: a row's text in parts, those that a search found marked."""

from __future__ import annotations

from collections.abc import Iterator

from hermes_tui.model.needle import Needle


def parts(text: str, shown: str, needle: Needle | None, more: str) -> Iterator[tuple[str, bool]]:
    """`shown`, the beginning of `text` that fits, as (part, whether it is a hit).

    Where all hits are behind what fits, `more` at its end is marked.
    """
    places = needle.places(shown) if needle else []
    cut = len(shown) - len(more)
    if needle and not places and shown.endswith(more) and shown != text and needle.places(text):
        places = [(cut, len(shown))]
    at = 0
    for begin, end in places:
        if begin > at:
            yield shown[at:begin], False
        yield shown[begin:end], True
        at = end
    if at < len(shown):
        yield shown[at:], False

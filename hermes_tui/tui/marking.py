"""Pure: texts in which what a search found is marked."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from hermes_tui.model.needle import Needle

HIT = "bold reverse yellow"
_MOST = 2_000  # hits that are marked on a page


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


def marked(page: Text, needle: Needle | None) -> tuple[Text, int | None]:
    """A page with its hits marked, and where the first of them is."""
    places = needle.places(page.plain) if needle else []
    if not places:
        return page, None
    page = page.copy()
    for begin, end in places[:_MOST]:
        page.stylize(HIT, begin, end)
    return page, places[0][0]

"""Pure: how the rows and the details beside them share a wide screen."""

from __future__ import annotations

_LEAST, _MOST, _STEP = 25, 75, 5


class Split:
    """`share` is the details' part of the width in percent; `hidden`: the rows have all of it."""

    def __init__(self) -> None:
        self.share = 45
        self.hidden = False

    def move(self, by: int) -> None:
        """A step wider (1) or narrower (-1); details that are hidden come back."""
        if not self.hidden:
            self.share = _bounded(self.share + by * _STEP)
        self.hidden = False

    def drag(self, x: int, width: int) -> None:
        """Put the border at a column of a screen of this width."""
        self.share = _bounded(round(100 * (width - x) / width)) if width else self.share


def _bounded(share: int) -> int:
    return max(_LEAST, min(_MOST, share))

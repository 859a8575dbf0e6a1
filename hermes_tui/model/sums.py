"""Tokens and cost in Hermes' own records."""

from __future__ import annotations

from typing import NamedTuple

from hermes_tui.model.state_rows import SessionRow


class Sums(NamedTuple):
    """Tokens and cost (US dollars); of a session so far, or of one model call."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: float | None

    def since(self, before: Sums) -> Sums:
        """What came on top of `before`; what was not known then counts as 0."""
        cost = None if self.cost is None else max(0.0, self.cost - (before.cost or 0.0))
        return Sums(
            max(0, self.input_tokens - before.input_tokens),
            max(0, self.output_tokens - before.output_tokens),
            max(0, self.cache_read_tokens - before.cache_read_tokens),
            max(0, self.cache_write_tokens - before.cache_write_tokens),
            max(0, self.reasoning_tokens - before.reasoning_tokens),
            cost,
        )


NOTHING = Sums(0, 0, 0, 0, 0, 0.0)


def sums_of(row: SessionRow) -> Sums:
    """What a session's row says of it so far."""
    return Sums(
        row.input_tokens,
        row.output_tokens,
        row.cache_read_tokens,
        row.cache_write_tokens,
        row.reasoning_tokens,
        row.cost,
    )

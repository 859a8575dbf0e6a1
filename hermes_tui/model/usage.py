"""Token and cost totals in which every model call counts once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes_tui.model.span import Span


class Usage(msgspec.Struct, frozen=True):
    """Tokens and cost. Cache and reasoning counts are parts of input and output, never added on top.

    `cost` is US dollars; None means that no call named one.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @classmethod
    def total(cls, spans: Sequence[Span]) -> Usage:
        """The sum over spans, in this order: that of costs depends on it."""
        counts = {name: sum(getattr(span, name) or 0 for span in spans) for name in _COUNTS}
        costs = [span.cost for span in spans if span.cost is not None]
        return cls(**counts, cost=sum(costs) if costs else None)

    def __add__(self, other: Usage) -> Usage:
        if other is NOTHING:
            return self
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(**counts, cost=sum(costs) if costs else None)


_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "cost")
NOTHING = Usage()


def says_usage(span: Span) -> bool:
    """Whether a span carries token counts or a cost of its own."""
    return span.input_tokens is not None or span.output_tokens is not None or span.cost is not None

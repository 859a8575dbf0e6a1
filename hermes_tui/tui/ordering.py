"""Pure: the orders in which the turns of the tree can stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hermes_tui.model.joined import JoinedTurn
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.rows import end_of

NEWEST, SLOWEST, ERRORS, TOKENS = "newest first", "slowest first", "errors first", "tokens first"
ORDERS = (NEWEST, SLOWEST, ERRORS, TOKENS)
"""In the order in which the key goes through them."""


def arranged(
    newest_first: Iterable[JoinedTurn], order: str, moment: Moment, running: JoinedTurn | None,
    errors: Callable[[JoinedTurn], int],
) -> list[JoinedTurn]:  # fmt: skip
    """The turns in one of `ORDERS`; of those that are equal in it the newest comes first. `running` is the
    one that still runs, if any.
    """

    def lasted(turn: JoinedTurn) -> int:
        return (moment.now_ns if turn is running else end_of(turn)) - turn.start_ns

    def spent(turn: JoinedTurn) -> int:
        return tokens_of(turn, moment)

    if order == NEWEST:
        return list(newest_first)
    return sorted(newest_first, key={SLOWEST: lasted, ERRORS: errors, TOKENS: spent}[order], reverse=True)


def tokens_of(turn: JoinedTurn, moment: Moment) -> int:
    """Of a turn's model calls: of those without a span what Hermes noted."""
    total = turn.turn.totals.usage.tokens if turn.turn is not None else 0
    for step in turn.steps:
        part = moment.live.session(step.session) if step.span is None else None
        if part is not None and (spent := part.spent(step.live)) is not None:
            total += spent.input_tokens + spent.output_tokens
    return total

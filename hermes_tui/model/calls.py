"""All calls of one session at once, for what is printed and not drawn; `joined` is for what moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hermes_tui.model.live_turns import CallKey, LiveCall, LiveTurn
from hermes_tui.model.pairing import EARLY_NS, SpanKey
from hermes_tui.model.shares import Placed, by_end, by_start, cut_out
from hermes_tui.model.works import Item, Work, join

_FOREVER = 2**63


def all_calls(
    session: str, turns: Sequence[LiveTurn], tools: list[Placed], models: list[Placed]
) -> list[Item]:
    """Every call of a session once, whoever told of it: as `Joined` has them.

    `turns` are Hermes' records, `tools` and `models` the session's spans, each in any order.
    """
    tools, models = sorted(tools, key=by_start), sorted(models, key=by_end)
    turns = sorted(turns, key=lambda turn: turn.asked_ns)  # a clock may have been set back between two
    begin = turns[0].asked_ns - EARLY_NS if turns else _FOREVER
    homes: dict[SpanKey, tuple[list[Placed], list[Placed]]] = {}
    for placed in cut_out(tools, 0, begin, by_start):
        homes.setdefault(placed[1], ([], []))[0].append(placed)
    for placed in cut_out(models, 0, begin, by_end):
        homes.setdefault(placed[1], ([], []))[1].append(placed)
    works = [(Work(session, None), *spans) for spans in homes.values()]
    for at, turn in enumerate(turns):
        until = turns[at + 1].asked_ns if at + 1 < len(turns) else _FOREVER
        some = cut_out(tools, begin, until, by_start), cut_out(models, begin, until, by_end)
        works.append((Work(session, turn), *some))
        begin = until
    for work, its_tools, its_models in works:
        join(work, its_tools, its_models)
    return [item for work, _, _ in works for item in work.items]


class Recorded(NamedTuple):
    """Hermes' record of a call, when it can have begun at the earliest, and whether it did so then."""

    call: LiveCall
    begun_ns: int
    sure: bool


def recorded(turns: Sequence[LiveTurn]) -> dict[CallKey | SpanKey, Recorded]:
    """Hermes' records of calls by their keys.

    Hermes notes when a call was asked for: of several that were asked for at once one may have waited for
    another, and a second more (`v123_parallel`).
    """
    found: dict[CallKey | SpanKey, Recorded] = {}
    for turn in turns:
        batch, ends = 0, list[int]()
        for call in turn.calls:
            if call.batch != batch:
                batch, ends = call.batch, []
            before = max((end for end in ends if not call.ended_ns or end <= call.ended_ns), default=0)
            found[call.key] = Recorded(call, max(call.asked_ns, before), not ends and bool(call.arguments))
            ends.append(call.ended_ns)
    return found

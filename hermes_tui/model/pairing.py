"""Which span is which call: calls that were asked for, beside the tool spans that came of them.

`gen_ai.tool.call.id` is the session's id in older plugins, arguments are cut and have their white space
collapsed, and calls that ran at once can share one span. So: the call's id where there is a real one, else
the tool, what it was given, and when.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import msgspec

from hermes_tui.model.live_turns import CallKey, LiveCall
from hermes_tui.model.results import COMMAND_TOOLS, CUT, read_call, read_target
from hermes_tui.model.shorten import GAP
from hermes_tui.model.span import NANOSECONDS, Span

SpanKey = tuple[bytes, bytes]
"""(trace id, span id)."""

EARLY_NS = NANOSECONDS  # a span cannot have begun longer than this before its call was asked for
_CUT_CHARS = 500  # a text so long may have been cut without a mark
_TELLING = 20  # characters that two commands hardly share by chance
_FEW = 64  # spans that one call is compared with
_SAME_NS = 2 * NANOSECONDS  # two records of one request are not further apart than this


class Ask(msgspec.Struct):
    """A tool call that a model asked for, by Hermes' records (`live`), by model calls' spans, or both.

    `asked_by` is the span of the model call that asked, `answered_by` that of the one which was given the
    result (at `answered_ns`), `result` what that says, shortened. `dropped`: the conversation went on
    without a result.
    """

    key: CallKey
    id: str
    tool: str
    arguments: str
    asked_ns: int
    command: str | None = None
    target: str | None = None
    cwd: str | None = None
    live: LiveCall | None = None
    asked_by: SpanKey | None = None
    answered_by: SpanKey | None = None
    answered_ns: int = 0
    result: str | None = None
    dropped: bool = False

    @property
    def ended_ns(self) -> int:
        """When it ended by Hermes' records; by spans, when the model was told of it at the latest."""
        return (self.live.ended_ns if self.live is not None else 0) or self.answered_ns


def gather(session: str, calls: Iterable[LiveCall], models: Sequence[Span]) -> list[Ask]:
    """What was asked for, in order: by Hermes' records and by the spans of model calls, each once.

    `models` are the spans of the session's model calls by end time.
    """
    asks = [_from_records(call) for call in calls]
    known = {ask.id: ask for ask in reversed(asks) if ask.id}
    used = {ask.key[1] for ask in asks}
    said: list[Ask] = []
    for span in models:
        for place, (name, tool, arguments) in enumerate(span.calls or ()):
            ask = known.get(name) or _twin(asks, tool, arguments, span.end_ns)
            if ask is None or ask.asked_by is not None:
                ask = _from_span(session, span, place, name, tool, arguments, used)
                said.append(ask)
                known.setdefault(name, ask) if name else None
            ask.asked_by = (span.trace_id, span.span_id)
        for name, result in span.results or ():
            answered = known.get(name)
            if answered is not None and answered.answered_by is None:
                answered.answered_by, answered.result = (span.trace_id, span.span_id), result
                answered.answered_ns = span.start_ns
    for ask in said:
        ask.dropped = ask.answered_by is None and models[-1].end_ns > ask.asked_ns
    for ask in asks:
        ask.dropped = ask.live is not None and ask.live.dropped and ask.answered_by is None
    return sorted([*asks, *said], key=lambda ask: ask.asked_ns) if said else asks


def pair(asks: Sequence[Ask], spans: Sequence[Span]) -> dict[int, int]:
    """Places of asks → places of their spans. The surest pairs first, each of both once."""
    pairs: dict[int, int] = {}
    if not asks:
        return pairs
    free = dict.fromkeys(range(len(spans)))
    for rank in range(4):
        left = [at for at in range(len(asks)) if at not in pairs]
        found = [
            (_distance(asks[number], spans[at]), number, at)
            for numbers, places in _groups(rank, asks, spans, left, free)
            for number in numbers
            for at in _near(asks[number], spans, places)
            if _likeness(asks[number], spans[at]) == rank
        ]
        for _, number, at in sorted(found):
            if number not in pairs and at in free:
                pairs[number] = at
                del free[at]
    return pairs


def _groups(
    rank: int, asks: Sequence[Ask], spans: Sequence[Span], left: Iterable[int], free: Iterable[int]
) -> list[tuple[list[int], list[int]]]:
    """Asks and spans among which a pair of this rank can be: a turn may have thousands of each."""

    def sort(of: Callable[[int], object], places: Iterable[int]) -> dict[object, list[int]]:
        found: dict[object, list[int]] = {}
        for at in places:
            found.setdefault(of(at), []).append(at)
        return found

    if rank == 0:
        first, second = sort(lambda at: asks[at].id, left), sort(lambda at: spans[at].call_id, free)
        first.pop("", None)
    elif rank == 1:
        first = sort(lambda at: (asks[at].tool, _told(asks[at])), left)
        second = sort(lambda at: (spans[at].tool, _told(spans[at])), free)
    else:
        first, second = sort(lambda at: asks[at].tool, left), sort(lambda at: spans[at].tool, free)
    return [(numbers, second[name]) for name, numbers in first.items() if name in second]


def _near(ask: Ask, spans: Sequence[Span], places: list[int]) -> list[int]:
    """Of very many spans those beside the call in time; places are in the order of their starts."""
    if len(places) <= _FEW:
        return places
    at = bisect_left(places, ask.asked_ns - EARLY_NS, key=lambda place: spans[place].start_ns)
    return places[at : at + _FEW]


def _told(said: Ask | Span) -> str:
    return " ".join((said.command or said.target or "").split())


def same_text(full: str, part: str) -> bool | None:
    """Whether two texts of one thing are the same (True), the same as far as both go (False), or not (None).

    White space counts as one space, and either may have been cut.
    """
    one, other = " ".join(full.split()), " ".join(part.split())
    if one == other:
        return True
    short, long = sorted((_uncut(one), _uncut(other)), key=len)
    cut = (short != one and short != other) or len(short) >= _CUT_CHARS
    return False if cut and len(short) >= _TELLING and long.startswith(short) else None


def _likeness(ask: Ask, span: Span) -> int | None:
    """How sure it is that a span is this call: 0 by its id, 1 by its text, 2 by the beginning of it, 3 by
    nothing that says otherwise. None: it is not.
    """
    if ask.id and ask.id == span.call_id:
        return 0
    if span.start_ns < ask.asked_ns - EARLY_NS:
        return None
    asked, told = ask.command or ask.target, span.command or span.target
    if not asked or not told:
        return 3
    same = same_text(asked, told)
    return None if same is None else 1 if same else 2


def _distance(ask: Ask, span: Span) -> int:
    if ask.ended_ns and span.end_ns:
        return abs(ask.ended_ns - span.end_ns)
    return abs(span.start_ns - ask.asked_ns)


def _uncut(text: str) -> str:
    """The part of a text before the place where it was cut."""
    return text.removesuffix(CUT).partition(GAP)[0]


def _from_records(call: LiveCall) -> Ask:
    return Ask(
        call.key, call.id, call.tool, call.arguments, call.asked_ns, call.command, call.target, call.cwd, call
    )


def _from_span(
    session: str, span: Span, place: int, name: str, tool: str, arguments: str, used: set[str]
) -> Ask:
    own = name if name and name not in used else f"@{span.span_id.hex()}.{place}"
    used.add(own)
    command = target = cwd = None
    if tool in COMMAND_TOOLS:
        read = read_call(tool, arguments, None, running=True)
        command, cwd = read.command, read.cwd
    else:
        target = read_target(arguments)
    return Ask((session, own), name, tool, arguments, span.end_ns, command, target, cwd)


def _twin(asks: list[Ask], tool: str, arguments: str, at_ns: int) -> Ask | None:
    """The same request in Hermes' records, where the two call it by different ids."""
    for ask in asks:
        if ask.tool != tool or ask.asked_by is not None or abs(ask.asked_ns - at_ns) > _SAME_NS:
            continue
        if same_text(ask.arguments, arguments) is not None:
            return ask
    return None

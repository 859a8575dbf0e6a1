"""MLflow's own record of a trace beside ours: what differs, and why. Pure.

MLflow's rules, read in `mlflow/store/tracking/sqlalchemy_store.py` (`log_spans`) and
`mlflow/tracing/utils/__init__.py` (`_aggregate_from_nodes`) of 3.17: the first root that is stored
settles the state; tokens and costs are those of the uppermost spans that carry any, where a span whose
parent is not there counts as uppermost; a trace lasts from its first start to its last end. Each rule
is worked out here on our spans: a reason is given only where its result is what MLflow says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from hermes_tui.model.span import NANOSECONDS, Delivery, Kind, Span, Status
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import TraceView, Turn, counted, members

UNKNOWN = "unknown why"

_ON_THE_WAY = (Delivery.QUEUED, Delivery.ACCEPTED, Delivery.HELD)
_AGREES = {"completed": "OK", "failed": "ERROR", "running": "IN_PROGRESS"}
_CENT = 0.00005  # US dollars: less is not shown
_MOMENT_S = 0.05  # MLflow cuts times to milliseconds; less is not worth a line


class Told(msgspec.Struct, frozen=True):
    """What MLflow says of a whole trace; None is unknown, `cost` US dollars."""

    state: str | None = None
    duration_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    spans: int | None = None

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Told:
        """From the relay's `read_back` document; what has another type counts as unknown."""

        def number(name: str) -> float | None:
            value = document.get(name)
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None

        def whole(name: str) -> int | None:
            value = number(name)
            return int(value) if value is not None and abs(value) < 2**63 else None

        state = document.get("state")
        return cls(
            state=state if isinstance(state, str) and state else None,
            duration_s=number("duration_s"),
            input_tokens=whole("input_tokens"),
            output_tokens=whole("output_tokens"),
            cost=number("cost"),
            spans=whole("spans"),
        )


class Difference(msgspec.Struct, frozen=True):
    """One thing that MLflow says otherwise. `why` is a sentence without a full stop, or `UNKNOWN`."""

    what: str
    ours: str | float | None
    theirs: str | float | None
    why: str


def differences(view: TraceView, told: Told, now_ns: int) -> list[Difference]:
    """Where MLflow's record of a trace differs from ours, worst first.

    Nothing while spans of the trace are on their way: what MLflow said before they came is no difference.
    """
    seen = _Seen.of(view, told)
    if not seen.there or seen.on_the_way:
        return []
    found = [
        _spans(seen),
        _state(seen, now_ns),
        _tokens(seen, "input_tokens", "tokens in"),
        _tokens(seen, "output_tokens", "tokens out"),
        _cost(seen),
        _duration(seen),
    ]
    return [difference for difference in found if difference is not None]


class _Seen(msgspec.Struct, frozen=True):
    """A trace as MLflow should see it: `there` are the spans that were read back from it."""

    view: TraceView
    told: Told
    finished: list[Node]
    there: list[Node]
    on_the_way: bool

    @classmethod
    def of(cls, view: TraceView, told: Told) -> _Seen:
        nodes = [node for turn in view.turns for node in members(turn)]
        finished = [node for node in nodes if node.span is not None and not node.span.running]
        states = [node.span.delivery for node in finished if node.span is not None]
        return cls(
            view,
            told,
            finished,
            [node for node in finished if _is_there(node)],
            any(state in _ON_THE_WAY for state in states),
        )

    @property
    def roots(self) -> list[Span]:
        return [span for span in map(_span, self.there) if not span.parent_id]

    @property
    def strangers(self) -> int:
        """Spans that MLflow has of this trace and this journal has not."""
        return max(0, (self.told.spans or 0) - len(self.finished))

    def why_unknown(self) -> str:
        if self.strangers:
            return f"{UNKNOWN}; it has {_number_of(self.strangers, 'span')} more than this journal"
        return UNKNOWN

    def uppermost(self, carries: Callable[[Span], bool]) -> list[Node]:
        """The spans whose values MLflow adds up: those that carry any and are below none that does."""
        found: list[Node] = []
        covered: dict[bytes, bool] = {}
        for node in self.there:
            chain: list[Node] = []
            above: Node | None = node
            while above is not None and _is_there(above) and above.span_id not in covered:
                chain.append(above)
                above = above.parent
            below_one = above is not None and covered.get(above.span_id, False)
            for each in reversed(chain):
                if carries(_span(each)):
                    found += [] if below_one else [each]
                    below_one = True
                covered[each.span_id] = below_one
        return found


def _is_there(node: Node) -> bool:
    return node.span is not None and not node.span.running and node.span.delivery is Delivery.CONFIRMED


def _span(node: Node) -> Span:
    assert node.span is not None
    return node.span


# ---- spans and state


def _spans(seen: _Seen) -> Difference | None:
    ours, theirs = len(seen.finished), seen.told.spans
    if theirs is None or theirs == ours:
        return None
    why = UNKNOWN
    if theirs > ours:
        why = (
            f"{_number_of(theirs - ours, 'span')} came there by another way than this relay, "
            "or were forgotten here"
        )
    elif theirs == len(seen.there):
        absent = [_span(node).delivery for node in seen.finished if not _is_there(node)]
        refused = absent.count(Delivery.QUARANTINED)
        parts = [f"{refused} refused by MLflow"] if refused else []
        if kept := absent.count(Delivery.LOCAL):
            parts.append(f"{kept} kept here only")
        why = " and ".join(parts)
    return Difference("spans", ours, theirs, why)


def _state(seen: _Seen, now_ns: int) -> Difference | None:
    turns, theirs = seen.view.turns, seen.told.state
    statuses = list(dict.fromkeys(turn.status(now_ns) for turn in turns))
    if theirs is None or [_AGREES.get(status) for status in statuses] == [theirs]:
        return None
    return Difference("state", " and ".join(statuses), theirs, _why_state(seen, theirs, turns))


def _why_state(seen: _Seen, theirs: str, turns: list[Turn]) -> str:
    roots = seen.roots
    if not roots:
        if theirs != "IN_PROGRESS":
            return seen.why_unknown()
        failed = turns[-1].verdict == "erring"
        cause = "a model call failed for good" if failed else "interrupted, killed, or over 10 minutes"
        return f"no root span came, and MLflow waits for one ({cause})"
    if theirs not in {"ERROR" if root.status is Status.ERROR else "OK" for root in roots}:
        return seen.why_unknown()
    if len(turns) > 1:
        return (
            f"the trace holds {len(turns)} turns, and MLflow's one state is that of the root that came first"
        )
    ended = f', and not that the turn was "{roots[0].final_status}"' if roots[0].final_status else ""
    return f"MLflow looks only at the root span's status, {roots[0].status.name}{ended}"


# ---- tokens, cost, time


def _tokens(seen: _Seen, name: str, what: str) -> Difference | None:
    ours: int = sum(getattr(totals.usage, name) for totals in seen.view.sessions.values())
    theirs: int | None = getattr(seen.told, name)
    if ours == (theirs or 0):
        return None
    why = seen.why_unknown()
    if theirs is not None:
        why = _why_sum(seen, _says_tokens, lambda span: getattr(span, name) or 0, theirs) or why
    return Difference(what, ours, theirs, why)


def _cost(seen: _Seen) -> Difference | None:
    known = [cost for totals in seen.view.sessions.values() if (cost := totals.usage.cost) is not None]
    ours = sum(known) if known else None
    theirs = seen.told.cost
    if abs((ours or 0.0) - (theirs or 0.0)) < _CENT:
        return None
    if ours is None:
        why = "Hermes named no price, MLflow has its own list"
    elif theirs is None:
        why = "MLflow has no price for this model"
    else:
        why = _why_sum(seen, lambda span: span.cost is not None, lambda span: span.cost or 0.0, theirs)
        why = why or "MLflow goes by its own list of prices, not by what Hermes says"
    return Difference("cost", ours, theirs, why)


def _why_sum(
    seen: _Seen, carries: Callable[[Span], bool], value: Callable[[Span], float], theirs: float
) -> str:
    """Why MLflow's sum is not that of the model calls; "" when its rule does not lead to `theirs`."""
    taken = seen.uppermost(carries)
    if abs(sum(value(_span(node)) for node in taken) - theirs) >= _CENT:
        return ""
    times = _times(seen.view, taken)
    if abs(sum(count * value(_span(node)) for node, _, count in times) - theirs) >= _CENT:
        return "MLflow takes the turn's own sum, which is not what its model calls add up to"
    twice = sum(count > 1 for _, _, count in times)
    missed = [node.span_id for node, turn, count in times if count == 0]
    delegated = sum(seen.view.owners[name] != seen.view.turn_of[name].session for name in missed)
    joined = len(missed) - delegated
    parts = [
        f"counts {_number_of(twice, 'model call')} twice, whose parent span is not there" if twice else "",
        f"leaves out {_number_of(delegated, 'model call')} of subagents" if delegated else "",
        f"leaves out {_number_of(joined, 'model call')} of a turn that joined another's trace"
        if joined
        else "",
    ]
    return f"MLflow {', and '.join(part for part in parts if part)}" if any(parts) else ""


def _times(view: TraceView, taken: list[Node]) -> list[tuple[Node, Turn, int]]:
    """Every model call, its turn, and how often it is in the sum over `taken`.

    A call is taken itself, or with the sum that the agent of its turn and session carries, or both.
    """
    names = {node.span_id for node in taken}
    sums = Counter(
        (view.turn_of[node.span_id].key, view.owners[node.span_id])
        for node in taken
        if _span(node).kind is Kind.AGENT
    )
    return [
        (node, turn, (node.span_id in names) + sums[turn.key, view.owners[node.span_id]])
        for turn in view.turns
        for node in counted(turn)
    ]


def _duration(seen: _Seen) -> Difference | None:
    """Of a trace with one turn; with more there is nothing to compare."""
    theirs = seen.told.duration_s
    if theirs is None or len(seen.view.turns) != 1:
        return None
    (turn,) = seen.view.turns
    ours = max(0, turn.end_ns - turn.start_ns) / NANOSECONDS
    if abs(ours - theirs) <= _MOMENT_S:
        return None
    first = min(_span(node).start_ns for node in seen.there)
    last = max(_span(node).end_ns for node in seen.there)
    why = seen.why_unknown()
    if abs((last - first) / NANOSECONDS - theirs) <= _MOMENT_S:
        why = "MLflow counts from the trace's first span to its last, beyond the turn's own"
    return Difference("duration", ours, theirs, why)


def _says_tokens(span: Span) -> bool:
    return span.input_tokens is not None or span.output_tokens is not None


def _number_of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

"""What a trace's tree means: its turns, which session each span belongs to, and their totals.

A turn is an `agent` (or `cron`) span that is not below a subagent, or a trace whose root has not
come. Spans whose parent never came are given to the turn they belong to by session and time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

import msgspec

from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import FAILURES, NANOSECONDS, Delivery, Kind, Role, Span, Status
from hermes_tui.model.tree import Node, TraceTree
from hermes_tui.model.usage import NOTHING, Usage, says_usage
from hermes_tui.model.verdicts import describe

_T = TypeVar("_T")

SILENCE_S = 15 * 60
"""A turn whose root never came and that was silent this long no longer counts as running."""

_TOOL, _ERROR, _CALLS = Role.TOOL, Status.ERROR, (Role.MODEL_CALL, Role.WRAPPER)

ERROR_SILENCE_S = 120
"""The same after a failed model call: Hermes retries within this time or gives up."""


class Totals(msgspec.Struct):
    """Sums over the spans of one session (or one turn) in one trace."""

    spans: int = 0
    commands: int = 0
    failed_commands: int = 0
    errors: int = 0
    usage: Usage = NOTHING
    deliveries: Counter[Delivery] = msgspec.field(default_factory=Counter)
    first_ns: int = 0
    last_ns: int = 0
    running_spans: int = 0
    agent_end: tuple[int, str] = (0, "")
    newest_model: tuple[bool, int, str] = (False, 0, "")
    newest_source: tuple[int, str] = (0, "")

    @property
    def model(self) -> str | None:
        """The model of the newest model call; of the newest other span where no call names one."""
        return self.newest_model[2] or None

    @property
    def source(self) -> str | None:
        """The platform that the newest span names."""
        return self.newest_source[1] or None

    def take(self, span: Span) -> None:
        start, end, role, model = span.start_ns, span.end_ns, span.role, span.model
        if end:
            self.spans += 1
            self.deliveries[span.delivery] += 1
        else:
            self.running_spans += 1
        if role is _TOOL and span.tool in COMMAND_TOOLS:
            self.commands += 1
            self.failed_commands += span.outcome in FAILURES
        self.errors += span.status is _ERROR
        if not 0 < self.first_ns <= start:
            self.first_ns = start
        self.last_ns = max(self.last_ns, end, start)
        if model:
            self.newest_model = max(self.newest_model, (role in _CALLS, start, model))
        if span.platform:
            self.newest_source = max(self.newest_source, (start, span.platform))
        if span.final_status and span.kind is Kind.AGENT and role is not Role.SUBAGENT:  # names its parent
            self.agent_end = max(self.agent_end, (start, span.final_status))

    def add(self, other: Totals) -> None:
        self.spans += other.spans
        self.commands += other.commands
        self.failed_commands += other.failed_commands
        self.errors += other.errors
        self.running_spans += other.running_spans
        self.usage += other.usage
        self.deliveries.update(other.deliveries)
        if other.first_ns:
            self.first_ns = min(self.first_ns or other.first_ns, other.first_ns)
        self.last_ns = max(self.last_ns, other.last_ns)
        # Maxima, not "the one taken last": traces are added in any order.
        self.agent_end = max(self.agent_end, other.agent_end)
        self.newest_model = max(self.newest_model, other.newest_model)
        self.newest_source = max(self.newest_source, other.newest_source)


class Turn(msgspec.Struct):
    """One turn. `node` is its agent span's place, or None while only its children are known.

    `key` stays the same when the root comes late, so that folds and the cursor stay where they are.
    `asking` is an approval that waits; `quiet_ns` the last end of anything, or the start of the model call
    that runs; `untold` how many tools the last model call asked for of which there is no span yet.
    """

    key: tuple[bytes, bytes]
    trace_id: bytes
    node: Node | None
    tops: list[Node] = msgspec.field(default_factory=list)
    session: str | None = None
    prompt: str | None = None
    review: bool = False
    provisional: bool = False
    totals: Totals = msgspec.field(default_factory=Totals)
    start_ns: int = 0
    verdict: str = ""
    asking: Span | None = None
    quiet_ns: int = 0
    untold: int = 0

    @property
    def span(self) -> Span | None:
        return None if self.node is None else self.node.span

    @property
    def end_ns(self) -> int:
        """End of the turn's own span; of its last known child when that has not come."""
        return self.span.end_ns if self.span is not None and self.span.end_ns else self.totals.last_ns

    @property
    def end_of_span(self) -> int:
        """End of the turn's own span; the far future while it runs."""
        span = self.span
        return 0 if span is None else span.end_ns or 2**63

    def status(self, now_ns: int) -> str:
        """running, completed, interrupted, failed or unknown at `now_ns`."""
        if self.verdict in ("completed", "interrupted", "failed"):
            return self.verdict
        silent_s = (now_ns - self.totals.last_ns) / NANOSECONDS
        if self.verdict == "erring":
            return "running" if silent_s < ERROR_SILENCE_S else "failed"
        return "running" if silent_s < SILENCE_S else "unknown"


def is_command(span: Span) -> bool:
    return span.role is _TOOL and span.tool in COMMAND_TOOLS


class TraceView(msgspec.Struct):
    """The turns of one trace and its share of every session it touches; what it read of each span is on the
    node.
    """

    turns: list[Turn]
    sessions: dict[str, Totals]
    nodes: Mapping[bytes, Node]

    @property
    def owners(self) -> Mapping[bytes, str]:
        """The session of each span."""
        return _Read(self.nodes, attrgetter("owner"))

    @property
    def turn_of(self) -> Mapping[bytes, Turn]:
        """The turn that each span is in."""
        return _Read(self.nodes, attrgetter("within"))


class _Read(Mapping[bytes, _T]):
    """What was read of nodes, by span id: a dictionary of its own would take more memory than the nodes."""

    __slots__ = ("_nodes", "_what")

    def __init__(self, nodes: Mapping[bytes, Node], what: Callable[[Node], _T | None]) -> None:
        self._nodes = nodes
        self._what = what

    def __getitem__(self, span_id: bytes) -> _T:
        found = self._what(self._nodes[span_id])
        if found is None:  # it came since
            raise KeyError(span_id)
        return found

    def __iter__(self) -> Iterator[bytes]:
        return (span_id for span_id, node in self._nodes.items() if self._what(node) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def read_trace(tree: TraceTree) -> TraceView:
    """Turns, sessions and totals of one trace; work is linear in the trace's spans."""
    _sessions(tree)
    _find_turns(tree)
    turns = _turns(tree)
    sessions: dict[str, Totals] = {}
    for turn in turns:
        nodes = list(members(turn))
        sum_up(turn, nodes, sessions)
        describe(turn, [node.span for node in nodes if node.span is not None])
    return TraceView(turns, sessions, tree.nodes)


def sum_up(turn: Turn, nodes: Sequence[Node], sessions: dict[str, Totals]) -> None:
    """Take all of a turn into its sums and those of the sessions: one object where they are the same."""
    shares: dict[str, Totals] = {}
    for node in nodes:
        node.within = turn
        if (span := node.span) is not None:
            owner = node.owner or ""
            if (share := shares.get(owner)) is None:
                share = shares[owner] = Totals()
            share.take(span)
    spent: dict[str, list[Span]] = {}
    for node in innermost(nodes):
        assert node.span is not None
        spent.setdefault(node.owner or "", []).append(node.span)
    for owner, spans in spent.items():
        shares[owner].usage = Usage.total(spans)
    turn.totals = _sum(shares.values())
    for owner, share in shares.items():
        sessions[owner] = _sum([sessions[owner], share]) if owner in sessions else share


def _sum(parts: Collection[Totals]) -> Totals:
    if len(parts) == 1:
        return next(iter(parts))
    total = Totals()
    for part in parts:
        total.add(part)
    return total


def members(turn: Turn) -> Iterator[Node]:
    """All nodes of a turn, parents first, without the turns nested in it."""
    stack = list(reversed(turn.tops))
    while stack:
        node = stack.pop()
        yield node
        if children := node.children:
            stack += [child for child in reversed(children) if not child.turn]


def is_turn(node: Node) -> bool:
    """Whether this node starts a turn, as of the last `read_trace`: an agent of the user's, not one that
    another agent started.
    """
    return node.turn


def _find_turns(tree: TraceTree) -> None:
    """Decide `Node.turn` everywhere, from the tops down: asking each agent's ancestors would be quadratic."""
    stack: list[tuple[Iterable[Node], bool, bool]] = [(tree.tops.values(), False, False)]
    while stack:
        nodes, in_subagent, in_agent = stack.pop()
        for node in nodes:
            below_subagent, below_agent, span = in_subagent, in_agent, node.span
            node.turn = False
            if span is not None:
                below_subagent = below_subagent or span.role is Role.SUBAGENT or span.platform == "subagent"
                starts = span.role is Role.TURN or (span.role is Role.AGENT and not below_agent)
                node.turn = starts and not below_subagent
                below_agent = below_agent or span.role in (Role.TURN, Role.AGENT)
            if children := node.children:
                stack.append((children, below_subagent, below_agent))


def _sessions(tree: TraceTree) -> None:
    """Decide `Node.owner` everywhere, each node's session: its own, else its nearest relative's, else the
    trace itself.
    """
    below: dict[bytes, str | None] = {}
    order = [node for top in tree.ordered_tops() for node in top.walk()]
    for node in reversed(order):
        own = node.span.session if node.span is not None else None
        if not own and (children := node.children):
            own = next((session for child in children if (session := below[child.span_id])), None)
        below[node.span_id] = own
    tops = [below[top.span_id] for top in tree.ordered_tops()]
    default = next((session for session in tops if session), f"trace-{tree.trace_id.hex()}")
    for node in order:
        own = node.span.session if node.span is not None else None
        above = node.parent.owner if node.parent is not None else None
        node.owner = own or above or below[node.span_id] or default


def _turns(tree: TraceTree) -> list[Turn]:
    heads = sorted((n for n in tree.agents.values() if is_turn(n)), key=lambda n: (n.start_ns, n.span_id))
    turns = [
        Turn(_key(tree, at), tree.trace_id, node, [node], node.owner, start_ns=node.start_ns)
        for at, node in enumerate(heads)
    ]
    strays = [top for top in tree.ordered_tops() if not is_turn(top)]
    agents = sorted(tree.agents.values(), key=lambda n: (n.start_ns, n.span_id))
    late: Turn | None = None
    for top in strays:
        holder, top.home = _holder(top, agents, turns)
        if holder is None:
            if late is None:
                key = _key(tree, len(turns))
                late = Turn(key, tree.trace_id, None, session=top.owner, provisional=bool(turns))
            late.tops.append(top)
        else:
            holder.tops.append(top)
    if late is not None:
        late.start_ns = late.tops[0].start_ns
        turns.append(late)
    for turn in turns:
        turn.tops.sort(key=lambda node: (node is not turn.node, node.start_ns, node.span_id))
    return turns


def _key(tree: TraceTree, number: int) -> tuple[bytes, bytes]:
    """A turn is named by its place among the trace's turns: its own span may come last."""
    return tree.trace_id, number.to_bytes(4, "big") if number else b""


def _holder(top: Node, agents: list[Node], turns: list[Turn]) -> tuple[Turn | None, Node | None]:
    """The turn that a subtree without a known parent belongs to (None: it starts one of its own), and
    the subagent in that turn that it is the work of.

    An agent of the same session that was at work when the subtree started; else, for a session that
    has no turn here (a subagent's), the turn that was at work or had ended last.
    """
    if not turns:
        return None, None
    session, start = top.owner, top.start_ns
    for agent in reversed(agents):
        if agent.owner == session and agent.start_ns <= start and _covers(agent, start):
            # Only a subagent whose way up to a turn is known: two strays must not be each other's home.
            known = not agent.turn and _root(agent).turn
            return _turn_above(agent, turns), agent if known else None
    if any(turn.session == session for turn in turns) and start > max(turn.end_of_span for turn in turns):
        return None, None
    earlier = [turn for turn in turns if turn.start_ns <= start]
    return (earlier[-1] if earlier else turns[0]), None


def _root(node: Node) -> Node:
    for above in node.ancestors():
        node = above
    return node


def _covers(agent: Node, start_ns: int) -> bool:
    span = agent.span
    return span is not None and (span.running or start_ns <= span.end_ns)


def _turn_above(agent: Node, turns: list[Turn]) -> Turn | None:
    chain = {id(agent), *(id(node) for node in agent.ancestors())}
    found = [turn for turn in turns if id(turn.node) in chain]
    if found:
        return max(found, key=lambda turn: (turn.start_ns, turn.key))
    earlier = [turn for turn in turns if turn.start_ns <= agent.start_ns]
    return earlier[-1] if earlier else turns[0]


def counted(turn: Turn) -> Iterator[Node]:
    """The innermost LLM spans that carry counts: adding wrappers too would count a call twice."""
    return innermost(list(members(turn)))


def innermost(nodes: Sequence[Node]) -> Iterator[Node]:
    """`counted`, of the members of a turn."""
    inside: set[bytes] = set()
    for node in reversed(nodes):
        span = node.span
        counts = span is not None and span.kind is Kind.LLM and says_usage(span)
        if counts and node.span_id not in inside:
            yield node
        if (counts or node.span_id in inside) and node.parent is not None:
            inside.add(node.parent.span_id)

"""A turn as what was said and done, one entry after the other, whoever told of it. Pure.

Nothing whole is held here: an entry says where its texts are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from hermes_tui.model.joined import Agent, Item, JoinedTurn
from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.results import COMMAND_TOOLS, decision, read_object
from hermes_tui.model.span import NANOSECONDS, Role, Span, Status
from hermes_tui.model.steps import Step
from hermes_tui.model.turns import members

CHANGE_TOOLS = frozenset({"write_file", "patch", "edit_file"})
"""Tools that change files."""

EntryKey = tuple[str, object, object]
"""What it is, and the key of what it is of: the same before and after a span comes."""

_ENDS = (Role.WRAPPER, Role.TURN, Role.AGENT, Role.SUBAGENT)
_NEAR_NS = 2 * NANOSECONDS  # a person is asked so long after the call was at most, where nothing else tells


class Said(StrEnum):
    """Kinds of entries."""

    PROMPT = "prompt"
    ANSWER = "answer"
    COMMAND = "command"
    CHANGE = "change"
    TOOL = "tool"
    APPROVAL = "approval"
    SUBAGENT = "subagent"
    SKILL = "skill"
    FAILURE = "failure"
    END = "end"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was said or done, `depth` subagents deep.

    `text` is what is known of it at once, shortened. The whole is in Hermes' record `message`, in its
    `span` or, where that has none, in one of `others`; of a call where its `item` says. `sure` False: there
    may be nothing to show. `took_ns` 0: not known.
    """

    key: EntryKey
    kind: Said
    at_ns: int
    session: str
    turn: JoinedTurn = field(compare=False, repr=False)
    depth: int = 0
    text: str = ""
    took_ns: int = 0
    item: Item | None = None
    step: Step | None = None
    span: Span | None = None
    agent: Agent | None = None
    message: int = 0
    others: tuple[Span, ...] = ()
    sure: bool = True

    @property
    def whole(self) -> bool:
        """Whether `text` is all there is."""
        return self.kind not in (Said.PROMPT, Said.ANSWER, Said.COMMAND, Said.CHANGE)


@dataclass(slots=True)
class _Group:
    """What one session did in a turn."""

    session: str
    entries: list[Entry] = field(default_factory=list)
    models: list[Span] = field(default_factory=list)
    ends: list[Span] = field(default_factory=list)
    head: Span | None = None
    agent: Agent | None = None
    above: str | None = None


def entries_of(turn: JoinedTurn, session: str) -> list[Entry]:
    """What was said and done in a turn of `session`, in the order of time; what a subagent did stands
    together, below what it was asked to do.
    """
    groups = {session: _Group(session)}
    approvals, alone = _sort_spans(turn, session, groups)
    _calls(turn, groups, approvals)
    for approval in approvals:
        _group(groups, approval.session or session).entries.append(_asked(turn, approval))
    for agent in turn.agents:
        group = _group(groups, agent.session)
        group.agent = agent
        if group.head is None:
            group.head = next((span for span in alone if span.prompt == agent.prompt), None)
            alone = [span for span in alone if span is not group.head]
        above = agent.under[0] if agent.under is not None else session
        group.above = above if isinstance(above, str) else session
    for span in alone:
        _group(groups, f"{span.span_id.hex()} of {span.session}").head = span
    for group in groups.values():
        group.entries += _answers(turn, group, group.session == session)
        group.entries.sort(key=_order)
    return [*_prompt(turn), *_laid_out(turn, groups, session), *_end(turn, session)]


def _group(groups: dict[str, _Group], session: str) -> _Group:
    if session not in groups:
        groups[session] = _Group(session)
    return groups[session]


def _order(entry: Entry) -> tuple[int, bool]:
    """An answer stands before the calls that it asked for at the same moment."""
    return entry.at_ns, entry.kind is not Said.ANSWER


def _sort_spans(turn: JoinedTurn, session: str, groups: dict[str, _Group]) -> tuple[list[Span], list[Span]]:
    """Give each session the spans that are its own; those of approvals, and of subagents of whose work no
    span tells.
    """
    approvals, alone = list[Span](), list[Span]()
    owners: dict[bytes, str] = {}
    for node in members(turn.turn) if turn.turn is not None else ():
        above = node.parent or node.home
        span = node.span
        owner = (span.session if span is not None else None) or (
            owners.get(above.span_id, session) if above is not None else session
        )
        owners[node.span_id] = owner
        if span is None:
            continue
        if span.role is Role.APPROVAL:
            approvals.append(span)
        elif span.role is Role.MODEL_CALL:
            _group(groups, owner).models.append(span)
        elif span.role is Role.SKILL:
            key = (Said.SKILL.value, span.trace_id, span.span_id)
            text = span.name.removeprefix("skill.")
            entry = Entry(key, Said.SKILL, span.start_ns, owner, turn, text=text, span=span)
            _group(groups, owner).entries.append(entry)
        elif span.role is Role.SUBAGENT:
            below = {child.span.session for child in node.children if child.span is not None} - {None, owner}
            for name in below:
                found = _group(groups, name or "")
                found.head, found.above = span, owner
            if not below:
                alone.append(span)
        if span.role in _ENDS and owner == (span.session or owner):
            group = _group(groups, owner)
            if span.role is not Role.SUBAGENT:
                group.ends.append(span)
            if owner != session and group.head is None and span.role is not Role.WRAPPER:
                group.head = span
    return approvals, alone


def _prompt(turn: JoinedTurn) -> Iterator[Entry]:
    span = turn.turn.span if turn.turn is not None else None
    wrapped = turn.turn.tops if turn.turn is not None and span is None else ()
    others = tuple(top.span for top in wrapped if top.span is not None and top.span.prompt)[:1]
    yield Entry(
        (Said.PROMPT.value, *turn.key), Said.PROMPT, turn.start_ns,
        turn.live.session if turn.live is not None else "", turn,
        text=turn.prompt or "", span=span,
        message=turn.live.message if turn.live is not None else 0, others=others,
    )  # fmt: skip


def _answers(turn: JoinedTurn, group: _Group, own: bool) -> Iterator[Entry]:
    """What the model said, by Hermes' records or by spans; and where it failed."""
    steps = [step for step in turn.steps if step.session == group.session]
    noted = {step.also for step in steps}
    for step in steps:
        if step.live.size:
            yield Entry(
                (Said.ANSWER.value, *step.key), Said.ANSWER, step.live.at_ns, group.session, turn,
                took_ns=step.live.at_ns - step.live.since_ns, step=step, span=step.span,
                message=step.live.message,
            )  # fmt: skip
    last = max((span for span in group.models if not span.running), key=_end_of, default=None)
    record = any(step.span is None and not step.live.calls for step in steps)
    for span in group.models:
        key = (span.trace_id, span.span_id)
        if span.status is Status.ERROR:
            yield Entry(
                (Said.FAILURE.value, *key), Said.FAILURE, _end_of(span), group.session, turn,
                text=span.error or "", span=span,
            )  # fmt: skip
        elif key not in noted and not span.running and (span.calls or not span.tool_calls):
            ends = span is last and not span.tool_calls and not record
            yield Entry(
                (Said.ANSWER.value, *key), Said.ANSWER, _end_of(span), group.session, turn,
                took_ns=max(0, span.end_ns - span.start_ns), span=span,
                others=tuple(group.ends) if ends else (), sure=False,
            )  # fmt: skip
    if not group.models and not steps and group.ends and (own or group.head is not None):
        span = group.ends[0]
        if not span.running:
            key = (span.trace_id, span.span_id)
            yield Entry(
                (Said.ANSWER.value, *key), Said.ANSWER, _end_of(span), group.session, turn,
                span=span, others=tuple(group.ends[1:]), sure=False,
            )  # fmt: skip


def _end_of(span: Span) -> int:
    return span.end_ns or span.start_ns


def _calls(turn: JoinedTurn, groups: dict[str, _Group], approvals: list[Span]) -> None:
    """The calls of tools, each followed by what a person said to it; `approvals` keeps those of none."""
    for item in turn.items:
        kind = Said.TOOL
        if item.tool in COMMAND_TOOLS:
            kind = Said.COMMAND
        elif item.tool in CHANGE_TOOLS:
            kind = Said.CHANGE
        entries = _group(groups, item.session).entries
        at_ns = item.asked_ns or item.start_ns
        took_ns = max(0, item.end_ns - item.start_ns) if item.end_ns else 0
        text = item.command if kind is Said.COMMAND else item.target
        entries.append(
            Entry(
                (kind.value, *item.key),
                kind,
                at_ns,
                item.session,
                turn,
                text=text or "",
                took_ns=took_ns,
                item=item,
                span=item.span,
            )
        )
        approval = _approval_of(item, approvals)
        if approval is not None:
            approvals.remove(approval)
            entries.append(_asked(turn, approval, item))
        elif said := _decided(item):
            key = (Said.APPROVAL.value, *item.key)
            entries.append(Entry(key, Said.APPROVAL, at_ns, item.session, turn, text=said, item=item))


def _approval_of(item: Item, approvals: Iterable[Span]) -> Span | None:
    """The approval that a call waited for."""
    if item.tool not in COMMAND_TOOLS:
        return next((each for each in approvals if item.id and each.call_id == item.id), None)
    begin = (item.asked_ns or item.start_ns) - _NEAR_NS
    for each in approvals:
        if item.id and each.call_id == item.id:
            return each
        inside = begin <= each.start_ns <= (item.end_ns or 2**63)
        if inside and each.target and item.command and item.command.startswith(each.target[:200]):
            return each
    return None


def _asked(turn: JoinedTurn, span: Span, item: Item | None = None) -> Entry:
    """What a person decided, right behind the call that it was about."""
    at_ns = (item.asked_ns or item.start_ns) if item is not None else span.start_ns
    key = item.key if item is not None else (span.trace_id, span.span_id)
    return Entry(
        (Said.APPROVAL.value, *key), Said.APPROVAL, at_ns,
        item.session if item is not None else span.session or "", turn,
        text=span.decision or "", took_ns=max(0, span.end_ns - span.start_ns) if span.end_ns else 0,
        item=item, span=span,
    )  # fmt: skip


def _decided(item: Item) -> str:
    """What a person decided of a command, as its result tells."""
    if item.tool not in COMMAND_TOOLS or not item.result:
        return ""
    found = read_object(item.result)[0]
    if found.get("approval"):
        return "allowed"
    error = found.get("error")
    return decision(item.outcome, error) if isinstance(error, str) else ""


def _laid_out(turn: JoinedTurn, groups: dict[str, _Group], session: str) -> list[Entry]:
    """The entries of a session with those of its subagents, each where it began."""
    below: dict[str, list[_Group]] = {}
    for group in groups.values():
        if group.session != session:
            above = group.above if group.above in groups and group.above != group.session else session
            below.setdefault(above or session, []).append(group)
    found: list[Entry] = []
    seen = {session}
    stack: list[tuple[Iterator[Entry | _Group], int]] = [(_merged(groups[session], below), 0)]
    while stack:
        parts, depth = stack[-1]
        part = next(parts, None)
        if part is None:
            stack.pop()
        elif isinstance(part, Entry):
            found.append(_deeper(part, depth))
        elif part.session not in seen:
            seen.add(part.session)
            found.append(_deeper(_head(turn, part), depth))
            stack.append((_merged(part, below), depth + 1))
    return found


def _merged(group: _Group, below: dict[str, list[_Group]]) -> Iterator[Entry | _Group]:
    """A session's entries and its subagents in the order of time."""
    heads = sorted(below.get(group.session, ()), key=_begin)
    for entry in group.entries:
        while heads and _begin(heads[0]) < entry.at_ns:
            yield heads.pop(0)
        yield entry
    yield from heads


def _begin(group: _Group) -> int:
    if group.agent is not None:
        return group.agent.start_ns
    if group.head is not None:
        return group.head.start_ns
    return group.entries[0].at_ns if group.entries else 2**63


def _head(turn: JoinedTurn, group: _Group) -> Entry:
    asked = (group.agent.prompt if group.agent is not None else None) or (
        group.head.prompt if group.head is not None else None
    )
    return Entry(
        (Said.SUBAGENT.value, group.session, ""), Said.SUBAGENT, _begin(group), group.session, turn,
        text=asked or "", span=group.head, agent=group.agent,
    )  # fmt: skip


def _deeper(entry: Entry, depth: int) -> Entry:
    if depth:
        object.__setattr__(entry, "depth", depth)  # made here a moment ago, and nobody has it yet
    return entry


def _end(turn: JoinedTurn, session: str) -> Iterator[Entry]:
    """That a turn did not end as it should."""
    span = turn.turn.span if turn.turn is not None else None
    end = turn.turn.verdict if turn.turn is not None else ""
    if end not in ("interrupted", "failed") and turn.live is not None and not end:
        end = turn.live.end
    if end in ("interrupted", "failed"):
        said = "timed out" if span is not None and span.final_status == "timed_out" else end
        at_ns = turn.turn.end_ns if turn.turn is not None else turn.live.ended_ns if turn.live else 0
        yield Entry((Said.END.value, *turn.key), Said.END, at_ns, session, turn, text=said, span=span)


def trouble(entry: Entry) -> str | None:
    """Why a call that is no command failed; None: it did not."""
    item = entry.item
    if item is None:
        return None
    if item.span is not None:
        return (item.span.error or "failed") if item.span.status is Status.ERROR else None
    error = read_object(item.result)[0].get("error") if item.result else None
    return (error if isinstance(error, str) else "failed") if error else None


def span_keys(entry: Entry) -> Iterator[SpanKey]:
    """The spans that an entry's whole texts may be in, beside those of its own call."""
    for span in (entry.span, *entry.others):
        if span is not None:
            yield span.trace_id, span.span_id

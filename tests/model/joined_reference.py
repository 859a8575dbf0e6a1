"""What `model.joined` must say, worked out the slow and obvious way: from all events so far, each time anew.

Only the fold of spans into turns is taken from the model. Everything is a plain value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermes_tui.model.delegated import part_of
from hermes_tui.model.results import read_call, read_target
from hermes_tui.model.span import Outcome, Role, Span
from hermes_tui.model.state_rows import MessageRow, SessionRow
from hermes_tui.model.turns import members, read_trace
from tests.support import plant

SECOND = 10**9
COMMANDS = ("terminal", "execute_code")


@dataclass
class Call:
    """A call as somebody tells of it."""

    session: str
    name: str
    id: str
    tool: str
    arguments: str
    asked: int
    sources: set[str]
    ended: int = 0
    record: str | None = None
    told: str | None = None
    told_by: bytes | None = None
    dropped: bool = False
    asked_by: bytes | None = None
    span: Span | None = None
    turn: Any = None

    @property
    def text(self) -> str:
        if self.tool in COMMANDS:
            return read_call(self.tool, self.arguments, None, running=True).command or ""
        return read_target(self.arguments) or ""


@dataclass
class Prompt:
    """A prompt in Hermes' records, and what followed until the next."""

    session: str
    asked: int
    until: int
    text: str | None
    calls: list[Call] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        return self.session, self.asked


def reference(session: str, rows: Iterable[MessageRow | SessionRow], spans: Iterable[Span]) -> list[Any]:
    """Turns with their items, as plain values."""
    rows = list(rows)
    described = {row.id: row for row in rows if isinstance(row, SessionRow)}
    messages = [row for row in rows if isinstance(row, MessageRow)]
    views = [
        read_trace(tree)
        for tree in plant(spans).values()
        if any(span.session == session for span in tree.spans)
    ]
    turns = []
    for view in views:
        own = [turn for turn in view.turns if turn.session == session]
        turns += own or part_of(view, session) or view.turns
    turns.sort(key=lambda turn: (turn.start_ns, turn.key))
    family = [session]
    for name in family:
        children = (r for r in described.values() if r.source == "subagent" and r.parent == name)
        family += [r.id for r in sorted(children, key=lambda r: (r.started_ns, r.id)) if r.id not in family]
    prompts = {name: read_prompts(name, messages) for name in family}
    owners = {owner for view in views for owner in view.owners.values()}
    groups = []
    for name in [*family, *(owner for owner in owners if owner not in family)]:
        groups += group(name, prompts.get(name, []), views)
    homes = find_homes(session, prompts[session], turns, groups)
    return draw(session, prompts, turns, groups, homes, described)


def read_prompts(session: str, messages: Sequence[MessageRow]) -> list[Prompt]:
    """What Hermes' records say of a session."""
    own = sorted((row for row in messages if row.session == session), key=lambda row: row.id)
    starts = [at for at, row in enumerate(own) if row.role == "user"]
    if own and 0 not in starts:
        starts.insert(0, 0)
    found = []
    for number, at in enumerate(starts):
        rest = starts[number + 1] if number + 1 < len(starts) else len(own)
        some = own[at:rest]
        until = own[rest].at_ns if rest < len(own) else 2**63
        text = own[at].text[:2_000] if own[at].role == "user" else None
        prompt = Prompt(session, own[at].at_ns, until, text)
        for place, row in enumerate(some):
            known = [asked.id for before in some[:place] for asked in before.calls]
            if row.role == "tool" and text is None and row.tool_call_id not in known:
                name = row.tool_call_id or ""  # asked for before the oldest record that there is
                call = Call(session, name, name, row.tool_name or "", "", row.at_ns, {"state"})
                call.ended, call.record = row.at_ns, row.text
                prompt.calls.append(call)
            for asked in row.calls:
                call = Call(
                    session, asked.id, asked.id, asked.name, asked.arguments, row.at_ns, {"state"}
                )  # fmt: skip
                result = next((r for r in some[place:] if r.tool_call_id == asked.id), None)
                later = any(r.role == "assistant" for r in some[place + 1 :]) or rest < len(own)
                if result is not None:
                    call.ended, call.record = result.at_ns, result.text
                call.dropped = result is None and later
                prompt.calls.append(call)
        found.append(prompt)
    return found


def group(session: str, prompts: Sequence[Prompt], views: Sequence[Any]) -> list[Any]:
    """[prompt or None, calls, turns with traces of it] of a session: each prompt's, then what is left."""
    placed = [
        (node.span, view.turn_of[node.span_id])
        for view in views
        for turn in view.turns
        for node in members(turn)
        if node.span is not None and view.owners[node.span_id] == session
    ]
    tools = sorted(
        (pair for pair in placed if pair[0].role is Role.TOOL),
        key=lambda pair: (pair[0].start_ns, pair[0].span_id),
    )
    models = sorted(
        (pair for pair in placed if pair[0].role is Role.MODEL_CALL),
        key=lambda pair: (pair[0].end_ns, pair[0].span_id),
    )
    found: list[Any] = []
    for number, prompt in enumerate(prompts):
        since = prompt.asked if number else prompt.asked - SECOND
        some = [pair for pair in tools if since <= pair[0].start_ns < prompt.until]
        asking = [pair for pair in models if since <= pair[0].end_ns < prompt.until]
        found.append([prompt, calls_of(session, prompt.calls, some, asking), turns_of(some, asking)])
    first = prompts[0].asked - SECOND if prompts else 2**63
    left = [pair for pair in tools if pair[0].start_ns < first]
    asked_left = [pair for pair in models if pair[0].end_ns < first]
    for key in {turn.key for _, turn in [*left, *asked_left]}:
        some = [pair for pair in left if pair[1].key == key]
        asking = [pair for pair in asked_left if pair[1].key == key]
        found.append([None, calls_of(session, [], some, asking), turns_of(some, asking)])
    return found


def turns_of(*pairs: Sequence[tuple[Span, Any]]) -> dict[Any, Any]:
    return {turn.key: turn for some in pairs for _, turn in some}


def calls_of(session: str, recorded: list[Call], tools: list[Any], models: list[Any]) -> list[Call]:
    """Every call of a prompt once."""
    calls = list(recorded)
    for span, turn in models:
        for name, tool, arguments in span.calls or ():
            call = next((each for each in calls if each.id == name), None)
            if call is None:
                call = Call(session, name, name, tool, arguments, span.end_ns, {"model"}, turn=turn)
                call.dropped = models[-1][0].end_ns > span.end_ns
                calls.append(call)
            call.sources.add("model")
            call.asked_by, call.turn = span.span_id, turn
        for name, result in span.results or ():
            for call in calls:
                if call.id == name and call.told is None:
                    call.told, call.told_by, call.dropped = result, span.span_id, False
                    call.ended = call.ended or span.start_ns
    calls.sort(key=lambda call: call.asked)
    pairs = sorted(
        (rank, distance(call, span), number, place)
        for number, call in enumerate(calls)
        for place, (span, _) in enumerate(tools)
        if (rank := likeness(call, span)) is not None
    )
    taken: set[int] = set()
    for _, _, number, place in pairs:
        if calls[number].span is None and place not in taken:
            calls[number].span, calls[number].turn = tools[place]
            calls[number].sources.add("span")
            calls[number].dropped = False
            taken.add(place)
    for place, (span, turn) in enumerate(tools):
        if place not in taken:
            call = Call(session, "", span.call_id or "", span.tool, "", 0, {"span"}, span=span, turn=turn)
            calls.append(call)
    return sorted(calls, key=lambda call: call.asked or (call.span.start_ns if call.span else 0))


def likeness(call: Call, span: Span) -> int | None:
    if span.tool != call.tool:
        return None
    if call.id and call.id == span.call_id:
        return 0
    if span.start_ns < call.asked - SECOND:
        return None
    one, other = (" ".join(text.split()) for text in (call.text, span.command or span.target or ""))
    if not one or not other:
        return 3
    if one == other:
        return 1
    other = other.removesuffix("...")
    return 2 if len(other) >= 490 and one.startswith(other) else None


def distance(call: Call, span: Span) -> int:
    if call.ended and span.end_ns:
        return abs(call.ended - span.end_ns)
    return abs(span.start_ns - call.asked)


def find_homes(
    session: str, prompts: Sequence[Prompt], turns: Sequence[Any], groups: Sequence[Any]
) -> dict[Any, list[Any]]:
    """Which span turns a prompt is in: those that began with it or after it, and those of its spans."""
    homes: dict[Any, list[Any]] = {prompt.key: [] for prompt in prompts}
    for turn in turns:
        if turn.session != session or turn.review:
            continue
        near = [p for p in prompts if abs(p.asked - turn.start_ns) <= SECOND]
        before = [p for p in prompts if p.asked <= turn.start_ns]
        if near:
            homes[min(near, key=lambda p: abs(p.asked - turn.start_ns)).key].append(turn)
        elif before:
            homes[before[-1].key].append(turn)
    shown = {turn.key for turn in turns}
    for prompt, _, there in groups:
        if prompt is not None and prompt.session == session:
            for key, turn in there.items():
                if key in shown and not turn.review and turn not in homes[prompt.key]:
                    homes[prompt.key].append(turn)
            homes[prompt.key].sort(key=lambda turn: (turn.start_ns, turn.key))
    return homes


def draw(
    session: str,
    prompts: dict[str, list[Prompt]],
    turns: Sequence[Any],
    groups: Sequence[Any],
    homes: dict[Any, list[Any]],
    described: dict[str, SessionRow],
) -> list[Any]:
    """The turns as they are to be shown."""
    heads: dict[Any, Prompt] = {}
    for prompt in prompts[session]:
        if homes[prompt.key]:
            main = min(homes[prompt.key], key=lambda turn: abs(turn.start_ns - prompt.asked))
            other = heads.get(main.key)
            if other is None or abs(main.start_ns - prompt.asked) < abs(main.start_ns - other.asked):
                heads[main.key] = prompt
    shown = {turn.key: turn for turn in turns}
    held: dict[Any, list[Any]] = {}
    for prompt, calls, there in groups:
        for call in calls:
            at = call.asked or (call.span.start_ns if call.span else 0)
            above, under = (None, None)
            if call.session != session:
                above, under = delegation(session, call.session, prompts, described)
            if call.turn is not None and call.turn.key in shown:
                place = call.turn.key
            elif prompt is None:
                continue
            elif call.session == session:
                place = place_of(homes[prompt.key], at, prompt.key)
            else:
                own = sorted(
                    (turn for key, turn in there.items() if key in shown), key=lambda turn: turn.start_ns
                )
                place = place_of(own, at, None)
                if place is None and above is not None:
                    place = place_of(homes[above.key], at, above.key)
                if place is None:
                    place = place_of(list(turns), at, None)
            if place is not None:
                held.setdefault(place, []).append((at, picture(call, under)))
    drawn = []
    for turn in turns:
        head = heads.get(turn.key)
        prompt_text = turn.prompt or (head.text if head else None)
        drawn.append((turn.start_ns, head.key if head else turn.key, turn.key, prompt_text, turn.key))
    drawn += [(p.asked, p.key, None, p.text, p.key) for p in prompts[session] if not homes[p.key]]
    drawn.sort(key=lambda each: (each[0], str(each[1])))
    return [
        (key, own, text, [item for _, item in sorted(held.get(place, []), key=lambda pair: pair[0])])
        for _, key, own, text, place in drawn
    ]


def place_of(homes: Sequence[Any], at: int, otherwise: Any) -> Any:
    if not homes:
        return otherwise
    return next((turn.key for turn in reversed(homes) if turn.start_ns <= at), homes[0].key)


def delegation(
    session: str, child: str, prompts: dict[str, list[Prompt]], described: dict[str, SessionRow]
) -> tuple[Prompt | None, Any]:
    """The prompt of `session` that a subagent works for, and the call that made it."""
    under = None
    while child != session:
        row = described.get(child)
        if row is None or row.source != "subagent" or not prompts.get(row.parent or ""):
            return None, None
        assert row.parent is not None
        before = [p for p in prompts[row.parent] if p.asked <= row.started_ns] or prompts[row.parent][:1]
        asked = [c for c in before[-1].calls if c.tool == "delegate_task" and c.asked <= row.started_ns]
        under = under or ((asked[-1].session, asked[-1].name) if asked else None)
        if row.parent == session:
            return before[-1], under
        child = row.parent
    return None, None


def picture(call: Call, under: Any) -> dict[str, Any]:
    """What is known of a call, as plain values."""
    span = call.span
    said = (None, None) if span is None else (span.outcome and Outcome(span.outcome), span.exit_code)
    best, source = said, "span"
    if call.tool in COMMANDS:
        if call.record is not None:
            read = read_call(call.tool, call.arguments, call.record)
            source = "state"
        elif call.told is not None:
            read = read_call(call.tool, call.arguments, call.told)
            source = "model"
        if source != "span" and read.outcome is not Outcome.UNKNOWN:
            best = (read.outcome, read.exit_code)
        else:
            source = "span"
    own = None if span is None else (span.trace_id, span.span_id)
    return {
        "key": (call.session, call.name) if call.name else own,
        "also": own,
        "tool": call.tool,
        "text": call.text or (span and (span.command or span.target)) or "",
        "sources": sorted(call.sources),
        "ended": (span.end_ns if span else 0) or call.ended,
        "outcome": best[0],
        "exit_code": best[1],
        "completed": source if source != "span" and best != said else None,
        "full": "state" if call.record is not None else "model" if call.told is not None else None,
        "dropped": call.dropped,
        "under": under,
    }


def joined_picture(turns: Iterable[Any]) -> list[Any]:
    """`Joined.turns` in the same form."""
    return [
        (
            turn.key,
            turn.turn.key if turn.turn is not None else None,
            turn.prompt,
            [
                {
                    "key": item.key,
                    "also": item.also,
                    "tool": item.tool,
                    "text": item.command or item.target or "",
                    "sources": sorted(source.value for source in item.sources),
                    "ended": item.end_ns,
                    "outcome": item.outcome,
                    "exit_code": item.exit_code,
                    "completed": item.completed and item.completed.value,
                    "full": item.full and item.full.value,
                    "dropped": item.dropped,
                    "under": item.under,
                }
                for item in turn.items
            ],
        )
        for turn in turns
    ]

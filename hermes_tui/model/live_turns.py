"""One turn as Hermes' own records tell it, row by row: what was asked, which tools, what they answered."""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from hermes_tui.model.approvals import may_ask
from hermes_tui.model.results import COMMAND_TOOLS, read_call, read_object, read_target
from hermes_tui.model.span import Outcome
from hermes_tui.model.state_rows import CallRow, MessageRow

CallKey = tuple[str, str]
"""(session, the model's id of the call): the same in Hermes' records and in spans that carry it."""

TurnKey = tuple[str, int]
"""(session, when it was asked in ns; a little later where another turn has that name)."""

TEXT = 2_000  # characters of a prompt, a command or arguments that are kept
INTERRUPTED = "Operation interrupted"  # how Hermes' own last word begins after Ctrl-C (`v123_interrupted`)
STOPPED = re.compile(r"received signal \d{1,2}")
"""What Hermes 0.19 notes as if the user had asked it, when its terminal is closed."""

AT_ONCE = frozenset({
    "ha_get_state", "ha_list_entities", "ha_list_services", "image_generate", "patch", "read_file",
    "search_files", "session_search", "skill_view", "skills_list", "vision_analyze", "web_extract",
    "web_search", "write_file",
})  # fmt: skip
"""Tools of which Hermes runs several at a time (its `agent/tool_dispatch_helpers.py`)."""

_UNFINISHED = frozenset({"length", "incomplete", "max_tokens"})  # Hermes lets the model go on


class LiveCall(msgspec.Struct, frozen=True):
    """A tool call in Hermes' records. `id` is the model's own. `ended_ns` 0: no result yet; `dropped`: and
    none will come.

    `result` is shortened, `result_size` the bytes of the whole. `outcome` is known once it ended, for
    commands; `allowed` says that a person was asked and let it pass, `risk` what Hermes mostly asks about.
    """

    key: CallKey
    id: str
    tool: str
    arguments: str
    asked_ns: int
    batch: int = 0
    command: str | None = None
    target: str | None = None
    cwd: str | None = None
    risk: str | None = None
    ended_ns: int = 0
    result: str | None = None
    result_size: int = 0
    outcome: Outcome | None = None
    exit_code: int | None = None
    allowed: bool = False
    dropped: bool = False

    @property
    def session(self) -> str:
        return self.key[0]

    @property
    def open(self) -> bool:
        """Asked for, not answered."""
        return not self.ended_ns and not self.dropped


def asked_call(key: CallKey, row: CallRow, at_ns: int, batch: int) -> LiveCall:
    """A call the moment it is asked for."""
    tool = row.name or "tool"
    command = cwd = target = None
    if tool in COMMAND_TOOLS:
        read = read_call(tool, row.arguments, None, running=True)
        command, cwd = read.command, read.cwd
    else:
        target = read_target(row.arguments)
    return LiveCall(
        key,
        row.id,
        tool,
        row.arguments,
        at_ns,
        batch,
        command=command and command[:TEXT],
        target=target and target[:TEXT],
        cwd=cwd,
        risk=may_ask(command) if command and tool == "terminal" else None,
    )


def answered(call: LiveCall, result: str, size: int, at_ns: int) -> LiveCall:
    """The call with its result. A call that was answered twice keeps its first answer."""
    if call.ended_ns:
        return call
    outcome = exit_code = None
    allowed = False
    if call.tool in COMMAND_TOOLS:
        read = read_call(call.tool, call.arguments, result)
        outcome, exit_code = read.outcome, read.exit_code
        allowed = bool(read_object(result)[0].get("approval"))
    return replace(
        call,
        ended_ns=at_ns or call.asked_ns or 1,
        result=result,
        result_size=size,
        outcome=outcome,
        exit_code=exit_code,
        allowed=allowed,
        dropped=False,
    )


class LiveStep(msgspec.Struct, frozen=True, eq=False):
    """A model call that was answered: what it was given was there at `since_ns`, its answer at `at_ns`.

    `calls` is how many tools it asked for, `revision` the look that found the record of its answer,
    `message` that record's id in its session and `size` the bytes of what it says beside its calls.
    """

    since_ns: int
    at_ns: int
    calls: int
    revision: int
    message: int = 0
    size: int = 0

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, whichever look found it."""
        return isinstance(other, LiveStep) and self._said() == other._said()

    def _said(self) -> tuple[int, ...]:
        return self.since_ns, self.at_ns, self.calls, self.message, self.size


class LiveTurn(msgspec.Struct):
    """What happened since a prompt. `take` rows in the order of their ids.

    `prompt` None: the turn began before the oldest row that was read. `end` is completed, interrupted
    or "" while more is to come; `version` changes with every change; `message` is the id of the prompt's
    record in its session (0: not known).
    """

    key: TurnKey
    prompt: str | None
    asked_ns: int
    calls: list[LiveCall] = msgspec.field(default_factory=list)
    last_ns: int = 0
    last_role: str = "user"
    ended_ns: int = 0
    end: str = ""
    cut_short: bool = False
    version: int = 0
    steps: list[LiveStep] = msgspec.field(default_factory=list)
    message: int = 0
    _batch: int = 0

    @property
    def session(self) -> str:
        return self.key[0]

    def take(self, row: MessageRow, names: CallNames, *, reasons: bool = False) -> LiveCall | None:
        """One more row that is not a prompt; the call that it answers, if it is a result.

        `reasons` says that this session's answers have finish reasons: then one without was broken off.
        """
        since, self.last_ns = self.last_ns, max(self.last_ns, row.at_ns)
        self.last_role = row.role
        if row.role == "tool":
            return self._result(row, names)
        self._drop_open()
        self.ended_ns, self.end, self.cut_short = 0, "", False
        broken = not row.calls and not row.finish_reason
        broken = broken and (reasons or not row.text or row.text.startswith(INTERRUPTED))
        if not broken:
            begun = min(since or row.at_ns, row.at_ns)
            size = (row.size or len(row.text)) if row.text.strip() else 0
            self.steps.append(LiveStep(begun, row.at_ns, len(row.calls), row.revision, row.id, size))
        if row.calls:
            self._batch += 1
            for call in row.calls:
                self.calls.append(asked_call(names.new(call.id, row.id), call, row.at_ns, self._batch))
        elif row.finish_reason in _UNFINISHED:
            self.cut_short = True
        else:
            self.ended_ns = row.at_ns
            self.end = "interrupted" if broken else "completed"
        return None

    def close(self) -> None:
        """The conversation went on: what has no answer by now gets none."""
        self._drop_open()

    def running(self) -> tuple[list[tuple[LiveCall, int]], list[LiveCall]]:
        """(calls at work with the time since which, calls that wait for their turn).

        Hermes runs a batch in order, and neighbours in it at once when all of them are such as cannot
        disturb each other; an answer out of order shows that it ran this one all at once.
        """
        calls = [call for call in self.calls if call.batch == self._batch]
        opened = [call for call in calls if call.open]
        if not opened:
            return [], []
        ended = [call for call in calls if call.ended_ns]
        place = {call.key: at for at, call in enumerate(calls)}
        jumped = any(place[call.key] > place[opened[0].key] for call in ended)
        if jumped:
            return [(call, call.asked_ns) for call in opened], []
        first = end = place[opened[0].key]
        while first and calls[first - 1].tool in AT_ONCE and opened[0].tool in AT_ONCE:
            first -= 1
        while end + 1 < len(calls) and calls[end + 1].tool in AT_ONCE and opened[0].tool in AT_ONCE:
            end += 1
        since = max([opened[0].asked_ns, *(call.ended_ns for call in calls[:first])])
        together = [call for call in calls[first : end + 1] if call.open]
        return [(call, since) for call in together], opened[len(together) :]

    def _result(self, row: MessageRow, names: CallNames) -> LiveCall | None:
        for at in range(len(self.calls) - 1, -1, -1):
            call = self.calls[at]
            if call.id and call.id == row.tool_call_id and not call.ended_ns:
                self.calls[at] = answered(call, row.text, row.size, row.at_ns)
                return self.calls[at]
        if self.prompt is not None or any(call.id == row.tool_call_id for call in self.calls):
            return None  # answered before, or nobody's
        asked = CallRow(row.tool_call_id or "", row.tool_name or "", "")
        call = asked_call(names.new(asked.id, row.id), asked, row.at_ns, self._batch)
        self.calls.append(answered(call, row.text, row.size, row.at_ns))
        return self.calls[-1]

    def _drop_open(self) -> None:
        for at in range(len(self.calls) - 1, -1, -1):
            if self.calls[at].batch != self._batch:
                return  # those before were dropped when this batch was asked for
            if self.calls[at].open:
                self.calls[at] = replace(self.calls[at], dropped=True)


class CallNames:
    """Names the calls of a session: the model's own ids, told apart where it used one twice or gave none."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._used: dict[str, int] = {}

    def new(self, call_id: str, message: int) -> CallKey:
        name = call_id or f"@{message}"
        count = self._used.get(name, 0)
        self._used[name] = count + 1
        return self._session, f"{name}~{count + 1}" if count else name

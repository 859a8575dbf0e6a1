"""What goes on around the rows of a session at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hermes_tui.model.doing import Doing, State
from hermes_tui.model.flags import Flags
from hermes_tui.model.jobs import Job
from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.live import Live
from hermes_tui.model.live_turns import CallKey
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import Outcome

_IDLE = Doing()
_FLAGS = Flags()


def lead_of(turns: Sequence[JoinedTurn]) -> JoinedTurn | None:
    """Of turns in order of time, the newest of the user's: a background review may run beside it."""
    own = (turn for turn in reversed(turns) if turn.turn is None or not turn.turn.review)
    return next(own, turns[-1] if turns else None)


class Moment(msgspec.Struct, frozen=True):
    """`doings` tells what a session and its subagents' do, `jobs` the background jobs by the call that
    started each; `traced`: spans of the session came, so one that is missing was lost.
    """

    now_ns: int
    session: str = ""
    doings: Mapping[str, Doing] = msgspec.field(default_factory=dict)
    jobs: Mapping[CallKey, Job] = msgspec.field(default_factory=dict)
    live: Live = msgspec.field(default_factory=Live)
    traced: bool = True
    flags: Flags = _FLAGS

    def doing(self, session: str) -> Doing:
        return self.doings.get(session, _IDLE)

    def status(self, turn: JoinedTurn, lead: JoinedTurn | None) -> str:
        """running, completed, interrupted, failed or unknown; `lead` is the turn that the session is at."""
        return turn.status(self.now_ns, self.doing(self.session), newest=turn is lead)

    def job(self, item: Item | None) -> Job | None:
        """The background job that a call started."""
        if item is None or item.outcome is not Outcome.BACKGROUND or isinstance(item.key[0], bytes):
            return None
        return self.jobs.get((item.session, str(item.key[1])))

    def folder(self, item: Item) -> str | None:
        """Where a command ran: as it was told, else where its session works."""
        return item.cwd or self.folder_of(item.session)

    def folder_of(self, session: str) -> str | None:
        """Where a session works, as Hermes noted."""
        part = self.live.session(session)
        return part.row.cwd if part is not None and part.row is not None else None

    def whys(self, item: Item | None) -> tuple[str, ...]:
        """Why a command deserves a look; nothing for other calls."""
        if item is None or item.tool not in COMMAND_TOOLS:
            return ()
        return self.flags.whys(item.command, self.folder(item))

    def since(self, item: Item) -> int:
        """Since when a call is at work, in ns; 0: it is not, or nobody knows."""
        doing = self.doing(item.session)
        return next((since for call, since in doing.calls if call.key == item.key), 0)

    def waits(self, item: Item) -> bool:
        """Whether a call waits for its turn in a batch."""
        return any(call.key == item.key for call in self.doing(item.session).queued)

    def asks(self, item: Item) -> bool:
        """Whether a call waits for the user."""
        return self.doing(item.session).state is State.APPROVAL and bool(self.since(item))

    def lost(self, item: Item, turn: JoinedTurn) -> bool:
        """Whether a call is known from Hermes' records alone, and will be."""
        return self.traced and item.lost(turn.turn, self.now_ns)

    def pulse(self, turn: JoinedTurn, *, running: bool) -> tuple[object, ...]:
        """What can change of a turn's rows without any news of its spans or records."""
        sessions = [self.session] * running + [agent.session for agent in turn.agents]
        doings = tuple(self.doing(session) for session in sessions)
        loose = tuple(self.lost(item, turn) for item in turn.items if item.span is None)
        jobs = tuple(self.job(item) for item in turn.items if item.outcome is Outcome.BACKGROUND)
        noted = {step.session for step in turn.steps if step.span is None}
        parts = (self.live.session(session) for session in sorted(noted))
        return doings, loose, jobs, tuple(part.sums for part in parts if part is not None), self.traced

    def settled(self, turn: JoinedTurn) -> bool:
        """Whether the clock alone changes nothing of a turn that is over."""
        agents = any(self.doing(agent.session).state is not State.IDLE for agent in turn.agents)
        open_calls = any(item.span is None and not self.lost(item, turn) for item in turn.items)
        return not agents and not open_calls and not any(
            job is not None and job.running(self.now_ns) for job in map(self.job, turn.items)
        )  # fmt: skip

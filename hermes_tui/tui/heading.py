"""Pure: what the header says of a session."""

from __future__ import annotations

from hermes_tui import neutral
from hermes_tui.model.doing import Doing, State
from hermes_tui.model.joined import JoinedTurn
from hermes_tui.model.live import LiveSession
from hermes_tui.model.sums import Sums
from hermes_tui.model.usage import Usage
from hermes_tui.tui.moment import lead_of
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.trust import RelaySays, Word, session_word
from hermes_tui.tui.widgets.bars import HeaderData

_TITLE = 200  # characters of a title


def heading(session: ShownSession, says: RelaySays, trouble: str) -> HeaderData:
    """As of the session's last `refresh`. What spans do not say is taken from Hermes' records."""
    totals, doing, usage = session.totals, session.doing, spent(session)
    row = session.record.row if session.record is not None else None
    status = session.status()
    lead, first = lead_of(session.turns), session.turns[0] if session.turns else None
    last_ns = max(totals.last_ns, session.record.last_ns if session.record is not None else 0)
    return HeaderData(
        session=neutral.line(session.id),
        title=neutral.line((row.title or "")[:_TITLE]) if row is not None else "",
        model=neutral.line(totals.model or (row.model if row is not None else None) or ""),
        source=neutral.line(totals.source or (row.source if row is not None else None) or ""),
        status=_word(status, doing),
        since_ns=_since(status, doing, lead),
        lasted_s=max(0, last_ns - first.start_ns) / 1e9 if first is not None else None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_tokens=usage.cache_read_tokens,
        cost=usage.cost if usage.cost is not None or row is None else row.cost,
        delivery=_delivery(session, says),
        trouble=trouble,
    )


def _word(status: str, doing: Doing) -> str:
    if doing.state is State.APPROVAL:
        return "waits for you" if doing.certain else "waits for you?"
    return "last seen" if _lost_sight(status, doing) else status


def _lost_sight(status: str, doing: Doing) -> bool:
    """Hermes went away in the middle of a turn; one that ended, ended, whatever became of its jobs."""
    return doing.gone and status in ("running", "unknown")


def _since(status: str, doing: Doing, lead: JoinedTurn | None) -> int:
    """Since when what the word says has been so, in ns; 0: it is over."""
    if doing.state is State.APPROVAL:
        return doing.since_ns
    if _lost_sight(status, doing):
        return doing.heard_ns
    return lead.start_ns if status == "running" and lead is not None else 0


def _delivery(session: ShownSession, says: RelaySays) -> Word:
    if session.moment.traced:
        return session_word(session.totals, says, session.glyphs)
    return Word(session.glyphs.none, "no spans yet", "dim")


def spent(session: ShownSession) -> Usage:
    """Tokens and cost of a session: by its spans, with what Hermes noted of model calls without one; by its
    records alone where there are no spans.
    """
    usage, record = session.totals.usage, session.record
    if record is None:
        return usage
    if not usage.tokens:
        return _usage(record.sums)
    return usage + _unseen(session, record)


def _unseen(session: ShownSession, record: LiveSession) -> Usage:
    """Of the model calls of the newest turn whose spans have not come."""
    total = Usage()
    for step in session.turns[-1].steps if session.turns else ():
        if step.span is None and step.session == session.id:
            total += _usage(record.spent(step.live))
    return total


def _usage(sums: Sums | None) -> Usage:
    if sums is None:
        return Usage()
    return Usage(
        sums.input_tokens, sums.output_tokens, sums.cache_read_tokens, sums.cache_write_tokens,
        sums.reasoning_tokens, sums.cost,
    )  # fmt: skip

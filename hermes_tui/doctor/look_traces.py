"""Gather what arrived: the journal's newest traces, beside Hermes' own records and its log."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hermes_tui.doctor import errors_log
from hermes_tui.doctor.trace_checks import Stuck, TraceFacts
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_file import StateFile
from hermes_tui.journal.delivery import Refused, told
from hermes_tui.journal.delivery import look as look_at_delivery
from hermes_tui.journal.reader import PROBE, NoJournal, Reader
from hermes_tui.journal.records import views
from hermes_tui.model.span import NANOSECONDS, Delivery, Kind, Role, Span, Status
from hermes_tui.model.tree import TraceTree

_TRACES = 100  # newest that are looked through
_SESSIONS = 50  # of them that Hermes' records are asked about
_QUIET_NS = 15 * 60 * NANOSECONDS  # a turn may wait so long for a tool
_GATEWAY = "/gateway/"


def look(
    journal: Path, home: Home, *, base_url: str = "", plugin: bool = False, since_ns: int = 0
) -> TraceFacts:
    """Reads files only. Raises sqlite3.Error or StateError when the journal cannot be read."""
    log = home.path / "logs" / "errors.log"
    lines, unreadable = errors_log.read(log)
    found = _Journal()
    try:
        with Reader(journal) as reader:
            found = _Journal(reader)
    except NoJournal:
        pass  # nothing has arrived: all that is left is what Hermes says
    worked_ns, called = _hermes(home, found.sessions)
    return TraceFacts(
        time.time_ns(),
        counts=found.counts,
        kinds=found.kinds,
        newest_ns=found.newest_ns,
        called=called,
        worked_ns=worked_ns,
        since_ns=since_ns,
        refused=found.refused,
        stuck=found.stuck,
        trouble=errors_log.explain(lines),
        log=str(log),
        unreadable=unreadable,
        gateway=base_url if _GATEWAY in base_url else "",
        plugin=plugin,
    )


class _Journal:
    """The newest traces, without those of probes."""

    def __init__(self, reader: Reader | None = None) -> None:
        self.counts: Counter[Delivery] = Counter()
        self.kinds: Counter[Kind] = Counter()
        self.newest_ns = 0
        self.sessions: list[str] = []
        self.refused: tuple[Refused, ...] = ()
        self.stuck: list[Stuck] = []
        if reader is None:
            return
        delivery = look_at_delivery(reader, None)
        self.counts = delivery.counts
        self.refused = delivery.refused
        rows = reader.rows(
            "SELECT trace_id, session, received_ns FROM traces WHERE coalesce(session, '') NOT GLOB ? "
            "ORDER BY received_ns DESC LIMIT ?",
            (f"{PROBE}*", _TRACES),
        )
        self.newest_ns = max((row[2] for row in rows), default=0)
        self.sessions = list(dict.fromkeys(row[1] for row in rows if row[1]))[:_SESSIONS]
        sessions = {row[0]: row[1] or f"trace-{row[0].hex()}" for row in rows}
        for tree, _ in views(reader, list(sessions)):
            spans = list(tree.spans)
            self.kinds.update(span.kind for span in spans)
            if (stuck := _stuck(tree, spans, sessions[tree.trace_id])) is not None:
                self.stuck.append(stuck)
        states = told(reader, [bytes.fromhex(each.trace.removeprefix("tr-")) for each in self.stuck])
        self.stuck = [
            each
            for each in self.stuck
            if (said := states.get(bytes.fromhex(each.trace.removeprefix("tr-")))) is None
            or said.state in (None, "IN_PROGRESS")
        ]


def _stuck(tree: TraceTree, spans: list[Span], session: str) -> Stuck | None:
    """A trace that was left without its root, long enough ago."""
    last_ns = max((span.end_ns or span.start_ns for span in spans), default=0)
    if not spans or last_ns > time.time_ns() - _QUIET_NS:
        return None
    if any(not span.parent_id and span.end_ns for span in spans):
        return None
    return Stuck(f"tr-{tree.trace_id.hex()}", session, last_ns, why(spans))


def why(spans: Iterable[Span]) -> str:
    """Why a root never came, from what there is: see the field notes on how turns end in Hermes."""
    by_time = sorted(spans, key=lambda span: span.end_ns or span.start_ns)
    calls = [span for span in by_time if span.role is Role.MODEL_CALL]
    tools = [span for span in by_time if span.role is Role.TOOL]
    if calls and calls[-1].status is Status.ERROR:
        return "the model's API failed for good; hermes-otel up to 0.11 sends no root then"
    if all(span.role is Role.SUBAGENT or (span.role is Role.AGENT and span.parent_id) for span in by_time):
        return "only a delegated agent's spans came; the turn that called it was lost"
    if tools and tools[-1].exit_code == 130:
        return "the turn was interrupted, and Hermes ended before it sent the rest"
    return "Hermes ended in mid-turn, or lost its last batch"


def _hermes(home: Home, sessions: list[str]) -> tuple[int, int | None]:
    """When Hermes last wrote a message (ns, 0: never), and how many tools it called in some sessions."""

    def read(connection: sqlite3.Connection) -> tuple[float, int]:
        (newest,) = connection.execute("SELECT coalesce(max(timestamp), 0) FROM messages").fetchone()
        names = ", ".join("?" * len(sessions))
        (called,) = connection.execute(
            f"SELECT count(*) FROM messages WHERE role = 'tool' AND session_id IN ({names})", sessions
        ).fetchone()
        return newest, called

    if not home.state_db.exists():
        return 0, None
    found = StateFile(home.state_db).once(read)
    if found is None or not isinstance(found[0], int | float):
        return 0, None
    return int(found[0] * NANOSECONDS), found[1] if sessions else None

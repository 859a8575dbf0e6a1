"""What the delivery view shows, gathered from what is known. No I/O; `delivery_lines` lays it out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from hermes_tui.figures import short_age
from hermes_tui.journal.delivery import REFUSED_SHOWN, Refused, Snapshot
from hermes_tui.model.compare import UNKNOWN, Difference, Told, differences
from hermes_tui.model.joined import JoinedTurn
from hermes_tui.model.span import NANOSECONDS, Delivery
from hermes_tui.model.turns import TraceView, Turn
from hermes_tui.tui import trust
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.rows import RowKey, shown, turn_key
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.trust import RelaySays, State
from hermes_tui.tui.wishes import Notice, Wishes

_DIFFERING = 20  # turns that are listed at most
_ORDER = ("spans", "state", "tokens in", "tokens out", "cost", "duration")  # what misleads most comes first
_PASSWORD = re.compile(r"//[^/@\s]*@")


class Count(NamedTuple):
    """A line of the table of counts: spans of the shown session and of the whole journal."""

    delivery: Delivery
    session: int
    journal: int
    note: str = ""


class RefusedRow(NamedTuple):
    """A held or quarantined span."""

    key: RowKey
    name: str
    where: str
    age: str
    delivery: Delivery
    reason: str


class DifferingTurn(NamedTuple):
    """A turn of which MLflow says something else."""

    key: RowKey
    title: str
    differences: tuple[Difference, ...]


class DeliveryData(msgspec.Struct, frozen=True):
    """All that the view shows; equal data means nothing to repaint."""

    address: str
    state: State
    since: str
    counts: tuple[Count, ...]
    last_error: str
    last_error_age: str
    damage: str
    notices: tuple[Notice, ...]
    refused: tuple[RefusedRow, ...]
    unlisted: int
    differing: tuple[DifferingTurn, ...]
    more_differing: int


class DeliveryState:
    """What the pane knows of delivery: the journal's last snapshot, its own wishes, and comparisons."""

    def __init__(self, glyphs: Glyphs) -> None:
        self.snapshot = Snapshot()
        self.wishes = Wishes()
        self._glyphs = glyphs
        self._compared: dict[bytes, tuple[TraceView, Told, list[str], tuple[Difference, ...]]] = {}

    def take(self, snapshot: Snapshot, now_ns: int) -> list[str]:
        """A newer snapshot; ids of the wishes that it answers for good."""
        self.snapshot = snapshot
        return self.wishes.answered(snapshot.answers, now_ns)

    def session_of(self, trace_id: bytes) -> str | None:
        """The session that a listed span belongs to."""
        return next((each.session for each in self.snapshot.refused if each.trace_id == trace_id), None)

    def data(self, session: ShownSession, address: str | None, stopped: str, now_ns: int) -> DeliveryData:
        """What to show now. `stopped` says why no relay runs, "" while one does."""
        snapshot = self.snapshot
        says = RelaySays(snapshot.exporter, snapshot.proof, snapshot.keeping)
        state = trust.state(says, snapshot.counts, stopped, self._glyphs)
        troubled = state.word == says.sending and state.word != "ok"
        since_ns = _whole(snapshot.exporter, "since_ns") if troubled else 0
        differing = self._differing(session, now_ns)
        listed = Counter(each.delivery for each in snapshot.refused)
        return DeliveryData(
            address=_PASSWORD.sub("//", trust.said(snapshot.exporter.get("destination") or address)),
            state=state,
            since=_age(since_ns, now_ns),
            counts=self._counts(session, now_ns),
            last_error=_last_error(says),
            last_error_age=_age(_whole(snapshot.exporter, "last_error_ns"), now_ns),
            damage=trust.damage(says),
            notices=self.wishes.notices(session.id, now_ns),
            refused=_by_reason([self._row(each, session, now_ns) for each in snapshot.refused]),
            unlisted=sum(
                max(0, snapshot.counts[each] - listed[each])
                for each, count in listed.items()
                if count >= REFUSED_SHOWN
            ),
            differing=tuple(differing[:_DIFFERING]),
            more_differing=max(0, len(differing) - _DIFFERING),
        )

    def differences(self, view: TraceView, told: Told, now_ns: int) -> tuple[Difference, ...]:
        """`compare.differences`, worked out again only when something changed."""
        trace_id = view.turns[0].trace_id
        statuses = [turn.status(now_ns) for turn in view.turns]
        known = self._compared.get(trace_id)
        if known is not None and known[0] is view and known[1:3] == (told, statuses):
            return known[3]
        found = tuple(differences(view, told, now_ns))
        self._compared[trace_id] = view, told, statuses, found
        return found

    def _counts(self, session: ShownSession, now_ns: int) -> tuple[Count, ...]:
        own, everywhere = session.totals.deliveries, self.snapshot.counts
        waits = _age(self.snapshot.oldest_ns, now_ns)
        rows = []
        for delivery in _ROWS:
            if not own[delivery] and not everywhere[delivery] and delivery is not Delivery.CONFIRMED:
                continue
            note = ""
            if delivery in (Delivery.QUEUED, Delivery.HELD) and waits:
                note, waits = f"oldest waits {waits}", ""
            rows.append(Count(delivery, own[delivery], everywhere[delivery], note))
        return tuple(rows)

    def _row(self, refused: Refused, session: ShownSession, now_ns: int) -> RefusedRow:
        key = (refused.trace_id, refused.span_id, "span")
        turn = session.find(key).turn
        where = _place(turn, session) if turn is not None else shown(refused.session)
        age = _age(refused.at_ns, now_ns)
        return RefusedRow(key, shown(refused.name), where, age, refused.delivery, trust.said(refused.reason))

    def _differing(self, session: ShownSession, now_ns: int) -> list[DifferingTurn]:
        """Turns whose trace MLflow sees otherwise, the worst first, then the newest."""
        self._compared = {
            trace_id: known for trace_id, known in self._compared.items() if trace_id in session.forest.views
        }
        found: list[tuple[tuple[int, bool, int], DifferingTurn]] = []
        for trace_id, told in self.snapshot.told.items():
            view = session.forest.views.get(trace_id)
            if view is None or not view.turns:
                continue
            if differing := self.differences(view, told, now_ns):
                turn = view.turns[0]
                rank = (*min(map(_rank, differing)), -turn.start_ns)
                found.append((rank, DifferingTurn(turn_key(turn), _title(turn, session), differing)))
        return [turn for _, turn in sorted(found, key=lambda item: item[0])]


_ROWS = (
    Delivery.CONFIRMED, Delivery.ACCEPTED, Delivery.QUEUED, Delivery.HELD, Delivery.QUARANTINED,
    Delivery.LOCAL,
)  # fmt: skip


def _by_reason(rows: list[RefusedRow]) -> tuple[RefusedRow, ...]:
    """Those with the same reason together, where the first of them stands."""
    groups: dict[tuple[Delivery, str], list[RefusedRow]] = {}
    for row in rows:
        groups.setdefault((row.delivery, row.reason), []).append(row)
    return tuple(row for group in groups.values() for row in group)


def _last_error(says: RelaySays) -> str:
    error = trust.said(says.exporter.get("last_error"))
    return "the same" if error and error == says.reason("exporter") else error


def _rank(difference: Difference) -> tuple[int, bool]:
    place = _ORDER.index(difference.what) if difference.what in _ORDER else len(_ORDER)
    return place, not difference.why.startswith(UNKNOWN)


def _title(turn: Turn, session: ShownSession) -> str:
    joined = session.joined_with(turn)
    place = _place(joined, session) if joined is not None else "turn"
    return f"{place}  {shown(turn.prompt)}".rstrip()


def _place(turn: JoinedTurn, session: ShownSession) -> str:
    """The turn's number as the tree shows it."""
    return f"turn {session.number(turn)}"


def _age(at_ns: int, now_ns: int) -> str:
    return short_age(max(0, now_ns - at_ns) / NANOSECONDS) if at_ns > 0 else ""


def _whole(document: Mapping[str, object], name: str) -> int:
    value = document.get(name)
    return value if isinstance(value, int) else 0

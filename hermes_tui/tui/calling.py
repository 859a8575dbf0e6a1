"""Looks for what deserves the user's attention, in the session that is shown and in others at work."""

from __future__ import annotations

from collections.abc import Callable

from textual.driver import Driver

from hermes_tui.model.attention import RECENT_NS, Event, Kind, Watcher
from hermes_tui.model.doing import State, doing
from hermes_tui.model.joined import Joined
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.present import present
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.settings import Attention as Wanted
from hermes_tui.tui.attention import Attention
from hermes_tui.tui.shown import ShownSession


class Calling:
    """`look` when something moved, and each second; what is over by `started_ns` is no news.

    Of sessions that are not shown only Hermes' records are read. `say` shows a line in the pane and may be
    called from another thread.
    """

    def __init__(self, wanted: Wanted, live: Live, started_ns: int, say: Callable[[str], object]) -> None:
        self._attention = Attention(wanted, say)
        kinds = {Kind(name) for name in wanted.on}
        self._watcher = Watcher(started_ns, kinds, min_turn_ns=round(wanted.min_turn_s * NANOSECONDS))
        self._live = live
        self._others: dict[str, Joined] = {}

    def driver(self, above: type[Driver]) -> type[Driver]:
        """A driver like `above` that lends its terminal to bells and notifications."""
        return self._attention.voice.driver(above)

    def stop(self) -> None:
        self._attention.stop()

    def look(self, shown: ShownSession, now_ns: int, *, history: bool) -> None:
        """Call for what happened since the last look; `history`: an old session is being read."""
        found: list[Event] = []
        for name, does in shown.moment.doings.items():
            turns = shown.turns if name == shown.id else ()
            found += self._watcher.look(
                name, does, turns, now_ns, title=self._title(shown.id), history=history
            )
        for part in self._at_work(shown.id, now_ns):
            found += self._look_at(part, now_ns)
        if found:
            self._attention.take(found)

    def _at_work(self, shown: str, now_ns: int) -> list[LiveSession]:
        """The user's other sessions in which something may happen."""
        names = {shown, *(part.id for part in self._live.below(shown))}
        parts = [part for name in self._live.sessions() if (part := self._live.session(name)) is not None]
        found = [
            part for part in parts
            if part.id not in names and part.parent is None
            and (part.has_open or now_ns - part.active_ns < RECENT_NS)
        ]  # fmt: skip
        for gone in self._others.keys() - {part.id for part in found}:
            del self._others[gone]
        return found

    def _look_at(self, part: LiveSession, now_ns: int) -> list[Event]:
        joined = self._others.get(part.id) or self._others.setdefault(part.id, Joined(part.id))
        joined.update(self._live, Forest(part.id), ())
        title = self._title(part.id)
        does = present(part.id, self._live, joined.turns, now_ns)
        found = self._watcher.look(part.id, does, joined.turns, now_ns, title=title)
        for child in self._live.below(part.id):
            if (asked := doing(self._live, child.id, now_ns)).state is State.APPROVAL:
                found += self._watcher.look(child.id, asked, (), now_ns, title=title)
        return found

    def _title(self, session: str) -> str:
        part = self._live.session(session)
        return (part.row.title if part is not None and part.row is not None else None) or ""

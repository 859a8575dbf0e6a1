"""What this pane asked of the relay: laid on the desk by it, answered in the journal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from hermes_tui.figures import short_age
from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.tui.trust import said

log = logging.getLogger(__name__)

_SEEN_S = 20.0  # until a relay has taken note; one that is too old never does
_KEPT_S = 600.0  # an answer is shown; then it says little about how things are
_TOO_OLD = "the relay does not answer; `hermes-trace-tui stop` ends one that is too old"


def withdraw(state: StateDir, wish: str) -> None:
    """Take a wish away that is answered; one that stays goes by itself in a day."""
    try:
        with Desk(state) as desk:
            desk.withdraw(wish)
    except StateError as error:
        log.info("cannot tidy the desk: %s", error)


def _lay(state: StateDir, kind: str, argument: dict[str, Any]) -> str:
    with Desk(state) as desk:
        return desk.wish(kind, argument)


class Notice(NamedTuple):
    """What became of a wish, for the view: a line, and whether it went well (None: not known yet)."""

    text: str
    well: bool | None


class _Made(msgspec.Struct, frozen=True):
    """A wish of this pane. `id` is "" until it lies on the desk; `state` "" until a relay has seen it."""

    kind: str
    session: str
    made_ns: int
    id: str = ""
    state: str = ""
    document: Mapping[str, Any] | None = None
    ended_ns: int = 0


class Wishes:
    """One wish of each kind at a time, and the last answer to it."""

    def __init__(self) -> None:
        self._made: dict[str, _Made] = {}

    @property
    def open(self) -> tuple[str, ...]:
        """Ids of the wishes whose answers are waited for."""
        return tuple(made.id for made in self._made.values() if made.id and not made.ended_ns)

    async def make(self, state: StateDir, kind: str, session: str) -> bool:
        """Lay a wish on the desk, however long others write there; False while its last is under way."""
        last = self._made.get(kind)
        if last is not None and not last.ended_ns:
            return False
        self._made[kind] = made = _Made(kind, session, time.time_ns())
        try:
            wish = await asyncio.to_thread(_lay, state, kind, _argument(made))
        except StateError as error:
            why = {"error": str(error)}
            self._made[kind] = replace(made, state="failed", document=why, ended_ns=time.time_ns())
        else:
            self._made[kind] = replace(made, id=wish)
        return True

    def answered(self, answers: Mapping[str, tuple[str, Mapping[str, Any]]], now_ns: int) -> list[str]:
        """Take in what the journal says of open wishes; ids of those that have ended."""
        ended = []
        for kind, made in self._made.items():
            if made.ended_ns or made.id not in answers:
                continue
            state, document = answers[made.id]
            done = state in ("done", "failed")
            self._made[kind] = replace(made, state=state, document=document, ended_ns=now_ns if done else 0)
            ended += [made.id] if done else []
        return ended

    def notices(self, session: str, now_ns: int) -> tuple[Notice, ...]:
        """How the wishes stand; without old answers and what was verified of another session."""
        return tuple(
            _notice(made, now_ns)
            for made in self._made.values()
            if (made.session == session or made.kind != "verify")
            and not (made.ended_ns and now_ns - made.ended_ns > _KEPT_S * NANOSECONDS)
        )


def _argument(made: _Made) -> dict[str, Any]:
    """A retry is for all sessions: what the user mended was in the way of all."""
    return {"session": made.session} if made.kind == "verify" else {}


def _notice(made: _Made, now_ns: int) -> Notice:
    document = made.document or {}
    if made.ended_ns:
        ago = short_age(max(0, now_ns - made.ended_ns) / NANOSECONDS)
        if made.state == "failed":
            return Notice(f"{made.kind}: {said(document.get('error'))} ({ago} ago)", False)
        text, well = _verified(document) if made.kind == "verify" else _retried(document)
        return Notice(f"{text} ({ago} ago)", well)
    if made.state == "working":
        what = "traces read back" if made.kind == "verify" else "spans decided"
        done, of = document.get("done"), document.get("of")
        known = isinstance(done, int) and isinstance(of, int)
        return Notice(f"{made.kind}: {done:,} of {of:,} {what}" if known else f"{made.kind}: begun", None)
    if (now_ns - made.made_ns) / NANOSECONDS > _SEEN_S:
        return Notice(f"{made.kind}: {_TOO_OLD}", False)
    return Notice(f"{made.kind}: waits for the relay", None)


def _verified(document: Mapping[str, Any]) -> tuple[str, bool]:
    spans, confirmed = _number(document.get("spans")), _number(document.get("confirmed"))
    missing = _number(document.get("missing"))
    if error := said(document.get("error")):
        return f"verify: {error}", False
    if not missing:
        return f"verified: all {spans:,} spans are there", True
    parts = ("not_found", "quarantined", "held", "queued", "accepted", "local")
    counts = ((name.replace("_", " "), _number(document.get(name))) for name in parts)
    why = ", ".join(f"{count:,} {name}" for name, count in counts if count)
    return f"verified: {confirmed:,} of {spans:,} are there" + (f"; {why}" if why else ""), False


def _retried(document: Mapping[str, Any]) -> tuple[str, bool]:
    sent = _number(document.get("sent_again"))
    if not sent:
        return "retry: nothing was held or refused", True
    states = ("accepted", "queued", "held", "quarantined")
    counts = ((name, _number(document.get(name))) for name in states)
    became = ", ".join(f"{count:,} {name}" for name, count in counts if count)
    well = not _number(document.get("held")) and not _number(document.get("quarantined"))
    return f"retry: sent {sent:,} again" + (f": {became}" if became else ""), well


def _number(value: object) -> int:
    """A count, or the length of a list of what is counted."""
    if isinstance(value, list):
        return len(value)
    return value if isinstance(value, int) else 0

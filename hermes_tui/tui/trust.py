"""Pure: how safe spans are at the destination, in a word that a user can trust and a sentence that helps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from hermes_tui import neutral
from hermes_tui.model.span import Delivery
from hermes_tui.model.turns import Totals
from hermes_tui.tui.glyphs import Glyphs

_TEXT = 2_000  # characters of a reason; the destination writes them


class RelaySays(msgspec.Struct, frozen=True):
    """The documents that the relay keeps in the journal: about sending, reading back, and room."""

    exporter: Mapping[str, Any] = msgspec.field(default_factory=dict)
    proof: Mapping[str, Any] = msgspec.field(default_factory=dict)
    keeping: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def sending(self) -> str:
        """none, ok, retrying, held; "" while no relay has said anything."""
        state = self.exporter.get("state")
        return state if isinstance(state, str) else ""

    @property
    def unreadable(self) -> bool:
        """Whether what is accepted can never be confirmed there."""
        return self.proof.get("readable") is False

    @property
    def full(self) -> bool:
        return bool(self.keeping.get("full"))

    def reason(self, name: str) -> str:
        """Why, in the words of one of the documents, as one harmless line."""
        return said(getattr(self, name).get("reason"))


def said(text: object) -> str:
    """Text from a document as one harmless line of bounded length."""
    return neutral.line(text[:_TEXT].strip()) if isinstance(text, str) else ""


class Word(NamedTuple):
    """`glyph` alone stands for it where there is no room."""

    glyph: str
    text: str
    style: str

    def __str__(self) -> str:
        return self.text


NO_WORD = Word("", "", "dim")


def session_word(totals: Totals, says: RelaySays, glyphs: Glyphs) -> Word:
    """How safe a session is. A tick only for what was all read back; a reason whenever something waits."""
    counts, total = totals.deliveries, totals.spans
    confirmed, local = counts[Delivery.CONFIRMED], counts[Delivery.LOCAL]
    there = confirmed + counts[Delivery.ACCEPTED]
    if says.full:
        return _word(glyphs.held, _because("full", says.reason("keeping")), "yellow")
    if refused := counts[Delivery.QUARANTINED]:
        return _word(glyphs.bad, f"{refused} refused", "red")
    if total and confirmed == total:
        return _word(glyphs.good, f"{total}/{total}", "green")
    if local == total and says.sending in ("", "none"):
        return _word(glyphs.none, "not configured", "dim")
    waiting = there + local < total or not total
    if counts[Delivery.HELD] or (waiting and says.sending == "held"):
        return _word(glyphs.held, _because("held", says.reason("exporter")), "yellow")
    if waiting and says.sending == "none":
        return _word(glyphs.none, "not configured", "dim")
    if says.unreadable:
        return _accepted(there, total, waiting, says, glyphs)
    progress = f"{confirmed}/{total}"
    if waiting:
        return _on_its_way("MLflow", progress, says.reason("exporter"), glyphs)
    if confirmed + local == total and local:
        return _word(glyphs.none, f"{progress}, {local} kept here only", "dim")
    return _on_its_way("MLflow", progress, says.reason("proof"), glyphs)


def _accepted(there: int, total: int, waiting: bool, says: RelaySays, glyphs: Glyphs) -> Word:
    """At a destination that only ever accepts: no tick, whatever it says."""
    text = f"{there}/{total} accepted"
    if waiting:
        return _on_its_way("OTLP", text, says.reason("exporter"), glyphs)
    return Word(glyphs.arrow, f"OTLP {glyphs.arrow} {text}", "green")


def _on_its_way(where: str, progress: str, reason: str, glyphs: Glyphs) -> Word:
    """That something is under way is no cause for alarm; a reason is."""
    text = f"{where} {glyphs.more} {_because(progress, reason)}"
    return Word(glyphs.more, text, "yellow" if reason else "")


def _word(glyph: str, text: str, style: str) -> Word:
    return Word(glyph, f"MLflow {glyph} {text}", style)


def _because(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text


class State(NamedTuple):
    """Of the destination as a whole: one word, and a sentence on what is wrong and what to do."""

    word: str
    glyph: str
    style: str
    sentence: str


def state(says: RelaySays, counts: Counter[Delivery], stopped: str, glyphs: Glyphs) -> State:
    """`stopped` says why no relay runs; "" while one does, or nobody knows."""
    if stopped:
        text = f"{_sentence(said(stopped))} Nothing is received or sent meanwhile."
        return State("stopped", glyphs.bad, "red", text)
    if says.full:
        text = f"{_sentence(says.reason('keeping') or 'No room is left')} New spans are turned away."
        return State("full", glyphs.held, "yellow", text)
    if says.sending in ("", "none"):
        text = "Spans are kept here only. Start the relay with --mlflow URL, or set MLFLOW_TRACKING_URI."
        return State("none", glyphs.none, "dim", text)
    if says.sending == "held":
        why = _sentence(says.reason("exporter") or "The destination refuses")
        text = f"{why} Mend that, then press r; the relay also tries by itself."
        return State("held", glyphs.held, "yellow", text)
    if says.sending == "retrying":
        why = _sentence(says.reason("exporter") or "The destination does not answer")
        return State("retrying", glyphs.more, "yellow", f"{why} It is tried again; spans wait on disk.")
    if says.unreadable:
        why = _sentence(says.reason("proof") or "It cannot be read back")
        return State("unreadable", glyphs.arrow, "", f"Accepted spans cannot be confirmed. {why}")
    if says.proof.get("state") == "failing":
        why = _sentence(says.reason("proof") or "It cannot be read back now")
        text = f"Spans are accepted, but not read back. {why} It is tried again."
        return State("retrying", glyphs.more, "yellow", text)
    return State("ok", glyphs.good, "green", _how_far(counts))


def damage(says: RelaySays) -> str:
    """What became of a journal that was damaged; "" when none was, or the user has taken note."""
    found = says.keeping.get("damage")
    if not isinstance(found, dict):
        return ""
    back, lost = found.get("requests"), found.get("lost")
    became = "what can be read of it is being put back"
    if isinstance(back, int) and isinstance(lost, int):
        became = f"{back:,} requests were put back, {lost:,} are lost"
    text = f"The journal was damaged ({said(found.get('reason'))}): {became}."
    return f"{text} Remove {said(found.get('file'))} when you have taken note."


def _how_far(counts: Counter[Delivery]) -> str:
    """What an untroubled destination still has to get or to show."""
    if refused := counts[Delivery.QUARANTINED]:
        return f"{_spans(refused)} refused for good, see below; r sends them again."
    parts = [
        f"{counts[state]:,} {what}"
        for state, what in (
            (Delivery.HELD, "held"), (Delivery.QUEUED, "to send"), (Delivery.ACCEPTED, "to read back"),
        )
        if counts[state]
    ]  # fmt: skip
    if parts:
        return f"On the way: {', '.join(parts)}."
    if local := counts[Delivery.LOCAL]:
        return f"{_spans(local)} came before it was set: `hermes-trace-tui retry --local` sends them."
    return "Every span was read back." if counts[Delivery.CONFIRMED] else "Nothing was sent yet."


def _spans(count: int) -> str:
    return f"{count:,} span{'' if count == 1 else 's'}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."

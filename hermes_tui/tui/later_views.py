"""The views of the board that are made when somebody turns to them: usage, MLflow and transcript."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.messages import RelayInfo
from hermes_tui.tui.shown import ShownSession

if TYPE_CHECKING:
    from textual.widget import Widget

    from hermes_tui.tui.delivery import DeliveryState
    from hermes_tui.tui.side import Side
    from hermes_tui.tui.transcript_feed import TranscriptFeed
    from hermes_tui.tui.widgets.delivery_view import DeliveryView
    from hermes_tui.tui.widgets.transcript_view import TranscriptView
    from hermes_tui.tui.widgets.usage_view import UsageView


class Place(Protocol):
    """What these views need of the board."""

    glyphs: Glyphs
    shown: ShownSession
    side: Side
    view: str
    relay: RelayInfo | None
    trouble: str


class LaterViews:
    """`texts` makes what reads for the transcript. `usage`, `proof` and `transcript` are None until made."""

    def __init__(self, place: Place, texts: Callable[[], TranscriptFeed]) -> None:
        self.usage: UsageView | None = None
        self.proof: DeliveryView | None = None
        self.transcript: TranscriptView | None = None
        self._place = place
        self._texts = texts

    @property
    def makers(self) -> Mapping[str, Callable[[], Widget]]:
        """What makes each view, by name."""
        return {
            "usage": self._make_usage,
            "delivery": self._make_proof,
            "transcript": self._make_transcript,
        }

    @cached_property
    def delivery(self) -> DeliveryState:
        """What is known of the way to MLflow."""
        from hermes_tui.tui.delivery import DeliveryState

        return DeliveryState(self._place.glyphs)

    def _make_usage(self) -> Widget:
        from hermes_tui.tui.widgets.usage_view import UsageView

        self.usage = UsageView(self._place.glyphs, self.delivery.differences, id="usage")
        return self.usage

    def _make_proof(self) -> Widget:
        from hermes_tui.tui.widgets.delivery_view import DeliveryView

        self.proof = DeliveryView(self._place.glyphs, id="delivery")
        return self.proof

    def _make_transcript(self) -> Widget:
        from hermes_tui.tui.widgets.transcript_view import TranscriptView

        self.transcript = TranscriptView(self._place.glyphs, self._texts(), id="transcript")
        self.transcript.full = self._place.side.full
        return self.transcript

    # --- what they show

    def show(self) -> None:
        """Bring those up to date that are looked at."""
        self.show_delivery()
        self.show_usage()
        self.show_transcript()

    def show_delivery(self) -> None:
        place = self._place
        if place.view != "delivery" or self.proof is None:
            return
        address = place.relay.destination if place.relay is not None else None
        stopped = place.trouble if place.relay is None else ""
        self.proof.show(self.delivery.data(place.shown, address, stopped, time.time_ns()))

    def show_usage(self) -> None:
        if self.usage is None:
            return
        shown = self._place.shown if self._place.view == "usage" else None
        self.usage.follow(shown, time.time_ns())
        record = shown.record if shown is not None else None
        if record is not None and record.row is not None and record.sums is not None:
            self.usage.tell_hermes(record.sums, record.row.api_calls)

    def show_transcript(self) -> None:
        if self.transcript is not None:
            self.transcript.show(self._place.shown if self._place.view == "transcript" else None)

"""The delivery view: a page of text in which the spans that are not there, and turns, can be picked."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from hermes_tui.tui.delivery import DeliveryData
from hermes_tui.tui.delivery_lines import delivery_lines
from hermes_tui.tui.lines import Line
from hermes_tui.tui.messages import WishWanted
from hermes_tui.tui.widgets.page import Page


class DeliveryView(Page[DeliveryData]):
    """Draws `DeliveryData`, and takes the wishes that belong to it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "wish('retry')", "Retry now, in the MLflow view"),
        Binding("v", "wish('verify')", "Verify, in the MLflow view"),
    ]

    def lines(self, data: DeliveryData, width: int) -> list[Line]:
        return delivery_lines(data, width, self._glyphs)

    def action_wish(self, kind: str) -> None:
        self.post_message(WishWanted(kind))

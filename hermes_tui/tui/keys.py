"""Every key of the pane, from the bindings themselves."""

from __future__ import annotations

from textual.dom import DOMNode

from hermes_tui.tui.board import Board
from hermes_tui.tui.hands import Hands
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.screens.help import declared_keys
from hermes_tui.tui.widgets.command_list import CommandRows
from hermes_tui.tui.widgets.delivery_view import DeliveryView
from hermes_tui.tui.widgets.row_list import RowList
from hermes_tui.tui.widgets.trace_tree import TraceTree
from hermes_tui.tui.widgets.transcript_view import TranscriptView
from hermes_tui.tui.widgets.usage_view import UsageView


def all_keys(app: type[DOMNode]) -> dict[str, list[tuple[str, str]]]:
    """Keys and what they do, by where they do it."""
    return declared_keys({
        "Everywhere": (app, Hands, Board), "Any list": (RowList,), "Tree": (TraceTree,),
        "Commands": (CommandRows,), "MLflow": (DeliveryView,), "Usage": (UsageView,),
        "Transcript": (TranscriptView,), "Details": (DetailsScreen,),
    })  # fmt: skip

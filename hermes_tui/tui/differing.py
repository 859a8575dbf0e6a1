"""What MLflow says otherwise, in words. Pure."""

from __future__ import annotations

from hermes_tui.figures import short_time
from hermes_tui.model.compare import Difference
from hermes_tui.tui.rows import shown


def difference_line(difference: Difference) -> str:
    """Both values, in words."""
    ours, theirs = _value(difference.what, difference.ours), _value(difference.what, difference.theirs)
    return f"{ours} here, {theirs} there"


def _value(what: str, value: str | float | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return shown(value)
    if what == "cost":
        return f"${value:.4f}"
    return short_time(value) if what == "duration" else f"{value:,.0f}"

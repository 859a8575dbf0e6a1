"""How often threads look."""

from __future__ import annotations

from hermes_tui.tui.pace import BUSY_S, CALM_S, LASTS_S, Pace


def test_looks_are_close_for_a_while_after_a_change() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert pace.wait_s(False) == BUSY_S
    now[0] += LASTS_S
    assert pace.wait_s(False) == CALM_S
    assert pace.wait_s(True) == BUSY_S
    now[0] += LASTS_S / 2
    assert pace.wait_s(False) == BUSY_S
    now[0] += LASTS_S / 2
    assert pace.wait_s(False) == CALM_S

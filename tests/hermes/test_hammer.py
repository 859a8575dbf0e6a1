"""A Hermes that writes as fast as it can does not notice that its `state.db` is read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hermes_tui.hermes.state_db import WINDOW
from tests.hermes.hammer import hammering, looking

LASTS_S = 1.5
LOG_BYTES = 16 * 1024 * 1024
"""A WAL that is folded in every 50 writes holds some 5 MB; one that cannot be grows by as much a second."""


@pytest.mark.process
@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_a_writer_at_full_speed(tmp_path: Path, journal_mode: str) -> None:
    with hammering(tmp_path, journal_mode) as hammer, looking(tmp_path) as looker:
        time.sleep(LASTS_S)  # for how long it is hammered: nothing is waited for
        written = hammer.stop()
        read = looker.stop(written.rows)
    assert (written.busy, written.held_up) == (0, 0)
    first = min(read.ids)
    assert read.ids == set(range(first, written.rows + 1))
    # Who comes late, or was locked out at first, begins with the newest ones.
    assert first == 1 or len(read.ids) >= WINDOW
    assert [each for each in read.trouble if not each.endswith("is locked by another program")] == []
    assert written.log_bytes <= LOG_BYTES

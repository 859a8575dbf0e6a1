"""How the pane begins. Imports nothing heavy, so that the first thing it does comes first."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hermes_tui.journal.files import StateDir


_FRAMES_A_SECOND = "240"


def run(state: StateDir, **options: Any) -> int:
    """Show the pane until it is left; the exit status. `options` are those of `TraceApp`."""
    # Nearly all that is made until the first paint stays: looking for garbage in it takes a tenth of that
    # time. The app begins to collect once it is painted.
    gc.disable()
    # A change waits for the next frame; what moves by itself moves so seldom that more of them cost nothing.
    os.environ.setdefault("TEXTUAL_FPS", _FRAMES_A_SECOND)
    from hermes_tui.tui.app import TraceApp

    app = TraceApp(state, **options)
    app.run()
    return app.return_code or 0

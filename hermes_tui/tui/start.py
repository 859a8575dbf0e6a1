"""How the pane begins. Imports nothing heavy, so that the first thing it does comes first."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hermes_tui.journal.files import StateDir


def run(state: StateDir, **options: Any) -> int:
    """Show the pane until it is left; the exit status. `options` are those of `TraceApp`."""
    # Nearly all that is made until the first paint stays: looking for garbage in it takes a tenth of that
    # time. The app begins to collect once it is painted.
    gc.disable()
    from hermes_tui.tui.app import TraceApp

    app = TraceApp(state, **options)
    app.run()
    return app.return_code or 0

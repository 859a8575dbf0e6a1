"""What the pane remembers of the user's choices: a small file in the state folder."""

from __future__ import annotations

import json
import logging
from typing import Any

from hermes_tui.journal.files import StateDir, StateError, write_private

log = logging.getLogger(__name__)

_MOST = 64 * 1024


def recall(state: StateDir) -> dict[str, Any]:
    """What was remembered; nothing of a file that cannot be read."""
    try:
        with state.pane.open("rb") as file:
            document = json.loads(file.read(_MOST))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s cannot be read, it is left out: %s", state.pane, error)
        return {}
    if not isinstance(document, dict):
        log.warning("%s is not what the pane wrote, it is left out", state.pane)
        return {}
    return document


def remember(state: StateDir, **choices: object) -> None:
    """Add to what is remembered. Blocks for a moment."""
    try:
        state.create()
        write_private(state.pane, json.dumps({**recall(state), **choices}))
    except (OSError, StateError) as error:
        log.warning("%s cannot be written: %s", state.pane, error)

"""Take text along: into the terminal's clipboard, or into a private file where that cannot hold it."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from hermes_tui import neutral
from hermes_tui.journal.files import StateDir, write_private

log = logging.getLogger(__name__)

MOST = 74_000
"""Characters of base64 that go into a clipboard: terminals drop longer sequences without a word."""

_TMUX_S = 5.0


class Copied(NamedTuple):
    """What is copied, and into which file; without one into the clipboard, by tmux or yet to be written."""

    text: str
    file: str = ""
    by_tmux: bool = False


class Clipboard:
    """`way` as in the settings. `put` blocks for a moment, and may be called from any thread.

    What is copied is harmless text: control characters are copied as the stand-ins that the pane shows, so
    that pasting obeys nothing; line breaks and tabs stay.
    """

    def __init__(
        self, state: StateDir, way: str = "terminal", environment: Mapping[str, str] | None = None
    ) -> None:
        self._state = state
        self._way = way
        self._environment = os.environ if environment is None else environment

    def put(self, text: str) -> Copied:
        """Into a file or a buffer of tmux; else the caller has to write the terminal's clipboard (OSC 52),
        as only the pane may write to its terminal. Raises OSError and StateError.
        """
        text = neutral.copied(text)
        encoded = text.encode()
        if self._way == "file" or len(base64.b64encode(encoded)) > MOST:
            return Copied(text, file=self._into_file(text))
        # tmux keeps OSC 52 of what runs in it to itself unless `set-clipboard` is on; its own buffers it
        # hands on with the usual `external` too.
        return Copied(text, by_tmux=bool(self._environment.get("TMUX")) and self._into_tmux(encoded))

    def _into_file(self, text: str) -> str:
        """One file, replaced each time: it may hold what nobody wants to keep."""
        self._state.create()
        write_private(self._state.copied, text + "\n")
        return str(self._state.copied)

    def _into_tmux(self, encoded: bytes) -> bool:
        """Into a buffer of tmux and from there into the terminal's clipboard (`-w`, since tmux 3.2)."""
        try:
            done = subprocess.run(
                ["tmux", "load-buffer", "-w", "-"],
                input=encoded,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=dict(self._environment),
                timeout=_TMUX_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.info("tmux does not take what is copied: %s", error)
            return False
        if done.returncode:
            log.info("tmux does not take what is copied: %s", done.stderr.decode(errors="replace").strip())
        return done.returncode == 0


def amount(text: str) -> str:
    """How much a text is, in words."""
    lines = text.count("\n") + 1
    size = f"{len(text):,} character{'s' if len(text) != 1 else ''}"
    return size if lines == 1 else f"{lines:,} lines, {size}"

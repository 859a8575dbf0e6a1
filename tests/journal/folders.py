"""A journal in a folder of its own, for tests that need a new one for every example."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer


@contextmanager
def journal(*, forward: bool = False) -> Iterator[tuple[Writer, Callable[[], Reader]]]:
    """A writer (without fsync) and a way to open readers; everything is closed and gone at the end."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        state = StateDir(Path(folder) / "state")
        writer = Writer(state, forward=forward, synchronous="OFF")
        stack.callback(writer.close)
        yield writer, lambda: stack.enter_context(Reader(state.journal))

"""What works beside the pane, each part in threads of its own: made when it is first asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from textual.message import Message

from hermes_tui.journal.files import StateDir

if TYPE_CHECKING:
    from hermes_tui.hermes.state_db import Watch
    from hermes_tui.model.live import Live
    from hermes_tui.settings import Attention
    from hermes_tui.tui.calling import Calling
    from hermes_tui.tui.facts_feed import FactsFeed
    from hermes_tui.tui.finder import Finder
    from hermes_tui.tui.records import Records
    from hermes_tui.tui.transcript_feed import TranscriptFeed


class Part(Protocol):
    """What ends with the pane."""

    def stop(self) -> None: ...


P = TypeVar("P", bound=Part)


class Parts:
    """Most are not needed for the first paint, so their modules are not either. `stop` ends all there are.

    `watch` None: Hermes' records are left alone. `post` takes the messages of all parts.
    """

    def __init__(self, state: StateDir, watch: Watch | None, post: Callable[[Message], object]) -> None:
        self._state = state
        self._watch = watch
        self._post = post
        self._running: list[Part] = []

    def keep(self, part: P) -> P:
        """Stop this part too."""
        self._running.append(part)
        return part

    def stop(self) -> None:
        """End all threads; what is still to be written is."""
        for part in self._running:
            part.stop()

    def calling(self, attention: Attention, live: Live, warn: Callable[[str], object]) -> Calling:
        from hermes_tui.tui.calling import Calling

        return self.keep(Calling(attention, live, time.time_ns(), warn))

    def records(self, watch: Watch) -> Records:
        from hermes_tui.tui.records import Records

        return self.keep(Records(watch, self._post))

    def texts(self) -> TranscriptFeed:
        """For the transcript."""
        from hermes_tui.tui.transcript_feed import TranscriptFeed

        return self.keep(TranscriptFeed(self._state.journal, self._watch, self._post))

    def finder(self) -> Finder:
        """For the search."""
        from hermes_tui.tui.finder import Finder
        from hermes_tui.tui.scanner import Scanner

        return Finder(self.keep(Scanner(self._state.journal, self._post, self._watch)))

    @cached_property
    def facts(self) -> FactsFeed:
        """For the list of sessions."""
        from hermes_tui.tui.facts_feed import FactsFeed

        return self.keep(FactsFeed(self._state.journal, self._post))

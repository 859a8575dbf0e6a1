"""Make a wish and wait for the relay's answer: the commands' side of the desk."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.reader import Reader
from hermes_tui.relay.lock import Running, find

_POLL_S = 0.05
_CHECK_S = 0.5  # between two looks whether anybody is still there to answer
_SEEN_S = 20.0  # until the relay has taken note; a busy one takes a moment, one that is too old never does
_GONE_S = 3.0  # a relay that restarts is gone for so long at most
_RELAYS = 3  # that may end while a wish waits

Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""


class WishError(Exception):
    """There is no answer, or it is a refusal; the message says why."""


class RelayGone(WishError):
    """The relay ended before it answered."""


def fulfil(
    state: StateDir,
    kind: str,
    argument: dict[str, Any],
    *,
    lend: Callable[[], AbstractContextManager[Running]],
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Lay a wish on the desk and wait for the relay's answer. The wish goes, however this ends.

    `lend` starts a relay for as long as it is needed, when none runs: the wish lies there first, so
    that what is to be forgotten is never sent. Raises WishError, what `lend` raises, or StateError
    when desk or journal cannot be used.
    """
    with Desk(state) as desk:
        wish = desk.wish(kind, argument)
        try:
            for _ in range(_RELAYS):
                with nullcontext() if find(state) is not None else lend(), suppress(RelayGone):
                    return _wait(state, desk, wish, progress)
            raise RelayGone(f"the relay ended before it answered; see {state.log}")
        finally:
            with suppress(StateError):  # the answer matters; old wishes go by themselves
                desk.withdraw(wish)


def _wait(state: StateDir, desk: Desk, wish: str, progress: Progress) -> dict[str, Any]:
    began = present = checked = time.monotonic()
    seen = False
    with _Answers(state) as answers:
        while True:
            if (answer := answers.of(wish)) is not None:
                seen = True
                name, document = answer
                if name == "done":
                    return document
                if name == "failed":
                    raise WishError(str(document.get("error")))
                if "of" in document:
                    progress(document["done"], document["of"])
            now = time.monotonic()
            if not seen and now - began > _SEEN_S:
                raise WishError("the relay does not answer; `hermes-trace-tui stop` ends one that is too old")
            if now - checked > _CHECK_S:
                checked = now
                if desk.replaced():
                    raise WishError(f"{state.desk} was removed while this waited; try again")
                if find(state) is not None:
                    present = now
                elif now - present > _GONE_S:
                    raise RelayGone
            time.sleep(_POLL_S)  # another process: there is nothing to be woken by


class _Answers:
    """The journal's answers, also when the journal is made or replaced meanwhile."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.journal
        self._reader: Reader | None = None

    def __enter__(self) -> _Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def of(self, wish: str) -> tuple[str, dict[str, Any]] | None:
        """The answer when there may be a new one; else None."""
        try:
            if self._reader is not None and self._reader.stale():
                self._close()
            if self._reader is None:
                self._reader = Reader(self._path)
            return self._reader.answer(wish) if self._reader.changed() else None
        except (StateError, sqlite3.Error):  # not made yet, or damaged and about to be replaced
            self._close()
            return None

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

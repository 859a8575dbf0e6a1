"""The steward: looks at the desk and fulfils wishes, one after the other; answers are in the journal.

A wish is fulfilled at least once: one that a killed relay was at is begun again by the next.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from hermes_tui.journal.desk import WISH_AGE_NS, DeskWatch, Wish
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.marks import Pen
from hermes_tui.journal.writer import Writer
from hermes_tui.relay.resend import Progress, Resender

log = logging.getLogger(__name__)

_LOOK_S = 0.2
_PROGRESS_S = 0.25  # between two notes of progress: each is a commit
_TROUBLE_S = 1.0  # after the journal could not take an answer (disk full, say)
_FIRST_S = 10.0  # that a start waits for purges; whoever starts a relay waits 20 s for it
_PURGE = "purge"


class WishFailed(Exception):
    """A wish that cannot be fulfilled; the message says why, to a user."""


class Verifies(Protocol):
    async def verify(self, session: str | None, progress: Progress) -> Mapping[str, Any]: ...


class Purges(Protocol):
    async def purge(
        self, *, session: str | None = None, before_ns: int | None = None, erase: bool = True
    ) -> Mapping[str, Any]: ...


class Steward:
    """Fulfils the wishes of one state folder. `destination` None: there is nowhere to send to."""

    def __init__(
        self,
        state: StateDir,
        writer: Writer,
        *,
        destination: str | None,
        resender: Resender,
        verifier: Verifies,
        keeper: Purges,
    ) -> None:
        self._writer = writer
        self._destination = destination
        self._resender = resender
        self._verifier = verifier
        self._keeper = keeper
        self._watch = DeskWatch(state)
        self._todo: dict[str, Wish] = {}
        self._current: tuple[str, asyncio.Task[None]] | None = None
        self._unread: Sequence[Wish] | None = None
        self._complaint = ""

    async def forget_first(self) -> None:
        """Fulfil the purges that wait already: what is to be forgotten must not be sent before.

        A start does not wait for them forever: `run` goes on with what takes long.
        """
        await self._look()
        deadline = time.monotonic() + _FIRST_S
        for wish in [each for each in self._todo.values() if each.kind == _PURGE]:
            self._begin(wish)
            await self._wait(max(0.0, deadline - time.monotonic()))
            if self._current is not None:
                return

    async def run(self) -> None:
        """Look at the desk and do what lies there, until cancelled; then what is half done is left."""
        try:
            while True:
                await self._look()
                await self._work()
        finally:
            if self._current is not None:
                self._current[1].cancel()
                await asyncio.wait((self._current[1],))
            self._watch.close()

    async def _work(self) -> None:
        """Begin the next wish if there is one; then wait until it is time to look again."""
        if self._current is None and self._todo:
            self._begin(next(iter(self._todo.values())))
        if self._current is None:
            await asyncio.sleep(_LOOK_S)  # another process wrote: there is nothing to be woken by
        else:
            await self._wait(_LOOK_S)

    def _begin(self, wish: Wish) -> None:
        del self._todo[wish.id]
        self._current = wish.id, asyncio.create_task(self._fulfil(wish))

    async def _wait(self, seconds: float) -> None:
        """Until the current wish is fulfilled, for some seconds at most."""
        assert self._current is not None
        _, task = self._current
        await asyncio.wait((task,), timeout=seconds)
        if task.done():
            self._current = None

    # ---- the desk

    async def _look(self) -> None:
        """Take note of what changed on the desk. What goes wrong is said once."""
        try:
            news = self._watch.news()
            self._unread = self._unread if news is None else news
            if self._unread is not None:
                await self._note(self._unread)
                self._unread = None
        except (StateError, sqlite3.Error) as error:
            if str(error) != self._complaint:
                log.warning("%s; going on without", error)
            self._complaint = str(error)
        else:
            self._complaint = ""

    async def _note(self, wishes: Sequence[Wish]) -> None:
        present = {wish.id for wish in wishes}
        self._todo = {name: wish for name, wish in self._todo.items() if name in present}
        if self._current is not None and self._current[0] not in present:
            self._current[1].cancel()  # taken back
        young = time.time_ns() - WISH_AGE_NS
        known = {*self._todo, *([self._current[0]] if self._current is not None else [])}
        fresh = [wish for wish in wishes if wish.made_ns > young and wish.id not in known]
        answered = await self._acknowledge([wish.id for wish in fresh], present)
        self._todo.update({wish.id: wish for wish in fresh if wish.id not in answered})

    async def _acknowledge(self, fresh: Sequence[str], present: set[str]) -> set[str]:
        """Say that these wishes are seen; those that were answered already. Old answers go."""
        now = time.time_ns()

        def work(pen: Pen) -> set[str]:
            rows = pen.connection.execute("SELECT wish, at_ns, state FROM answers").fetchall()
            gone = [row[0] for row in rows if row[0] not in present and row[1] < now - WISH_AGE_NS]
            done = {row[0] for row in rows if row[0] in fresh and row[2] != "working"}
            pen.connection.executemany("DELETE FROM answers WHERE wish = ?", [(wish,) for wish in gone])
            seen = [wish for wish in fresh if wish not in done]
            pen.connection.executemany(_ANSWER, [(wish, now, "working", "{}") for wish in seen])
            return done

        return await asyncio.wrap_future(self._writer.do(work))

    # ---- one wish

    async def _fulfil(self, wish: Wish) -> None:
        try:
            document = await self._grant(wish)
            state = "done"
        except WishFailed as error:
            state, document = "failed", {"error": str(error)}
        except Exception as error:
            log.exception("the wish %s (%s) failed", wish.id, wish.kind)
            why = str(error) or type(error).__name__
            state, document = "failed", {"error": f"the relay could not do it: {why}"}
        while True:
            try:
                await self._answer(wish.id, state, document)
                break
            except sqlite3.Error as error:
                log.warning("cannot store the answer to a wish: %s; trying again", error)
                await asyncio.sleep(_TROUBLE_S)

    async def _grant(self, wish: Wish) -> Mapping[str, Any]:
        session = _text(wish, "session")
        progress = self._progress(wish.id)
        if wish.kind == "verify":
            return await self._verifier.verify(session, progress)
        if wish.kind == "retry":
            if self._destination is None:
                raise WishFailed(
                    "the relay has no destination to send to: start it with --mlflow or MLFLOW_TRACKING_URI"
                )
            return await self._resender.resend(session, bool(wish.argument.get("local")), progress)
        if wish.kind == _PURGE:
            before_ns = wish.argument.get("before_ns")
            if (session is None) == (not isinstance(before_ns, int)):
                raise WishFailed("a purge needs a session or a time")
            erase = wish.argument.get("erase") is not False
            return await self._keeper.purge(session=session, before_ns=before_ns, erase=erase)
        raise WishFailed(f"this relay does not know the wish {wish.kind!r}; it may be older than who asks")

    def _progress(self, wish: str) -> Progress:
        last = 0.0

        async def progress(done: int, of: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _PROGRESS_S:
                last = time.monotonic()
                with suppress(sqlite3.Error):  # the answer matters; this does not
                    await self._answer(wish, "working", {"done": done, "of": of})

        return progress

    async def _answer(self, wish: str, state: str, document: Mapping[str, Any]) -> None:
        row = (wish, time.time_ns(), state, json.dumps(document))

        def work(pen: Pen) -> None:
            pen.connection.execute(_ANSWER, row)

        await asyncio.wrap_future(self._writer.do(work))


_ANSWER = "INSERT OR REPLACE INTO answers (wish, at_ns, state, document) VALUES (?, ?, ?, ?)"


def _text(wish: Wish, name: str) -> str | None:
    value = wish.argument.get(name)
    if value is not None and not isinstance(value, str):
        raise WishFailed(f"the wish's {name} is no text")
    return value

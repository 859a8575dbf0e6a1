"""All that works on one journal: writer, intake, tee, keeper and steward, from its opening to its closing.

When the journal turns out to be damaged they end, and begin anew with a fresh one; whoever listens stays.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress

from hermes_tui.journal import aside
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.writer import Limits, Writer
from hermes_tui.otlp.answers import Answer, Received
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.intake import Intake
from hermes_tui.relay.keeper import Keeper
from hermes_tui.relay.resend import Resender
from hermes_tui.relay.steward import Steward
from hermes_tui.relay.tee import Tee
from hermes_tui.settings import Settings

log = logging.getLogger(__name__)

_FLUSH_S = 3.0  # how long a stop waits for what is queued; the rest is sent after the next start
_COUNTS_S = 5.0
_AGAIN_S = 5.0  # after a fresh journal could not be begun (disk full, say)


class Works:
    """`open` before anything is accepted, `keep_open` meanwhile, `close` at the end."""

    def __init__(self, settings: Settings, state: StateDir) -> None:
        self._settings, self._state = settings, state
        self._credentials = Credentials(state.credentials)
        self._intake: Intake | None = None
        self._stack = AsyncExitStack()
        self._tee: Tee | None = None
        self._flush_s = _FLUSH_S
        self._damaged = asyncio.Event()
        self._damage = ""

    async def accept(self, received: Received) -> Answer:
        """The same for every transport."""
        assert self._intake is not None, "nothing may listen before the journal is open"
        return await self._intake.accept(received)

    async def open(self, damage: str = "") -> None:
        """Open the journal and begin to work on it; one that is damaged is replaced. Raises StateError."""
        self._damaged.clear()
        async with AsyncExitStack() as stack:
            writer = self._writer(damage)
            stack.callback(writer.close)
            # What comes back out of a damaged journal may need any of them.
            self._credentials.keep_all = bool(aside.pending(self._state))
            tee = self._tee = Tee(writer, self._credentials, self._state, self._settings.mlflow)
            stack.callback(tee.outbox.close)
            destination = self._settings.mlflow.url
            keeper = Keeper(
                self._state,
                writer,
                self._settings.retention,
                destination=destination,
                on_put_back=self._after_putting_back,
            )
            stack.callback(keeper.close)
            steward = Steward(
                self._state,
                writer,
                destination=destination,
                resender=Resender(self._state.journal, writer, tee.exporter),
                verifier=tee.verifier,
                keeper=keeper,
            )
            await steward.forget_first()
            await tee.start()
            stack.push_async_callback(self._end_tee, tee)
            await _beside(stack, keeper.run())
            await _beside(stack, steward.run())
            self._intake = self._take_in(writer)
            stack.push_async_callback(_save_counts, writer, self._intake)
            await _beside(stack, _keep_counts(writer, self._intake))
            self._stack = stack.pop_all()

    async def keep_open(self, ended: asyncio.Event) -> None:
        """Until `ended`: begin anew whenever the journal turns out to be damaged."""
        while not ended.is_set():
            waiting = [asyncio.create_task(event.wait()) for event in (ended, self._damaged)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if not ended.is_set():
                await self._begin_anew(ended)

    async def close(self) -> None:
        """Send what is queued for a bounded time, store what was accepted, and end."""
        await self._stack.aclose()

    async def _begin_anew(self, ended: asyncio.Event) -> None:
        """Senders are asked to come again meanwhile: their journal is closed."""
        self._flush_s, damage = 0.0, self._damage
        await self._stack.aclose()
        self._flush_s = _FLUSH_S
        while not ended.is_set():
            try:
                await self.open(damage)
                return
            except StateError as error:
                log.error("cannot begin a new journal: %s; it is tried again", error)
            if aside.pending(self._state):
                damage = ""  # it is out of the way already
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _AGAIN_S)

    def _writer(self, damage: str) -> Writer:
        loop = asyncio.get_running_loop()

        def on_index() -> None:
            loop.call_soon_threadsafe(self._wake)

        def on_damage(reason: str) -> None:
            loop.call_soon_threadsafe(self._note_damage, reason)

        return Writer(
            self._state,
            forward=self._settings.mlflow.url is not None,
            on_index=on_index,
            on_damage=on_damage,
            damage=damage,
            limits=Limits(undelivered=self._settings.retention.undelivered_bytes),
        )

    def _take_in(self, writer: Writer) -> Intake:
        if self._intake is None:
            return Intake(writer, self._credentials, self._settings.max_request_bytes)
        self._intake.use(writer)
        return self._intake

    def _wake(self) -> None:
        if self._tee is not None:
            self._tee.exporter.wake()

    def _note_damage(self, reason: str) -> None:
        self._damage = reason
        self._damaged.set()

    def _after_putting_back(self) -> None:
        self._credentials.keep_all = False
        self._wake()

    async def _end_tee(self, tee: Tee) -> None:
        await tee.stop(self._flush_s)


async def _beside(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Let something work beside the rest until the stack is closed."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a work beside the relay had failed: %s", error, exc_info=error)

    stack.push_async_callback(end)


async def _keep_counts(writer: Writer, intake: Intake) -> None:
    """Store how many requests of each signal came, for `status`; only when that changed."""
    known: dict[str, int] = {}
    while True:
        counts = _counts(intake)
        if counts != known and await _save_counts(writer, intake):
            known = counts
        await asyncio.sleep(_COUNTS_S)


async def _save_counts(writer: Writer, intake: Intake) -> bool:
    try:
        await asyncio.wrap_future(writer.set_meta("received", _counts(intake)))
    except sqlite3.Error as error:
        log.error("cannot store the counts of what was received: %s", error)
        return False
    return True


def _counts(intake: Intake) -> dict[str, int]:
    return {**intake.counts, "refused": intake.refused}

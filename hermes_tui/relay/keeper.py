"""The keeper: work on the journal beside receiving and sending.

It puts back what a damaged journal still held, forgets what is past by age and size, erases what the user
wants gone, looks for damage, and tells readers why nothing is taken.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from threading import Event
from typing import Any, TypeVar

from hermes_tui.journal import aside, forgetting, salvage
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.forgetting import Cut, Forgotten, Span
from hermes_tui.journal.keeping import Finder, Rule, Times
from hermes_tui.journal.marks import Pen
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.relay.checking import Check
from hermes_tui.relay.clock import Clock
from hermes_tui.settings import Retention

log = logging.getLogger(__name__)

T = TypeVar("T")
Document = dict[str, Any]

_PULSE_S = 2.0
_FIRST_S = 30.0  # until the first round: a start has other things to do
_ROUND_S = 3600.0
_SIZE_S = 20.0  # between two looks at the size of the journal
_NO_USE_S = 600.0  # the same when nothing could be forgotten
_CHECK_S = 10.0  # until the journal is looked through for damage
_AGAIN_S = 20.0  # after something failed (disk full, say)
_RECENT_S = 3600.0  # a session with an arrival since then stays, however large the journal is
_ENOUGH = 0.9  # of the largest size, when there is too much
_PAUSES = 3  # as long as a piece took: the rest of the time is the senders'
_LATE_S = 90.0  # what was on its way to the destination has its marks by then
_EMPTY_S = 10.0  # how long readers may keep erased text in the write-ahead log
_BEHIND_S = 0.05
_COPIES = 2  # damaged journals kept
_DAY_NS = 86_400_000_000_000
_FOREVER_NS = 2**63 - 1


class Keeper:
    """Of one journal: `run` until cancelled, then `close`.

    `on_put_back` is called once all that a damaged journal held is back; `clock` makes a clock of what is
    known from before, and of the seconds that a relay may be away without doubt in it.
    """

    def __init__(
        self,
        state: StateDir,
        writer: Writer,
        retention: Retention,
        *,
        destination: str | None = None,
        on_put_back: Callable[[], None] = lambda: None,
        clock: Callable[[Document, float], Clock] = Clock,
    ) -> None:
        self._state, self._writer, self._retention = state, writer, retention
        self._destination = destination or ""
        self._on_put_back = on_put_back
        with Reader(state.journal) as reader:
            self._document = reader.document("keeping")
        self._clock = clock(self._document, retention.days * 86_400)
        self._thread = ThreadPoolExecutor(1, "keeper")  # SQLite's connections stay in their thread
        self._stop = Event()
        self._turn = asyncio.Lock()
        self._late: list[tuple[float, list[Span]]] = []

    async def run(self) -> None:
        """Until cancelled."""
        check = Check(self._state.journal, self._writer.suspect, after_s=_CHECK_S)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self._pulse))
                tasks.create_task(self._repeat(self._put_back_first))
                tasks.create_task(self._repeat(self._rounds))
        finally:
            self._stop.set()
            check.stop()

    def close(self) -> None:
        """What is half done goes on after the next start."""
        self._stop.set()
        self._thread.shutdown(wait=False)
        self._clock.look()
        self._writer.set_meta("keeping", {**self._document, **self._clock.document()})

    async def _repeat(self, work: Callable[[], Awaitable[float]]) -> None:
        """Do it again after as many seconds as it says; 0: never. What fails is said, and tried again."""
        wait = _AGAIN_S
        while wait:
            try:
                wait = await work()
            except (sqlite3.Error, OSError, StateError) as error:
                log.error("keeping the journal in order failed: %s; it is tried again", error)
                self._writer.suspect(error)
                wait = _AGAIN_S
            except Exception:  # one of these works must not end the others
                log.exception("keeping the journal in order failed; it is tried again")
                wait = _AGAIN_S
            await asyncio.sleep(wait)

    # ---- what readers are told

    async def _pulse(self) -> float:
        changed = self._clock.look()
        for at, spans in [each for each in self._late if each[0] <= time.monotonic()]:
            self._late.remove((at, spans))
            await self._do(partial(forgetting.forget_marks, spans=spans))
        damage = self._document.get("damage")
        if damage is not None and not (self._state.path / damage["file"]).exists():
            damage = None  # the user has taken note
        reason = self._writer.refusal()
        await self._tell(changed, full=bool(reason), reason=reason, damage=damage)
        return _PULSE_S

    async def _tell(self, anyway: bool = False, **news: object) -> None:
        """Keep the document for readers when there is news."""
        document = {**self._document, **news}
        if anyway or document != self._document:
            self._document = {**document, **self._clock.document()}
            await asyncio.wrap_future(self._writer.set_meta("keeping", self._document))

    # ---- after damage

    async def _put_back_first(self) -> float:
        async with self._turn:
            await self._put_back()
        return 0

    async def _put_back(self) -> None:
        """Whatever damaged journals still held. The turn must be ours."""
        damages = aside.pending(self._state)
        if damages:
            last = damages[-1]
            await self._tell(
                damage={"file": last.file, "reason": last.reason, "at_ns": last.at_ns, "requests": None}
            )
            found = await self._in_thread(salvage.put_all_back, self._state, self._writer, self._stop)
            if not self._stop.is_set():
                await self._tell(damage=asdict(found[-1]))
                self._on_put_back()
                self._remove_copies()

    def _remove_copies(self) -> None:
        """Damaged journals that are put back, beyond the newest few and those that are past."""
        waiting = {damage.file for damage in aside.pending(self._state)}
        copies = [copy for copy in aside.copies(self._state) if copy.name not in waiting]
        days = self._retention.days if self._clock.trusted else 0
        for number, copy in enumerate(reversed(copies)):
            age_ns = self._clock.now_ns - aside.moved_ns(copy)
            if number >= _COPIES or (days and age_ns > days * _DAY_NS):
                log.info("removing %s, which was put back as far as it can be", copy.name)
                aside.remove(copy)

    # ---- retention

    async def _rounds(self) -> float:
        """A round of forgetting every hour, or as often as a short age wants; by size alone more often."""
        age_s = self._retention.days * 86_400
        every_s = min(_ROUND_S, max(_PULSE_S, age_s / 24)) if age_s else _ROUND_S
        await asyncio.sleep(min(_FIRST_S, every_s))
        next_round = time.monotonic()
        while True:
            wait = min(_SIZE_S, every_s)
            if time.monotonic() >= next_round:
                next_round = time.monotonic() + every_s
                await self.forget()
                self._remove_copies()
                await self._tell(anyway=True)  # at least as often a note of what time it is
            elif 0 < self._retention.max_bytes < self._state.journal.stat().st_size:
                forgotten = await self.forget(age=False)
                wait = wait if forgotten.requests else _NO_USE_S
            await asyncio.sleep(wait)

    async def forget(self, *, age: bool = True) -> Forgotten:
        """Let go what is past by age (unless the clock leapt) and what is too much by size."""
        days, most = self._retention.days, self._retention.max_bytes
        total = Forgotten()
        async with self._turn:
            self._clock.look()
            finder = await self._in_thread(Finder, self._state.journal)
            try:
                if age and days and self._clock.trusted:
                    since_ns = self._clock.now_ns - int(days * _DAY_NS)
                    pages = finder.past(await self._rule([(since_ns, _FOREVER_NS)]))
                    await self._take(pages, total)
                if 0 < most < await self._in_thread(finder.used):
                    pages = finder.past(await self._rule(self._clock.lately(_RECENT_S)))
                    await self._take(pages, total, finder, int(most * _ENOUGH))
            finally:
                self._thread.submit(finder.close)
                self._finish(total)
            if total.requests or await self._in_thread(self._loose):
                await self._shrink()
        if total.requests:
            log.info("forgot %d requests with %d spans", total.requests, total.spans)
        return total

    def _loose(self) -> bool:
        """Whether free pages are left from before."""
        with Reader(self._state.journal) as reader:
            return bool(reader.rows("PRAGMA freelist_count")[0][0])

    async def _rule(self, active: Times) -> Rule:
        with Reader(self._state.journal) as reader:
            readable = reader.document("proof").get("readable") is not False
        return Rule(tuple(active), self._destination, readable)

    async def _take(
        self,
        pages: Iterator[list[Cut]],
        total: Forgotten,
        finder: Finder | None = None,
        enough: int = 0,
    ) -> None:
        """Forget what is found, in pieces, until no more than `enough` bytes are used."""
        most: int | None = None
        cuts: Sequence[Cut] | None = ()
        while (cuts := cuts or await self._in_thread(next, pages, None)) is not None:
            if finder is not None:
                most = (await self._in_thread(finder.used) - enough) // 2  # not to take more than needed
                if most <= 0:
                    return
            began = time.monotonic()
            piece, cuts = forgetting.piece(cuts, most)
            if piece:
                total.add(await self._do(partial(forgetting.forget, cuts=piece)))
                await asyncio.sleep((time.monotonic() - began) * _PAUSES)

    def _finish(self, total: Forgotten) -> None:
        """Also when it was broken off: nobody waits for this."""
        if total.requests:
            self._writer.do(forgetting.finish)

    async def _shrink(self) -> None:
        """Give all free pages back; the file gets shorter once they are out of the write-ahead log, too."""
        before, left = -1, await self._do(forgetting.shrink)
        while left and left != before:  # a journal of the first version cannot shrink page by page
            began = time.monotonic()
            before, left = left, await self._do(forgetting.shrink)
            await asyncio.sleep((time.monotonic() - began) * _PAUSES)
        await asyncio.wrap_future(self._writer.empty_log())

    # ---- purging

    async def purge(
        self, *, session: str | None = None, before_ns: int | None = None, erase: bool = True
    ) -> dict[str, int]:
        """Erase a session, or all that arrived before a time, delivered or not; also from the files' bytes.

        Counts of requests, spans, undelivered spans and bytes. A span that comes later is a new one.
        Without `erase` the files' bytes stay: rewriting a large journal lets senders wait for seconds.
        """
        total = Forgotten()
        spans: list[Span] = []
        async with self._turn:
            await self._put_back()
            while await self._do(lambda pen: pen.index.behind):
                await asyncio.sleep(_BEHIND_S)
            finder = await self._in_thread(Finder, self._state.journal)
            pages = finder.before(before_ns or 0) if session is None else finder.of_session(session)
            try:
                await self._take(_noting(pages, spans), total)
            finally:
                self._thread.submit(finder.close)
                self._finish(total)
            if total.requests:
                await (self._erase() if erase else self._shrink())
        self._late.append((time.monotonic() + _LATE_S, spans))
        log.info("purged %d requests, %d spans", total.requests, total.spans)
        return asdict(total)

    async def _erase(self) -> None:
        """Leave nothing of what was forgotten in any file: SQLite overwrites rows, not their old places."""
        for copy in aside.copies(self._state):
            log.warning("removing %s: what was purged is in it, too", copy.name)
            aside.remove(copy)
        size = self._state.journal.stat().st_size
        try:
            if shutil.disk_usage(self._state.path).free < 2 * size:
                raise sqlite3.OperationalError("there is no room to rewrite the journal")
            await asyncio.wrap_future(self._writer.compact())
        except sqlite3.OperationalError as error:
            log.warning("%s; pieces of what was purged may stay in its file", error)
            await self._shrink()
        deadline = time.monotonic() + _EMPTY_S
        while not await asyncio.wrap_future(self._writer.empty_log()):
            if time.monotonic() > deadline:
                log.warning("another program reads the journal; purged text stays in its log until that ends")
                return
            await asyncio.sleep(_BEHIND_S)

    async def _do(self, work: Callable[[Pen], T]) -> T:
        return await asyncio.wrap_future(self._writer.do(work))

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _noting(pages: Iterator[list[Cut]], spans: list[Span]) -> Iterator[list[Cut]]:
    """The same pages; the spans in them are noted."""
    for cuts in pages:
        spans += [span for cut in cuts for span in cut.spans]
        yield cuts

"""The way to one destination: exporter and prover over one HTTP session, from start to clean stop."""

from __future__ import annotations

import asyncio
import logging

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.exporter import Exporter
from hermes_tui.relay.onlooker import Onlooker
from hermes_tui.relay.outbox import Outbox
from hermes_tui.relay.prover import Prover
from hermes_tui.relay.sender import Sender
from hermes_tui.relay.verification import Verifier
from hermes_tui.settings import MLflow

log = logging.getLogger(__name__)


class Tee:
    """Sends what the journal holds and proves that it arrived. Without an address it only says so.

    Where another sends (`mlflow.forward` is off), an onlooker takes the exporter's place.
    """

    def __init__(self, writer: Writer, credentials: Credentials, state: StateDir, mlflow: MLflow) -> None:
        self._credentials = credentials
        self._url = mlflow.url
        self.outbox = Outbox(state.journal)
        self._sender = Sender(mlflow, credentials) if mlflow.url else None
        self.prover = Prover(
            writer,
            self.outbox,
            self._sender,
            mlflow.url,
            busy=lambda: self.exporter.draining,
            on_lost=lambda: self.exporter.wake(),
            tidy=self._tidy,
        )
        self.exporter: Exporter | Onlooker
        if mlflow.url and not mlflow.forward:
            self.exporter = Onlooker(writer, self.outbox, self.prover, mlflow.url, tidy=self._tidy)
        else:
            self.exporter = Exporter(
                writer, self.outbox, self._sender, mlflow.url, on_accepted=self._accepted, tidy=self._tidy
            )
        self.verifier = Verifier(self.prover, self.exporter, self.outbox, state.journal, mlflow.url)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        if self._sender is not None:
            await self._sender.__aenter__()
        self._tasks = [asyncio.create_task(self.exporter.run()), asyncio.create_task(self.prover.run())]

    async def stop(self, flush_s: float) -> None:
        """Let what is queued go, and end; both for `flush_s` seconds at most. What is left goes next time."""
        self.prover.stop()
        await self.exporter.stop(flush_s)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=flush_s)
            for task in late:
                log.info(
                    "a request to the destination was still under way; it is made again after the next start"
                )
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sender is not None:
            await self._sender.__aexit__(None, None, None)
        self.outbox.close()

    def failed(self) -> list[BaseException]:
        """What ended either of the two that should never end by itself."""
        done = [task for task in self._tasks if task.done() and not task.cancelled()]
        return [error for task in done if (error := task.exception()) is not None]

    def _accepted(self) -> None:
        self.prover.wake()

    def _tidy(self) -> None:
        """Erase the senders' credentials that neither sending nor reading back needs any more."""
        if self._credentials.values():
            readable = self.prover.state.readable is not False
            self._credentials.keep_only(self.outbox.credentials_needed(self._url if readable else None))

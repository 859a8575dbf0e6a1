"""The relay process: receivers, journal and exporter wired together, from lock to clean stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from hermes_tui import __version__
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.otlp.http import HttpReceiver
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.intake import Intake
from hermes_tui.relay.lock import Lock, Running
from hermes_tui.relay.ports import port_taken
from hermes_tui.relay.tee import Tee
from hermes_tui.settings import GRPC_PORT, Settings

log = logging.getLogger(__name__)

_FLUSH_S = 3.0  # how long a stop waits for what is queued; the rest is sent after the next start
_COUNTS_S = 5.0


class RelayError(Exception):
    """The relay cannot run; the message names the cause and the fix."""


@dataclass(frozen=True, slots=True)
class Lifeline:
    """A pipe from the parent: when it closes, the relay ends. `ephemeral`: and its folder goes too."""

    descriptor: int
    ephemeral: bool = False


Companion = Callable[[str], Awaitable[None]]
"""Work beside the relay that is given its HTTP address, such as playing a recording."""


async def serve(
    settings: Settings,
    *,
    started_by: str = "user",
    lifeline: Lifeline | None = None,
    companion: Companion | None = None,
    on_ready: Callable[[Running], None] = lambda _: None,
) -> None:
    """Run the relay until SIGTERM, SIGINT or the end of its lifeline.

    Raises AlreadyRunning, StateError or RelayError before anything was received.
    """
    settings = _without_userinfo(settings)
    state = StateDir(settings.state_path)
    lock = Lock(state)
    lock.acquire()
    try:
        ended = _end_of(lifeline)
        async with AsyncExitStack() as stack:
            addresses = await _start(settings, state, stack, grpc=lifeline is None)
            running = Running(
                os.getpid(),
                __version__,
                http=addresses.http,
                grpc=addresses.grpc,
                destination=settings.mlflow.url,
                started_by=started_by,
                ready=True,
            )
            lock.announce(running)
            on_ready(running)
            log.info("listening on http://%s, destination %s", running.http, running.destination or "none")
            if companion is not None:
                task = asyncio.create_task(_accompany(companion, addresses.http))
                stack.callback(task.cancel)
            await ended.wait()
            log.info("stopping")
            lock.announce(replace(running, ready=False))
    finally:
        lock.release()
        if lifeline is not None and lifeline.ephemeral:
            shutil.rmtree(state.path, ignore_errors=True)


def _without_userinfo(settings: Settings) -> Settings:
    """Name and password out of the destination's address: an address is shown and stored, they never."""
    mlflow = settings.mlflow
    url = urlsplit(mlflow.url or "")
    if "@" not in url.netloc:
        return settings
    address = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
    if not (mlflow.token or mlflow.username):
        username, password = unquote(url.username or ""), unquote(url.password or "")
        mlflow = msgspec.structs.replace(mlflow, username=username, password=password)
    return msgspec.structs.replace(settings, mlflow=msgspec.structs.replace(mlflow, url=address))


@dataclass(frozen=True, slots=True)
class _Addresses:
    http: str
    grpc: str | None


async def _start(settings: Settings, state: StateDir, stack: AsyncExitStack, *, grpc: bool) -> _Addresses:
    loop = asyncio.get_running_loop()
    news: list[Callable[[], None]] = []

    def on_index() -> None:
        for call in news:
            loop.call_soon_threadsafe(call)

    writer = Writer(state, forward=settings.mlflow.url is not None, on_index=on_index)
    stack.callback(writer.close)
    credentials = Credentials(state.credentials)
    intake = Intake(writer, credentials)
    tee = Tee(writer, credentials, state, settings.mlflow)
    await tee.start()
    stack.push_async_callback(tee.stop, _FLUSH_S)
    news.append(tee.exporter.wake)
    counting = asyncio.create_task(_keep_counts(writer, intake))
    stack.push_async_callback(_end_counts, counting, writer, intake)
    identity: dict[str, object] = {"service": "hermes-trace-tui", "version": __version__}
    http = HttpReceiver(intake.accept, host=settings.host, port=settings.http_port, identity=identity)
    try:
        await http.start()
    except OSError as error:
        raise RelayError(_cannot_listen(error, settings.host, settings.http_port)) from error
    stack.push_async_callback(http.stop)
    return _Addresses(http.address, await _start_grpc(settings, intake, stack) if grpc else None)


async def _start_grpc(settings: Settings, intake: Intake, stack: AsyncExitStack) -> str | None:
    """The gRPC address; None when the usual port is taken and nobody asked for one."""
    from hermes_tui.otlp.grpc import GrpcReceiver  # 100 ms and 20 MB that a demo need not pay

    port = GRPC_PORT if settings.grpc_port is None else settings.grpc_port
    receiver = GrpcReceiver(intake.accept, host=settings.host, port=port)
    try:
        await receiver.start()
    except OSError as error:
        if settings.grpc_port is None:
            log.warning("port %d is taken: no OTLP/gRPC; --grpc-port chooses another", port)
            return None
        raise RelayError(port_taken(settings.host, port, "--grpc-port")) from error
    stack.push_async_callback(receiver.stop)
    return receiver.address


def _cannot_listen(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return port_taken(host, port, "--http-port")
    if error.errno in (errno.EADDRNOTAVAIL, None) or "getaddrinfo" in str(error):
        return f"cannot listen on {host}: it is not an address of this machine. Use --host 127.0.0.1."
    return f"cannot listen on {host}:{port}: {error.strerror or error}"


async def _keep_counts(writer: Writer, intake: Intake) -> None:
    """Store how many requests of each signal came, for `status`; only when that changed."""
    known: dict[str, int] = {}
    while True:
        counts = _counts(intake)
        if counts != known and await _save_counts(writer, counts):
            known = counts
        await asyncio.sleep(_COUNTS_S)


async def _end_counts(counting: asyncio.Task[None], writer: Writer, intake: Intake) -> None:
    counting.cancel()
    await _save_counts(writer, _counts(intake))


def _counts(intake: Intake) -> dict[str, int]:
    return {**intake.counts, "refused": intake.refused}


async def _save_counts(writer: Writer, counts: dict[str, int]) -> bool:
    try:
        await asyncio.wrap_future(writer.set_meta("received", counts))
    except sqlite3.Error as error:
        log.error("cannot store the counts of what was received: %s", error)
        return False
    return True


async def _accompany(companion: Companion, address: str) -> None:
    try:
        await companion(address)
    except Exception:  # a demo's recording that stops must not end the relay that shows it
        log.exception("the work beside the relay failed")


def _end_of(lifeline: Lifeline | None) -> asyncio.Event:
    """Set once the relay is to end; watched before others learn that it runs."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if lifeline is not None:
        descriptor = lifeline.descriptor

        def closed() -> None:
            loop.remove_reader(descriptor)
            ended.set()

        loop.add_reader(descriptor, closed)  # readable means: the other end is closed
    return ended

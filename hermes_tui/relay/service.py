"""The relay process: receivers, journal and exporter wired together, from lock to clean stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from hermes_tui import __version__
from hermes_tui.journal.files import StateDir, check_local
from hermes_tui.otlp.access import Access, access_for
from hermes_tui.otlp.answers import Accept
from hermes_tui.otlp.guard import Limits, allow_files
from hermes_tui.otlp.http import HttpReceiver
from hermes_tui.relay.lock import Lock, Running
from hermes_tui.relay.logs import to_file
from hermes_tui.relay.ports import port_taken
from hermes_tui.relay.works import Works
from hermes_tui.settings import GRPC_PORT, Settings, SettingsError

log = logging.getLogger(__name__)


class RelayError(Exception):
    """The relay cannot run; the message names the cause and the fix."""


@dataclass(frozen=True, slots=True)
class Lifeline:
    """A pipe from the parent: when it closes, the relay ends. `ephemeral`: and its folder goes too."""

    descriptor: int
    ephemeral: bool = False


class Receiver(Protocol):
    """What listens until it is stopped."""

    async def stop(self) -> None: ...


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
    try:
        access = access_for(settings)
    except SettingsError as error:
        raise RelayError(str(error)) from error
    state = StateDir(settings.state_path)
    check_local(state.path)
    lock = Lock(state)
    lock.acquire()
    try:
        ended = _end_of(lifeline)
        async with AsyncExitStack() as stack:
            stack.enter_context(to_file(state.log))
            works = Works(settings, state)
            stack.push_async_callback(works.close)
            await works.open()
            addresses = await _listen(settings, access, works.accept, stack, grpc=lifeline is None)
            running = Running(
                os.getpid(),
                __version__,
                http=addresses.http,
                grpc=addresses.grpc,
                destination=settings.mlflow.url,
                experiment=settings.mlflow.experiment,
                workspace=settings.mlflow.workspace,
                started_by=started_by,
                ready=True,
            )
            lock.announce(running)
            on_ready(running)
            log.info("listening on http://%s, destination %s", running.http, running.destination or "none")
            if companion is not None:
                task = asyncio.create_task(_accompany(companion, addresses.http))
                stack.callback(task.cancel)
            await works.keep_open(ended)
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


async def _listen(
    settings: Settings, access: Access, accept: Accept, stack: AsyncExitStack, *, grpc: bool
) -> _Addresses:
    identity: dict[str, object] = {"service": "hermes-trace-tui", "version": __version__}
    limits = Limits(request_bytes=settings.max_request_bytes, connections=settings.max_connections)
    allow_files(2 * settings.max_connections)
    http = HttpReceiver(
        accept,
        host=settings.host,
        port=settings.http_port,
        identity=identity,
        access=access,
        limits=limits,
    )
    try:
        await http.start()
    except OSError as error:
        raise RelayError(_cannot_listen(error, settings.host, settings.http_port)) from error
    listening: list[Receiver] = [http]
    stack.push_async_callback(_stop_listening, listening)
    address = await _start_grpc(settings, access, accept, limits, listening) if grpc else None
    return _Addresses(http.address, address)


async def _stop_listening(listening: list[Receiver]) -> None:
    """Both at once: each may wait a while for what is under way."""
    await asyncio.gather(*(receiver.stop() for receiver in listening))


async def _start_grpc(
    settings: Settings, access: Access, accept: Accept, limits: Limits, listening: list[Receiver]
) -> str | None:
    """The gRPC address; None when the usual port is taken and nobody asked for one."""
    from hermes_tui.otlp.grpc import GrpcReceiver  # 100 ms and 20 MB that a demo need not pay

    port = GRPC_PORT if settings.grpc_port is None else settings.grpc_port
    receiver = GrpcReceiver(accept, host=settings.host, port=port, access=access, limits=limits)
    try:
        await receiver.start()
    except OSError as error:
        if settings.grpc_port is None:
            log.warning("port %d is taken: no OTLP/gRPC; --grpc-port chooses another", port)
            return None
        raise RelayError(port_taken(settings.host, port, "--grpc-port")) from error
    listening.append(receiver)
    return receiver.address


def _cannot_listen(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return port_taken(host, port, "--http-port")
    if error.errno in (errno.EADDRNOTAVAIL, None) or "getaddrinfo" in str(error):
        return f"cannot listen on {host}: it is not an address of this machine. Use --host 127.0.0.1."
    return f"cannot listen on {host}:{port}: {error.strerror or error}"


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

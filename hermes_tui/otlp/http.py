"""The OTLP/HTTP receiver: a thin shell around `accept`.

OTLP specification, "OTLP/HTTP": paths /v1/traces, /v1/metrics, /v1/logs; every error carries a
google.rpc.Status in the request's encoding.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from hermes_tui.otlp.answers import HTTP_STATUS, Accept, Answer, Code, Received
from hermes_tui.otlp.codec import EMPTY_ANSWER, MAX_BYTES, PROTOBUF, status_body

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 5
SIGNALS = ("traces", "metrics", "logs")


def build_app(accept: Accept, *, identity: dict[str, object]) -> web.Application:
    """The receiver as an aiohttp application; GET / tells who is listening (`identity`)."""
    app = web.Application(client_max_size=MAX_BYTES)

    async def about(_: web.Request) -> web.Response:
        return web.json_response(identity)

    async def missing(request: web.Request) -> web.Response:
        text = f"nothing at {request.path[:200]}; OTLP traces go to POST /v1/traces\n"
        return web.Response(status=404, text=text)

    app.router.add_get("/", about)
    for signal in SIGNALS:
        app.router.add_post(f"/v1/{signal}", _handler(signal, accept))
    app.router.add_route("*", "/{path:.*}", missing)
    return app


def _handler(signal: str, accept: Accept) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        if request.content_type != PROTOBUF:
            named = request.headers.get("Content-Type", "none")[:100]
            why = f"Content-Type {named} is not supported; send {PROTOBUF}"
            return respond(Answer(Code.UNIMPLEMENTED, why))
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return respond(Answer(Code.RESOURCE_EXHAUSTED, f"request is larger than {MAX_BYTES} bytes"))
        except ConnectionError:
            log.info("a sender left before its request was whole")
            return respond(Answer(Code.UNAVAILABLE, "connection lost"))  # read by nobody
        received = Received(
            signal,
            body,
            request.headers.get("Content-Type", PROTOBUF),
            request.headers.get("Content-Encoding", ""),
            {name.lower(): value for name, value in request.headers.items()},
        )
        try:
            answer = await accept(received)
        except Exception:
            # A 500 would make a sender drop its spans; this way it comes again.
            log.exception("a request of %d bytes could not be taken", len(body))
            answer = Answer(Code.UNAVAILABLE, "the relay failed on this request; see its log", _RETRY_AFTER_S)
        return respond(answer)

    return handle


def respond(answer: Answer) -> web.Response:
    """An answer as OTLP/HTTP wants it."""
    if answer.code is Code.OK:
        return web.Response(body=EMPTY_ANSWER, content_type=PROTOBUF)
    headers = {"Retry-After": str(answer.retry_after_s)} if answer.retry_after_s else None
    return web.Response(
        status=HTTP_STATUS[answer.code],
        body=status_body(answer.code, answer.message),
        content_type=PROTOBUF,
        headers=headers,
    )


class HttpReceiver:
    """Listens for OTLP/HTTP; `address` is the "host:port" it got once started."""

    def __init__(self, accept: Accept, *, host: str, port: int, identity: dict[str, object]) -> None:
        self._host, self._port = host, port
        # aiohttp would gunzip the body but keep the header: the original bytes must travel on.
        self._runner = web.AppRunner(
            build_app(accept, identity=identity),
            auto_decompress=False,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=5,
        )
        self.address = ""

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port is taken or the host is not ours."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=512)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        self.address = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    async def stop(self) -> None:
        """Stop listening, answer what was taken, close."""
        await self._runner.cleanup()

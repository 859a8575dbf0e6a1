"""The OTLP/HTTP receiver: a thin shell around `accept`.

OTLP specification, "OTLP/HTTP": paths /v1/traces, /v1/metrics, /v1/logs; every answer is in the request's
encoding, every error a google.rpc.Status. CORS: the Fetch standard, "CORS protocol".
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from hermes_tui.otlp.access import TOKEN_HEADER, Access
from hermes_tui.otlp.answers import (
    HTTP_STATUS,
    RETRY_AFTER_S,
    Accept,
    Answer,
    Code,
    Received,
    answer_body,
    media_type_of_answer,
)
from hermes_tui.otlp.encodings import JSON, PROTOBUF, media_type
from hermes_tui.otlp.guard import Guard, Limits
from hermes_tui.otlp.line import Line, Wire

log = logging.getLogger(__name__)

_SIGNALS = {f"/v1/{signal}": signal for signal in ("traces", "metrics", "logs")}
_BACKLOG = 128  # asyncio accepts as many at a time, limit or not
_MOST_HEADERS = 64
_TELLING = ("host", "origin", "sec-fetch-site", "user-agent")  # headers that hold no secret
_FORWARDED = ("content-type", "content-encoding", "authorization")  # and x-mlflow-*
_ASKED_METHOD = "Access-Control-Request-Method"
_SERVER = {"Server": "otlp"}  # aiohttp would name itself and Python, with versions
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,1000}")
_QUIET_S = 60.0  # what strangers can cause as often as they like is logged once in this time


class _Refused(Exception):
    """A request that is answered before, or instead of, being taken; `status` where the code has none."""

    def __init__(self, answer: Answer, status: int | None = None) -> None:
        super().__init__(answer.message)
        self.answer = answer
        self.status = status


class HttpReceiver:
    """Listens for OTLP/HTTP; `address` is the "host:port" it got once started.

    GET / tells who is listening (`identity`).
    """

    def __init__(
        self,
        accept: Accept,
        *,
        host: str,
        port: int,
        identity: dict[str, object],
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._limits = limits or Limits()
        self._complaints = _Complaints()
        self._desk = _Desk(accept, identity, access or Access(), self._limits, self._complaints)
        self._manager: web.Server | None = None
        self._guard: Guard | None = None
        self._server: asyncio.Server | None = None
        self.address = ""

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port is taken or the host is not ours."""
        manager = web.Server(self._desk.handle)
        loop = asyncio.get_running_loop()
        said: dict[str, Any] = {
            "loop": loop,
            "access_log": None,
            # aiohttp would gunzip the body but keep the header: the original bytes must travel on.
            "auto_decompress": False,
            "max_headers": _MOST_HEADERS,
            "lingering_time": self._limits.times.head,
            "keepalive_timeout": self._limits.times.keep_alive + 60.0,  # the guard closes before
        }
        self._guard = Guard(lambda: _Connection(manager, self._complaints, **said), self._limits)
        self._server = await loop.create_server(self._guard, self._host, self._port, backlog=_BACKLOG)
        self._manager = manager
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    @property
    def connections(self) -> int:
        return 0 if self._guard is None else self._guard.connections

    async def stop(self) -> None:
        """Stop listening, answer what was taken, close; within `Limits.stop_s`."""
        if self._server is None or self._guard is None or self._manager is None:
            return
        self._server.close()
        await self._guard.stop()
        self._manager.pre_shutdown()
        await self._manager.shutdown(0.1)  # all connections are closed: there is little to wait for


class _Complaints:
    """Logs what clients do wrong, seldom enough that they cannot fill the disk with it."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def log(self, what: str, *details: object) -> None:
        now = time.monotonic()
        if now - self._last.get(what, -_QUIET_S) >= _QUIET_S:
            self._last[what] = now
            log.warning(f"{what}; the next ones within %d s are not logged", *details, _QUIET_S)


class _Connection(web.RequestHandler):
    """aiohttp's side of a connection, with our words for what is no HTTP."""

    __slots__ = ("_complaints",)

    def __init__(self, manager: web.Server, complaints: _Complaints, **said: Any) -> None:
        super().__init__(manager, **said)
        self._complaints = complaints

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be read; aiohttp's own words repeat parts of it."""
        if status < 500:
            self._complaints.log("refused what is no HTTP request (%s)", type(exc).__name__)
            answer = Answer(Code.INVALID_ARGUMENT, "this is not an HTTP request that can be read")
        else:
            log.error("an answer could not be made", exc_info=exc)
            answer = _failed()
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer is out already")
        response = _response(answer, PROTOBUF)
        response.force_close()
        return response


class _Desk:
    """Answers requests."""

    def __init__(
        self,
        accept: Accept,
        identity: dict[str, object],
        access: Access,
        limits: Limits,
        complaints: _Complaints,
    ) -> None:
        self._accept = accept
        self._identity = identity
        self._access = access
        self._limits = limits
        self._complaints = complaints

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        wire = request.transport
        if not isinstance(wire, Wire):
            return _gone()
        line = wire.line
        line.began(request.content)
        try:
            response = await self._respond(request, line)
            if line.stopping or not request.content.is_eof():
                response.force_close()  # what is left of the body is thrown away, not taken for a request
        finally:
            line.answered()
        self._allow_reading(request, response)
        return response

    async def _respond(self, request: web.BaseRequest, line: Line) -> web.Response:
        kind = media_type_of_answer(
            request.headers.get("Content-Type", ""), request.headers.get("Accept", "")
        )
        try:
            headers = self._let_in(request)
            if self._is_preflight(request):
                return _preflight(request)
            if request.method in ("GET", "HEAD") and request.path == "/":
                line.received()
                return web.json_response(self._identity, headers=_SERVER)
            signal = _signal(request)
            _check_headers(headers)
            body = await self._body(request, line)
            line.received()
            content_type, encoding = headers["content-type"], headers.get("content-encoding", "")
            return _response(
                await self._accept(Received(signal, body, content_type, encoding, headers)), kind
            )
        except _Refused as refused:
            return _response(refused.answer, kind, refused.status)
        except ConnectionError:
            self._complaints.log("a sender left, or was too slow, before its request was whole")
            return _gone()
        except web.RequestPayloadError:
            return _response(Answer(Code.INVALID_ARGUMENT, "the body is not framed as HTTP wants it"), kind)
        except Exception:
            # A 500 would make a sender drop its spans; this way it comes again.
            log.exception("a request could not be taken")
            return _response(_failed(), kind)

    def _let_in(self, request: web.BaseRequest) -> dict[str, str]:
        """The headers that may travel on. Raises _Refused for whom we do not talk to."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self._is_preflight(request):  # a browser sends it without the token
            if headers.get("origin") in self._access.origins:
                return headers
            raise _Refused(self._complain(Answer(Code.PERMISSION_DENIED, "not allowed"), headers))
        refusal = self._access.refuse(headers)
        if refusal is not None:
            raise _Refused(self._complain(refusal, headers))
        return self._access.without_token(headers)

    def _is_preflight(self, request: web.BaseRequest) -> bool:
        named = request.headers
        return request.method == hdrs.METH_OPTIONS and "Origin" in named and _ASKED_METHOD in named

    def _complain(self, answer: Answer, headers: dict[str, str]) -> Answer:
        """Log why somebody is refused: what is told to them says nothing."""
        named = {name: headers[name][:100] for name in _TELLING if name in headers}
        if answer.code is Code.UNAUTHENTICATED:
            self._complaints.log("refused a request with no or another token (%s)", named)
        else:
            hint = "allowed_hosts and cors_origins let more in"
            self._complaints.log(
                f"refused a request that names another host or comes from a page (%s; {hint})", named
            )
        return answer

    async def _body(self, request: web.BaseRequest, line: Line) -> bytes:
        """The body, within what one may have and what all have together. Raises _Refused."""
        limit = self._limits.request_bytes
        too_large = _Refused(Answer(Code.RESOURCE_EXHAUSTED, f"request is larger than {limit} bytes"))
        if (request.content_length or 0) > limit:
            raise too_large
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # that was no part of the answer
        content = request.content
        body: bytes | bytearray = await content.readany()
        while True:
            if len(body) > limit:
                raise too_large
            if not line.hold(len(body)):
                busy = "too many large requests are being received"
                raise _Refused(Answer(Code.UNAVAILABLE, busy, RETRY_AFTER_S))
            if content.at_eof():
                return body if isinstance(body, bytes) else bytes(body)
            if isinstance(body, bytes):  # most are whole by now, and need no copy
                body = bytearray(body)
            body += await content.readany()

    def _allow_reading(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let pages of the origins that were asked for read the answer; nobody else gets a word of CORS."""
        origin = request.headers.get("Origin")
        if origin is not None and origin in self._access.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "Retry-After"
            response.headers["Vary"] = "Origin"


def _signal(request: web.BaseRequest) -> str:
    """What is sent. Raises _Refused for another path, method or content type."""
    signal = _SIGNALS.get(request.path)
    if signal is None:
        where = f"nothing at {request.path[:200]}; OTLP traces go to POST /v1/traces"
        raise _Refused(Answer(Code.NOT_FOUND, where))
    if request.method != hdrs.METH_POST:
        raise _Refused(Answer(Code.UNIMPLEMENTED, "OTLP is sent by POST"), 405)
    named = request.headers.get("Content-Type", "")
    if media_type(named) not in (PROTOBUF, JSON):
        why = f"Content-Type {named[:100] or 'none'} is not supported; send {PROTOBUF} or {JSON}"
        raise _Refused(Answer(Code.UNIMPLEMENTED, why))
    return signal


def _check_headers(headers: dict[str, str]) -> None:
    """Raise _Refused where a header that travels on could not: no destination would ever take it."""
    for name, value in headers.items():
        if (name in _FORWARDED or name.startswith("x-mlflow-")) and not value.isprintable():
            raise _Refused(Answer(Code.INVALID_ARGUMENT, f"header {name[:100]} is not plain text"))


def _preflight(request: web.BaseRequest) -> web.Response:
    """Tell a browser what a page of an allowed origin may send."""
    asked = request.headers.get("Access-Control-Request-Headers", "")
    headers = {
        **_SERVER,
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": asked if _HEADER_NAMES.fullmatch(asked) else TOKEN_HEADER,
        "Access-Control-Max-Age": "600",
    }
    if "Access-Control-Request-Private-Network" in request.headers:
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)


def _gone() -> web.Response:
    """For a sender that left: aiohttp wants an answer, and nobody reads it."""
    return web.Response(status=503)


def _failed() -> Answer:
    return Answer(Code.UNAVAILABLE, "the relay failed on this request; see its log", RETRY_AFTER_S)


def _response(answer: Answer, kind: str, status: int | None = None) -> web.Response:
    """An answer as OTLP/HTTP wants it."""
    headers = dict(_SERVER)
    if answer.retry_after_s:
        headers["Retry-After"] = str(answer.retry_after_s)
    if answer.code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "POST"
    return web.Response(
        status=status or HTTP_STATUS[answer.code],
        body=answer_body(answer, kind),
        content_type=kind,
        headers=headers,
    )

"""What a receiver hands over and what it gets back: the same for every transport.

Sources: the OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Throttling"; google/rpc/status.proto,
google/rpc/error_details.proto (RetryInfo), google/protobuf/any.proto and duration.proto. They are
written out because a handful of fields is all it takes, and googleapis-common-protos is a large
dependency for them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from hermes_tui.otlp.encodings import JSON, PROTOBUF, media_type

RETRY_AFTER_S = 5
"""When to come again, where nothing better is known."""


class Code(IntEnum):
    """The google.rpc.Code values that OTLP uses, with their HTTP status in `HTTP_STATUS`."""

    OK = 0
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.UNIMPLEMENTED: 415,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


@dataclass(slots=True, frozen=True)
class Received:
    """An export request as a transport took it; header names in lower case."""

    signal: str
    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, str]


@dataclass(slots=True, frozen=True)
class Answer:
    """OK means: on disk. `retry_after_s` goes with UNAVAILABLE."""

    code: Code = Code.OK
    message: str = ""
    retry_after_s: int = 0


Accept = Callable[[Received], Awaitable[Answer]]


def media_type_of_answer(content_type: str, accept: str = "") -> str:
    """The media type to answer in: the request's; when it says none of ours, what it accepts."""
    asked = media_type(content_type)
    if asked in (PROTOBUF, JSON):
        return asked
    wanted = [media_type(each) for each in accept.split(",")]
    return JSON if JSON in wanted and PROTOBUF not in wanted else PROTOBUF


def answer_body(answer: Answer, kind: str) -> bytes:
    """The body of an answer over HTTP in the given media type.

    For OK an empty Export*ServiceResponse (partial success is never set: what is answered with OK was
    taken whole), else a google.rpc.Status.
    """
    if answer.code is Code.OK:
        return b"{}" if kind == JSON else b""
    text = _text(answer.message)
    if kind == JSON:
        return json.dumps({"code": int(answer.code), "message": text.decode()}).encode()
    return _number(1, answer.code) + _bytes(2, text)


def status_details(answer: Answer) -> bytes:
    """A google.rpc.Status for `grpc-status-details-bin`, with a RetryInfo where coming again may help.

    OTLP takes UNAVAILABLE as "come again", and RESOURCE_EXHAUSTED without a RetryInfo as "never".
    """
    status = _number(1, answer.code) + _bytes(2, _text(answer.message))
    if not answer.retry_after_s:
        return status
    retry_info = _bytes(1, _number(1, answer.retry_after_s))  # retry_delay: a Duration of whole seconds
    detail = _bytes(1, b"type.googleapis.com/google.rpc.RetryInfo") + _bytes(2, retry_info)
    return status + _bytes(3, detail)


def _text(message: str) -> bytes:
    return message.encode("utf-8", "replace")


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)

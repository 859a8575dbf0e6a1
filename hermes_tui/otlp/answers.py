"""What a receiver hands over and what it gets back: the same for every transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """The google.rpc.Code values that OTLP uses, with their HTTP status in `HTTP_STATUS`."""

    OK = 0
    INVALID_ARGUMENT = 3
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14


HTTP_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.UNIMPLEMENTED: 415,
    Code.UNAVAILABLE: 503,
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

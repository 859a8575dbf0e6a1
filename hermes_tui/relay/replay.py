"""Play recorded OTLP requests at a receiver, at their own pace or faster.

Two formats, one JSON object a line, also gzipped:

* recordings: `t` (seconds since its start), `wall` (seconds since the epoch), `path`, `headers` (pairs)
  and `body` (base64 of the raw bytes);
* what `export` and the OpenTelemetry Collector's file exporter write: an OTLP request in JSON. It came,
  as far as anyone can tell, when the last of its spans ended.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import aiohttp

from hermes_tui.otlp.access import TOKEN_HEADER
from hermes_tui.otlp.codec import JSON, NO_LIMIT, PROTOBUF, decompress, moved

_KEPT_HEADERS = ("content-type", "content-encoding", "x-mlflow-")
_SIGNALS = {"resourceSpans": "/v1/traces", "resourceMetrics": "/v1/metrics", "resourceLogs": "/v1/logs"}
_GZIP = b"\x1f\x8b"


class ReplayError(Exception):
    """A recording cannot be read, or a receiver does not take it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded request: `at_s` since the recording began, `wall_s` since the epoch (0: not said)."""

    at_s: float
    wall_s: float
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a request lies in its file, and when it came; `path` is "" for a line that says it itself."""

    at_s: float
    wall_s: float
    offset: int
    path: str


class Recording:
    """The requests of a file in order of time; only one of them is in memory at a time.

    Raises ReplayError naming the line that is no request. Close it, or use it in a `with` statement.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = _opened(path)
        except (OSError, EOFError, zlib.error) as error:
            raise ReplayError(f"cannot read {path}: {error}") from error
        try:
            self._places = self._survey()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Recorded]:
        for place in self._places:
            self._file.seek(place.offset)
            line = self._file.readline().strip()
            if place.path:
                yield Recorded(place.at_s, place.wall_s, place.path, {"content-type": JSON}, line)
            else:
                yield _recorded(json.loads(line))

    def _survey(self) -> list[_Place]:
        """Read all once, so that nothing is sent of a file that is broken further down."""
        places: list[_Place] = []
        first_ns = offset = 0
        for number, line in enumerate(self._file, 1):
            if line.strip():
                try:
                    place, first_ns = _placed(line, offset, places, first_ns)
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    why = f"{type(error).__name__}: {error}"
                    raise ReplayError(
                        f"{self._path}, line {number} is not a recorded request ({why}); expected an OTLP "
                        "request in JSON (resourceSpans), or t, wall, path, headers and body"
                    ) from error
                places.append(place)
            offset += len(line)
        if not places:
            raise ReplayError(f"{self._path} holds no requests")
        return sorted(places, key=lambda place: place.at_s)


def _placed(line: bytes, offset: int, before: list[_Place], first_ns: int) -> tuple[_Place, int]:
    """A line's place among those before it, and the time of the first line that says one."""
    document = json.loads(line)
    for name, path in _SIGNALS.items():
        if name in document:
            at_ns = _latest_ns(document) if path == "/v1/traces" else 0
            first_ns = first_ns or at_ns
            at_s = max(before[-1].at_s if before else 0.0, (at_ns - first_ns) / 1e9)
            return _Place(at_s, at_ns / 1e9, offset, path), first_ns
    recorded = _recorded(document)
    return _Place(recorded.at_s, recorded.wall_s, offset, ""), first_ns


def _latest_ns(document: dict[str, Any]) -> int:
    """When the last span of a request ended, or started while it runs; 0 when none says."""
    return max(
        (
            int(span.get("endTimeUnixNano") or span.get("startTimeUnixNano") or 0)
            for resource_spans in document["resourceSpans"]
            for scope_spans in resource_spans.get("scopeSpans", ())
            for span in scope_spans.get("spans", ())
        ),
        default=0,
    )


def _recorded(document: dict[str, Any]) -> Recorded:
    pairs = ((str(name).lower(), str(value)) for name, value in document["headers"])
    return Recorded(
        at_s=float(document["t"]),
        wall_s=float(document["wall"]),
        path=str(document["path"]),
        headers={name: value for name, value in pairs if name.startswith(_KEPT_HEADERS)},
        body=base64.b64decode(document["body"], validate=True),
    )


def _opened(path: Path) -> IO[bytes]:
    """A file that can be read twice: unpacked if it is gzipped, copied if it is a pipe."""
    file = path.open("rb")
    packed = file.peek(len(_GZIP)).startswith(_GZIP)
    if not packed and file.seekable():
        return file
    with file, ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        with gzip.open(file) if packed else file as plain:
            shutil.copyfileobj(plain, copy)
        copy.seek(0)
        stack.pop_all()
        return copy


def read_recording(file: Path) -> list[Recorded]:
    """All requests of a recording in order of time. Raises ReplayError."""
    with Recording(file) as recording:
        return list(recording)


async def replay(
    files: list[Path],
    to: str,
    *,
    speed: float = 1.0,
    now: bool = False,
    token: str = "",
    progress: Callable[[int, int], None] = lambda sent, total: None,
) -> tuple[int, int]:
    """Send the recordings one after the other; (requests sent, requests refused).

    `speed` 2 plays twice as fast, 0 without waiting; `now` moves all times to the present; `token` is
    shown to the receiver. Raises
    ReplayError when a file cannot be read or the receiver cannot be reached.
    """
    sent = refused = 0
    async with AsyncExitStack() as stack:
        recordings = [stack.enter_context(Recording(file)) for file in files]
        total = sum(len(recording) for recording in recordings)
        shown = {TOKEN_HEADER: token} if token else {}
        session = await stack.enter_async_context(aiohttp.ClientSession(headers=shown))
        for recording in recordings:
            begin = time.monotonic()
            for request in _present(recording) if now else recording:
                if speed > 0:
                    await asyncio.sleep(begin + request.at_s / speed - time.monotonic())
                refused += not await _send(session, to, request)
                sent += 1
                progress(sent, total)
    return sent, refused


def _present(recording: Recording) -> Iterator[Recorded]:
    """The recording as if it started now."""
    shift = 0
    for request in recording:
        if not shift and request.wall_s:
            shift = int((time.time() - request.wall_s + request.at_s) * 1e9)
        if request.path != "/v1/traces":
            yield request
            continue
        content_type = request.headers.get("content-type", PROTOBUF)
        try:
            plain = decompress(request.body, request.headers.get("content-encoding", ""), NO_LIMIT)
            body = moved(plain, shift, content_type)
        except ValueError:  # BadRequest, or a time that cannot be moved so far
            yield request  # broken requests are part of a recording too
            continue
        headers = {name: value for name, value in request.headers.items() if name != "content-encoding"}
        yield Recorded(request.at_s, request.wall_s, request.path, headers, body)


async def _send(session: aiohttp.ClientSession, to: str, request: Recorded) -> bool:
    try:
        url = to.rstrip("/") + request.path
        async with session.post(url, data=request.body, headers=request.headers) as answer:
            await answer.read()
            return 200 <= answer.status < 300
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ReplayError(f"cannot reach {to}: {error}. Is the relay running there?") from error

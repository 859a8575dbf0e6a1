"""Play recorded OTLP requests at a receiver, at their own pace or faster.

A recording has one JSON object a line: `t` (seconds since its start), `wall` (seconds since the
epoch), `path`, `headers` (pairs) and `body` (base64 of the raw bytes).
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hermes_tui.otlp.codec import Request, decompress, moved

_KEPT_HEADERS = ("content-type", "content-encoding", "x-mlflow-")


class ReplayError(Exception):
    """A recording cannot be read, or a receiver does not take it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded request; `at_s` counts from the recording's start, `wall_s` from the epoch."""

    at_s: float
    wall_s: float
    path: str
    headers: dict[str, str]
    body: bytes


def read_recording(file: Path) -> list[Recorded]:
    """The requests of a recording in order of time. Raises ReplayError naming the line."""
    requests = []
    try:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                requests.append(_read_line(file, number, line))
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"cannot read {file}: {error}") from error
    if not requests:
        raise ReplayError(f"{file} holds no requests")
    return sorted(requests, key=lambda request: request.at_s)


def _read_line(file: Path, number: int, line: str) -> Recorded:
    try:
        document = json.loads(line)
        pairs = ((str(name).lower(), str(value)) for name, value in document["headers"])
        return Recorded(
            at_s=float(document["t"]),
            wall_s=float(document["wall"]),
            path=str(document["path"]),
            headers={name: value for name, value in pairs if name.startswith(_KEPT_HEADERS)},
            body=base64.b64decode(document["body"], validate=True),
        )
    except (ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ReplayError(
            f"{file}, line {number} is not a recorded request ({why}); "
            "expected an object with t, wall, path, headers and body"
        ) from error


async def replay(
    files: list[Path],
    to: str,
    *,
    speed: float = 1.0,
    now: bool = False,
    progress: Callable[[int, int], None] = lambda sent, total: None,
) -> tuple[int, int]:
    """Send the recordings one after the other; (requests sent, requests refused).

    `speed` 2 plays twice as fast, 0 without waiting; `now` moves all times to the present. Raises
    ReplayError when a file cannot be read or the receiver cannot be reached.
    """
    recordings = [read_recording(file) for file in files]
    total = sum(len(recording) for recording in recordings)
    sent = refused = 0
    async with aiohttp.ClientSession() as session:
        for recording in recordings:
            begin = time.monotonic()
            for request in _present(recording) if now else recording:
                if speed > 0:
                    await asyncio.sleep(begin + request.at_s / speed - time.monotonic())
                refused += not await _send(session, to, request)
                sent += 1
                progress(sent, total)
    return sent, refused


def _present(recording: list[Recorded]) -> Iterator[Recorded]:
    """The recording as if it started now."""
    shift = int((time.time() - recording[0].wall_s + recording[0].at_s) * 1e9)
    for request in recording:
        if request.path != "/v1/traces":
            yield request
            continue
        try:
            plain = decompress(request.body, request.headers.get("content-encoding", ""))
            Request(plain)
            body = moved(plain, shift)
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

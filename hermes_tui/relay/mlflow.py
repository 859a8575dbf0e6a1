"""MLflow's REST: what it has of a trace. Read in `mlflow/protos/service.proto` and measured on 3.17."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from hermes_tui.relay.outbox import Route
from hermes_tui.relay.policy import explain
from hermes_tui.relay.sender import Sender

_INFOS = "/api/3.0/mlflow/traces/batchGetInfos"
_TRACES = "/api/3.0/mlflow/traces/batchGet"
_MISSING = (404, 405, 501)
T = TypeVar("T")


class Unreadable(Exception):
    """The destination is no MLflow that could be read back; asking again will not help."""


class NotNow(Exception):
    """The destination did not answer as it should; ask again later."""


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """What MLflow says of a whole trace; unknown is None, cost in US dollars."""

    state: str
    duration_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None

    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


class _Info(msgspec.Struct):
    trace_id: str
    state: str = ""
    execution_duration: str = ""
    trace_metadata: dict[str, str] = {}


class _Infos(msgspec.Struct):
    trace_infos: list[_Info] = []


class _Span(msgspec.Struct):
    span_id: str
    end_time_unix_nano: int | str = 0


class _Trace(msgspec.Struct):
    trace_info: _Info
    spans: list[_Span] = []


class _Traces(msgspec.Struct):
    traces: list[_Trace] = []


async def infos(sender: Sender, route: Route, traces: Sequence[bytes]) -> dict[bytes, TraceInfo]:
    """The traces that MLflow has, of some; cheap. Raises Unreadable or NotNow."""
    body = json.dumps({"trace_ids": [_name(trace_id) for trace_id in traces]}).encode()
    found = await _ask(sender, route, "POST", _INFOS, _Infos, body)
    return {_trace_id(each.trace_id): _info(each) for each in found.trace_infos}


async def spans(sender: Sender, route: Route, traces: Sequence[bytes]) -> dict[bytes, dict[bytes, int]]:
    """Ids and ends (ns) of the spans that MLflow has of some traces. Raises Unreadable or NotNow."""
    query = urlencode([("trace_ids", _name(trace_id)) for trace_id in traces])
    found = await _ask(sender, route, "GET", f"{_TRACES}?{query}", _Traces)
    try:
        return {
            _trace_id(trace.trace_info.trace_id): {
                b64decode(span.span_id): int(span.end_time_unix_nano) for span in trace.spans
            }
            for trace in found.traces
        }
    except (ValueError, binascii.Error) as error:
        raise NotNow(f"its answer is not as MLflow's: {error}") from error


async def _ask(
    sender: Sender, route: Route, method: str, path: str, kind: type[T], body: bytes | None = None
) -> T:
    reply = await sender.ask(route, method, path, body)
    if reply.error:
        raise NotNow(f"it cannot be reached: {reply.error}")
    if reply.status in _MISSING:
        raise Unreadable(
            f"it has no MLflow API to read traces back ({reply.status} for {path.split('?')[0]})"
        )
    if reply.status in (401, 403):
        raise NotNow(f"it does not allow to read traces back ({reply.status})")
    if reply.status != 200:
        raise NotNow(f"it cannot be read now ({reply.status}{explain(reply.body)})")
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("it answers, but not as an MLflow server") from error


def _name(trace_id: bytes) -> str:
    return f"tr-{trace_id.hex()}"


def _trace_id(name: str) -> bytes:
    try:
        return bytes.fromhex(name.removeprefix("tr-"))
    except ValueError:
        return b""


def _info(info: _Info) -> TraceInfo:
    usage = _numbers(info.trace_metadata.get("mlflow.trace.tokenUsage"))
    cost = _numbers(info.trace_metadata.get("mlflow.trace.cost"))
    duration = info.execution_duration.removesuffix("s")
    return TraceInfo(
        state=info.state,
        duration_s=float(duration) if duration.replace(".", "", 1).isdigit() else None,
        input_tokens=_whole(usage.get("input_tokens")),
        output_tokens=_whole(usage.get("output_tokens")),
        cost=cost.get("total_cost"),
    )


def _numbers(text: str | None) -> dict[str, float]:
    try:
        document = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: value for name, value in document.items() if isinstance(value, int | float)}


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)

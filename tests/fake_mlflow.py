"""MLflow as far as the relay knows it: takes OTLP, keeps spans, answers what is read back.

The answers have the shapes of MLflow 3.17 (asked for by hand): unknown traces are left out, ids of
spans are base64, an empty answer is `{}`.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.processes import Destination, Post, Reply, SpanKey
from tests.support import wire_spans_in

JSON = {"Content-Type": "application/json"}
_STATUS = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")


@dataclass(slots=True)
class Stored:
    """One span as it was stored."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    start_ns: int
    end_ns: int
    status: int

    @property
    def key(self) -> SpanKey:
        return self.trace_id, self.span_id, self.end_ns

    def document(self) -> dict[str, Any]:
        parent = {"parent_span_id": _base64(self.parent_id)} if self.parent_id else {}
        return {
            "trace_id": _base64(self.trace_id),
            "span_id": _base64(self.span_id),
            **parent,
            "name": self.name,
            "start_time_unix_nano": self.start_ns,
            "end_time_unix_nano": self.end_ns,
            "attributes": [],
            "status": {"code": _STATUS[self.status]},
        }


@dataclass(slots=True)
class _Trace:
    experiment: str
    spans: dict[bytes, Stored] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    def info(self, trace_id: bytes) -> dict[str, Any]:
        spans = self.spans.values()
        roots = [span for span in spans if not span.parent_id]
        first, last = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
        state = "IN_PROGRESS"
        if roots:
            state = "ERROR" if roots[0].status == 2 else "OK"
        when = datetime.fromtimestamp(first // 10**9, UTC).isoformat().replace("+00:00", "Z")
        return {
            "trace_id": f"tr-{trace_id.hex()}",
            "trace_location": {
                "type": "MLFLOW_EXPERIMENT",
                "mlflow_experiment": {"experiment_id": self.experiment},
            },
            "request_time": when,
            "execution_duration": f"{(last - first) / 10**9:.3f}s",
            "state": state,
            **({"trace_metadata": self.metadata} if self.metadata else {}),
            "tags": {"mlflow.trace.spansLocation": "TRACKING_STORE"},
        }


class FakeMLflow(Destination):
    """A scripted destination that keeps spans and can be read back.

    `script` and `answer` decide about posts as in `Destination`; what they answer with 200 is kept.
    Every attribute may be set at any time:

    * `lose`: spans that are answered with 200 and not kept (a forgetful MLflow);
    * `refuse`: spans that make their whole request a 422 with nothing kept;
    * `reading`: what answers a read instead, such as `Reply(500)`; None: the truth;
    * `experiments`: ids that exist; None: any, also none at all.
    """

    def __init__(self, *script: Reply, answer: Callable[[Post], Reply] = lambda _: Reply()) -> None:
        super().__init__(*script, answer=answer)
        self.lose: Callable[[SpanKey], bool] = lambda _: False
        self.refuse: Callable[[SpanKey], bool] = lambda _: False
        self.reading: Reply | None = None
        self.experiments: set[str] | None = None
        self._traces: dict[bytes, _Trace] = {}

    # ---- what a test looks at and does

    def stored(self) -> set[SpanKey]:
        """(trace id, span id, end in ns) of all spans it has."""
        with self._changing:
            return {span.key for trace in self._traces.values() for span in trace.spans.values()}

    def forget(self, spans: Iterable[SpanKey]) -> None:
        """Lose spans that are stored; a trace without spans goes too."""
        with self._changing:
            for trace_id, span_id, _ in spans:
                trace = self._traces[trace_id]
                del trace.spans[span_id]
                if not trace.spans:
                    del self._traces[trace_id]

    def say(self, trace_id: bytes, **metadata: str) -> None:
        """Set a trace's metadata, such as `mlflow.trace.tokenUsage`, as JSON strings."""
        with self._changing:
            self._traces[trace_id].metadata.update(metadata)

    # ---- what it answers

    def received(self, taken: Post, reply: Reply) -> Reply:
        """Called with the lock held."""
        if reply.status != 200 or reply.drop or reply.hang or not _path(taken).endswith("/v1/traces"):
            return reply
        experiment = taken.headers.get("x-mlflow-experiment-id", "")
        if self.experiments is not None and experiment not in self.experiments:
            return _no_experiment(experiment)
        spans = spans_of(taken)
        if any(self.refuse(span.key) for span in spans):
            return _json({"detail": "Failed to convert OTLP span"}, 422)
        for span in spans:
            if not self.lose(span.key):
                trace = self._traces.setdefault(span.trace_id, _Trace(experiment or "0"))
                trace.spans[span.span_id] = span
        return reply

    def read(self, taken: Post) -> Reply:
        """Called with the lock held."""
        path, query = _path(taken), parse_qs(urlsplit(taken.path).query)
        if self.reading is not None:
            return self.reading
        if path.endswith("/health"):
            return Reply(200, b"OK")
        if path.endswith("/version"):
            return Reply(200, b"3.17.2")
        if path.endswith("/api/3.0/mlflow/traces/batchGetInfos") and taken.method == "POST":
            return self._infos(json.loads(taken.body))
        if path.endswith("/api/3.0/mlflow/traces/batchGet") and taken.method == "GET":
            return self._whole(query.get("trace_ids", []))
        if path.endswith("/api/3.0/mlflow/traces/get") and taken.method == "GET":
            return self._one(query["trace_id"][0])
        if path.endswith("/mlflow/traces/delete-traces") and taken.method == "POST":
            gone = self._known(json.loads(taken.body)["request_ids"])
            for trace_id, _ in gone:
                del self._traces[trace_id]
            return _json({"traces_deleted": len(gone)})
        if path.endswith("/mlflow/experiments/get") and taken.method == "GET":
            return self._experiment(query["experiment_id"][0])
        return Reply(404, b"<!doctype html>\n<title>404 Not Found</title>", {"Content-Type": "text/html"})

    def _infos(self, asked: dict[str, Any]) -> Reply:
        if "trace_ids" not in asked:
            return _error(400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'trace_ids'.")
        infos = [trace.info(trace_id) for trace_id, trace in self._known(asked["trace_ids"])]
        return _json({"trace_infos": infos} if infos else {})

    def _whole(self, asked: Iterable[str]) -> Reply:
        traces = [_document(trace_id, trace) for trace_id, trace in self._known(asked)]
        return _json({"traces": traces} if traces else {})

    def _one(self, name: str) -> Reply:
        for trace_id, trace in self._known([name]):
            return _json({"trace": _document(trace_id, trace)})
        return _error(404, "RESOURCE_DOES_NOT_EXIST", f"Trace with ID {name} is not found.")

    def _experiment(self, name: str) -> Reply:
        if self.experiments is not None and name not in self.experiments:
            return _no_experiment(name)
        return _json({"experiment": {"experiment_id": name, "name": "hermes", "lifecycle_stage": "active"}})

    def _known(self, names: Iterable[str]) -> list[tuple[bytes, _Trace]]:
        asked = [bytes.fromhex(name.removeprefix("tr-")) for name in names]
        return [(trace_id, self._traces[trace_id]) for trace_id in asked if trace_id in self._traces]

    def __enter__(self) -> FakeMLflow:
        self.open()
        return self


def spans_of(taken: Post) -> list[Stored]:
    """The spans in a request, protobuf or JSON, compressed or not."""
    encoding = taken.headers.get("content-encoding", "")
    body = zlib.decompress(taken.body) if encoding == "deflate" else taken.plain()
    if taken.headers.get("content-type", "").startswith("application/json"):
        return _json_spans(json.loads(body))
    return [
        Stored(
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.name,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            int(span.status.code),
        )
        for span in wire_spans_in(body)
    ]


def _json_spans(document: dict[str, Any]) -> list[Stored]:
    """OTLP/JSON: ids in hex, 64-bit integers as strings or numbers."""
    return [
        Stored(
            bytes.fromhex(span["traceId"]),
            bytes.fromhex(span["spanId"]),
            bytes.fromhex(span.get("parentSpanId", "")),
            span.get("name", ""),
            int(span.get("startTimeUnixNano", 0)),
            int(span.get("endTimeUnixNano", 0)),
            int(span.get("status", {}).get("code", 0)),
        )
        for resource in document.get("resourceSpans", [])
        for scope in resource.get("scopeSpans", [])
        for span in scope.get("spans", [])
    ]


def _document(trace_id: bytes, trace: _Trace) -> dict[str, Any]:
    spans = sorted(trace.spans.values(), key=lambda span: span.start_ns)
    return {"trace_info": trace.info(trace_id), "spans": [span.document() for span in spans]}


def _path(taken: Post) -> str:
    return urlsplit(taken.path).path


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _json(document: dict[str, Any], status: int = 200) -> Reply:
    return Reply(status, json.dumps(document).encode(), JSON)


def _error(status: int, code: str, message: str) -> Reply:
    return _json({"error_code": code, "message": message}, status)


def _no_experiment(name: str) -> Reply:
    if not name:
        missing = {"type": "missing", "loc": ["header", "x-mlflow-experiment-id"], "msg": "Field required"}
        return _json({"detail": [missing]}, 422)
    return _error(404, "RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={name} exists")

"""A request with one small span, as Hermes' plugin would send it."""

from __future__ import annotations

from typing import Any

from hermes_tui.otlp import json_format


def document(
    trace_id: bytes, span_id: bytes, *, session: str, name: str, start_ns: int, end_ns: int
) -> dict[str, Any]:
    """In OTLP/JSON. The span is a root."""
    attributes = {"session.id": session, "mlflow.spanType": "AGENT", "hermes_trace.probe": "true"}
    span = {
        "traceId": trace_id.hex(),
        "spanId": span_id.hex(),
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(end_ns),
        "status": {"code": 1},
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    scope = {"name": "hermes-trace-tui"}
    return {"resourceSpans": [{"scopeSpans": [{"scope": scope, "spans": [span]}]}]}


def protobuf(request: dict[str, Any]) -> bytes:
    """The same request in protobuf, uncompressed."""
    return bytes(json_format.build(request).SerializeToString())

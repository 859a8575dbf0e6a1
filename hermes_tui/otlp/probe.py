"""A request with one small span, as Hermes' plugin would send it."""

from __future__ import annotations

from hermes_tui.otlp import json_format


def request(trace_id: bytes, span_id: bytes, *, session: str, name: str, start_ns: int, end_ns: int) -> bytes:
    """In protobuf, uncompressed. The span is a root."""
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
    document = {"resourceSpans": [{"scopeSpans": [{"scope": scope, "spans": [span]}]}]}
    return bytes(json_format.build(document).SerializeToString())

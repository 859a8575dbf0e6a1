"""The OpenTelemetry exporters that senders really use, against the real receivers.

Those for JavaScript run where HERMES_TRACE_TEST_NODE_MODULES names a folder with
@opentelemetry/{sdk-trace-base,resources,exporter-trace-otlp-http,exporter-trace-otlp-proto,
exporter-trace-otlp-grpc}.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.common.http import Compression as JsonCompression
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, StatusCode, set_span_in_context

from hermes_tui.journal.export import export
from hermes_tui.journal.reader import Reader
from hermes_tui.model.span import Kind, Status
from hermes_tui.otlp.codec import JSON, PROTOBUF, media_type
from hermes_tui.otlp.grpc import GrpcReceiver
from tests.relay.conftest import Parts
from tests.support import caught_up, tail_all, wait_for

NODE_MODULES = os.environ.get("HERMES_TRACE_TEST_NODE_MODULES", "")
TIMEOUT_S = 60

Make = Callable[[str, str], SpanExporter]
EXPORTERS: dict[str, tuple[Make, str, str]] = {
    "http": (lambda http, _: HttpExporter(f"{http}/v1/traces", timeout=TIMEOUT_S), PROTOBUF, ""),
    "http gzip": (
        lambda http, _: HttpExporter(f"{http}/v1/traces", timeout=TIMEOUT_S, compression=Compression.Gzip),
        PROTOBUF,
        "gzip",
    ),
    "http deflate": (
        lambda http, _: HttpExporter(f"{http}/v1/traces", timeout=TIMEOUT_S, compression=Compression.Deflate),
        PROTOBUF,
        "deflate",
    ),
    "json": (lambda http, _: JsonExporter(f"{http}/v1/traces", timeout=TIMEOUT_S), JSON, ""),
    "json gzip": (
        lambda http, _: JsonExporter(
            f"{http}/v1/traces", timeout=TIMEOUT_S, compression=JsonCompression.GZIP
        ),
        JSON,
        "gzip",
    ),
    "json deflate": (
        lambda http, _: JsonExporter(
            f"{http}/v1/traces", timeout=TIMEOUT_S, compression=JsonCompression.DEFLATE
        ),
        JSON,
        "deflate",
    ),
    "grpc": (lambda _, address: GrpcExporter(address, insecure=True, timeout=TIMEOUT_S), PROTOBUF, ""),
    "grpc gzip": (
        lambda _, address: GrpcExporter(
            address, insecure=True, timeout=TIMEOUT_S, compression=grpc.Compression.Gzip
        ),
        PROTOBUF,
        "gzip",
    ),
    "grpc deflate": (
        lambda _, address: GrpcExporter(
            address, insecure=True, timeout=TIMEOUT_S, compression=grpc.Compression.Deflate
        ),
        PROTOBUF,
        "deflate",
    ),
}


@asynccontextmanager
async def listening(own: Parts) -> AsyncIterator[tuple[str, str]]:
    """Both receivers of a relay: the HTTP one's address and the gRPC one's."""
    grpc_receiver = GrpcReceiver(own.intake.accept, host="127.0.0.1", port=0)
    await grpc_receiver.start()
    try:
        async with own.receiver() as receiver:
            yield f"http://{receiver.address}", grpc_receiver.address
    finally:
        await grpc_receiver.stop()


def made_spans(text: str = "") -> tuple[ReadableSpan, ...]:
    """A turn with a failed model call, as the SDK records it."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "hermes"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("hermes-otel", "1.23")
    root = tracer.start_span("agent", attributes={"session.id": "S", "openinference.span.kind": "AGENT"})
    child = tracer.start_span(
        "api.m",
        context=set_span_in_context(root),
        kind=SpanKind.CLIENT,
        links=[Link(root.get_span_context(), {"why": "/new"})],
        attributes={"n": 7, "x": 0.5, "yes": False, "list": ["ü", "☃"], "bytes": b"\0\xff", "text": text},
    )
    child.add_event("retry", {"count": 2})
    child.set_status(StatusCode.ERROR, "no quota")
    child.end()
    root.end()
    return memory.get_finished_spans()


async def sent(make: Make, where: tuple[str, str], spans: Sequence[ReadableSpan]) -> SpanExportResult:
    exporter = make(*where)
    try:
        return await asyncio.to_thread(exporter.export, spans)
    finally:
        await asyncio.to_thread(exporter.shutdown)


def rows(own: Parts) -> dict[bytes, Any]:
    with Reader(own.state.journal) as reader:
        wait_for(lambda: caught_up(reader))
        return {span.span_id: (span, detail) for span, detail in reader.details(tail_all(reader))}


def check(found: dict[bytes, Any], spans: Sequence[ReadableSpan]) -> None:
    assert len(found) == len(spans)
    for span in spans:
        context, parent = span.get_span_context(), span.parent
        assert context is not None
        row, detail = found[context.span_id.to_bytes(8, "big")]
        assert row.trace_id == context.trace_id.to_bytes(16, "big")
        assert row.parent_id == (b"" if parent is None else parent.span_id.to_bytes(8, "big"))
        assert (row.name, row.start_ns, row.end_ns) == (span.name, span.start_time, span.end_time)
        said = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in (span.attributes or {}).items()
        }
        assert detail.attributes == said
        assert detail.resource["service.name"] == "hermes"
        assert detail.scope == "hermes-otel 1.23"
        assert detail.events == [(e.timestamp, e.name, dict(e.attributes or {})) for e in span.events]
        assert [attributes for _, _, attributes in detail.links] == [
            dict(k.attributes or {}) for k in span.links
        ]
        for (trace, linked, _), link in zip(detail.links, span.links, strict=True):
            assert (trace, linked) == (
                link.context.trace_id.to_bytes(16, "big"),
                link.context.span_id.to_bytes(8, "big"),
            )
    root, call = (next(row for row, _ in found.values() if row.name == name) for name in ("agent", "api.m"))
    assert (root.kind, root.session, root.status) == (Kind.AGENT, "S", Status.UNSET)
    assert (call.kind, call.status, call.error) == (Kind.LLM, Status.ERROR, "no quota")


@pytest.mark.parametrize("name", EXPORTERS)
async def test_what_it_sends_is_taken_and_read(name: str, parts: Callable[..., Parts]) -> None:
    make, content_type, encoding = EXPORTERS[name]
    own = parts()
    spans = made_spans()
    async with listening(own) as where:
        assert await sent(make, where, spans) is SpanExportResult.SUCCESS
        check(rows(own), spans)
    with Reader(own.state.journal) as reader:
        stored = reader.request_after(0)
        assert stored is not None
        assert media_type(stored.content_type) == content_type
        assert stored.content_encoding == encoding
        (line,) = export(reader, "S")
        assert json.loads(line)["resourceSpans"]


@pytest.mark.parametrize("name", EXPORTERS)
async def test_a_large_message_is_taken(name: str, parts: Callable[..., Parts]) -> None:
    """Above the 4 MB that gRPC allows when nobody says otherwise."""
    make, *_ = EXPORTERS[name]
    own = parts()
    spans = made_spans("ä text that is long. " * 400_000)
    async with listening(own) as where:
        assert await sent(make, where, spans) is SpanExportResult.SUCCESS
        check(rows(own), spans)


async def test_all_of_them_say_the_same(parts: Callable[..., Parts]) -> None:
    """One set of spans by every exporter: they fold to one, and any of them alone is the same."""
    own = parts()
    spans = made_spans()
    async with listening(own) as where:
        for make, *_ in EXPORTERS.values():
            assert await sent(make, where, spans) is SpanExportResult.SUCCESS
        check(rows(own), spans)
    with Reader(own.state.journal) as reader:
        documents = [json.loads(line) for line in export(reader, None)]
    assert len(documents) == len(EXPORTERS)
    assert all(canonical(document) == canonical(documents[0]) for document in documents)


def canonical(document: Any) -> Any:
    """A request with its spans by id: exporters differ in what they leave out when it says nothing."""
    (resource,) = document["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    spans = {span["spanId"]: {k: v for k, v in span.items() if k != "flags"} for span in scope["spans"]}
    return resource["resource"], scope["scope"], spans


# ---------------------------------------------------------------------------------------- JavaScript


@pytest.mark.process
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("name", ["http", "proto", "grpc"])
async def test_javascript(name: str, compression: str, parts: Callable[..., Parts]) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    if not NODE_MODULES:
        pytest.skip("HERMES_TRACE_TEST_NODE_MODULES names no folder with the JavaScript exporters")
    own = parts()
    async with listening(own) as (http, address):
        url = f"http://{address}" if name == "grpc" else f"{http}/v1/traces"
        process = await asyncio.create_subprocess_exec(
            *(node, str(Path(__file__).with_name("exporter.cjs")), name, url, compression),
            env={"PATH": os.environ["PATH"], "NODE_PATH": NODE_MODULES},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        said = json.loads(out)
        assert (said["code"], said.get("error")) == (0, None)
        found = rows(own)
    assert sorted(
        (row.trace_id.hex(), row.span_id.hex(), str(row.end_ns)) for row, _ in found.values()
    ) == sorted(map(tuple, said["ids"]))  # fmt: skip
    by_name = {row.name: (row, detail) for row, detail in found.values()}
    (root, root_detail), (call, detail) = by_name["agent"], by_name["api.m"]
    assert (root.session, root_detail.attributes["cut"][0]) == ("js", "x")
    assert call.parent_id == root.span_id
    assert detail.attributes == {"n": 7, "x": 0.5, "yes": True, "list": ["ü", "☃"]}
    assert [(name, attributes) for _, name, attributes in detail.events] == [("retry", {"count": 2})]
    assert detail.links == [(root.trace_id, root.span_id, {})]
    assert (call.status, call.error) == (Status.ERROR, "no quota")

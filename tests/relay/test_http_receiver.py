"""The OTLP/HTTP receiver in front of a real journal: what is answered, and when."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from hermes_tui.journal.reader import Reader
from hermes_tui.otlp.access import Access
from hermes_tui.otlp.encodings import JSON, MAX_BYTES, PROTOBUF
from hermes_tui.otlp.guard import Limits
from hermes_tui.relay import intake as intake_module
from tests.processes import RelayProcess, document, post, until
from tests.relay.conftest import Parts
from tests.rpc import Status
from tests.support import body_of, recorded_requests, trace_id, wire_span

BODY = body_of(wire_span(1, session__id="s"), wire_span(2, parent=1))


class Sender:
    """Posts to a receiver and keeps what came back."""

    def __init__(self, session: aiohttp.ClientSession, url: str, parts: Parts) -> None:
        self.session = session
        self.url = url
        self.parts = parts

    async def post(
        self, body: bytes, path: str = "/v1/traces", **headers: str
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        named = {"Content-Type": PROTOBUF, **{n.replace("_", "-"): v for n, v in headers.items()}}
        async with self.session.post(self.url + path, data=body, headers=named) as answer:
            return answer, await answer.read()

    async def refused(
        self, status: int, code: int, body: bytes, kind: str = PROTOBUF, method: str = "POST", **headers: str
    ) -> str:
        """Send what must be refused; the message of the google.rpc.Status in the answer, which is `kind`."""
        path = headers.pop("path", "/v1/traces")
        named = {"Content-Type": kind, **{n.replace("_", "-"): v for n, v in headers.items()}}
        data = io.BytesIO(body) if len(body) > 2**20 else body  # aiohttp warns of large bytes
        async with self.session.request(method, self.url + path, data=data, headers=named) as answer:
            said = await answer.read()
        assert answer.status == status
        assert answer.content_type == kind
        if kind == JSON:
            document = json.loads(said)
            assert document.keys() == {"code", "message"}
            found = Status(**document)
        else:
            found = Status.FromString(said)
        assert found.code == code
        assert found.message
        return str(found.message)


@pytest.fixture
async def sender(parts: Callable[..., Parts]) -> AsyncIterator[Sender]:
    own = parts()
    async with own.receiver() as receiver, aiohttp.ClientSession(auto_decompress=False) as session:
        yield Sender(session, f"http://{receiver.address}", own)


def stored(sql: Callable[..., list[Any]]) -> list[Any]:
    return sql(
        "SELECT body, content_type, content_encoding, headers, span_count FROM requests "
        "JOIN routes ON routes.id = route ORDER BY requests.id"
    )


@pytest.mark.parametrize("encoding", [None, "identity", "gzip", "GZIP"])
async def test_success_is_on_disk_when_it_is_answered(
    sender: Sender, sql: Callable[..., list[Any]], encoding: str | None
) -> None:
    body = gzip.compress(BODY) if (encoding or "").lower() == "gzip" else BODY
    headers = {} if encoding is None else {"Content_Encoding": encoding}
    answer, said = await sender.post(body, x_mlflow_experiment_id="7", X_MLflow_Workspace="w", **headers)
    found = stored(sql)
    assert answer.status == 200
    assert answer.content_type == PROTOBUF
    assert ExportTraceServiceResponse.FromString(said) == ExportTraceServiceResponse()
    ((kept, content_type, content_encoding, named, spans),) = found
    assert kept == body
    assert content_type == PROTOBUF
    assert content_encoding == (encoding or "").lower()
    assert json.loads(named) == {"x-mlflow-experiment-id": "7", "x-mlflow-workspace": "w"}
    assert spans == 2


async def test_content_type_with_parameters_is_kept(sender: Sender, sql: Callable[..., list[Any]]) -> None:
    answer, _ = await sender.post(BODY, Content_Type=f"{PROTOBUF}; charset=utf-8")
    assert answer.status == 200
    assert stored(sql)[0][1] == f"{PROTOBUF}; charset=utf-8"


async def test_recorded_requests_are_kept_byte_for_byte(
    sender: Sender, sql: Callable[..., list[Any]]
) -> None:
    bodies = recorded_requests("subagent_children") + recorded_requests("v123_parallel")
    for body in bodies:
        answer, _ = await sender.post(body)
        assert answer.status == 200
    assert [row[0] for row in stored(sql)] == list(bodies)


async def test_an_empty_request_is_a_success(sender: Sender, sql: Callable[..., list[Any]]) -> None:
    answer, said = await sender.post(b"")
    assert (answer.status, said, answer.content_type) == (200, b"", PROTOBUF)
    answer, _ = await sender.post(gzip.compress(b""), Content_Encoding="gzip")
    assert answer.status == 200
    assert stored(sql) == []


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"not protobuf at all", ""),
        (BODY[:-3], ""),
        (body_of(wire_span(1)).replace(trace_id(0), b"\x07" * 16)[:-1], ""),
        (BODY, "gzip"),
        (gzip.compress(BODY)[:-9], "gzip"),
        (BODY, "br"),
    ],
    ids=["no protobuf", "cut", "cut in a span", "no gzip", "gzip cut", "unknown encoding"],
)
async def test_bad_data_is_the_senders_fault(
    sender: Sender, sql: Callable[..., list[Any]], body: bytes, encoding: str
) -> None:
    await sender.refused(400, 3, body, **({"Content_Encoding": encoding} if encoding else {}))
    assert stored(sql) == []
    assert sender.parts.intake.refused == 1


async def test_a_span_without_a_usable_id_is_refused_and_named(sender: Sender) -> None:
    span = wire_span(1, name="odd one")
    span.span_id = b"short"
    assert "odd one" in await sender.refused(400, 3, body_of(span))


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
async def test_another_content_type_is_not_supported(sender: Sender, content_type: str, kind: str) -> None:
    said = await sender.refused(415, 12, BODY, kind, Content_Type=content_type, Accept=kind)
    assert PROTOBUF in said
    assert JSON in said


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (400, 3, {"body": b"{broken"}),
        (400, 3, {"Content_Encoding": "br"}),
        (400, 3, {"x_mlflow_experiment_id": "7\t8"}),
        (404, 5, {"path": "/v2/traces"}),
        (404, 5, {"path": "/v2/traces", "method": "GET"}),
        (405, 12, {"method": "GET"}),
        (405, 12, {"method": "PUT"}),
        (405, 12, {"method": "OPTIONS"}),
        (403, 7, {"Origin": "https://evil.test"}),
        (403, 7, {"Host": "evil.test"}),
        (413, 8, {"body": bytes(MAX_BYTES + 1)}),
        (413, 8, {"body": gzip.compress(bytes(MAX_BYTES + 1), 1), "Content_Encoding": "gzip"}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else str(value),
)
async def test_every_error_is_a_status_in_the_requests_encoding(
    sender: Sender, kind: str, status: int, code: int, said: dict[str, Any]
) -> None:
    said = dict(said)
    await sender.refused(status, code, said.pop("body", BODY), kind, **said)


async def test_an_unknown_token_is_refused_in_the_requests_encoding(parts: Callable[..., Parts]) -> None:
    async with (
        parts().receiver(access=Access(token="t" * 16)) as receiver,
        aiohttp.ClientSession() as session,
    ):
        sender = Sender(session, f"http://{receiver.address}", parts())
        for kind in (PROTOBUF, JSON):
            await sender.refused(401, 16, BODY, kind)
        answer, _ = await sender.post(BODY)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("kind", [f"{JSON}; charset=utf-8", "Application/Json"])
async def test_json_is_answered_in_json(sender: Sender, sql: Callable[..., list[Any]], kind: str) -> None:
    span = {"traceId": "01" * 16, "spanId": "02" * 8, "name": "s", "startTimeUnixNano": "1"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    answer, said = await sender.post(body, Content_Type=kind)
    assert (answer.status, answer.content_type, json.loads(said)) == (200, JSON, {})
    assert [(row[0], row[1]) for row in stored(sql)] == [(body, kind)]
    for path in ("/v1/metrics", "/v1/logs"):
        answer, said = await sender.post(b"{}", path, Content_Type=kind)
        assert (answer.status, answer.content_type, json.loads(said)) == (200, JSON, {})


async def test_too_large_before_decompression(
    parts: Callable[..., Parts], sql: Callable[..., list[Any]]
) -> None:
    own = parts()
    async with (
        own.receiver(limits=Limits(request_bytes=1000)) as receiver,
        aiohttp.ClientSession() as session,
    ):
        sender = Sender(session, f"http://{receiver.address}", own)
        fits = body_of(wire_span(1, name="x" * 800))
        answer, _ = await sender.post(fits)
        assert answer.status == 200
        assert "1000 bytes" in await sender.refused(413, 8, body_of(wire_span(1, name="x" * 1000)))

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"\x00" * 100

        async with session.post(
            sender.url + "/v1/traces", data=endless(), headers={"Content-Type": PROTOBUF}
        ) as chunked:
            assert chunked.status == 413
    assert [row[0] for row in stored(sql)] == [fits]


async def test_too_large_after_decompression(sender: Sender, sql: Callable[..., list[Any]]) -> None:
    bomb = gzip.compress(bytes(MAX_BYTES + 1), 1)
    assert len(bomb) < 1024 * 1024
    assert str(MAX_BYTES) in await sender.refused(413, 8, bomb, Content_Encoding="gzip")
    assert stored(sql) == []


async def test_metrics_and_logs_are_taken_and_kept_out(sender: Sender, sql: Callable[..., list[Any]]) -> None:
    for path in ("/v1/metrics", "/v1/metrics", "/v1/logs"):
        answer, said = await sender.post(b"\x0a\x00", path)
        assert (answer.status, said, answer.content_type) == (200, b"", PROTOBUF)
    assert sender.parts.intake.counts == {"metrics": 2, "logs": 1}
    assert stored(sql) == []


async def test_other_paths_and_the_identity(sender: Sender) -> None:
    assert "/v1/traces" in await sender.refused(404, 5, BODY, path="/v2/traces")
    async with sender.session.get(sender.url + "/v1/traces") as wrong_method:
        assert wrong_method.status == 405
        assert wrong_method.headers["Allow"] == "POST"
    async with sender.session.get(sender.url + "/") as about:
        assert about.status == 200
        assert await about.json() == {"service": "test"}
    async with sender.session.head(sender.url + "/") as about:
        assert about.status == 200


async def test_one_connection_serves_many_requests(sender: Sender) -> None:
    reader, writer = await asyncio.open_connection(*sender.url.removeprefix("http://").split(":"))
    for body, status in ((BODY, b"200"), (b"broken", b"400"), (BODY, b"200")):
        head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {PROTOBUF}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert answer.startswith(b"HTTP/1.1 " + status)
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()
    await writer.wait_closed()


async def test_many_at_once_share_commits_and_none_is_answered_before_its_commit(
    sender: Sender, sql: Callable[..., list[Any]]
) -> None:
    many = 60
    before = sender.parts.writer.commits
    sender.session._connector._limit = 0  # type: ignore[union-attr]
    bodies = [body_of(wire_span(number)) for number in range(many)]

    def hold_the_disk() -> Any:
        import sqlite3

        connection = sqlite3.connect(
            sender.parts.state.journal, isolation_level=None, timeout=20, check_same_thread=False
        )
        connection.execute("BEGIN IMMEDIATE")
        return connection

    holding = hold_the_disk()
    posting = [asyncio.create_task(sender.post(body)) for body in bodies]
    try:
        await until(lambda: sender.parts.intake.counts["traces"] == many)
        assert not any(task.done() for task in posting)
    finally:
        holding.execute("ROLLBACK")
        holding.close()
    answers = await asyncio.wait_for(asyncio.gather(*posting), 60)
    assert {answer.status for answer, _ in answers} == {200}
    assert {row[0] for row in stored(sql)} == set(bodies)
    assert 1 <= sender.parts.writer.commits - before <= 3


async def test_when_storing_fails_the_sender_is_asked_to_come_again(
    sender: Sender, sql: Callable[..., list[Any]]
) -> None:
    sql("CREATE TRIGGER full BEFORE INSERT ON requests BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    answer, said = await sender.post(BODY)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert Status.FromString(said).code == 14
    assert sender.parts.intake.refused == 1
    sql("DROP TRIGGER full")
    answer, _ = await sender.post(BODY)
    assert answer.status == 200
    assert [row[0] for row in stored(sql)] == [BODY]


async def test_a_bug_in_the_relay_asks_the_sender_to_come_again(
    sender: Sender, sql: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 would make hermes-otel drop the batch at once."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(sender.parts.intake, "_check", broken)
        answer, said = await sender.post(BODY)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert Status.FromString(said).code == 14
    answer, _ = await sender.post(BODY)
    assert answer.status == 200


async def test_when_a_credential_cannot_be_kept_the_sender_is_asked_to_come_again(
    sender: Sender, sql: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hermes_tui.relay.credentials.write_private", full)
        answer, said = await sender.post(BODY, Authorization="Bearer t")
    assert answer.status == 503
    assert Status.FromString(said).code == 14
    assert int(answer.headers["Retry-After"]) > 0
    assert stored(sql) == []
    answer, _ = await sender.post(BODY, Authorization="Bearer t")
    assert answer.status == 200
    assert "Bearer t" in sender.parts.state.credentials.read_text()


async def test_memory_for_waiting_requests_is_bounded(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, sql: Callable[..., list[Any]]
) -> None:
    monkeypatch.setattr(intake_module, "_WAITING_BYTES", len(BODY) - 1)
    answer, _ = await sender.post(BODY)
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    monkeypatch.setattr(intake_module, "_WAITING_BYTES", len(BODY))
    for _ in range(2):
        answer, _ = await sender.post(BODY)
        assert answer.status == 200
    assert len(stored(sql)) == 2


async def test_a_sender_that_leaves_in_the_middle_harms_nobody(
    sender: Sender, sql: Callable[..., list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    host, port = sender.url.removeprefix("http://").split(":")
    head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {PROTOBUF}\r\n"
    head += f"Content-Length: {len(BODY)}\r\n\r\n"
    for part in (head[:20].encode(), head.encode() + BODY[:5], head.encode() + BODY):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(part)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    # The third said everything before it left: that is taken, as anything else that is whole.
    await until(lambda: sender.parts.intake.counts["traces"] == 1)
    answer, _ = await sender.post(BODY)
    assert answer.status == 200
    await until(lambda: len(stored(sql)) == 2)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_real_relay_counts_what_it_took(
    start_relay: Callable[..., RelayProcess], state: Any, tmp_path: Path
) -> None:
    relay = start_relay(state)
    assert post(relay.address, BODY) == 200
    assert post(relay.address, BODY, path="/v1/metrics") == 200
    assert post(relay.address, BODY, path="/v1/logs") == 200
    assert post(relay.address, b"broken") == 400
    assert relay.stop() == 0
    assert document(state, "received") == {"traces": 1, "metrics": 1, "logs": 1, "refused": 1}
    with Reader(state.journal) as reader:
        assert len(reader.tail(0)) == 2

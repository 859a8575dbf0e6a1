"""The journal as OTLP JSON lines: all of it, or one session, and back again to the same tree."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal import records
from hermes_tui.journal.export import export, private
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.otlp.codec import JSON, Request
from tests.journal.folders import journal
from tests.otlp.test_pending import announced, real
from tests.support import (
    body_of,
    caught_up,
    envelope,
    picture,
    recorded_requests,
    recording_names,
    span_id,
    spans_in,
    store,
    tail_all,
    trace_id,
    wait_for,
    wire_span,
)


def folded(reader: Reader) -> dict[str, Any]:
    wait_for(lambda: caught_up(reader))
    return picture(tail_all(reader))


def exported(reader: Reader, session: str | None = None) -> list[str]:
    wait_for(lambda: caught_up(reader))
    return list(export(reader, session))


@pytest.mark.parametrize("name", recording_names())
def test_what_is_exported_folds_to_the_same_tree(name: str) -> None:
    with journal() as (writer, open_reader), journal() as (other, open_other):
        store(writer, *recorded_requests(name))
        before = folded(open_reader())
        lines = exported(open_reader())
        assert len(lines) == len(recorded_requests(name))
        store(other, *(line.encode() for line in lines), content_type=JSON)
        assert folded(open_other()) == before
        # Once more, from JSON: written anew, not copied, and still the same.
        assert exported(open_other()) == lines


@pytest.mark.parametrize("name", recording_names())
def test_sessions_part_the_whole(name: str) -> None:
    with journal() as (writer, open_reader):
        store(writer, *recorded_requests(name))
        reader = open_reader()
        whole = folded(reader)
        spans: list[bytes] = []
        for session, seen in whole.items():
            lines = exported(reader, session)
            bodies = [Request(line.encode(), JSON) for line in lines]
            found = [key[1] for body in bodies for key in body.ids()]
            assert sorted(set(found)) == seen["spans"]
            spans += found
        assert sorted(set(spans)) == sorted({span.span_id for span in tail_all(reader)})
        assert len(spans) == len(set(spans))


def test_a_span_without_a_session_goes_with_its_relatives() -> None:
    """A subagent's trace part is another session's; what says nothing belongs to what is above it."""
    spans = [
        wire_span(1, name="agent", session__id="user"),
        wire_span(2, parent=1),
        wire_span(3, parent=2, session__id="subagent"),
        wire_span(4, parent=3),
    ]
    with journal() as (writer, open_reader):
        store(writer, body_of(spans[0], spans[3]), body_of(spans[2], spans[1]))
        wanted = {"user": [[1], [2]], "subagent": [[4], [3]], "none": []}
        for session, expected in wanted.items():
            lines = exported(open_reader(), session)
            assert [
                [key[1] for key in Request(line.encode(), JSON).ids()] for line in lines
            ] == [[span_id(number) for number in numbers] for numbers in expected]  # fmt: skip


def test_a_trace_without_a_session_is_one() -> None:
    with journal() as (writer, open_reader):
        store(writer, body_of(wire_span(1, trace=7), wire_span(2, trace=8)))
        (line,) = exported(open_reader(), f"trace-{trace_id(7).hex()}")
        assert [key[0] for key in Request(line.encode(), JSON).ids()] == [trace_id(7)]


def test_what_runs_and_was_announced_is_exported_as_it_came() -> None:
    with journal() as (writer, open_reader):
        store(writer, body_of(announced(1), announced(2, parent=1)), body_of(real(2, parent=1)))
        whole = exported(open_reader())
        assert [Request(line.encode(), JSON).ids() for line in whole] == [
            [(trace_id(0), span_id(1), 0), (trace_id(0), span_id(2), 0)],
            [(trace_id(0), span_id(2), wire_span(2).end_time_unix_nano)],
        ]
        assert (
            json.loads(whole[0])["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["spanId"]
            != span_id(1).hex()
        )
        session = picture(
            span
            for line in exported(open_reader(), "s")
            for span in spans_in(Request(line.encode(), JSON).message.SerializeToString())
        )
        assert session == folded(open_reader())


def test_compressed_and_json_requests_are_written_alike(open_writer: Any, open_reader: Any) -> None:
    writer: Writer = open_writer()
    body = body_of(wire_span(1, session__id="S"))
    line = Request(body).to_json()
    packed = envelope(body, content_encoding="gzip")
    packed.body = gzip.compress(body)
    spaced = json.dumps({**json.loads(line), "fromTheFuture": 1}, indent=2).encode()
    store(writer, body)
    writer.append(packed).result(20)
    store(writer, spaced, content_type="application/json; charset=utf-8")
    assert exported(open_reader()) == [line] * 3


def test_a_request_that_cannot_be_read_is_named_and_left_out(
    open_writer: Any, open_reader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    writer: Writer = open_writer()
    broken = envelope(body_of(wire_span(1)))
    broken.body = b"broken"
    writer.append(broken).result(20)
    store(writer, body_of(wire_span(2)))
    (line,) = exported(open_reader())
    assert Request(line.encode(), JSON).ids()[0][1] == span_id(2)
    assert "request 1 is left out" in caplog.text


def test_nothing_is_held_open_between_requests(state: StateDir, open_writer: Any, open_reader: Any) -> None:
    """A slow reader of the export must not keep the WAL from being reset."""
    writer: Writer = open_writer()
    store(writer, *(body_of(wire_span(number)) for number in range(3)))
    lines = export(open_reader(), None)
    next(lines)
    store(writer, body_of(wire_span(3)))
    wait_for(lambda: caught_up(open_reader()))
    with closing(sqlite3.connect(state.journal, isolation_level=None, timeout=20)) as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert len(list(lines)) == 3  # what came meanwhile is there too


def test_the_session_of_a_record_is_the_one_exported(open_writer: Any, open_reader: Any) -> None:
    store(open_writer(), body_of(wire_span(1, session__id="S")))
    reader = open_reader()
    wait_for(lambda: caught_up(reader))
    assert len(list(export(reader, records.find_session(reader, "last")))) == 1


@pytest.mark.parametrize("mode", [None, 0o666])
def test_the_file_is_private_and_replaced(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "out.jsonl"
    if mode is not None:
        path.write_text("older and longer")
        path.chmod(mode)
    before = os.umask(0)
    try:
        with private(path) as file:
            file.write("new")
    finally:
        os.umask(before)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_device_may_stand_for_the_file() -> None:
    with private(Path(os.devnull)) as file:
        file.write("x")
    assert stat.S_IMODE(Path(os.devnull).stat().st_mode) & 0o066

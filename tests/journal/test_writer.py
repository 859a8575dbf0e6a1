"""The one writer: what is acknowledged is kept, together where it came together, whatever goes wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from hermes_tui.journal import opening
from hermes_tui.journal import writer as writer_module
from hermes_tui.journal.files import StateDir, StateError, write_private
from hermes_tui.journal.indexing import Index
from hermes_tui.journal.marks import RequestState
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import Request
from tests.support import (
    SECOND,
    body_of,
    caught_up,
    envelope,
    span_id,
    store,
    tail_all,
    trace_id,
    wait_for,
    wire_span,
)

ROOT = Path(__file__).parents[2]
OpenWriter = Callable[..., Writer]
OpenReader = Callable[[], Reader]


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("loose_umask")
def test_folder_and_files_are_private_whatever_the_umask(state: StateDir, open_writer: OpenWriter) -> None:
    store(open_writer(), body_of(wire_span(1)))
    write_private(state.credentials, "{}")
    assert mode(state.path) == 0o700
    files = sorted(path.name for path in state.path.iterdir())
    assert files == ["credentials.json", "journal.db", "journal.db-shm", "journal.db-wal"]
    assert {mode(path) for path in state.path.iterdir()} == {0o600}


def test_a_folder_open_to_others_is_closed_to_them(state: StateDir, open_writer: OpenWriter) -> None:
    state.path.mkdir(mode=0o755)
    open_writer()
    assert mode(state.path) == 0o700


def test_write_private_replaces_and_leaves_nothing_beside(state: StateDir) -> None:
    state.create()
    write_private(state.credentials, "one")
    write_private(state.credentials, "two")
    assert [path.name for path in state.path.iterdir()] == ["credentials.json"]
    assert state.credentials.read_text() == "two"


def test_a_folder_that_cannot_be_one_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file.*--state-dir or HERMES_TRACE_STATE_DIR"):
        Writer(StateDir(tmp_path / "file"))


@pytest.mark.parametrize("content", [b"not a database" * 200, b"SQLite"], ids=["long", "short"])
def test_a_file_that_is_no_journal_makes_room_for_one(
    open_writer: OpenWriter, state: StateDir, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """More of this in test_salvage.py."""
    state.create()
    state.journal.write_bytes(content)
    writer = open_writer()
    (copy,) = state.path.glob("journal.db.damaged-*")
    assert copy.read_bytes() == content
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.name in caplog.text
    assert store(writer, body_of(wire_span(1)))


def test_a_result_is_given_once_the_request_is_stored(open_writer: OpenWriter, state: StateDir) -> None:
    writer = open_writer()
    bodies = [body_of(wire_span(number)) for number in range(20)]
    for body in bodies:
        (request_id,) = store(writer, body, headers={"x-mlflow-experiment-id": "1"})
        with sqlite3.connect(state.journal) as other:
            (stored,) = other.execute("SELECT body FROM requests WHERE id = ?", (request_id,)).fetchone()
        other.close()
        assert stored == body


def test_requests_that_wait_together_share_a_commit(open_writer: OpenWriter) -> None:
    indexing, release = threading.Event(), threading.Event()

    def hold() -> None:
        indexing.set()
        assert release.wait(20)

    writer = open_writer(on_index=hold)
    store(writer, body_of(wire_span(0)))
    assert indexing.wait(20)
    before = writer.commits
    futures = [writer.append(envelope(body_of(wire_span(number)))) for number in range(1, 201)]
    assert writer.commits == before
    release.set()
    ids = [future.result(timeout=20) for future in futures]
    assert ids == list(range(2, 202))
    assert writer.commits == before + 1


def test_an_endless_rest_does_not_hold_up_the_first(open_writer: OpenWriter) -> None:
    """1,000 that wait make more than one commit, and few."""
    writer = open_writer()
    with patch.object(writer_module, "_GROUP", 256):
        futures = [writer.append(envelope(body_of(wire_span(number)))) for number in range(1_000)]
        for future in futures:
            future.result(timeout=20)
    assert 4 <= writer.commits <= 1_000


def test_the_index_follows_and_says_so(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    indexed = threading.Event()
    writer = open_writer(on_index=indexed.set)
    store(writer, body_of(wire_span(1), wire_span(2, parent=1)))
    assert indexed.wait(20)
    spans = open_reader().tail(0)
    assert [(span.span_id, span.parent_id) for span in spans] == [
        (span_id(1), b""),
        (span_id(2), span_id(1)),
    ]
    assert [(span.request, span.position) for span in spans] == [(1, 0), (1, 1)]


def test_closing_stores_and_indexes_what_was_accepted(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    writer = open_writer()
    futures = [writer.append(envelope(body_of(wire_span(number)))) for number in range(300)]
    writer.close()
    writer.close()
    assert all(future.done() for future in futures)
    reader = open_reader()
    assert caught_up(reader)
    assert len(tail_all(reader)) == 300


def test_a_closed_writer_says_so_instead_of_waiting_forever(open_writer: OpenWriter) -> None:
    writer = open_writer()
    writer.close()
    jobs = [
        writer.append(envelope(body_of(wire_span(1)))),
        writer.set_meta("exporter", {}),
        writer.mark([], Delivery.ACCEPTED, destination="d"),
    ]
    for job in jobs:
        with pytest.raises(sqlite3.Error, match="closed"):
            job.result(timeout=5)


def test_a_job_that_fails_tells_its_caller_and_no_one_else(open_writer: OpenWriter) -> None:
    writer = open_writer()
    bad = writer.mark([(b"", b"", None)], Delivery.HELD, destination="d")  # type: ignore[list-item]
    good = writer.append(envelope(body_of(wire_span(1))))
    with pytest.raises(TypeError):
        bad.result(timeout=20)
    assert good.result(timeout=20) == 1


def test_a_request_that_cannot_be_stored_does_not_take_others_with_it(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    """A header byte that is no UTF-8 arrives as a lone surrogate, which no database takes."""
    indexing, release = threading.Event(), threading.Event()

    def hold() -> None:
        indexing.set()
        assert release.wait(20)

    writer = open_writer(on_index=hold)
    store(writer, body_of(wire_span(0)))
    assert indexing.wait(20)
    first = writer.append(envelope(body_of(wire_span(1))))
    odd = writer.append(envelope(body_of(wire_span(2)), content_type="application/x-protobuf; x=\udcff"))
    late = writer.append(envelope(body_of(wire_span(3)), received_ns=2**70))
    last = writer.append(envelope(body_of(wire_span(4))))
    release.set()
    assert [first.result(timeout=20), last.result(timeout=20)] == [2, 3]
    for future in (odd, late):
        with pytest.raises((ValueError, OverflowError)):
            future.result(timeout=20)
    writer.close()
    assert sorted(span.span_id for span in tail_all(open_reader())) == [span_id(n) for n in (0, 1, 4)]


def test_a_sender_that_gave_up_does_not_stop_the_writer(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    indexing, release = threading.Event(), threading.Event()

    def hold() -> None:
        indexing.set()
        assert release.wait(20)

    writer = open_writer(on_index=hold)
    store(writer, body_of(wire_span(0)))
    assert indexing.wait(20)
    given_up, kept = (writer.append(envelope(body_of(wire_span(number)))) for number in (1, 2))
    assert given_up.cancel()
    release.set()
    assert kept.result(timeout=20) == 2
    assert not kept.cancel()
    writer.close()
    assert [span.span_id for span in tail_all(open_reader())] == [span_id(0), span_id(2)]


def failing_index(failures: int) -> tuple[object, list[float]]:
    """Make the index's first commits fail as they do on a full disk; and when it was tried."""
    tried: list[float] = []
    save = Index._save_revision

    def sometimes(self: Index) -> None:
        tried.append(time.monotonic())
        if len(tried) <= failures:
            raise sqlite3.OperationalError("database or disk is full")
        save(self)

    return patch.object(Index, "_save_revision", sometimes), tried


def test_an_index_that_failed_is_tried_again_and_misses_nothing(
    open_writer: OpenWriter, open_reader: OpenReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.05)
    failing, tried = failing_index(3)
    with failing:  # type: ignore[attr-defined]
        writer = open_writer()
        store(writer, *(body_of(wire_span(number)) for number in range(5)))
        reader = open_reader()
        wait_for(lambda: caught_up(reader))
    assert [span.span_id for span in tail_all(reader)] == [span_id(number) for number in range(5)]
    assert len(tried) > 3


def test_an_index_that_fails_again_and_again_pauses_and_lets_the_writer_close(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    failing, tried = failing_index(10_000)
    with failing:  # type: ignore[attr-defined]
        writer = open_writer()
        store(writer, body_of(wire_span(1)))
        wait_for(lambda: tried)
        store(writer, body_of(wire_span(2)))
        writer.close()
        assert len(tried) < 10
    open_writer().close()
    assert [span.span_id for span in tail_all(open_reader())] == [span_id(1), span_id(2)]


def run_helper(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"tests.journal.{name}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_full_disk_refuses_and_a_disk_with_room_again_takes(state: StateDir) -> None:
    """In a process of its own whose files may not grow for a while (RLIMIT_FSIZE)."""
    done = run_helper("full_disk", state.path)
    assert done.returncode == 0, done.stdout + done.stderr
    with Reader(state.journal) as reader:
        assert caught_up(reader)
        found = {span.span_id for span in tail_all(reader)}
    assert found == {span_id(number) for number in map(int, done.stdout.split())}


def test_what_was_acknowledged_survives_a_kill(state: StateDir) -> None:
    done = run_helper("killed", state.path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    acknowledged = {span_id(int(number)) for number in done.stdout.split()}
    assert len(acknowledged) == 50
    Writer(state).close()
    with Reader(state.journal) as reader:
        assert caught_up(reader)
        assert acknowledged <= {span.span_id for span in tail_all(reader)}


@pytest.fixture
def rebuilt(state: StateDir, open_writer: OpenWriter) -> Callable[[], None]:
    """Open and close the journal as a newer version of the program that keeps another index."""

    def rebuild() -> None:
        with patch.object(opening, "INDEX_VERSION", opening.INDEX_VERSION + 1):
            open_writer().close()

    return rebuild


def test_a_newer_index_is_rebuilt_and_keeps_deliveries_and_revisions(
    open_writer: OpenWriter, open_reader: OpenReader, rebuilt: Callable[[], None]
) -> None:
    writer = open_writer(forward=True)
    store(writer, *(body_of(wire_span(number, session__id="S")) for number in range(5)))
    for number, delivery in enumerate(list(Delivery)[2:], start=1):
        writer.mark([mark(number)], delivery, destination="d", reason=delivery.name).result(timeout=20)
    writer.close()
    reader = open_reader()
    before = {span.span_id: span for span in tail_all(reader)}
    epoch, revision = reader.epoch, reader.revision()
    assert not reader.stale()

    rebuilt()

    assert reader.stale()
    fresh = open_reader()
    assert fresh.epoch != epoch
    after = {span.span_id: span for span in tail_all(fresh)}
    assert {key: span.delivery for key, span in after.items()} == {
        key: span.delivery for key, span in before.items()
    }
    assert {span.delivery for span in after.values()} == set(Delivery) - {Delivery.LOCAL}
    assert min(span.revision for span in after.values()) > revision
    assert {reason for *_, reason in fresh.reasons()} == {"HELD", "QUARANTINED"}
    assert [row.session for row in fresh.recent_sessions()] == ["S"]


def test_an_index_of_this_version_is_left_alone(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    writer = open_writer()
    store(writer, body_of(wire_span(1)))
    writer.close()
    reader = open_reader()
    epoch, rows = reader.epoch, reader.tail(0)
    open_writer().close()
    assert not reader.stale()
    assert (reader.epoch, reader.tail(0)) == (epoch, rows)


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"", b"not protobuf"])
def test_a_stored_request_that_cannot_be_decoded_does_not_stop_the_index(
    open_writer: OpenWriter, open_reader: OpenReader, rebuilt: Callable[[], None], garbage: bytes
) -> None:
    writer = open_writer()
    store(writer, body_of(wire_span(1)))
    broken = envelope(b"")
    broken.body, broken.content_encoding = garbage, "gzip"
    writer.append(broken).result(timeout=20)
    store(writer, body_of(wire_span(2)))
    writer.close()
    rebuilt()
    reader = open_reader()
    assert caught_up(reader)
    assert [span.span_id for span in tail_all(reader)] == [span_id(1), span_id(2)]


@pytest.mark.parametrize(
    "result",
    [
        '{"output": "x", "exit_code": 1' + "0" * 40 + "}",
        '{"output": "x", "exit_code": 3, "error": "\\ud800"}',
        "[" * 100_000,
    ],
    ids=["huge exit code", "lone surrogate", "deep"],
)
def test_no_span_stops_the_index(open_writer: OpenWriter, open_reader: OpenReader, result: str) -> None:
    writer = open_writer()
    odd = wire_span(
        1,
        name="tool.terminal",
        input__value='{"command": "a\\ud800"}',
        output__value=result,
        mlflow__llm__cost="[" * 100_000,
    )
    store(writer, body_of(odd), body_of(wire_span(2)))
    wait_for(lambda: caught_up(open_reader()))
    assert store(writer, body_of(wire_span(3))) == [3]
    writer.close()
    assert [span.span_id for span in tail_all(open_reader())] == [span_id(1), span_id(2), span_id(3)]


def test_a_bug_in_reading_one_request_costs_only_its_rows(
    open_writer: OpenWriter, open_reader: OpenReader, rebuilt: Callable[[], None]
) -> None:
    """The bytes are kept, the next requests are indexed, and a rebuilt index has all."""
    entries = Request.entries

    def sometimes(self: Request) -> object:
        if len(self) == 2:
            raise ZeroDivisionError("a bug")
        return entries(self)

    with patch.object(Request, "entries", sometimes):
        writer = open_writer()
        store(writer, body_of(wire_span(1)), body_of(wire_span(2), wire_span(3)), body_of(wire_span(4)))
        writer.close()
    assert {span.span_id for span in tail_all(open_reader())} == {span_id(1), span_id(4)}
    rebuilt()
    assert {span.span_id for span in tail_all(open_reader())} == {span_id(number) for number in range(1, 5)}


def mark(number: int, end_ns: int | None = None) -> tuple[bytes, bytes, int]:
    """How `Writer.mark` names the span that `wire_span(number)` makes."""
    return trace_id(0), span_id(number), SECOND * (1_001 + number) if end_ns is None else end_ns


LOCAL, QUEUED, ACCEPTED, CONFIRMED, HELD, QUARANTINED = Delivery


@pytest.mark.parametrize(
    ("marks", "ends"),
    [
        ([ACCEPTED], ACCEPTED),
        ([ACCEPTED, CONFIRMED], CONFIRMED),
        ([CONFIRMED, ACCEPTED], CONFIRMED),
        ([ACCEPTED, HELD], ACCEPTED),
        ([ACCEPTED, QUARANTINED], ACCEPTED),
        ([ACCEPTED, QUEUED], ACCEPTED),
        ([CONFIRMED, HELD, QUARANTINED, QUEUED], CONFIRMED),
        ([HELD, QUEUED, ACCEPTED], ACCEPTED),
        ([HELD, QUARANTINED], QUARANTINED),
        ([QUARANTINED, QUEUED], QUEUED),
        ([QUARANTINED, ACCEPTED, QUARANTINED], ACCEPTED),
    ],
)
def test_what_arrived_once_is_never_called_less(
    open_writer: OpenWriter,
    open_reader: OpenReader,
    rebuilt: Callable[[], None],
    marks: list[Delivery],
    ends: Delivery,
) -> None:
    writer = open_writer(forward=True)
    store(writer, body_of(wire_span(1)))
    wait_for(lambda: caught_up(open_reader()))
    for delivery in marks:
        writer.mark([mark(1)], delivery, destination="d", reason="r").result(timeout=20)
    writer.close()
    assert [span.delivery for span in open_reader().tail(0)] == [ends]
    rebuilt()
    assert [span.delivery for span in open_reader().tail(0)] == [ends]


def test_a_mark_is_about_one_version_of_a_span(
    open_writer: OpenWriter, open_reader: OpenReader, rebuilt: Callable[[], None]
) -> None:
    writer = open_writer(forward=True)
    store(writer, body_of(wire_span(1)))
    wait_for(lambda: caught_up(open_reader()))
    writer.mark([mark(1)], ACCEPTED, destination="d").result(timeout=20)
    store(writer, body_of(wire_span(1, end_ns=SECOND * 5_000)))
    wait_for(lambda: caught_up(open_reader()))
    (row,) = open_reader().tail(0)
    assert (row.end_ns, row.delivery) == (SECOND * 5_000, QUEUED)
    writer.mark([mark(1)], CONFIRMED, destination="d").result(timeout=20)
    assert [span.delivery for span in open_reader().tail(0)] == [QUEUED]
    writer.mark([mark(1, SECOND * 5_000)], ACCEPTED, destination="d").result(timeout=20)
    writer.mark([mark(1)], HELD, destination="d").result(timeout=20)
    assert [span.delivery for span in open_reader().tail(0)] == [ACCEPTED]
    writer.close()
    rebuilt()
    assert [span.delivery for span in open_reader().tail(0)] == [ACCEPTED]


def test_marking_closes_the_requests_that_are_done(open_writer: OpenWriter, state: StateDir) -> None:
    writer = open_writer(forward=True)
    ids = store(writer, body_of(wire_span(1)), body_of(wire_span(2)))
    writer.mark([mark(1)], ACCEPTED, destination="d", sent=ids[:1]).result(timeout=20)
    writer.close()
    with sqlite3.connect(state.journal) as other:
        found = other.execute("SELECT state FROM requests ORDER BY id").fetchall()
    other.close()
    assert [row[0] for row in found] == [RequestState.SENT, RequestState.TO_SEND]


@pytest.mark.parametrize(
    ("arrivals", "ends"),
    [
        ([False], LOCAL),
        ([True], QUEUED),
        ([False, True], QUEUED),
        ([True, False], QUEUED),
        ([False, False], LOCAL),
        ([False, True, False], QUEUED),
    ],
)
def test_a_repeat_brings_a_destination_to_a_span_without_one(
    open_writer: OpenWriter,
    open_reader: OpenReader,
    rebuilt: Callable[[], None],
    arrivals: list[bool],
    ends: Delivery,
) -> None:
    writer = open_writer()
    for has_destination in arrivals:
        writer.forward = has_destination
        store(writer, body_of(wire_span(1)))
    writer.close()
    assert [span.delivery for span in open_reader().tail(0)] == [ends]
    rebuilt()
    assert [span.delivery for span in open_reader().tail(0)] == [ends]


def test_a_repeat_of_what_arrived_does_not_queue_it_again(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    writer = open_writer(forward=True)
    store(writer, body_of(wire_span(1)))
    wait_for(lambda: caught_up(open_reader()))
    writer.mark([mark(1)], CONFIRMED, destination="d").result(timeout=20)
    revision = open_reader().revision()
    store(writer, body_of(wire_span(1)))
    writer.close()
    (row,) = open_reader().tail(0)
    assert row.delivery is CONFIRMED
    assert row.revision <= revision


def test_no_revision_is_given_again_by_the_next_relay(
    open_writer: OpenWriter, open_reader: Callable[[], Reader], state: StateDir
) -> None:
    """Also not when a power failure took the newest index commits, which are not waited for."""
    writer = open_writer()
    store(writer, body_of(wire_span(1)), body_of(wire_span(2)))
    writer.close()
    used = open_reader().revision()
    with closing(sqlite3.connect(state.journal, isolation_level=None)) as journal:
        journal.execute("UPDATE meta SET value = 1 WHERE key = 'revision'")
    writer = open_writer()
    store(writer, body_of(wire_span(3)))
    writer.close()
    assert open_reader().tail(used)[-1].revision > used + 1_000_000

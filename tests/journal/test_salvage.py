"""A damaged journal is moved aside, and every request that can still be read is put into a fresh one."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hermes_tui.journal import aside, opening, salvage
from hermes_tui.journal.aside import FRESH
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.marks import Pen, RequestState
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.salvage import PutBack
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.relay.checking import look
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

COUNT = 240
Harm = Callable[[StateDir], object]


def request(number: int, padding: int) -> bytes:
    return body_of(wire_span(number, trace=number // 4, session__id=f"s{number // 20}", text="x" * padding))


def key_of(number: int) -> tuple[bytes, bytes, int]:
    return trace_id(number // 4), span_id(number), SECOND * (1_001 + number)


def fill(state: StateDir, writer: Writer) -> None:
    """Requests of many sizes and kinds: in one page, over many, compressed, local, marked in every way."""
    # No checkpoint: a killed relay leaves all of it in the log.
    writer.do(lambda pen: pen.connection.execute("PRAGMA wal_autocheckpoint = 0")).result(timeout=20)
    sizes = random.Random(1)
    for number in range(COUNT):
        writer.forward = number % 10 != 0
        stored = envelope(
            request(number, sizes.choice([0, 50, 3_000, 9_000, 60_000])),
            headers={"x-mlflow-experiment-id": str(number % 3)},
            credential=f"c{number % 2}",
            received_ns=SECOND * (5_000 + number),
        )
        if number % 7 == 0:
            stored.body, stored.content_encoding = gzip.compress(stored.body), "gzip"
        future = writer.append(stored)
        if number % 10 in (0, 9):  # some commits, few enough for the log to hold them all
            future.result(timeout=20)
    wait_until_indexed(state)
    for place, delivery in enumerate((Delivery.ACCEPTED, Delivery.CONFIRMED, Delivery.HELD), 1):
        numbers = range(place, COUNT, 10)
        sent = [number + 1 for number in numbers] if delivery is not Delivery.HELD else []
        keys = [key_of(number) for number in numbers]
        writer.mark(keys, delivery, destination="d", reason="why", sent=sent).result(timeout=20)


def wait_until_indexed(state: StateDir) -> None:
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))


def wal(state: StateDir) -> Path:
    return state.path / "journal.db-wal"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[StateDir, StateDir]:
    """A journal as a relay leaves it: closed, and killed with all of it in the write-ahead log."""
    folder = tmp_path_factory.mktemp("made")
    closed, killed = StateDir(folder / "closed"), StateDir(folder / "killed")
    writer = Writer(closed, synchronous="OFF")
    fill(closed, writer)
    shutil.copytree(closed.path, killed.path)
    writer.close()
    assert not wal(closed).exists()
    assert wal(killed).stat().st_size > 1_000_000
    return closed, killed


@pytest.fixture
def closed(made: tuple[StateDir, StateDir], state: StateDir) -> StateDir:
    shutil.copytree(made[0].path, state.path)
    return state


@pytest.fixture
def killed(made: tuple[StateDir, StateDir], state: StateDir) -> StateDir:
    shutil.copytree(made[1].path, state.path)
    return state


def put_back(state: StateDir, writer: Writer) -> list[PutBack]:
    return salvage.put_all_back(state, writer, threading.Event())


def rows(state: StateDir, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(state.journal)) as connection:
        return connection.execute(statement).fetchall()


REQUESTS = (
    "SELECT received_ns, state, headers, credential, span_count, content_type, content_encoding, body "
    "FROM requests JOIN routes ON routes.id = route ORDER BY requests.id"
)


def noise(file: Path, begin: float, end: float) -> None:
    """Overwrite a part of a file; places are fractions of its size, or bytes when above 1."""
    size = file.stat().st_size
    first, last = (int(at if at > 1 else at * size) for at in (begin, end))
    with file.open("r+b") as stream:
        stream.seek(first)
        stream.write(random.Random(2).randbytes(last - first))


def cut(file: Path, size: float) -> None:
    with file.open("r+b") as stream:
        stream.truncate(int(size if size > 1 else size * file.stat().st_size))


def opened(state: StateDir, **said: str) -> Writer:
    return Writer(state, forward=True, synchronous="OFF", **said)


@pytest.fixture
def before(made: tuple[StateDir, StateDir]) -> list[tuple[object, ...]]:
    found = rows(made[0], REQUESTS)
    assert len(found) == COUNT
    return found


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_sound_journal_is_left_alone(
    how: str, request: pytest.FixtureRequest, before: list[tuple[object, ...]]
) -> None:
    state: StateDir = request.getfixturevalue(how)
    inode = state.journal.stat().st_ino
    writer = opened(state)
    assert put_back(state, writer) == []
    writer.close()
    assert state.journal.stat().st_ino == inode
    assert rows(state, REQUESTS) == before
    assert aside.copies(state) == []


OF_THE_FILE: dict[str, tuple[Harm, float]] = {
    # what is done to a closed journal, and which share of its requests must come back
    "the first bytes": (lambda file: noise(file, 0, 100), 1.0),
    "page 1": (lambda file: noise(file, 0, 8192), 1.0),
    "the first three pages": (lambda file: noise(file, 0, 3 * 8192), 1.0),
    "the middle": (lambda file: noise(file, 0.5, 0.55), 0.85),
    "many small places": (
        lambda file: [noise(file, at / 10, at / 10 + 0.001) for at in range(10)],
        0.9,
    ),
    "everything": (lambda file: noise(file, 0, 0.9999), 0.0),
    "cut to half": (lambda file: cut(file, 0.5), 0.4),
    "cut in a page": (lambda file: cut(file, 0.77), 0.65),
    "cut to a page": (lambda file: cut(file, 8192), 0.0),
    "cut to 100 bytes": (lambda file: cut(file, 100), 0.0),
    "a text": (lambda file: file.write_text("Dear diary, " * 1000), 0.0),
}


@pytest.mark.parametrize("name", OF_THE_FILE)
def test_what_can_be_read_of_a_damaged_file_comes_back(
    closed: StateDir, before: list[tuple[object, ...]], name: str
) -> None:
    harm, share = OF_THE_FILE[name]
    harm(closed.journal)
    harmed = closed.journal.read_bytes()
    writer = opened(closed, damage="found before")
    store(writer, request(COUNT, 10))
    (result,) = put_back(closed, writer)
    writer.close()
    (copy,) = aside.copies(closed)
    assert copy.read_bytes() == harmed
    assert result.file == copy.name
    *recovered, newest = rows(closed, REQUESTS)
    assert newest[0] not in [row[0] for row in before]
    assert len(recovered) == result.requests >= COUNT * share
    check(before, recovered)
    with Reader(closed.journal) as reader:
        assert caught_up(reader)
        assert len(tail_all(reader)) == len(recovered) + 1
        assert reader.indexed()[0] > FRESH


OF_THE_LOG: dict[str, tuple[Harm, float]] = {
    "its header": (lambda file: noise(file, 0, 32), 1.0),
    "its first frames": (lambda file: noise(file, 0, 50_000), 0.9),
    "one frame's header": (lambda file: noise(file, 32 + 40 * 8216, 32 + 40 * 8216 + 24), 0.95),
    "its middle": (lambda file: noise(file, 0.5, 0.55), 0.85),
    "all but its end": (lambda file: noise(file, 0, 0.9), 0.05),
    "its end": (lambda file: noise(file, 0.95, 0.9999), 0.8),
}


@pytest.mark.parametrize("name", OF_THE_LOG)
def test_what_can_be_read_of_a_damaged_log_comes_back(
    killed: StateDir, before: list[tuple[object, ...]], name: str
) -> None:
    """SQLite itself would begin an empty journal, or one with the first requests only, and say nothing."""
    harm, share = OF_THE_LOG[name]
    harm(wal(killed))
    writer = opened(killed)
    store(writer, request(COUNT, 10))
    (result,) = put_back(killed, writer)
    writer.close()
    *recovered, _ = rows(killed, REQUESTS)
    assert len(recovered) == result.requests >= COUNT * share
    check(before, recovered)


@pytest.mark.parametrize("name", OF_THE_FILE)
def test_what_the_log_holds_survives_any_damage_of_the_file(
    killed: StateDir, before: list[tuple[object, ...]], name: str
) -> None:
    harm, _ = OF_THE_FILE[name]
    harm(killed.journal)
    writer = opened(killed)
    put_back(killed, writer)
    writer.close()
    assert len(rows(killed, REQUESTS)) == COUNT
    check(before, rows(killed, REQUESTS))


def test_an_older_generation_of_the_log_hides_nothing(state: StateDir, tmp_path: Path) -> None:
    """All of the newest is noise; what lies behind it is older than the file."""
    live = StateDir(tmp_path / "live")
    writer = Writer(live, synchronous="OFF")
    bodies = [request(number, 1_000) for number in range(60)]
    store(writer, *bodies[:50])
    wait_until_indexed(live)
    writer._alone(lambda pen: pen.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()).result()
    old = wal(live).stat().st_size
    store(writer, *bodies[50:])
    wait_until_indexed(live)
    _, newest, done = writer._alone(
        lambda pen: pen.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    ).result()
    assert newest == done
    shutil.copytree(live.path, state.path)
    writer.close()
    assert wal(state).stat().st_size == old > 32 + newest * 8216
    noise(wal(state), 0, 32 + newest * 8216)
    writer = opened(state)
    put_back(state, writer)
    writer.close()
    assert [row[-1] for row in rows(state, REQUESTS)] == bodies


def test_an_empty_file_beside_its_log(killed: StateDir, before: list[tuple[object, ...]]) -> None:
    """SQLite would throw the log away."""
    cut(killed.journal, 0)
    writer = opened(killed)
    (result,) = put_back(killed, writer)
    writer.close()
    assert result.requests == COUNT
    check(before, rows(killed, REQUESTS))


def check(before: list[tuple[object, ...]], recovered: list[tuple[object, ...]]) -> None:
    """What came back is what was stored, in its order; what lost its marks is sent again."""
    places = {row[0]: at for at, row in enumerate(before)}
    found = [places[row[0]] for row in recovered]
    assert found == sorted(found)
    for at, row in zip(found, recovered, strict=True):
        was = before[at]
        assert row[4:] == was[4:]
        assert row[2:4] in (was[2:4], ("{}", ""))
        if was[1] == RequestState.LOCAL:
            assert row[1] == RequestState.LOCAL
        else:
            assert row[1] in (was[1], RequestState.PARTED, RequestState.PROVEN)


def test_deliveries_survive_with_their_reasons(closed: StateDir) -> None:
    with Reader(closed.journal) as reader:
        spans = {span.span_id: span.delivery for span in tail_all(reader)}
        reasons = sorted(reader.reasons(1_000))
    noise(closed.journal, 0, 8192)
    writer = opened(closed)
    put_back(closed, writer)
    assert writer.undelivered_bytes == rows(
        closed, "SELECT sum(length(body)) FROM requests WHERE state IN (1, 3)"
    )[0][0]  # fmt: skip
    writer.close()
    with Reader(closed.journal) as reader:
        assert {span.span_id: span.delivery for span in tail_all(reader)} == spans
        assert sorted(reader.reasons(1_000)) == reasons
    assert set(spans.values()) == set(Delivery) - {Delivery.QUARANTINED}


class StopsAfter(threading.Event):
    """Set after so many waits: the relay ends in the middle."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self._left = waits

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        if self._left <= 0:
            self.set()
        return self.is_set()


def test_a_restoration_goes_on_where_it_was_broken_off(
    closed: StateDir, before: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "_REQUESTS", 16)
    noise(closed.journal, 0, 8192)
    rounds = 0
    while aside.pending(closed) or not rounds:
        rounds += 1
        writer = opened(closed)
        store(writer, request(COUNT + rounds, 10))
        salvage.put_all_back(closed, writer, StopsAfter(5))
        writer.close()
    assert rounds > 3
    after = rows(closed, REQUESTS)
    assert len(after) == COUNT + rounds
    check(before, after[:COUNT])
    with Reader(closed.journal) as reader:
        assert caught_up(reader)
        assert len(tail_all(reader)) == COUNT + rounds


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_a_relay_killed_while_it_moved_the_journal_aside(
    killed: StateDir, before: list[tuple[object, ...]], parts: int
) -> None:
    """It had noted what it was about to do, and moved some of the files."""
    damage = aside.Damage("journal.db.damaged-x", "found before", 1)
    aside._save(killed, [damage])
    for name in ("-wal", "-shm")[:parts]:
        (killed.path / f"journal.db{name}").rename(killed.path / f"{damage.file}{name}")
    writer = opened(killed)
    (result,) = put_back(killed, writer)
    writer.close()
    assert (result.file, result.requests) == (damage.file, COUNT)
    check(before, rows(killed, REQUESTS))
    assert aside.pending(killed) == []


def test_a_copy_that_its_user_removed_is_not_waited_for(closed: StateDir) -> None:
    noise(closed.journal, 0, 8192)
    writer = opened(closed)
    (number,) = store(writer, request(1, 10))
    for copy in aside.copies(closed):
        aside.remove(copy)
    writer.close()
    writer = opened(closed)
    (result,) = put_back(closed, writer)
    writer.close()
    assert (result.requests, result.lost) == (0, 0)
    assert rows(closed, "SELECT id FROM requests") == [(number,)]
    assert aside.copies(closed) == aside.pending(closed) == []


def test_damage_upon_damage(closed: StateDir, before: list[tuple[object, ...]]) -> None:
    """The fresh journal is damaged before all is back in it."""
    noise(closed.journal, 0, 8192)
    writer = opened(closed)
    store(writer, request(COUNT, 10))
    salvage.put_all_back(closed, writer, StopsAfter(5))
    writer.close()
    noise(closed.journal, 0, 8192)
    writer = opened(closed)
    put_back(closed, writer)
    writer.close()
    assert len(aside.copies(closed)) == 2
    with Reader(closed.journal) as reader:
        assert len(tail_all(reader)) == COUNT + 1
    bodies = {row[-1] for row in rows(closed, REQUESTS)}
    assert bodies == {row[-1] for row in before} | {request(COUNT, 10)}


def test_a_journal_in_use_by_another_is_not_damaged(
    closed: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Busy, read-only or full: the journal is not touched."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.01}))
    with closing(connect(closed.journal, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match=r"cannot open the journal .*locked"):
            opened(closed)
    assert aside.copies(closed) == []
    opened(closed).close()
    assert len(rows(closed, REQUESTS)) == COUNT


def test_after_the_machine_went_down_sqlite_decides(
    killed: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not synced may be torn: that is no damage, and nothing of it was acknowledged."""
    noise(wal(killed), 0.9, 0.95)
    monkeypatch.setattr(opening, "_uptime_s", lambda: -10.0)  # started after the log was written
    writer = opened(killed)
    writer.close()
    assert aside.copies(killed) == []
    assert 0 < len(rows(killed, REQUESTS)) <= COUNT


def test_what_readers_and_jobs_find_is_said_once(state: StateDir) -> None:
    found: list[str] = []
    writer = Writer(state, synchronous="OFF", on_damage=found.append)
    writer.suspect(sqlite3.OperationalError("database is locked"))
    assert found == []

    def broken(pen: Pen) -> None:
        with closing(sqlite3.connect(":memory:")) as other:
            other.deserialize(b"this is no database, and never was one" * 100)
            other.execute("SELECT * FROM x")

    for _ in range(2):
        with pytest.raises(sqlite3.DatabaseError):
            writer.do(broken).result(timeout=20)
    writer.close()
    assert found == ["file is not a database"]


ROUNDS = int(os.environ.get("HERMES_TRACE_DAMAGE_ROUNDS", "10"))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_any_damage_leaves_a_journal_that_works(
    made: tuple[StateDir, StateDir], tmp_path: Path, before: list[tuple[object, ...]], seed: int
) -> None:
    """Noise and cuts at random places of any file; what comes back is what was stored, and nothing else."""
    chance = random.Random(seed)
    state = StateDir(tmp_path / "state")
    shutil.copytree(chance.choice(made).path, state.path)
    for _ in range(chance.randint(1, 4)):
        file = chance.choice([path for path in state.path.iterdir() if path.name.startswith("journal.db")])
        size = file.stat().st_size
        places = (
            0,
            chance.randrange(4096),
            chance.randrange(size + 1),
            chance.randrange(size // 4096 + 1) * 4096,
        )
        begin = min(size, chance.choice(places))
        if chance.random() < 0.2:
            cut(file, begin / max(size, 1))
        else:
            data = chance.choice([chance.randbytes, bytes])(chance.choice([1, 30, 5_000, 100_000]))
            with file.open("r+b") as stream:
                stream.seek(begin)
                stream.write(data)
    damage: list[str] = [""]
    while damage:  # some shows only when it is met: then the relay begins anew
        found: list[str] = []
        writer = Writer(state, forward=True, synchronous="OFF", damage=damage.pop(), on_damage=found.append)
        store(writer, request(COUNT, 10))
        try:
            put_back(state, writer)
            look(state.journal)
        except sqlite3.DatabaseError as error:
            writer.suspect(error)
            assert found
        writer.close()
        damage += found
    assert aside.pending(state) == []
    stored = {row[-1]: row for row in before}
    fresh = request(COUNT, 10)
    for row in rows(state, REQUESTS):
        assert row[-1] == fresh or (row[0], *row[4:]) == (stored[row[-1]][0], *stored[row[-1]][4:])


def test_putting_back_leaves_room_for_what_arrives(
    closed: StateDir, before: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(closed.journal, 0, 8192)
    writer = opened(closed)
    usage = shutil.disk_usage(closed.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(sqlite3.OperationalError, match="no room"):
        put_back(closed, writer)
    assert store(writer, request(COUNT, 10))
    monkeypatch.undo()
    put_back(closed, writer)
    writer.close()
    assert len(rows(closed, REQUESTS)) == COUNT + 1
    check(before, rows(closed, REQUESTS)[:COUNT])

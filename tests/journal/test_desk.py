"""The desk: two sides over one small file that may vanish, change or rot at any time."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from hermes_tui.journal import desk as module
from hermes_tui.journal.desk import Desk, DeskWatch, Wish
from hermes_tui.journal.files import StateDir, StateError

KINDS = ("verify", "retry", "purge")


@pytest.fixture
def open_desk(state: StateDir) -> Iterator[Callable[[], Desk]]:
    """Open the desk of `state`; closed at the end."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Desk(state))


@pytest.fixture
def watch(state: StateDir) -> Iterator[DeskWatch]:
    watch = DeskWatch(state)
    yield watch
    watch.close()


def ids(wishes: list[Wish] | None) -> list[str] | None:
    return None if wishes is None else [wish.id for wish in wishes]


def test_what_is_wished_is_read_once_in_order(open_desk: Callable[[], Desk], watch: DeskWatch) -> None:
    assert watch.news() is None  # no desk yet, and looking makes none
    desk = open_desk()
    assert watch.news() == []
    names = [desk.wish(kind, {"session": "s" * number}) for number, kind in enumerate(KINDS)]
    found = watch.news()
    assert ids(found) == names
    assert [(wish.kind, wish.argument) for wish in found or []] == [
        (kind, {"session": "s" * number}) for number, kind in enumerate(KINDS)
    ]
    assert len(set(names)) == 3
    assert watch.news() is None
    desk.withdraw(names[1])
    assert ids(watch.news()) == [names[0], names[2]]
    desk.withdraw("nothing")
    assert ids(watch.news()) in (None, [names[0], names[2]])
    assert ids(desk.wishes()) == [names[0], names[2]]


def test_the_file_is_private_and_the_desk_lasts(
    state: StateDir, open_desk: Callable[[], Desk], watch: DeskWatch
) -> None:
    mask = os.umask(0)
    try:
        with Desk(state) as desk:
            name = desk.wish("verify", {})
    finally:
        os.umask(mask)
    assert stat.S_IMODE(state.desk.stat().st_mode) == 0o600
    assert ids(open_desk().wishes()) == [name]
    assert ids(watch.news()) == [name]


def test_the_watch_sees_the_desk_deleted_and_replaced(
    state: StateDir, open_desk: Callable[[], Desk], watch: DeskWatch
) -> None:
    first = open_desk()
    first.wish("verify", {})
    assert len(watch.news() or []) == 1
    assert not first.replaced()
    state.desk.unlink()
    assert watch.news() is None
    assert first.replaced()
    name = open_desk().wish("retry", {})
    assert ids(watch.news()) == [name]
    other = state.path / "other"
    with Desk(StateDir(other)) as moved:
        name = moved.wish("purge", {})
    (other / "desk.db").replace(state.desk)
    assert ids(watch.news()) == [name]
    assert first.replaced()


@pytest.mark.parametrize("noise", [b"noise" * 1000, b"SQLite format 3\x00" + bytes(range(256)) * 64])
def test_a_damaged_desk_is_an_error_and_mends(state: StateDir, watch: DeskWatch, noise: bytes) -> None:
    with Desk(state) as desk:
        desk.wish("verify", {})
    assert len(watch.news() or []) == 1
    state.desk.write_bytes(noise)
    for _ in range(2):
        with pytest.raises(StateError, match="cannot read the desk"):
            watch.news()
        with pytest.raises(StateError, match=r"is damaged .*delete it"):
            Desk(state)
    state.desk.unlink()
    assert watch.news() is None
    with Desk(state) as desk:
        name = desk.wish("retry", {})
    assert ids(watch.news()) == [name]


def test_links_of_others_are_not_followed(state: StateDir, watch: DeskWatch) -> None:
    state.create()
    elsewhere = state.path.parent / "elsewhere.db"
    with closing(sqlite3.connect(elsewhere)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = elsewhere.read_bytes()
    state.desk.symlink_to(elsewhere)
    with pytest.raises(StateError, match=r"desk\.db .*is a symbolic link"):
        Desk(state)
    with pytest.raises(StateError, match="not a regular file"):
        watch.news()
    assert elsewhere.read_bytes() == before
    state.desk.unlink()
    state.desk.mkdir()
    with pytest.raises(StateError, match=r"desk\.db .*is not a regular file"):
        Desk(state)
    with pytest.raises(StateError, match="not a regular file"):
        watch.news()


def test_a_desk_of_a_newer_version_is_left_alone(state: StateDir) -> None:
    with Desk(state):
        pass
    with closing(sqlite3.connect(state.desk)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = state.desk.read_bytes()
    with pytest.raises(StateError, match="newer hermes-trace-tui"):
        Desk(state)
    assert state.desk.read_bytes() == before


def test_an_older_desk_gets_what_is_new(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with Desk(state) as desk:
        name = desk.wish("verify", {})
    steps = module._STEPS
    monkeypatch.setattr(
        module, "_STEPS", (*steps, ("CREATE TABLE looks (x)", "INSERT INTO looks VALUES (1)"))
    )
    for _ in range(2):
        with Desk(state) as desk:
            assert ids(desk.wishes()) == [name]
    with closing(sqlite3.connect(state.desk)) as connection:
        assert connection.execute("SELECT x FROM looks").fetchall() == [(1,)]
    monkeypatch.setattr(module, "_STEPS", steps)
    with pytest.raises(StateError, match="newer"):
        Desk(state)


def test_two_at_once_lose_nothing(state: StateDir, watch: DeskWatch) -> None:
    made: list[str] = []

    def write() -> None:
        with Desk(state) as desk:
            made.extend(desk.wish("verify", {}) for _ in range(12))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 48
    assert set(ids(watch.news()) or []) == set(made)


def test_old_wishes_go_when_a_new_one_comes(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    now = module.time.time_ns()
    with Desk(state) as desk:
        monkeypatch.setattr(module.time, "time_ns", lambda: now - module.WISH_AGE_NS - 1)
        desk.wish("verify", {})
        monkeypatch.setattr(module.time, "time_ns", lambda: now)
        name = desk.wish("retry", {})
        assert ids(desk.wishes()) == [name]


def test_many_that_were_forgotten_hide_no_new_one(state: StateDir, watch: DeskWatch) -> None:
    with Desk(state) as desk:
        names = [desk.wish("verify", {}) for _ in range(module._MOST + 3)]
    assert ids(watch.news()) == names[3:]


def test_a_busy_desk_is_no_damage(state: StateDir, watch: DeskWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    with Desk(state) as desk:
        name = desk.wish("verify", {})
        with closing(sqlite3.connect(state.desk, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StateError, match=r"cannot use the desk .*locked"):
                desk.wish("retry", {})
            with pytest.raises(StateError, match=r"cannot use the desk .*locked"):
                Desk(state)
            assert watch.news() is None
        assert ids(watch.news()) == [name]


def test_a_killed_writer_is_rolled_back(state: StateDir, watch: DeskWatch) -> None:
    with Desk(state) as desk:
        name = desk.wish("verify", {"session": "x"})
    assert ids(watch.news()) == [name]
    script = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 1')\n"
        "db.execute('BEGIN IMMEDIATE')\n"
        "db.execute('DELETE FROM wishes')\n"
        "for _ in range(200): db.execute("
        "\"INSERT INTO wishes (id, kind, argument, made_ns) VALUES (hex(randomblob(500)), 'x', '', 0)\")\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(state.desk)], check=False, timeout=60)
    assert done.returncode == -9
    assert state.desk.with_name("desk.db-journal").stat().st_size > 0  # it was in the middle of it
    assert ids(watch.news()) in (None, [name])
    with Desk(state) as desk:
        assert ids(desk.wishes()) == [name]
    second = DeskWatch(state)
    assert ids(second.news()) == [name]
    second.close()


@pytest.mark.parametrize("argument", ["", "{", "[]", "null", b"\xff", '"x"'])
def test_an_argument_that_is_no_object_is_empty(state: StateDir, watch: DeskWatch, argument: Any) -> None:
    with Desk(state):
        pass
    with closing(sqlite3.connect(state.desk)) as connection, connection:
        connection.execute(
            "INSERT INTO wishes (id, kind, argument, made_ns) VALUES ('a', 'verify', ?, 1)", (argument,)
        )
    assert watch.news() == [Wish("a", "verify", {}, 1)]


def test_what_was_reviewed_is_kept_until_it_is_taken_back(
    open_desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, other = open_desk(), open_desk()
    names = [(b"session \xff", b"call", "call"), (b"t" * 16, b"s" * 8, "span"), (b"", b"", "call")]
    assert desk.reviewed() == set()
    desk.review(names, reviewed=True)
    desk.review(names[:1], reviewed=True)
    assert other.reviewed() == set(names)
    other.review([names[1], (b"never", b"", "call")], reviewed=False)
    assert desk.reviewed() == {names[0], names[2]}
    monkeypatch.setattr(module, "_REVIEWED", 3)
    moment = iter(range(4 * 10**18, 4 * 10**18 + 9))
    monkeypatch.setattr(module.time, "time_ns", lambda: next(moment))
    for number in range(5):
        desk.review([(bytes([number]), b"", "call")], reviewed=True)
    assert {name[0] for name in desk.reviewed()} == {bytes([2]), bytes([3]), bytes([4])}


def test_a_desk_of_before_there_were_marks_takes_them(state: StateDir) -> None:
    state.create()
    with closing(sqlite3.connect(state.desk)) as old:
        for statement in module._STEPS[0]:
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO wishes (id, kind, argument, made_ns) VALUES ('a', 'retry', '{}', 1)")
        old.commit()
    with Desk(state) as desk:
        desk.review([(b"s", b"c", "call")], reviewed=True)
        assert desk.reviewed() == {(b"s", b"c", "call")}
        assert ids(desk.wishes()) == ["a"]

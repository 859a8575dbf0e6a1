"""What Hermes notes beside its database."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.registers import (
    Openers,
    Processes,
    Registers,
    lock_holder,
    process_began,
    process_exists,
)
from hermes_tui.model.state_rows import HolderRow, JobRow
from tests.state_player import StatePlayer


class Alive:
    """Processes that a test makes up."""

    def __init__(self, *pids: int) -> None:
        self.pids = set(pids)

    def __call__(self, pid: int) -> bool:
        return pid in self.pids


def put(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    new.replace(path)


def test_who_has_a_session_open(tmp_path: Path) -> None:
    home, alive = Home("work", tmp_path), Alive(10, 11)
    registers = Registers(home, Processes(alive))
    assert registers.poll(1) == []
    entries = [
        {"session_id": "a", "pid": 10},
        {"session_id": "b", "pid": "11"},
        {"session_id": "c", "pid": 12},
    ]
    put(home.active_sessions, {"entries": entries})
    assert registers.poll(2) == [
        HolderRow("work", 2, "a", 10, True),
        HolderRow("work", 2, "b", 11, True),
        HolderRow("work", 2, "c", 12, None),  # never seen: it may be in another container
    ]
    assert registers.poll(3) == []
    alive.pids = {11}
    assert registers.poll(4) == [HolderRow("work", 4, "a", 10, False)]


def test_background_jobs_come_and_go(tmp_path: Path) -> None:
    home, alive = Home("work", tmp_path), Alive(7)
    registers = Registers(home, Processes(alive))
    entry = {"session_id": "proc_1", "pid": 7, "command": "serve", "started_at": 5.0, "task_id": "s"}
    inside = {"session_id": "proc_2", "pid": 7, "pid_scope": "sandbox", "parent_session_id": "t"}
    put(home.processes, [entry, inside])
    assert registers.poll(1) == [
        JobRow("work", 1, "proc_1", "s", "serve", 7, 5 * 10**9, True),
        JobRow("work", 1, "proc_2", "t", None, 7, 0, None),
    ]
    alive.pids.clear()
    put(home.processes, [inside])
    assert registers.poll(2) == [JobRow("work", 2, "proc_1", "s", "serve", 7, 5 * 10**9, False)]
    home.processes.unlink()
    assert registers.poll(3) == [JobRow("work", 3, "proc_2", "t", None, 7, 0, False)]
    assert registers.poll(4) == []


def test_a_job_that_another_hermes_wrote_over_goes_on(tmp_path: Path) -> None:
    """Hermes 0.19 writes the file anew with the jobs of the process that writes."""
    home, alive = Home("work", tmp_path), Alive(7, 8)
    registers = Registers(home, Processes(alive))
    put(home.processes, [{"session_id": "proc_1", "pid": 7}])
    registers.poll(1)
    put(home.processes, [{"session_id": "proc_2", "pid": 8}])
    assert [(row.id, row.alive) for row in registers.poll(2) if isinstance(row, JobRow)] == [("proc_2", True)]
    alive.pids = {8}
    assert [(row.id, row.alive) for row in registers.poll(3) if isinstance(row, JobRow)] == [
        ("proc_1", False)
    ]


def test_another_process_of_the_same_number_is_not_the_job(tmp_path: Path) -> None:
    home = Home("work", tmp_path)
    registers = Registers(home, Processes(Alive(7), lambda _: 900))
    put(
        home.processes,
        [
            {"session_id": "proc_1", "pid": 7, "host_start_time": 900},
            {"session_id": "proc_2", "pid": 7, "host_start_time": 100},
        ],
    )
    found = [row for row in registers.poll(1) if isinstance(row, JobRow)]
    assert [(row.id, row.alive) for row in found] == [("proc_1", True), ("proc_2", None)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_when_a_process_began() -> None:
    assert process_began(os.getpid()) >= process_began(os.getppid()) > 0
    assert process_began(2**31 - 1) == 0


SESSION = "20261123_094837_c2d25d"


@pytest.mark.parametrize(
    ("said", "session"),
    [
        pytest.param({"task_id": "default", "session_key": SESSION}, SESSION, id="Hermes 0.19"),
        pytest.param(
            {"task_id": "default", "owner_task_id": SESSION, "session_key": SESSION,
             "parent_session_id": "20261123_094938_e25dfe"},
            SESSION, id="Hermes 0.22 after a background review",
        ),
        pytest.param(
            {"task_id": "default", "owner_task_id": "default", "session_key": "agent:main:telegram:dm:5",
             "parent_session_id": SESSION},
            SESSION, id="in a chat",
        ),
        pytest.param({"task_id": "sa-1f", "owner_task_id": "sa-1f"}, None, id="a subagent's"),
        pytest.param({"task_id": 5, "session_key": ""}, None, id="nobody's"),
    ],
)  # fmt: skip
def test_whose_job_it_is(tmp_path: Path, said: dict[str, Any], session: str | None) -> None:
    home = Home("work", tmp_path)
    put(home.processes, [{"session_id": "proc_1", "pid": 7, **said}])
    (row,) = Registers(home, Processes(Alive())).poll(1)
    assert isinstance(row, JobRow)
    assert row.session == session


@pytest.mark.parametrize(
    "document",
    [
        "", "no JSON", "[" * 5_000, "5", '{"entries": 5}', '[5, null, "x"]', '[{"session_id": 5, "pid": 1}]',
        '[{"session_id": "a", "pid": true}]', '[{"session_id": "a", "pid": -1}]', '[{"pid": 5}]',
        '{"entries": [{"session_id": "a", "pid": "9999999999999"}]}', '[{"session_id": "", "pid": 5}]',
    ],
)  # fmt: skip
def test_whatever_is_in_the_files(tmp_path: Path, document: str) -> None:
    home = Home("work", tmp_path)
    registers = Registers(home, Processes(Alive()))
    put(home.active_sessions, document)
    put(home.processes, document)
    assert all(isinstance(row, JobRow) for row in registers.poll(1))


def test_a_process_that_never_was_may_be_elsewhere() -> None:
    alive = Alive(5)
    processes = Processes(alive)
    assert (processes.alive(5), processes.alive(6)) == (True, None)
    alive.pids.clear()
    assert (processes.alive(5), processes.alive(6)) == (False, None)


def test_this_process_exists() -> None:
    assert process_exists(os.getpid())
    assert process_exists(1)  # also when it is not ours to signal
    assert not process_exists(0)
    assert not process_exists(2**31 - 1)


def test_a_lock_that_was_there_and_is_gone(tmp_path: Path) -> None:
    database, index = tmp_path / "state.db", tmp_path / "state.db-shm"
    holder = 5
    openers = Openers(lambda _: holder)
    index.touch()
    openers.look(database, 1)
    assert openers.closed is False
    holder = 0
    openers.look(database, 2)
    assert openers.closed is True
    index.unlink()  # no WAL mode any more: a moment without a lock says nothing
    openers.look(database, 3)
    assert openers.closed is None
    index.touch()
    openers.look(database, 4)
    assert openers.closed is None


def test_a_lock_that_never_was(tmp_path: Path) -> None:
    """Hermes was killed before, or is where no lock can be seen from here: then its commits can."""
    database, log = tmp_path / "state.db", tmp_path / "state.db-wal"
    for path in (database, log, tmp_path / "state.db-shm"):
        path.touch()
    gone, elsewhere = Openers(lambda _: 0), Openers(lambda _: 0)
    for openers in (gone, elsewhere):
        openers.look(database, 1)
        assert openers.closed is None
    gone.look(database, 1.5)
    assert gone.closed is None
    gone.look(database, 2)
    assert gone.closed is True
    log.write_text("a commit")
    for at in (2, 3, 60):
        elsewhere.look(database, at)
        assert elsewhere.closed is None


def test_locks_that_this_system_does_not_tell_of(tmp_path: Path) -> None:
    def refuse(name: str) -> int:
        raise OSError("no such call")

    (tmp_path / "state.db-shm").touch()
    openers = Openers(refuse)
    openers.look(tmp_path / "state.db", 1)
    openers.look(tmp_path / "state.db", 9)
    assert openers.closed is None


def test_ones_own_lock_is_nobodys(tmp_path: Path) -> None:
    player = StatePlayer(tmp_path)
    try:
        assert lock_holder(str(player.path)) == 0
    finally:
        player.close()

"""What Hermes notes beside its database."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.registers import Openers, Processes, Registers, lock_holder, process_exists
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
    put(home.processes, [inside])
    assert registers.poll(2) == [JobRow("work", 2, "proc_1", "s", "serve", 7, 5 * 10**9, False)]
    home.processes.unlink()
    assert registers.poll(3) == [JobRow("work", 3, "proc_2", "t", None, 7, 0, False)]
    assert registers.poll(4) == []


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


def test_only_a_lock_that_was_there_can_be_gone(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    index = tmp_path / "state.db-shm"
    holder = 0
    openers = Openers(lambda _: holder)
    index.touch()
    assert openers.closed(database) is None
    holder = 5
    assert openers.closed(database) is False
    holder = 0
    assert openers.closed(database) is True
    index.unlink()  # no WAL mode any more: a moment without a lock says nothing
    assert openers.closed(database) is None
    index.touch()
    assert openers.closed(database) is None


def test_ones_own_lock_is_nobodys(tmp_path: Path) -> None:
    player = StatePlayer(tmp_path)
    try:
        assert lock_holder(str(player.path)) == 0
    finally:
        player.close()

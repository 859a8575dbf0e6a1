"""The reader of Hermes' `state.db`: sees every commit, survives every state of the file, changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.registers import Openers
from hermes_tui.hermes.state_db import StateDB, Watch
from hermes_tui.hermes.state_file import StateFile
from hermes_tui.model.live import Live
from hermes_tui.model.results import read_call
from hermes_tui.model.state_rows import Forgotten, HolderRow, HomeRow, MessageRow, SessionRow, StateRow
from tests.model.timeline import timeline
from tests.state_player import MESSAGES, SESSIONS, StatePlayer, state_events, state_names
from tests.support import wait_for

S = "20261123_000000_aaaaaa"
ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that stands still until it is moved, so that no test waits."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 0.06  # a look at a file at rest
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home("default", tmp_path / "home")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def write(home: Home, stack: ExitStack) -> Callable[..., StatePlayer]:
    def start(**said: Any) -> StatePlayer:
        player = StatePlayer(home.path, **said)
        stack.callback(player.close)
        return player

    return start


@pytest.fixture
def database(home: Home, clock: Clock, stack: ExitStack) -> StateDB:
    """A test's own locks are nobody's: so it is told that Hermes has the database open."""
    found = StateDB(home, openers=Openers(lambda _: 1), clock=clock)
    stack.callback(found.close)
    return found


def put(player: StatePlayer, number: int, role: str = "user", **said: Any) -> None:
    row = {
        "id": number,
        "session_id": S,
        "role": role,
        "content": f"text {number}",
        "timestamp": 1.79e9 + number,
    }
    player.put("messages", **{**row, "active": 1, **said})


def messages(rows: list[StateRow]) -> list[MessageRow]:
    return [row for row in rows if isinstance(row, MessageRow)]


def ids(rows: list[StateRow]) -> list[int]:
    return [row.id for row in messages(rows)]


def files(folder: Path) -> dict[str, tuple[int, str]]:
    """Everything in a folder: size and content."""
    return {
        each.name: (each.stat().st_size, hashlib.sha256(each.read_bytes()).hexdigest())
        for each in sorted(folder.iterdir())
    }


# ---- what is read


def without_reading(row: StateRow) -> dict[str, Any]:
    return asdict(row) | {"revision": 0}


@pytest.mark.parametrize("name", state_names())
def test_every_commit_of_a_recording_is_seen_at_once(
    name: str, database: StateDB, write: Callable[..., StatePlayer]
) -> None:
    player = write()
    database.poll()
    for event, (_, rows, _) in zip(
        state_events(name), (each for each in timeline(name) if each[1]), strict=True
    ):
        player.step(event)
        found = [row for row in database.poll() if isinstance(row, MessageRow | SessionRow)]
        assert [without_reading(row) for row in found] == [without_reading(row) for row in rows]
    assert database.trouble == ""
    assert database.poll() == []


def test_what_was_read_from_a_cache_was_put_in_too(
    database: StateDB, write: Callable[..., StatePlayer]
) -> None:
    """Hermes counts it apart, spans do not."""
    write().put("sessions", id=S, input_tokens=20_784, cache_read_tokens=8_896, cache_write_tokens=4)
    (row,) = (row for row in database.poll() if isinstance(row, SessionRow))
    assert (row.input_tokens, row.cache_read_tokens, row.cache_write_tokens) == (29_684, 8_896, 4)


@pytest.mark.parametrize(
    ("kind", "begins"),
    [(None, True), ("process_complete", True), ("hidden", True), ("steer", False), ("model_switch", False)],
)
def test_what_begins_a_turn(stack: ExitStack, home: Home, database: StateDB, kind: str, begins: bool) -> None:
    player = StatePlayer(home.path, messages=f"{MESSAGES}, display_kind TEXT")
    stack.callback(player.close)
    put(player, 1, display_kind=kind)
    assert [row.summary for row in messages(database.poll())] == [not begins]


def test_what_was_only_overheard_is_not_asked(database: StateDB, stack: ExitStack, home: Home) -> None:
    player = StatePlayer(home.path, messages=f"{MESSAGES}, observed INTEGER")
    stack.callback(player.close)
    put(player, 1, observed=1)
    put(player, 2, observed=0)
    assert [(row.id, row.summary) for row in messages(database.poll())] == [(1, True), (2, False)]


def test_a_late_reader_sees_the_same(database: StateDB, write: Callable[..., StatePlayer]) -> None:
    write().play(state_events("thirty_steps"))
    live, expected = Live(), Live()
    live.take(database.poll())
    for _, rows, _ in timeline("thirty_steps"):
        expected.take(rows)
    (session,) = live.sessions()
    part, other = live.session(session), expected.session(session)
    assert part is not None
    assert other is not None
    assert [replace(turn, version=0) for turn in part.turns] == [
        replace(turn, version=0) for turn in other.turns
    ]
    assert part.sums == other.sums


def test_the_first_look_is_bounded(home: Home, clock: Clock, write: Callable[..., StatePlayer]) -> None:
    player = write()
    for number in range(1, 101):
        put(player, number, session_id=f"s{number // 10}")
    with closing(StateDB(home, window=20, clock=clock)) as database:
        assert ids(database.poll()) == list(range(81, 101))


def test_an_old_session_is_read_when_asked_for(
    home: Home, clock: Clock, write: Callable[..., StatePlayer]
) -> None:
    player = write()
    for number in range(1, 1_001):
        put(player, number, session_id="old" if number <= 600 else "new")
    player.put("sessions", id="old", title="The old one", started_at=1.7e9)
    with closing(StateDB(home, window=20, clock=clock)) as database:
        assert min(ids(database.poll())) == 981
        database.pin("old")
        rows = database.poll()
        assert ids(rows) == list(range(1, 601))
        assert [row.title for row in rows if isinstance(row, SessionRow)] == ["The old one"]
        database.pin("old")
        assert database.poll() == []


def test_system_prompts_are_never_read_and_nothing_is_written(
    home: Home, clock: Clock, write: Callable[..., StatePlayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    player = write()
    player.play(state_events("v123_subagent"))
    player.connection.execute("UPDATE sessions SET system_prompt = 'private'")
    done: set[tuple[int, str | None, str | None]] = set()
    connect = StateFile._connect

    def watched(self: StateFile, snapshot: bool) -> sqlite3.Connection:
        connection = connect(self, snapshot)

        def note(action: int, first: str | None, second: str | None, *_: object) -> int:
            done.add((action, first, second))
            return sqlite3.SQLITE_OK

        connection.set_authorizer(note)
        return connection

    monkeypatch.setattr(StateFile, "_connect", watched)
    with closing(StateDB(home, clock=clock)) as database:
        rows = database.poll()
        database.pin("20261123_031218_e546bd")
        rows += database.poll()
        assert database.result("20261123_031216_db8274", "call_8dbf84f5bb5b485d8624")
    assert "private" not in repr(rows)
    assert (sqlite3.SQLITE_READ, "messages", "content") in done
    assert not any(column == "system_prompt" for _, _, column in done)
    reading = {sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_PRAGMA}
    assert {action for action, _, _ in done} <= reading
    assert {name for action, name, value in done if action == sqlite3.SQLITE_PRAGMA and value} == {
        "table_info"
    }


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"sessions": ""}, id="no sessions table"),
        pytest.param({"sessions": "id TEXT PRIMARY KEY"}, id="sessions without a column"),
        pytest.param({"sessions": f"{SESSIONS}, later TEXT"}, id="more columns"),
        pytest.param({"sessions": f"{SESSIONS}) WITHOUT ROWID; --"}, id="sessions without rowids"),
        pytest.param(
            {"messages": "id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, content TEXT, timestamp REAL"},
            id="few columns",
        ),
        pytest.param({"messages": MESSAGES, "journal_mode": "delete"}, id="no WAL"),
    ],
)
def test_the_schema_may_be_another(
    said: dict[str, str], database: StateDB, write: Callable[..., StatePlayer]
) -> None:
    player = write(**said)
    first = "INSERT INTO messages (id, session_id, role, content, timestamp) VALUES (1, ?, 'user', 'Hi', 5)"
    player.connection.execute(first, (S,))
    (row,) = messages(database.poll())
    assert (row.text, row.active, row.tool_name, row.at_ns) == ("Hi", True, None, 5 * 10**9)
    assert database.trouble == ""
    player.connection.execute("ALTER TABLE messages ADD COLUMN compacted INTEGER")
    more = "INSERT INTO messages (id, session_id, role, compacted, timestamp) VALUES (2, ?, 'tool', 1, 6)"
    player.connection.execute(more, (S,))
    (row,) = messages(database.poll())
    assert (row.id, row.role) == (2, "tool")


def test_another_programs_database_is_named(database: StateDB, write: Callable[..., StatePlayer]) -> None:
    player = write(messages="id INTEGER PRIMARY KEY, body TEXT")
    assert database.poll() == []
    assert database.trouble.endswith("state.db has no messages.role; is it Hermes' own?")
    player.connection.execute("DROP TABLE messages")
    player.connection.execute(f"CREATE TABLE messages ({MESSAGES})")
    put(player, 1)
    assert ids(database.poll()) == [1]
    assert database.trouble == ""


@pytest.mark.parametrize(
    ("column", "value", "field", "expected"),
    [
        ("content", None, "text", ""),
        ("content", b"caf\xc3\xa9", "text", "café"),
        ("content", b"\xff\xfe", "text", "\ufffd\ufffd"),
        ("content", 42, "text", "42"),
        ("content", "x" * 50_000, "text", "x" * 4_000),
        (
            "content",
            '\0json:[{"type": "text", "text": "Look"}, {"image_url": {"url": "data:"}}]',
            "text",
            "Look",
        ),
        ("content", "\0json:{", "text", "{"),
        ("tool_calls", "no JSON", "calls", ()),
        ("tool_calls", '{"id": 1}', "calls", ()),
        ("tool_calls", "[1, null, []]", "calls", ()),
        ("tool_calls", "[" * 5_000, "calls", ()),
        ("timestamp", "yesterday", "at_ns", 0),
        ("timestamp", 1e300, "at_ns", 0),
        ("timestamp", float("inf"), "at_ns", 0),
        ("timestamp", -5, "at_ns", 0),
        ("role", 5, "role", "5"),
        ("finish_reason", 3, "finish_reason", "3"),
        ("active", 0, "active", False),
        ("active", None, "active", True),
    ],
)
def test_whatever_is_in_a_row(
    column: str, value: Any, field: str, expected: Any, database: StateDB, write: Callable[..., StatePlayer]
) -> None:
    player = write(messages=MESSAGES.replace(" NOT NULL", ""))
    put(player, 1, **{column: value})
    (row,) = messages(database.poll())
    assert getattr(row, field) == expected
    assert database.trouble == ""


def test_results_are_shortened_and_whole_on_demand(
    database: StateDB, write: Callable[..., StatePlayer]
) -> None:
    player = write()
    whole = json.dumps({"output": "line\n" * 40_000, "exit_code": 7, "error": None})
    given = json.dumps({"command": "seq 1 3000 # " + "y" * 9_000})
    call = {"id": "call_1", "function": {"name": "terminal", "arguments": given}}
    put(player, 1, "assistant", tool_calls=json.dumps([call]))
    put(player, 2, "tool", content=whole, tool_call_id="call_1")
    asked, answered = messages(database.poll())
    assert answered.size == len(whole)
    assert len(answered.text) < 4_000
    assert read_call("terminal", given, answered.text).exit_code == 7
    assert len(asked.calls[0].arguments) < 5_000
    assert json.loads(asked.calls[0].arguments)["command"].startswith("seq 1 3000 # yyy")
    found: list[str | None] = []

    def ask() -> None:
        found.extend([database.result(S, "call_1"), database.arguments(S, "call_1"), database.result(S, "x")])

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [whole, given, None]


# ---- what happens to the file


def test_the_file_may_come_later(database: StateDB, write: Callable[..., StatePlayer]) -> None:
    assert database.poll() == []
    assert not database.present
    assert database.trouble == ""
    put(write(), 1)
    assert ids(database.poll()) == [1]
    assert database.present


@pytest.mark.parametrize("rested", [False, True], ids=["connected", "at rest"])
@pytest.mark.parametrize("how", ["vacuum", "replace", "recreate", "truncate", "garbage", "delete", "restore"])
def test_whatever_becomes_of_the_file(
    how: str, rested: bool, home: Home, database: StateDB, clock: Clock, stack: ExitStack
) -> None:
    first = StatePlayer(home.path)
    for number in range(1, 6):
        put(first, number)
    live = Live()
    live.take(database.poll())
    if rested:
        for _ in range(2):
            clock.pass_by(5)
            assert database.poll() == []
    if how == "vacuum":
        first.connection.execute("VACUUM")
    elif how in ("replace", "restore"):
        other = StatePlayer(home.path.with_name("other"))
        for number in (1, 2, 3):
            put(other, number, content=f"other {number}", session_id=S if how == "restore" else "t")
        other.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        first.close()
        remove_log(home)
        os.replace(other.path, home.state_db)
    else:
        first.close()
        remove_log(home)
        if how == "recreate":
            home.state_db.unlink()
            put(again := StatePlayer(home.path), 1, content="new", session_id="t")
            again.close()
        elif how == "truncate":
            home.state_db.write_bytes(b"")
        elif how == "garbage":
            home.state_db.write_bytes(os.urandom(8_192))
        else:
            home.state_db.unlink()
    for _ in range(4):
        clock.pass_by(2)
        live.take(database.poll())
    part = live.session(S)
    if how in ("truncate", "garbage"):
        assert database.trouble.startswith(f"{home.state_db} is ")
        assert part is not None  # what was known stays on the screen
    else:
        assert database.trouble == ""
        kept = {"vacuum": 5, "restore": 3}.get(how, 0)
        assert (len(part.turns) if part else 0) == kept
        assert database.present is (how != "delete")
    if how not in ("vacuum", "replace", "restore", "recreate"):
        home.state_db.unlink(missing_ok=True)
    player = StatePlayer(home.path)
    stack.callback(player.close)
    put(player, 100, content="back again", session_id="u")
    clock.pass_by(5)
    live.take(database.poll())
    assert database.trouble == ""
    assert live.session("u") is not None


def test_another_file_in_its_place_is_read_at_once(
    home: Home, database: StateDB, write: Callable[..., StatePlayer], stack: ExitStack
) -> None:
    put(write(), 1)
    assert ids(database.poll()) == [1]
    remove_log(home)
    home.state_db.unlink()
    other = StatePlayer(home.path)
    stack.callback(other.close)
    put(other, 1, content="other")
    rows = database.poll()
    assert [type(row) for row in rows[:2]] == [Forgotten, MessageRow]
    assert [row.text for row in messages(rows)] == ["other"]


def remove_log(home: Home) -> None:
    for suffix in ("-wal", "-shm"):
        home.state_db.with_name(f"state.db{suffix}").unlink(missing_ok=True)


def test_a_locked_file_is_tried_again(
    database: StateDB, clock: Clock, write: Callable[..., StatePlayer]
) -> None:
    player = write(journal_mode="delete")
    put(player, 1)
    player.connection.execute("BEGIN EXCLUSIVE")
    put(player, 2)
    assert database.poll() == []
    assert database.trouble == ""
    clock.pass_by(3)
    assert database.poll() == []
    assert database.trouble.endswith("is locked by another program")
    player.connection.execute("COMMIT")
    assert ids(database.poll()) == [1, 2]
    assert database.trouble == ""


def test_messages_that_were_taken_back_are_forgotten(
    database: StateDB, write: Callable[..., StatePlayer]
) -> None:
    player = write()
    player.put("sessions", id=S, message_count=3, started_at=1.79e9)
    for number in (1, 2, 3):
        put(player, number)
    live = Live()
    live.take(database.poll())
    player.connection.execute("DELETE FROM messages WHERE id = 2")
    player.put("sessions", id=S, message_count=2, started_at=1.79e9)
    rows = database.poll()
    assert [row.session for row in rows if isinstance(row, Forgotten)] == [S]
    live.take(rows)
    assert [turn.prompt for turn in live.session(S).turns] == ["text 1", "text 3"]  # type: ignore[union-attr]
    player.connection.execute("DELETE FROM messages WHERE id = 3")
    live.take(database.poll())
    assert [turn.prompt for turn in live.session(S).turns] == ["text 1"]  # type: ignore[union-attr]


def test_a_session_that_was_deleted_is_forgotten(
    database: StateDB, clock: Clock, write: Callable[..., StatePlayer]
) -> None:
    player = write()
    for name in (S, "t"):
        player.put("sessions", id=name, message_count=1, started_at=1.79e9)
        put(player, 1 if name == S else 2, session_id=name)
    live = Live()
    live.take(database.poll())
    player.connection.execute("DELETE FROM messages WHERE session_id = ?", (S,))
    player.connection.execute("DELETE FROM sessions WHERE id = ?", (S,))
    live.take(database.poll())
    assert live.sessions() == ["t"]


# ---- what Hermes notices


def test_a_database_that_nobody_has_open_stays_as_it_is(
    home: Home, database: StateDB, clock: Clock, write: Callable[..., StatePlayer]
) -> None:
    """SQLite would make a `-wal` and a `-shm` beside it, even for a reader."""
    player = StatePlayer(home.path)
    player.play(state_events("v123_weather"))
    player.close()
    before = files(home.path)
    rows = database.poll()
    assert len(messages(rows)) == 4
    assert HomeRow("default", 3, True) in rows
    for _ in range(3):
        clock.pass_by(5)
        assert database.poll() == []
    session = rows[0].session if isinstance(rows[0], MessageRow) else ""
    assert database.result(session, "call_45f9e89b478c4a30a0a8")
    assert files(home.path) == before
    put(write(), 1_000)
    rows = database.poll()
    assert ids(rows) == [1_000]
    clock.pass_by(1)
    assert [row.closed for row in [*rows, *database.poll()] if isinstance(row, HomeRow)] == [False]


def test_at_rest_hermes_can_fold_its_log_in_and_leave(
    home: Home, database: StateDB, clock: Clock, write: Callable[..., StatePlayer]
) -> None:
    player = StatePlayer(home.path)
    put(player, 1)
    assert ids(database.poll()) == [1]
    clock.pass_by(5)
    assert database.poll() == []
    player.close()
    assert sorted(files(home.path)) == ["state.db"]
    assert messages(database.poll()) == []
    put(again := write(), 2)
    assert ids(database.poll()) == [2]
    put(again, 3)
    assert ids(database.poll()) == [3]


def test_a_reader_between_commits_holds_nothing_up(
    database: StateDB, write: Callable[..., StatePlayer]
) -> None:
    player = write()
    for number in range(1, 50):
        put(player, number)
        assert ids(database.poll()) == [number]
        busy, *_ = player.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0


def test_a_writer_that_waits_for_nobody_is_never_held_up(
    home: Home, write: Callable[..., StatePlayer]
) -> None:
    player = write()
    player.connection.execute("PRAGMA busy_timeout = 0")
    done, seen = threading.Event(), list[int]()

    def follow() -> None:
        with closing(StateDB(home)) as database:
            while not done.is_set() or (not seen or seen[-1] < 1_000):
                seen.extend(ids(database.poll()))

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(1, 1_001):
        put(player, number, content="x" * 3_000)
    done.set()
    thread.join(60)
    assert seen == list(range(1, 1_001))


def test_a_folder_that_others_may_only_read() -> None:
    """Hermes of another user: its files can be read, nothing can be made beside them."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from hermes_tui.hermes.home import Home\n"
        "from hermes_tui.hermes.state_db import StateDB\n"
        "if os.getuid() == 0:\n"
        "    os.setgid(65534); os.setuid(65534)\n"
        "database = StateDB(Home('default', Path(sys.argv[1])))\n"
        "print([type(row).__name__ for row in database.poll()], database.trouble)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        player = StatePlayer(folder)
        put(player, 1)
        for each in folder.iterdir():
            each.chmod(0o444)
        folder.chmod(0o555)
        try:
            open_elsewhere = run_script(script, folder, environment)
            folder.chmod(0o755)
            player.close()
            folder.chmod(0o555)
            before = files(folder)
            alone = run_script(script, folder, environment)
            assert files(folder) == before
        finally:
            folder.chmod(0o755)
    assert open_elsewhere == "['MessageRow'] "
    assert alone == "['MessageRow', 'HomeRow'] "  # and nobody has it open


def run_script(script: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize("watched", [True, False], ids=["while it was watched", "before it was watched"])
def test_a_killed_hermes_is_noticed(home: Home, clock: Clock, stack: ExitStack, watched: bool) -> None:
    """Its files stay behind as if it still ran; only its locks are gone."""
    database = StateDB(home, clock=clock)
    stack.callback(database.close)
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.state_player import StatePlayer\n"
        "player = StatePlayer(Path(sys.argv[1]))\n"
        "player.put('messages', id=1, session_id='s', role='user', content='Go', timestamp=1.79e9)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home.path)], stdout=subprocess.PIPE, env=environment
    ) as hermes:
        try:
            assert hermes.stdout is not None
            assert hermes.stdout.readline() == b"ready\n"
            if watched:
                assert ids(database.poll()) == [1]
                for _ in range(3):
                    clock.pass_by(5)
                    assert database.poll() == []
        finally:
            hermes.send_signal(signal.SIGKILL)
    assert home.state_db.with_name("state.db-wal").exists()
    told: list[StateRow] = []
    for _ in range(3):  # the first only reads, and one at rest closes what keeps locks from being looked at
        clock.pass_by(5)
        told += database.poll()
    assert ids(told) == ([] if watched else [1])
    assert [row.closed for row in told if isinstance(row, HomeRow)] == [True]


# ---- who is in a turn, and several homes


def test_a_turns_holder(database: StateDB, clock: Clock, write: Callable[..., StatePlayer]) -> None:
    player = write()
    player.connection.execute(
        "CREATE TABLE session_turn_leases (conversation_id TEXT PRIMARY KEY, holder TEXT, acquired_at REAL, "
        "expires_at REAL)"
    )
    put(player, 1)
    lease = "INSERT OR REPLACE INTO session_turn_leases VALUES (?, ?, 0, ?)"
    player.connection.execute(lease, (S, f"pid={os.getpid()}:turn=x", 1.8e9))
    player.connection.execute(lease, ("t", "nobody", 1.8e9))
    holders = [row for row in database.poll() if isinstance(row, HolderRow)]
    assert [(row.session, row.pid, row.alive, row.until_ns) for row in holders] == [
        (S, os.getpid(), True, 18 * 10**17)
    ]
    put(player, 2)
    assert [row for row in database.poll() if isinstance(row, HolderRow)] == []


def test_homes_come_and_go(tmp_path: Path, clock: Clock, stack: ExitStack) -> None:
    homes = [Home("default", tmp_path / "a"), Home("work", tmp_path / "b")]
    watch = Watch(find=lambda: homes, clock=clock)
    stack.callback(watch.close)
    live = Live()
    live.take(watch.poll())
    assert watch.watched() == []
    player = StatePlayer(homes[0].path)
    put(player, 1)
    clock.pass_by(0.3)  # of none at all the first is not waited for
    live.take(watch.poll())
    assert [(each.home.name, each.present, each.trouble) for each in watch.watched()] == [
        ("default", True, "")
    ]
    other = StatePlayer(homes[1].path)
    put(other, 1, session_id="t", content="at work", role="tool", tool_call_id="c")
    clock.pass_by(6)
    live.take(watch.poll())
    assert sorted(live.sessions()) == [S, "t"]
    assert watch.result("t", "c") == "at work"
    assert watch.result("t", "d") is None
    other.close()
    for each in homes[1].path.iterdir():
        each.unlink()
    homes[1].path.rmdir()
    clock.pass_by(6)
    live.take(watch.poll())
    assert live.sessions() == [S]
    player.close()


def test_a_reader_in_real_time_sees_a_commit_soon(home: Home, write: Callable[..., StatePlayer]) -> None:
    player = write()
    found: list[int] = []
    with closing(StateDB(home)) as database:
        for number in range(1, 20):
            put(player, number)
            wait_for(lambda: found.extend(ids(database.poll())) or found[-1:] == [number])  # noqa: B023

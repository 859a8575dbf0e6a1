"""Let a `state.db` grow as Hermes' did in a recording: for tests, benchmarks and by hand.

    python -m tests.state_player slow_tool --home DIR [--speed 1] [--now]

The tables have the columns that the recordings have. Rows are committed one by one, as Hermes does it.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parent / "recordings"
SESSIONS = (
    "id TEXT PRIMARY KEY, source TEXT, model TEXT, system_prompt TEXT, parent_session_id TEXT, "
    "started_at REAL, ended_at REAL, end_reason TEXT, message_count INTEGER, "
    "tool_call_count INTEGER, input_tokens INTEGER, "
    "output_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER, reasoning_tokens INTEGER, "
    "cwd TEXT, estimated_cost_usd REAL, cost_status TEXT, title TEXT, api_call_count INTEGER, "
    "profile_name TEXT"
)
MESSAGES = (
    "id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT, "
    "tool_call_id TEXT, tool_calls TEXT, tool_name TEXT, timestamp REAL NOT NULL, finish_reason TEXT, "
    "active INTEGER NOT NULL DEFAULT 1"
)
_TIMES = ("timestamp", "started_at", "ended_at")


@dataclass(frozen=True, slots=True)
class StateEvent:
    """One row that Hermes committed, `t` seconds after the recording began."""

    t: float
    wall: float
    table: str
    row: dict[str, Any]


def state_names() -> list[str]:
    """Recordings that have a timeline of `state.db`."""
    return sorted(path.name.split(".")[0] for path in RECORDINGS.glob("*.state.jsonl"))


def state_events(name: str) -> list[StateEvent]:
    """The rows of a recording in the order of their commits."""
    lines = (RECORDINGS / f"{name}.state.jsonl").read_text(encoding="utf-8").splitlines()
    return [StateEvent(**json.loads(line)) for line in lines]


def moved(events: Iterable[StateEvent], seconds: float) -> list[StateEvent]:
    """The same rows at another time."""

    def move(row: dict[str, Any]) -> dict[str, Any]:
        return row | {name: row[name] + seconds for name in _TIMES if row.get(name)}

    return [StateEvent(each.t, each.wall + seconds, each.table, move(each.row)) for each in events]


class StatePlayer:
    """The writing end of a `state.db`; `home` is made when it is not there."""

    def __init__(
        self, home: Path, *, journal_mode: str = "wal", sessions: str = SESSIONS, messages: str = MESSAGES
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / "state.db"
        self.connection = sqlite3.connect(self.path, isolation_level=None, timeout=5, check_same_thread=False)
        self.connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        if sessions:
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS sessions ({sessions})")
        if messages:
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS messages ({messages})")

    def put(self, table: str, **row: Any) -> None:
        """Commit one row. A session that is there already is changed, not replaced."""
        if table == "sessions":
            columns = ", ".join(f'"{name}" = excluded."{name}"' for name in row)
            conflict = f"ON CONFLICT (id) DO UPDATE SET {columns}"
        else:
            conflict = "ON CONFLICT (id) DO NOTHING"
        names = ", ".join(f'"{name}"' for name in row)
        places = ", ".join("?" * len(row))
        self.connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({places}) {conflict}", list(row.values())
        )

    def step(self, event: StateEvent) -> None:
        self.put(event.table, **event.row)

    def play(
        self, events: Iterable[StateEvent], speed: float = 0.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Commit rows at their own pace times `speed`; 0 does not wait."""
        start = time.monotonic()
        for event in events:
            if speed:
                sleep(max(0.0, event.t / speed - (time.monotonic() - start)))
            self.step(event)

    def close(self) -> None:
        self.connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", choices=state_names())
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--now", action="store_true", help="move all times so that it happens now")
    options = parser.parse_args()
    events = state_events(options.recording)
    if options.now:
        events = moved(events, time.time() - events[0].wall)
    player = StatePlayer(options.home)
    try:
        player.play(events, options.speed)
    finally:
        player.close()


if __name__ == "__main__":
    main()

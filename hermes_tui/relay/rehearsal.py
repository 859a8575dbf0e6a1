"""Grow a state.db as Hermes' own grew in a recording: what the demo's pane watches beside the spans.

One JSON object a line: `t` (seconds since the recording began), `wall` (seconds since the epoch), `table`
and `row`. It happens in the relay's process because SQLite's locks are a process's: the pane has to see
another one that holds the database, as Hermes would.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

_KEYS = {"sessions": "TEXT", "messages": "INTEGER"}
_TIMES = ("timestamp", "started_at", "ended_at")  # columns with seconds since the epoch


def beside(recording: Path) -> Path:
    """Where the rows of a recording of requests are, when there are any."""
    return recording.with_name(recording.name.replace(".otlp.", ".state."))


async def rehearse(recording: Path, home: Path, *, speed: float = 1.0) -> None:
    """Commit the rows to `home`, moved to the present, at their own pace times `speed` (0: at once).

    Then hold the database until cancelled. Raises OSError, ValueError, KeyError or sqlite3.Error when it
    is no recording or cannot be played.
    """
    events = [json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines()]
    shift = time.time() - events[0]["wall"] + events[0]["t"]
    home.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with closing(sqlite3.connect(home / "state.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        for table in _KEYS:
            _create(connection, table, (each["row"] for each in events if each["table"] == table))
        for event in events:
            if speed > 0:
                await asyncio.sleep(begin + event["t"] / speed - time.monotonic())
            _put(connection, event["table"], _moved(event["row"], shift))
        await asyncio.Event().wait()


def _create(connection: sqlite3.Connection, table: str, rows: Iterable[dict[str, Any]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row if name != "id")
    others = "".join(f', "{name}"' for name in names)
    connection.execute(f"CREATE TABLE {table} (id {_KEYS[table]} PRIMARY KEY{others})")


def _moved(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    return row | {name: row[name] + seconds for name in _TIMES if row.get(name)}


def _put(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join("?" * len(row))
    connection.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})", list(row.values()))

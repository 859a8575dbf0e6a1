"""Run by a test in a process of its own: fill the disk, make room again; print the spans acknowledged."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Envelope, Writer
from tests.support import body_of, caught_up, envelope, store, wait_for, wire_span


def limit(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def request(number: int, padding: int) -> Envelope:
    headers = {"x-mlflow-experiment-id": str(number)}
    return envelope(body_of(wire_span(number, padding="x" * padding)), headers=headers)


def main(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    state = StateDir(folder)
    writer = Writer(state)
    stored = [0]
    store(writer, body_of(wire_span(0)))
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))

    # Small requests fit for a while, then neither they nor the index behind them do.
    limit(Path(f"{state.journal}-wal").stat().st_size + 150_000)
    refused = 0
    for number in range(1, 60):
        try:
            writer.append(request(number, 5_000)).result(timeout=20)
            stored.append(number)
        except sqlite3.Error:
            refused += 1
    assert refused, "the limit never held"
    assert len(stored) > 1, "nothing fitted"

    # A writer can be closed on a full disk; what it acknowledged is indexed once there is room.
    writer.close()
    limit(resource.RLIM_INFINITY)
    writer = Writer(state)
    store(writer, body_of(wire_span(1_000)))

    # The same without a restart in between, and senders that try again.
    again: list[int] = []
    limit(Path(f"{state.journal}-wal").stat().st_size + 20_000)
    for number in range(2_000, 2_020):
        try:
            writer.append(request(number, 50_000)).result(timeout=20)
            stored.append(number)
        except sqlite3.Error:
            again.append(number)
    limit(resource.RLIM_INFINITY)
    for number in again:  # their routes were rolled back with them
        writer.append(request(number, 50_000)).result(timeout=20)
        stored.append(number)
    store(writer, body_of(wire_span(3_000)))
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))
    writer.close()
    assert again, "the limit never held"
    with closing(sqlite3.connect(state.journal)) as journal:
        for number in again:
            assert journal.execute(
                "SELECT count(*) FROM requests JOIN routes ON routes.id = requests.route WHERE headers = ?",
                (json.dumps({"x-mlflow-experiment-id": str(number)}),),
            ).fetchone() == (1,)
    print(*stored, 1_000, 3_000)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

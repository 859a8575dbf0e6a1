"""Real relays and journals that are damaged: they run, and what was acknowledged and can be read arrives."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal import aside
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.relay import checking
from hermes_tui.relay.checking import Check, look
from hermes_tui.relay.lock import find
from tests.processes import (
    DEADLINE_S,
    Destination,
    RelayProcess,
    SpanKey,
    counts,
    document,
    post,
    run_cli,
    span_keys,
)
from tests.support import body_of, store, wait_for, wire_span

pytestmark = pytest.mark.process

COUNT = 45  # few enough for all to be in the write-ahead log of a relay that is killed

Start = Callable[..., RelayProcess]


def send(address: str, first: int, count: int) -> set[SpanKey]:
    """Requests of a span each, as often as it takes; the spans in them."""
    sent: set[SpanKey] = set()
    for number in range(first, first + count):
        body = body_of(wire_span(number, trace=number // 3, text="x" * 2_000))
        answers = iter(lambda: post(address, body, Authorization="Bearer secret"), 200)  # noqa: B023
        assert set(answers) <= {503}
        sent.update(span_keys(body))
    return sent


def noise(file: Path, begin: int, end: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(begin)
        stream.write(random.Random(3).randbytes(end - begin))


def into_the_file(state: StateDir) -> None:
    """Everything out of the write-ahead log; SQLite takes that away with its last connection."""
    with closing(sqlite3.connect(state.journal, isolation_level=None)) as journal:
        assert journal.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def log_of(state: StateDir) -> Path:
    return state.path / "journal.db-wal"


def at(file: Path, share: float) -> int:
    """Where a page begins."""
    return int(share * file.stat().st_size) // 8192 * 8192


def harm_file(begin: float, end: float) -> Callable[[StateDir], None]:
    def harm(state: StateDir) -> None:
        into_the_file(state)
        noise(state.journal, at(state.journal, begin), at(state.journal, end))

    return harm


def cut(state: StateDir) -> None:
    into_the_file(state)
    os.truncate(state.journal, at(state.journal, 0.8) + 1_000)


def harm_both(state: StateDir) -> None:
    noise(state.journal, 0, 100)
    noise(log_of(state), 0, 100)


HARM: dict[str, tuple[Callable[[StateDir], object], float]] = {
    # what is done after a kill -9, and which share of what was acknowledged must arrive
    "the first pages": (harm_file(0, 0.1), 1.0),
    "the index": (harm_file(0.4, 0.5), 1.0),
    "the requests": (harm_file(0.75, 0.8), 0.8),
    "the end is cut off": (cut, 0.3),
    "the head of the log": (lambda state: noise(log_of(state), 0, 32), 1.0),
    "a part of the log": (
        lambda state: noise(log_of(state), at(log_of(state), 0.5), at(log_of(state), 0.5) + 30_000),
        0.85,
    ),
    "nothing left but the log": (lambda state: state.journal.write_bytes(b""), 1.0),
    "both files": (harm_both, 0.95),
}


@pytest.mark.parametrize("name", HARM)
def test_after_damage_the_relay_starts_and_delivers_what_can_be_read(
    start_relay: Start, state: StateDir, name: str
) -> None:
    harm, share = HARM[name]
    with Destination() as there:
        there.close()  # down
        relay = start_relay(state, "--mlflow", there.url)
        acknowledged = send(relay.address, 0, COUNT)
        relay.kill()
        harm(state)
        there.open()
        relay = start_relay(state, "--mlflow", there.url)
        later = send(relay.address, 1_000, 5)
        wait_for(lambda: damage_of(state).get("requests") is not None, DEADLINE_S)
        (copy,) = aside.copies(state)
        damage = damage_of(state)
        assert damage["file"] == copy.name
        wait_for(lambda: later <= there.accepted(), DEADLINE_S)
        wait_for(lambda: len(there.accepted() - later) >= share * COUNT, DEADLINE_S)
        assert damage["requests"] >= share * COUNT
        assert there.accepted() <= acknowledged | later
        assert {post.headers["authorization"] for post in there.posts} == {"Bearer secret"}
        assert copy.name in run_cli("status", "--json", "--state-dir", str(state.path)).stdout
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert relay.stop() == 0


def damage_of(state: StateDir) -> dict[str, Any]:
    return document(state, "keeping").get("damage") or {}


def test_damage_in_a_running_relay(start_relay: Start, state: StateDir) -> None:
    """The same process on the same port goes on with a fresh journal."""
    with Destination() as there:
        there.close()
        relay = start_relay(state, "--mlflow", there.url)
        address, running = relay.address, find(state)
        acknowledged = send(address, 0, 150)
        into_the_file(state)
        noise(state.journal, 8192, at(state.journal, 0.7))
        there.open()
        wait_for(lambda: aside.copies(state), DEADLINE_S)
        wait_for(lambda: find(state) == running and not aside.pending(state), DEADLINE_S)
        later = send(address, 1_000, 10)
        wait_for(lambda: later <= there.accepted(), DEADLINE_S)
        wait_for(lambda: damage_of(state).get("requests") is not None, DEADLINE_S)
        wait_for(lambda: len(there.accepted() - later) > 30, DEADLINE_S)
        assert there.accepted() <= acknowledged | later
        assert relay.process.poll() is None
        assert find(state) == running
        relay.process.terminate()
        assert relay.process.wait(DEADLINE_S) == 0


def test_a_letter_in_the_place_of_the_journal(start_relay: Start, state: StateDir) -> None:
    state.create()
    letter = b"this was never a database, but somebody's letter" * 100
    state.journal.write_bytes(letter)
    for command in (["status"], ["sessions"], ["commands", "--json"]):
        done = run_cli(*command, "--state-dir", str(state.path))
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert str(state.journal) in line
    assert state.journal.read_bytes() == letter
    relay = start_relay(state)
    (copy,) = aside.copies(state)
    assert copy.read_bytes() == letter
    assert len(send(relay.address, 0, 3)) == 3
    wait_for(lambda: counts(state)["local"] == 3, DEADLINE_S)
    assert relay.stop() == 0


def test_commands_that_run_into_damage_say_so(start_relay: Start, state: StateDir) -> None:
    relay = start_relay(state)
    send(relay.address, 0, 30)
    wait_for(lambda: counts(state)["local"] == 30, DEADLINE_S)
    assert relay.stop() == 0
    noise(state.journal, at(state.journal, 0.3), at(state.journal, 0.7))
    before = state.journal.read_bytes()
    done = run_cli("sessions", "--state-dir", str(state.path))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"cannot read the journal {state.journal}" in line
    assert state.journal.read_bytes() == before


def test_what_is_not_what_was_stored_is_never_sent(start_relay: Start, state: StateDir) -> None:
    """Noise inside of a text leaves a request that can be decoded, and SQLite finds nothing wrong."""
    with Destination() as there:
        there.close()
        relay = start_relay(state, "--mlflow", there.url)
        bodies = [body_of(wire_span(number, trace=number, text=f"<{number}>" * 300)) for number in range(20)]
        assert [post(relay.address, body) for body in bodies] == [200] * len(bodies)
        relay.kill()
        into_the_file(state)
        bytes_of_it = state.journal.read_bytes()
        state.journal.write_bytes(bytes_of_it.replace(b"<7>" * 300, b"<7>" * 200 + b"<8>" * 100))
        there.open()
        relay = start_relay(state, "--mlflow", there.url)
        wanted = {key for number, body in enumerate(bodies) if number != 7 for key in span_keys(body)}
        wait_for(lambda: wanted <= there.accepted(), DEADLINE_S)
        wait_for(lambda: damage_of(state).get("lost") == 1, DEADLINE_S)
        assert there.accepted() == wanted
        assert "is not what was stored" in damage_of(state)["reason"]
        assert relay.stop() == 0


def test_the_check_finds_what_nobody_has_met(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[BaseException] = []
    writer = Writer(state, synchronous="OFF")
    store(writer, *(body_of(wire_span(number, text=f"<{number}>" * 300)) for number in range(20)))
    writer.close()
    look(state.journal)
    bytes_of_it = state.journal.read_bytes()
    for harmed, why in (
        (bytes_of_it.replace(b"<7>" * 300, b"<8>" * 300), "request 8 is not what was stored"),
        (
            bytes_of_it[: len(bytes_of_it) // 2] + bytes(len(bytes_of_it) // 2),
            "malformed|page|row|never used",
        ),
    ):
        state.journal.write_bytes(harmed)
        check = Check(state.journal, found.append, after_s=0)
        wait_for(lambda: found, DEADLINE_S)
        check.stop()
        assert re.search(why, str(found.pop()), re.IGNORECASE)
    state.journal.write_bytes(bytes_of_it)
    monkeypatch.setattr(checking, "_STEPS", 1)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):  # the relay ends meanwhile
        look(state.journal, lambda: True)

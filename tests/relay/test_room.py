"""Real relays that run out of room or keep for too long: they say so, take again, and forget what is past."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.otlp.codec import PROTOBUF
from hermes_tui.relay.lock import find
from tests.processes import DEADLINE_S, Destination, RelayProcess, counts, document, post, run_cli
from tests.support import body_of, wait_for, wire_span

pytestmark = pytest.mark.process

Start = Callable[..., RelayProcess]


def status(state: StateDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_cli("status", "--json", "--state-dir", str(state.path)).stdout)
    return found


def refusal(relay: RelayProcess, body: bytes) -> tuple[int, str, bytes]:
    """The answer to a request that is not taken: status, Retry-After and body."""
    request = urllib.request.Request(f"{relay.url}/v1/traces", body, {"Content-Type": PROTOBUF})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(request, timeout=DEADLINE_S)
    with refused.value as answer:
        return answer.code, answer.headers["Retry-After"], answer.read()


def test_what_cannot_be_delivered_fills_up_to_its_limit(start_relay: Start, state: StateDir) -> None:
    with Destination() as there:
        there.close()
        relay = start_relay(state, "--mlflow", there.url, HERMES_TRACE_UNDELIVERED_BYTES="20KiB")
        taken = 0
        while post(relay.address, body_of(wire_span(taken, text="x" * 2_000))) == 200:
            taken += 1
        assert taken == 10
        code, retry_after, said = refusal(relay, body_of(wire_span(99)))
        assert code == 503
        assert int(retry_after) > 0
        assert b"wait to be delivered, and the limit is 20.0 KiB" in said
        wait_for(lambda: document(state, "keeping").get("full"), DEADLINE_S)
        assert "the limit is 20.0 KiB" in document(state, "keeping")["reason"]
        assert status(state)["last_error"].startswith("no requests are taken: ")
        there.open()
        wait_for(lambda: len(there.accepted()) == taken, DEADLINE_S)
        wait_for(lambda: post(relay.address, body_of(wire_span(50))) == 200, DEADLINE_S)
        wait_for(lambda: document(state, "keeping")["full"] is False, DEADLINE_S)
        assert relay.stop() == 0


def test_what_is_past_goes_from_a_running_relay(start_relay: Start, state: StateDir) -> None:
    relay = start_relay(state, HERMES_TRACE_RETENTION_DAYS="0.00003")  # 2.6 s
    for number in range(30):
        assert post(relay.address, body_of(wire_span(number, trace=number, text="x" * 20_000))) == 200
    wait_for(lambda: counts(state)["local"] == 30, DEADLINE_S)
    wait_for(lambda: counts(state)["local"] == 0, DEADLINE_S)
    assert post(relay.address, body_of(wire_span(99, trace=99))) == 200
    wait_for(lambda: state.journal.stat().st_size < 300_000, DEADLINE_S)
    assert relay.stop() == 0


def test_a_relay_that_erases_does_not_tell_a_secret_later(start_relay: Start, state: StateDir) -> None:
    """Purged while it runs, by a command; and after it has ended, nothing is left in any file."""
    relay = start_relay(state)
    for number in range(20):
        name = "gone" if number % 2 else "kept"
        said = wire_span(number, trace=number, session__id=name, input__value=f"the words of {name}" * 50)
        assert post(relay.address, body_of(said)) == 200
    wait_for(lambda: counts(state)["local"] == 20, DEADLINE_S)
    done = run_cli("purge", "--session", "gone", "--yes", "--state-dir", str(state.path))
    assert done.returncode == 0, done.stderr
    assert relay.stop() == 0
    everything = b"".join(path.read_bytes() for path in state.path.iterdir())
    assert b"the words of gone" not in everything
    assert b"the words of kept" in everything


def test_another_program_that_keeps_reading(start_relay: Start, state: StateDir) -> None:
    """It costs disk for a while, never a request."""
    relay = start_relay(state)
    assert post(relay.address, body_of(wire_span(0))) == 200
    with closing(sqlite3.connect(state.journal, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM requests").fetchone()
        for number in range(1, 40):
            assert post(relay.address, body_of(wire_span(number, text="x" * 300_000))) == 200
    assert relay.stop() == 0
    assert find(state) is None
    assert not state.journal.with_name("journal.db-wal").exists()

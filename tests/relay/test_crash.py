"""kill -9 at any moment: whatever was answered with 200 is in the journal and reaches the destination."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from tests.processes import DEADLINE_S, Destination, RelayProcess, Reply, counts, post, span_keys
from tests.support import body_of, tail_all, wait_for, wire_span

pytestmark = pytest.mark.process

ROUNDS = int(os.environ.get("HERMES_TRACE_CRASH_ROUNDS", "5"))
SENDERS = 3


class Traffic:
    """Senders that note what was answered, until the relay is gone."""

    def __init__(self, address: str, begin: int, enough: int) -> None:
        self._address = address
        self._enough = enough
        self.answered: list[bytes] = []
        self.reached = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(begin + lane * 100_000,)) for lane in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        while True:
            number += 2
            body = body_of(wire_span(number), wire_span(number + 1, parent=number))
            try:
                if post(self._address, body) != 200:
                    return
            except OSError:
                return
            self.answered.append(body)
            if len(self.answered) >= self._enough:
                self.reached.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


def test_what_was_answered_survives_kill_9(start_relay: Callable[..., RelayProcess], state: StateDir) -> None:
    chance = random.Random(20261123)
    # Some trouble at the destination, so that requests are queued when the relay dies.
    replies = random.Random(7)
    answered: set[tuple[bytes, bytes, int]] = set()
    with Destination(answer=lambda _: Reply(503 if replies.random() < 0.2 else 200)) as there:
        for number in range(ROUNDS):
            relay = start_relay(state, "--mlflow", there.url)
            traffic = Traffic(relay.address, number * 1_000_000, chance.randint(1, 60))
            assert traffic.reached.wait(DEADLINE_S)
            relay.kill()
            traffic.join()
            answered |= {key for body in traffic.answered for key in span_keys(body)}
        relay = start_relay(state, "--mlflow", there.url)
        wait_for(lambda: answered <= there.accepted(), DEADLINE_S)
        wait_for(lambda: counts(state)["accepted"] == sum(counts(state).values()), DEADLINE_S)
        assert relay.stop() == 0
        with Reader(state.journal) as reader:
            kept = {(span.trace_id, span.span_id, span.end_ns) for span in tail_all(reader)}
        assert len(answered) >= ROUNDS * 2
        assert answered <= kept
        assert there.accepted() == kept

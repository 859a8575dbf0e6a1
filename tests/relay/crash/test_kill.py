"""kill -9 at any moment: whatever was answered with 200 is in the journal and reaches the destination."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from tests.fake_mlflow import FakeMLflow
from tests.processes import (
    DEADLINE_S,
    Destination,
    Post,
    RelayProcess,
    Reply,
    SpanKey,
    counts,
    post,
    span_keys,
)
from tests.support import body_of, tail_all, wait_for, wire_span

pytestmark = [pytest.mark.process, pytest.mark.timeout(7_200)]

ROUNDS = int(os.environ.get("HERMES_TRACE_CRASH_ROUNDS", "40"))
SENDERS = 3


class Traffic:
    """Senders that note what was answered, until they have sent enough or the relay is gone."""

    def __init__(self, address: str, begin: int, enough: int, *, endless: bool = True) -> None:
        self._address = address
        self._enough, self._endless = enough, endless
        self.answered: list[bytes] = []
        self.reached = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(begin + lane * 100_000,)) for lane in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        while self._endless or not self.reached.is_set():
            number += 2
            body = body_of(
                wire_span(number, trace=number // 6), wire_span(number + 1, trace=number // 6, parent=number)
            )
            try:
                if post(self._address, body) != 200:
                    return
            except OSError:
                return
            self.answered.append(body)
            if len(self.answered) >= self._enough:
                self.reached.set()

    def join(self) -> set[SpanKey]:
        """Wait for the senders; the spans that were answered for."""
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        return {key for body in self.answered for key in span_keys(body)}


class Round:
    """One life of a relay: traffic, and a kill at a random moment of a random phase."""

    def __init__(self, chance: random.Random, there: FakeMLflow) -> None:
        self._chance = chance
        self._there = there
        self.phase = chance.choice(("receiving", "indexing", "sending", "confirming"))

    def play(self, relay: RelayProcess, begin: int) -> set[SpanKey]:
        receiving = self.phase == "receiving"
        traffic = Traffic(relay.address, begin, self._chance.randint(1, 60), endless=receiving)
        assert traffic.reached.wait(DEADLINE_S)
        if self.phase in ("sending", "confirming"):
            seen = self._there.posts if self.phase == "sending" else self._there.reads
            enough = len(seen) + self._chance.randint(1, 2)
            # It may all have been said before: then idle is as good a moment as any.
            deadline = time.monotonic() + 0.5
            while len(seen) < enough and time.monotonic() < deadline:
                time.sleep(0.001)
        threading.Event().wait(self._chance.random() * 0.02)
        relay.kill()
        return traffic.join()


def test_what_was_answered_survives_kill_9(start_relay: Callable[..., RelayProcess], state: StateDir) -> None:
    chance = random.Random(20261123)
    # Some trouble at the destination, so that requests are queued when the relay dies.
    replies = random.Random(7)

    def answer(_: Post) -> Reply:
        return Reply(503 if replies.random() < 0.2 else 200)

    answered: set[SpanKey] = set()
    with FakeMLflow(answer=answer) as there:
        for number in range(ROUNDS):
            relay = start_relay(state, "--mlflow", there.url)
            answered |= Round(chance, there).play(relay, number * 1_000_000)
        relay = start_relay(state, "--mlflow", there.url)
        wait_for(lambda: answered <= there.stored(), DEADLINE_S + ROUNDS)
        wait_for(lambda: counts(state)["confirmed"] == sum(counts(state).values()), DEADLINE_S + ROUNDS)
        assert relay.stop() == 0
        with Reader(state.journal) as reader:
            kept = {(span.trace_id, span.span_id, span.end_ns) for span in tail_all(reader)}
        assert len(answered) >= ROUNDS * 2
        assert answered <= kept
        assert there.stored() == kept  # by id: what was sent twice is there once


@pytest.mark.parametrize("trouble", ["killed", "hanging", "failing"])
def test_trouble_at_the_destination_costs_nothing(
    start_relay: Callable[..., RelayProcess], state: StateDir, trouble: str
) -> None:
    ill = False

    def answer(_: Post) -> Reply:
        if ill and trouble == "hanging":
            return Reply(hang=True)
        return Reply(500 if ill and trouble == "failing" else 200)

    with FakeMLflow(answer=answer) as there:
        relay = start_relay(state, "--mlflow", there.url)
        answered = Traffic(relay.address, 0, 30, endless=False).join()
        ill = True
        if trouble == "killed":
            there.close()
        asked = len(there.posts)
        answered |= Traffic(relay.address, 1_000_000, 30, endless=False).join()
        if trouble != "killed":
            wait_for(lambda: len(there.posts) > asked, DEADLINE_S)
            there.close()  # and what hangs is cut
        ill = False
        there.open()
        answered |= Traffic(relay.address, 2_000_000, 30, endless=False).join()
        wait_for(lambda: there.stored() == answered, DEADLINE_S)
        wait_for(lambda: counts(state)["confirmed"] == len(answered), DEADLINE_S)
        assert relay.stop() == 0


def test_a_destination_that_is_no_mlflow_gets_everything_too(
    start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    with Destination() as there:
        relay = start_relay(state, "--mlflow", there.url)
        traffic = Traffic(relay.address, 0, 20)
        assert traffic.reached.wait(DEADLINE_S)
        relay.kill()
        answered = traffic.join()
        relay = start_relay(state, "--mlflow", there.url)
        wait_for(lambda: answered <= there.accepted(), DEADLINE_S)
        wait_for(lambda: counts(state)["accepted"] == sum(counts(state).values()), DEADLINE_S)
        assert relay.stop() == 0

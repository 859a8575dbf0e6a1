"""A relay that died is started again, with longer and longer waits, and the pane is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from textual.message import Message

from hermes_tui.tui.messages import RelayMoved, Supervisor
from hermes_tui.tui.supervision import Supervision
from tests.support import wait_for
from tests.tui.stage import FakeRelay, FakeSupervisor


class Waits(threading.Event):
    """Remembers how long was waited for, and does not wait; ends after so many waits."""

    def __init__(self, limit: int, before: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._limit = limit
        self._before = before

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self._before(len(self.waits))
        if len(self.waits) >= self._limit:
            self.set()
        return self.is_set()


def run(supervisor: Supervisor, waits: Waits) -> list[tuple[object, str]]:
    """Let a supervision look as often as `waits` says; what it told."""
    told: list[Message] = []
    supervision = Supervision(supervisor, told.append)
    supervision._stop = waits
    supervision.start()
    supervision._thread.join(20)
    assert not supervision._thread.is_alive()
    return [(message.relay, message.trouble) for message in told if isinstance(message, RelayMoved)]


def test_a_running_relay_is_announced_once() -> None:
    relay = FakeRelay()
    supervisor, waits = FakeSupervisor(relay), Waits(5)
    assert run(supervisor, waits) == [(relay, "")]
    assert waits.waits == [1.0] * 5
    assert supervisor.asked == 0


def test_failures_are_told_and_tried_again_with_longer_waits() -> None:
    relay = FakeRelay()
    failures: list[FakeRelay | Exception] = [RuntimeError(f"failure {number}") for number in range(7)]
    supervisor, waits = FakeSupervisor(None, [*failures, relay]), Waits(8)
    told = run(supervisor, waits)
    assert waits.waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 1.0]
    assert [trouble for _, trouble in told if "cannot" in trouble] == [
        f"the relay cannot be started: failure {number}" for number in range(7)
    ]
    assert told[-1] == (relay, "")


def test_a_relay_that_cannot_be_started_for_days_is_still_tried() -> None:
    count = 1_100
    supervisor = FakeSupervisor(None, [RuntimeError("no")] * count)
    waits = Waits(count)
    run(supervisor, waits)
    assert supervisor.asked == count
    assert waits.waits[-1] == 30.0


def test_a_relay_that_died_is_replaced_and_the_waits_begin_anew() -> None:
    first, second = FakeRelay(pid=1), FakeRelay(pid=2)
    supervisor = FakeSupervisor(first, [RuntimeError("no"), second, RuntimeError("no"), first])

    def before(wait: int) -> None:
        if wait in (2, 5):
            supervisor.running = None  # it dies

    waits = Waits(8, before)
    told = run(supervisor, waits)
    assert [relay for relay, trouble in told if not trouble] == [first, second, first]
    assert waits.waits == [1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 1.0]


def test_the_same_relay_found_again_ends_the_trouble() -> None:
    """Another process may have replaced it by one with the same number, on the same port."""
    relay = FakeRelay()
    supervisor = FakeSupervisor(relay, [relay])

    def before(wait: int) -> None:
        if wait == 2:
            supervisor.running = None

    told = run(supervisor, Waits(4, before))
    assert told == [(relay, ""), (None, "the relay does not run; starting it"), (relay, "")]


def test_an_error_while_looking_does_not_end_the_supervision() -> None:
    relay = FakeRelay()

    class Broken(FakeSupervisor):
        looks = 0

        def find(self) -> FakeRelay | None:
            self.looks += 1
            if self.looks == 2:
                raise PermissionError("relay.json")
            return relay

    told = run(Broken(relay), Waits(4))
    assert told == [(relay, ""), (None, "cannot look for the relay: relay.json"), (relay, "")]


@pytest.mark.parametrize("alive", [True, False])
def test_stop_ends_it_at_once(alive: bool) -> None:
    supervisor = FakeSupervisor(FakeRelay() if alive else None, [RuntimeError("no")] * 9)
    told: list[Message] = []
    supervision = Supervision(supervisor, told.append)
    supervision.start()
    wait_for(lambda: told)
    supervision.stop()
    supervision._thread.join(20)
    assert not supervision._thread.is_alive()


def test_a_service_restarts_its_own_relay() -> None:
    """Started by the pane it would have the pane's settings."""
    first, second = FakeRelay(pid=1, started_by="user"), FakeRelay(pid=2, started_by="user")
    supervisor = FakeSupervisor(first)

    def before(wait: int) -> None:
        supervisor.running = {2: None, 6: second}.get(wait, supervisor.running)

    told = run(supervisor, Waits(8, before))
    assert supervisor.asked == 0
    assert [relay for relay, trouble in told if not trouble] == [first, second]
    assert {trouble for _, trouble in told if trouble} == {
        "the relay does not run; waiting for its service to restart it"
    }


def test_a_service_that_stays_away_is_stood_in_for() -> None:
    own = FakeRelay(pid=2)
    supervisor = FakeSupervisor(FakeRelay(pid=1, started_by="user"), [own])

    def before(wait: int) -> None:
        if wait == 1:
            supervisor.running = None

    waits = Waits(13, before)
    told = run(supervisor, waits)
    assert supervisor.asked == 1
    assert waits.waits == [1.0] * 13
    assert told[-1] == (own, "")

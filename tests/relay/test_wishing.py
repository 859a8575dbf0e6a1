"""Waiting for an answer: every way in which none can come has its sentence, and the wish goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.marks import Pen
from hermes_tui.journal.writer import Writer
from hermes_tui.relay import wishing as module
from hermes_tui.relay.launch import LaunchError
from hermes_tui.relay.lock import Lock, Running
from hermes_tui.relay.wishing import RelayGone, WishError, fulfil
from tests.processes import DEADLINE_S
from tests.support import wait_for


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_POLL_S", 0.005), ("_CHECK_S", 0.01), ("_SEEN_S", 0.3), ("_GONE_S", 0.03)):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def lock(state: StateDir) -> Iterator[Lock]:
    """What a running relay holds."""
    lock = Lock(state)
    lock.acquire()
    yield lock
    lock.release()


@contextmanager
def never() -> Iterator[Running]:
    raise AssertionError("a relay runs already")
    yield  # type: ignore[unreachable]


def answer(writer: Writer, wish: str, state: str, **document: Any) -> None:
    def work(pen: Pen) -> None:
        pen.connection.execute(
            "INSERT OR REPLACE INTO answers (wish, at_ns, state, document) VALUES (?, 1, ?, ?)",
            (wish, state, json.dumps(document)),
        )

    writer.do(work).result(20)


def wishes(state: StateDir) -> list[str]:
    with Desk(state) as desk:
        return [wish.id for wish in desk.wishes()]


class Asking:
    """`fulfil` in a thread of its own, for tests that answer meanwhile."""

    def __init__(self, state: StateDir, **said: Any) -> None:
        self.progress: list[tuple[int, int]] = []
        self.result: Any = None
        self._said = {"lend": never, **said}
        self._thread = threading.Thread(target=self._ask, args=(state,))
        self._thread.start()
        wait_for(lambda: state.desk.exists() and wishes(state), DEADLINE_S)
        (self.wish,) = wishes(state)

    def _ask(self, state: StateDir) -> None:
        try:
            self.result = fulfil(state, "verify", {}, progress=self._note, **self._said)
        except (WishError, StateError) as error:
            self.result = error

    def _note(self, done: int, of: int) -> None:
        self.progress.append((done, of))

    def wait(self) -> Any:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return self.result


def test_the_answer_comes_back_with_its_progress(
    state: StateDir, lock: Lock, open_writer: Callable[..., Writer]
) -> None:
    writer = open_writer()
    asking = Asking(state)
    answer(writer, asking.wish, "working")
    for done in (1, 2):
        answer(writer, asking.wish, "working", done=done, of=3)
        wait_for(lambda done=done: (done, 3) in asking.progress, DEADLINE_S)
    answer(writer, "another", "failed", error="not ours")
    answer(writer, asking.wish, "done", spans=5)
    assert asking.wait() == {"spans": 5}
    assert wishes(state) == []


def test_a_refusal_is_an_error(state: StateDir, lock: Lock, open_writer: Callable[..., Writer]) -> None:
    writer = open_writer()
    asking = Asking(state)
    answer(writer, asking.wish, "failed", error="no such thing")
    found = asking.wait()
    assert isinstance(found, WishError)
    assert str(found) == "no such thing"
    assert wishes(state) == []


def test_a_relay_that_does_not_look_at_the_desk_is_named(
    state: StateDir, lock: Lock, open_writer: Callable[..., Writer]
) -> None:
    open_writer()
    with pytest.raises(WishError, match="the relay does not answer; `hermes-trace-tui stop`"):
        fulfil(state, "verify", {}, lend=never)
    assert wishes(state) == []


def test_a_desk_that_is_removed_is_said(
    state: StateDir, lock: Lock, open_writer: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEEN_S", DEADLINE_S)
    open_writer()
    asking = Asking(state)
    state.desk.unlink()
    assert "was removed while this waited" in str(asking.wait())


def test_a_lent_relay_that_ends_is_replaced_for_a_while(state: StateDir) -> None:
    lent: list[str] = []

    @contextmanager
    def lend() -> Iterator[Running]:
        lent.extend(wishes(state))  # it lies there before any relay starts
        yield Running(1)

    with pytest.raises(RelayGone, match="ended before it answered"):
        fulfil(state, "verify", {}, lend=lend)
    assert len(lent) == 3
    assert len(set(lent)) == 1
    assert wishes(state) == []


def test_a_relay_that_does_not_start_leaves_no_wish(state: StateDir) -> None:
    @contextmanager
    def lend() -> Iterator[Running]:
        raise LaunchError("no address")
        yield  # type: ignore[unreachable]

    with pytest.raises(LaunchError, match="no address"):
        fulfil(state, "verify", {}, lend=lend)
    assert wishes(state) == []


@pytest.mark.parametrize("noise", [False, True])
def test_a_journal_that_is_replaced_meanwhile_is_followed(
    state: StateDir,
    lock: Lock,
    open_writer: Callable[..., Writer],
    monkeypatch: pytest.MonkeyPatch,
    noise: bool,
) -> None:
    monkeypatch.setattr(module, "_SEEN_S", DEADLINE_S)
    writer = open_writer()
    asking = Asking(state)
    answer(writer, asking.wish, "working", done=1, of=9)
    wait_for(lambda: asking.progress, DEADLINE_S)
    writer.close()
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (state.path / name).unlink(missing_ok=True)
    if noise:
        state.journal.write_bytes(b"noise" * 5000)
        asked = threading.Event()
        asked.wait(0.05)  # it looks ten times meanwhile
        state.journal.unlink()
    writer = open_writer()
    answer(writer, asking.wish, "done", spans=2)
    assert asking.wait() == {"spans": 2}

"""A Hermes that commits what it is told to, in a process of its own: SQLite's locks are a process'."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from tests.processes import DEADLINE_S
from tests.state_player import StateEvent, StatePlayer

_SPAWN = multiprocessing.get_context("spawn")


class HermesProcess:
    """`begin` in a home, `commit` rows, `end`; as often as you like."""

    def __init__(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, home: Path) -> None:
        self._ask(home)

    def commit(self, event: StateEvent) -> None:
        """Returns once it is committed."""
        self._ask(event)

    def end(self) -> None:
        """Close the database, as a Hermes that ends does."""
        self._ask(None)

    def close(self) -> None:
        self._process.kill()
        self._process.join(DEADLINE_S)

    def _ask(self, what: Path | StateEvent | None) -> None:
        self._pipe.send(what)
        self._pipe.recv()


def _work(pipe: Connection) -> None:
    player: StatePlayer | None = None
    while True:
        try:
            what = pipe.recv()
        except EOFError:
            return
        if isinstance(what, StateEvent):
            assert player is not None
            player.step(what)
        else:
            if player is not None:
                player.close()
            player = StatePlayer(what) if what is not None else None
        pipe.send(None)


@contextmanager
def hermes_process() -> Iterator[HermesProcess]:
    hermes = HermesProcess()
    try:
        yield hermes
    finally:
        hermes.close()

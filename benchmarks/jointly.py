"""Recordings played in a process of its own as Hermes and its plugin wrote them: rows and spans together."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from common import SPAWN, Sender

from hermes_tui.relay.replay import Recorded
from tests.joint import Event, at_s, brought_to, renewed
from tests.state_player import StateEvent, StatePlayer
from tests.support import wire_spans_in

WORD = re.compile(r"\bQ\d{5}\b")
"""What `marked` puts before each prompt and command."""

_PLAIN = re.compile(r"(?:(?!  )[ !#-\[\]-~]){4,60}")  # looks the same in a text and in any JSON text
_LEAD_S = 1.0  # between preparing a recording and its first event


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that has to appear: the event that commits it, and the request that tells the same."""

    kind: str
    word: str
    commit: int
    told: int | None


class Words:
    """A new word for each text; fixed in length, so that none is another's beginning."""

    def __init__(self) -> None:
        self._count = 0

    def take(self) -> str:
        self._count += 1
        return f"Q{self._count:05}"


def marked(
    events: Sequence[Event], words: Words, salt: str, first: int, sessions: str | None = None
) -> tuple[list[Event], list[Mark]]:
    """The events with new ids and a word before each prompt and command, and where the words appear.

    The other parameters are those of `tests.joint.renewed`.
    """
    beginnings = [found for text in _texts(events) if (found := _PLAIN.match(text))]
    unlike = {each[0] for each in beginnings if sum(each[0] == other[0] for other in beginnings) == 1}
    said = {each: words.take() for each in sorted(unlike)}
    before = {each: f"{word} {each}" for each, word in said.items()}
    changed = renewed(events, salt, sessions=sessions, words=before, first=first)
    return changed, list(_marks(changed))


def _texts(events: Sequence[Event]) -> Iterator[str]:
    """Prompts and commands."""
    for event in events:
        if isinstance(event, StateEvent) and event.row.get("role") == "user":
            yield event.row["content"]
        yield from (command for _, command in _commands(event))


def _commands(event: Event) -> list[tuple[str, str]]:
    """(id, command) of the calls in an assistant's row."""
    if not isinstance(event, StateEvent) or not event.row.get("tool_calls"):
        return []
    calls = [
        (each["id"], json.loads(each["function"]["arguments"]))
        for each in json.loads(event.row["tool_calls"])
    ]
    return [(name, arguments["command"]) for name, arguments in calls if "command" in arguments]


def _marks(events: Sequence[Event]) -> Iterator[Mark]:
    told, ended = _first_requests(events)
    calls: dict[str, str] = {}
    for number, event in enumerate(events):
        if not isinstance(event, StateEvent) or event.table != "messages":
            continue
        if event.row["role"] == "user" and (word := WORD.match(event.row["content"])):
            yield Mark("prompt", word[0], number, told.get(word[0]))
        for call, command in _commands(event):
            if word := WORD.match(command):
                calls[call] = word[0]
                yield Mark("call", word[0], number, told.get(word[0]))
        if found := calls.get(event.row.get("tool_call_id") or ""):
            yield Mark("result", found, number, ended.get(found))


def _first_requests(events: Sequence[Event]) -> tuple[dict[str, int], dict[str, int]]:
    """For each word the first request that holds it, and the first with the tool's own span."""
    told: dict[str, int] = {}
    ended: dict[str, int] = {}
    for number, event in enumerate(events):
        for span in wire_spans_in(event.body) if isinstance(event, Recorded) else ():
            for word in WORD.findall(str(span)):
                told.setdefault(word, number)
                if span.name.startswith("tool."):
                    ended.setdefault(word, number)
    return told, ended


class Player:
    """Commits and sends as Hermes and its plugin do, in a process of its own."""

    def __init__(self, home: Path, address: str, journal_mode: str) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_play, args=(theirs, home, address, journal_mode), daemon=True)
        self._process.start()
        theirs.close()

    def play(self, events: Sequence[Event]) -> None:
        """From now on at their own pace; `pipe` then gives the times."""
        self.pipe.send((events, 1.0, time.time() + _LEAD_S))

    def put(self, events: Sequence[Event], begin_s: float) -> None:
        """All at once, as if it had happened from `begin_s` on (seconds since the epoch)."""
        self.pipe.send((events, 0.0, begin_s))
        self.pipe.recv()

    def close(self) -> None:
        self._process.terminate()
        self._process.join(10)


Times = dict[int, tuple[float, float]]
"""`time.monotonic` before and after each event."""


def _play(pipe: Connection, home: Path, address: str, journal_mode: str) -> None:
    player, sender = StatePlayer(home, journal_mode=journal_mode), Sender(address)
    while True:
        try:
            events, pace, begin_s = pipe.recv()
        except EOFError:
            return
        begin = time.monotonic() + begin_s - time.time()
        moved = brought_to(events, begin_s)
        times: Times = {}
        # Hermes' exporter has a thread of its own: a slow answer delays no commit.
        with ThreadPoolExecutor(1) as exporter:
            sent = exporter.submit(_send, sender, moved, begin, pace, times)
            _commit(player, moved, begin, pace, times)
            sent.result()
        pipe.send(times)


def _commit(player: StatePlayer, events: Sequence[Event], begin: float, pace: float, times: Times) -> None:
    for number, event in enumerate(events):
        if isinstance(event, StateEvent):
            _until(begin + at_s(event), pace)
            before = time.monotonic()
            player.step(event)
            times[number] = before, time.monotonic()


def _send(sender: Sender, events: Sequence[Event], begin: float, pace: float, times: Times) -> None:
    for number, event in enumerate(events):
        if isinstance(event, Recorded):
            _until(begin + at_s(event), pace)
            before = time.monotonic()
            if (status := sender.post(event.body)) != 200:
                raise RuntimeError(f"the relay answered {status}")
            times[number] = before, time.monotonic()


def _until(moment: float, pace: float) -> None:
    time.sleep(max(0.0, pace * (moment - time.monotonic())))

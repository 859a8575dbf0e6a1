"""How soon the pane shows what Hermes does: from the commit in its state.db to the row on the screen.

Plays recordings at their own pace, moved to the present and with new ids: a process commits the rows that
Hermes committed to a `state.db` and sends the spans that its plugin sent to a real relay, each when it
happened. Two real panes look on, each in a pseudo-terminal: one sees that `state.db`, the other only the
spans. What they write is kept with the time at which it came, and drawn by pyte afterwards, so that
drawing takes no time from the panes.

Every command and prompt begins with a word of its own. Measured in ms from the moment before the commit:
a tool call to its command on the screen, a result to the mark of how it ended, a prompt to its row; for the
spans also to the answer to the request that told the same first.

    python benchmarks/liveness.py [--rounds 3] [--size 60x20] [--check]     # 45 s a round
    python benchmarks/liveness.py --recording thirty_steps --history 150    # in a session of 4,650 calls
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil
import pyte
from common import cpu_s, quantile
from jointly import WORD, Mark, Player, Times, Words, marked
from terminal import Pty

from hermes_tui.journal.files import StateDir
from tests.joint import at_s, joint_events, renewed
from tests.processes import clean_environment, relays
from tests.state_player import state_names

RECORDINGS = ("thirty_steps", "v123_turns", "v123_parallel", "three_turns")
KINDS = ("call", "result", "prompt")
AIM_MS = 250.0  # of the 95th percentile of each kind, in the pane that sees state.db
READY_S = 2.0  # without a byte: the pane has opened, or has shown all it knows
PAUSE_S = 60.0  # between two turns that happened before
AFTER_S = 10.0  # that a round waits for the pane to fall silent

_HEADING = 3  # lines of the screen above the rows; a title may hold a prompt
_ENDED = re.compile(r"\d[smhd]?\s{1,9}[✓✗&]")  # behind the time, in the column of ten cells


# ------------------------------------------------------------------------------------ what is seen


@dataclass(slots=True)
class Screen:
    """A pane, what it wrote and when, and the screen that shows it."""

    pane: Pty
    size: tuple[int, int]
    film: list[tuple[float, bytes]] = field(default_factory=list)
    _screen: pyte.Screen = field(init=False)
    _stream: pyte.ByteStream = field(init=False)

    def __post_init__(self) -> None:
        self._screen = pyte.Screen(*self.size)
        self._stream = pyte.ByteStream(self._screen)

    def record(self) -> None:
        """Keep what it has written, with the time at which it came."""
        data = self.pane.take(0)
        now = time.monotonic()
        if not data:
            raise RuntimeError(f"a pane ended; its screen:\n{self.develop() or self.text}")
        self.film.append((now, data))

    def develop(self) -> dict[tuple[str, bool], float]:
        """Draw what was kept: when each word was on the screen first, and first with how it ended."""
        seen: dict[tuple[str, bool], float] = {}
        for at, data in self.film:
            self._screen.dirty.clear()
            self._stream.feed(data)
            for y in self._screen.dirty:
                if y >= _HEADING:
                    self._look(self._line(y), at, seen)
        self.film.clear()
        return seen

    @staticmethod
    def _look(line: str, at: float, seen: dict[tuple[str, bool], float]) -> None:
        for word in WORD.finditer(line):
            seen.setdefault((word[0], False), at)
            if _ENDED.search(line, word.end()):
                seen.setdefault((word[0], True), at)

    def _line(self, y: int) -> str:
        cells = self._screen.buffer[y]
        return "".join(cells[x].data for x in range(self.size[0]))

    @property
    def text(self) -> str:
        return "\n".join(self._screen.display)


def watch(screens: Sequence[Screen], pipe: Connection | None = None) -> Times:
    """Keep what the panes write until the player is through and they are silent."""
    times: Times = {}
    end = None if pipe is not None else time.monotonic() + AFTER_S
    while True:
        panes = {screen.pane: screen for screen in screens}
        left = READY_S if end is None else min(READY_S, end - time.monotonic())
        ready = wait([*panes, *([pipe] if pipe is not None else [])], max(0.0, left))
        if end is not None and not ready:
            return times
        for each in ready:
            if each is pipe:
                assert pipe is not None
                times, pipe = pipe.recv(), None
                end = time.monotonic() + AFTER_S
            else:
                panes[each].record()


# ------------------------------------------------------------------------------------ figures


@dataclass(frozen=True, slots=True)
class Sight:
    """One mark: ms from its commit until it was on each screen and the relay had its span; None: never."""

    kind: str
    records: float | None
    answered: float | None
    spans: float | None


def sights(marks: Sequence[Mark], times: Times, screens: Sequence[Screen]) -> list[Sight]:
    here, there = (screen.develop() for screen in screens)
    found = []
    for mark in marks:
        begin, key = times[mark.commit][0], (mark.word, mark.kind == "result")
        moments = here.get(key), None if mark.told is None else times[mark.told][1], there.get(key)
        found.append(Sight(mark.kind, *(None if at is None else (at - begin) * 1000 for at in moments)))
    return found


def figures(values: Sequence[float | None]) -> dict[str, float]:
    known = [value for value in values if value is not None]
    if not known:
        return {"n": 0, "not_seen": len(values)}
    return {
        "n": len(known), "not_seen": len(values) - len(known), "p50": statistics.median(known),
        "p95": quantile(known, 0.95), "max": max(known),
    }  # fmt: skip


def summary(found: Sequence[Sight]) -> dict[str, Any]:
    """Everything this benchmark tells of each kind."""
    document: dict[str, Any] = {}
    for kind in KINDS:
        own = [each for each in found if each.kind == kind]
        parts = {
            name: figures([getattr(each, name) for each in own]) for name in ("records", "answered", "spans")
        }
        ratios = {
            name: parts["spans"][name] / parts["records"][name]
            for name in ("p50", "p95")
            if name in parts["spans"] and parts["records"].get(name)
        }
        records = parts["records"]
        met = bool(records["n"]) and not records["not_seen"] and records["p95"] <= AIM_MS
        document[kind] = {**parts, "ratios": ratios, "met": met}
    late = [
        each.spans - each.answered for each in found if each.spans is not None and each.answered is not None
    ]
    document["relay"] = figures(late)
    return document


# ------------------------------------------------------------------------------------ measuring


@contextmanager
def stage(
    folder: Path, size: tuple[int, int], journal_mode: str, prepare: Callable[[Player], None]
) -> Iterator[tuple[Player, list[Screen]]]:
    """A relay, a player and two panes: one sees Hermes' records, the other does not."""
    home, state = folder / "home", StateDir(folder / "state")
    command = [sys.executable, "-m", "hermes_tui", "--state-dir", str(state.path)]
    with relays(folder) as start:
        player = Player(home, start(state).url, journal_mode)
        panes: list[Pty] = []
        try:
            prepare(player)
            for sees in ("true", "false"):
                environment = clean_environment(HERMES_HOME=str(home), HERMES_TRACE_WATCH_HERMES=sees)
                panes.append(Pty(command, size=size, environment=environment))
            screens = [Screen(pane, size) for pane in panes]
            watch(screens)
            yield player, screens
        finally:
            for pane in panes:
                pane.close()
            player.close()


def measure(
    folder: Path, rounds: int, names: Sequence[str], size: tuple[int, int], history: int, journal_mode: str
) -> dict[str, Any]:
    """All rounds, as one document. `history`: the sessions have so many copies behind them already."""
    load = os.getloadavg()[0]
    words, first, found = Words(), 1, list[Sight]()

    def prepare(player: Player) -> None:
        nonlocal first
        for name in names if history else ():
            first = put_history(player, name, history, first)

    with stage(folder, size, journal_mode, prepare) as (player, screens):
        used = [cpu_s(each) for each in map(_process, screens)]
        began = time.monotonic()
        for number in range(rounds):
            for name in names:
                salt = f"round {number}"
                again = name if history else None
                events, marks = marked(joint_events(name), words, salt, first, again)
                first += len(events)
                for screen in screens:
                    screen.develop()
                player.play(events)
                found += sights(marks, watch(screens, player.pipe), screens)
                print(f"{salt}: {name}", file=sys.stderr)
        lasted = time.monotonic() - began
        shares = [
            (cpu_s(_process(each)) - before) / lasted for each, before in zip(screens, used, strict=True)
        ]
        memory = [_process(each).memory_info().rss / 2**20 for each in screens]
    sides = ("records", "spans")
    return {
        "recordings": list(names), "rounds": rounds, "history": history, "size": list(size),
        "journal_mode": journal_mode,
        "cpus": os.cpu_count(), "load": load, "cpu": dict(zip(sides, shares, strict=True)),
        "memory_mb": dict(zip(sides, memory, strict=True)), **summary(found),
    }  # fmt: skip


def put_history(player: Player, name: str, copies: int, first: int) -> int:
    """Let a recording have happened so often in one session; the next message's number."""
    events = joint_events(name)
    lasts_s = at_s(events[-1]) + PAUSE_S
    for number in range(copies):
        older = renewed(events, f"before {number}", sessions=name, first=first)
        first += len(older)
        player.put(older, time.time() - (copies - number) * lasts_s)
    return first


def _process(screen: Screen) -> psutil.Process:
    return psutil.Process(screen.pane.process.pid)


def show(document: dict[str, Any]) -> str:
    columns, rows = document["size"]
    lines = [
        f"{document['cpus']} cores, load {document['load']:.1f} before the start; {columns}x{rows}; "
        f"journal_mode={document['journal_mode']}; "
        f"{document['rounds']} x {', '.join(document['recordings'])}"
        + (f", after {document['history']} copies of each in its session" if document["history"] else ""),
        "",
        f"{'ms after the':<16}{'on the screen with state.db':>28}  {'answer to the span':>28}  "
        f"{'on the screen without':>28}  {'without / with':>16}",
        f"{'commit':<16}" + f"{'n':>5}{'p50':>7}{'p95':>8}{'max':>8}  " * 3 + f"{'p50':>8}{'p95':>8}",
    ]
    for kind in KINDS:
        each = document[kind]
        parts = "".join(_columns(each[name]) for name in ("records", "answered", "spans"))
        ratios = "".join(f"{each['ratios'].get(name, math.nan):>8.1f}" for name in ("p50", "p95"))
        lines.append(f"{kind:<16}{parts}{ratios}")
    shares, memory = document["cpu"], document["memory_mb"]
    lines += [
        "",
        f"From the answer to a span's POST to its row: {_words(document['relay'])}.",
        f"Of a core used by the pane with state.db {shares['records']:.1%}, by the one without "
        f"{shares['spans']:.1%}; memory {memory['records']:.0f} and {memory['spans']:.0f} MB.",
        "",
    ]
    for kind in KINDS:
        records = document[kind]["records"]
        verdict = "met" if document[kind]["met"] else "MISSED"
        lines.append(f"{kind}: {_words(records)}; aim: p95 at most {AIM_MS:.0f}, all seen: {verdict}")
    return "\n".join(lines)


def _columns(part: dict[str, float]) -> str:
    if not part["n"]:
        return f"{0:>5}{'not seen':>23}  "
    return f"{part['n']:>5}{part['p50']:>7,.0f}{part['p95']:>8,.0f}{part['max']:>8,.0f}  "


def _words(part: dict[str, float]) -> str:
    missing = f", {part['not_seen']} not seen" if part["not_seen"] else ""
    if not part["n"]:
        return f"none of {part['not_seen']} seen"
    return f"p50 {part['p50']:.0f}, p95 {part['p95']:.0f}, max {part['max']:.0f} ms (n {part['n']}{missing})"


def _size(text: str) -> tuple[int, int]:
    columns, _, rows = text.partition("x")
    return int(columns), int(rows)


def main() -> None:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of all recordings (default 3)")
    parser.add_argument("--size", type=_size, default=(60, 20), metavar="WxH", help="of the panes (60x20)")
    parser.add_argument(
        "--recording", action="append", choices=state_names(), metavar="NAME",
        help=f"play this one; may be given several times (default {', '.join(RECORDINGS)})",
    )  # fmt: skip
    parser.add_argument(
        "--history", type=int, default=0, metavar="N",
        help="begin with N copies of each recording in its session, so that sessions are long (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--journal-mode", choices=["wal", "delete"], default="wal",
        help="of the state.db: newer Hermes makes it without a WAL where SQLite is old (default wal)",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="exit 1 when an aim is missed")
    parser.add_argument("--json", action="store_true", help="print one line of JSON after the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="liveness-"))
    try:
        names = options.recording or RECORDINGS
        document = measure(folder, options.rounds, names, options.size, options.history, options.journal_mode)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(show(document))
    if options.json:
        print(json.dumps(document))
    if options.check and not all(document[kind]["met"] for kind in KINDS):
        sys.exit(1)


if __name__ == "__main__":
    main()

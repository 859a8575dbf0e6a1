"""Does Hermes notice that its state.db is read: commits at full speed with the reader and without, in turns.

One process writes to a `state.db` as Hermes does, as fast as it can, and prunes, VACUUMs, closes and opens
it every few seconds; in WAL mode, and without, as newer versions do where SQLite is older than 3.51.3.
Another polls it as the pane does, and asks for whole results as its details view does: for a slice of
time, then not for one. Printed are the commits in both, their ratios, and the same ratios between
halves of the slices without a reader: how much of a difference is noise.

    python benchmarks/hammer.py [--minutes 3] [--slice 5] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import quantile

from tests.hermes.hammer import Read, Written, hammering, looking

MODES = ("wal", "delete")
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
TEND_S = 3.0  # between two times that the writer looks after its file
REST_S = 0.5  # after a reader left or came, before commits are counted again
LOG_BYTES = 64 * 1024 * 1024


@dataclass
class Slices:
    """Stretches of `time.monotonic` in which commits count, and what the readers in them saw."""

    alone: list[tuple[float, float]] = field(default_factory=list)
    read: list[tuple[float, float]] = field(default_factory=list)
    looks: list[Read] = field(default_factory=list)


def measure(folder: Path, journal_mode: str, seconds: float, slice_s: float) -> dict[str, Any]:
    """Slices in turns for so long, the last of them with a reader until it has seen every row."""
    home, slices = folder / journal_mode, Slices()
    end = time.monotonic() + seconds
    with hammering(home, journal_mode, TEND_S) as hammer:
        while time.monotonic() < end:
            slices.alone.append(_slice(slice_s))
            with looking(home) as looker:
                slices.read.append(_slice(slice_s))
                last = time.monotonic() >= end
                written = hammer.stop() if last else None
                slices.looks.append(looker.stop(written.rows if written is not None else 0))
    assert written is not None
    return document(journal_mode, written, slices)


def _slice(seconds: float) -> tuple[float, float]:
    time.sleep(REST_S)
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic()


def document(journal_mode: str, written: Written, slices: Slices) -> dict[str, Any]:
    alone, read = _figures(written, slices.alone), _figures(written, slices.read)
    halves = [_figures(written, slices.alone[start::2]) for start in (0, 1)]
    missing = [_missing(look) for look in slices.looks]
    if written.rows not in slices.looks[-1].ids:
        missing[-1] += 1
    return {
        "journal_mode": journal_mode, "alone": alone, "read": read, "ratios": _ratios(read, alone),
        "noise": _ratios(*halves) if len(slices.alone) > 1 else {}, "commits": written.rows,
        "busy": written.busy, "held_up": written.held_up, "log_mb": written.log_bytes / 2**20,
        "rows_seen": sum(len(look.ids) for look in slices.looks), "rows_missed": sum(missing),
        "trouble": sorted({each for look in slices.looks for each in look.trouble}),
        "polls": sum(look.polls for look in slices.looks),
        "asked": sum(look.asked for look in slices.looks), "told": sum(look.told for look in slices.looks),
        "reader_cpu": max(look.cpu for look in slices.looks),
    }  # fmt: skip


def _missing(look: Read) -> int:
    """How many ids it saw no row of, among those from its first to its last."""
    return max(look.ids, default=0) - min(look.ids, default=1) + 1 - len(look.ids)


def _figures(written: Written, slices: Sequence[tuple[float, float]]) -> dict[str, float]:
    took = [took * 1000 for begin, end in slices for at, took in written.commits if begin <= at < end]
    if not took:
        return {}
    lasted = sum(end - begin for begin, end in slices)
    return {"per_s": len(took) / lasted, **{name: quantile(took, share) for name, share in SHARES.items()}}


def _ratios(some: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: some[name] / other[name] for name in some if other.get(name)}


def show(found: dict[str, Any]) -> str:
    names = ("per_s", *SHARES)
    lines = [
        f"journal_mode={found['journal_mode']}: {found['commits']:,} commits, at once after each other; ms",
        f"{'':<22}" + "".join(f"{name.replace('per_s', 'commits/s'):>11}" for name in names),
    ]
    for title, key in (("without a reader", "alone"), ("with a reader", "read")):
        lines.append(f"{title:<22}" + "".join(f"{found[key][name]:>11.3f}" for name in names))
    for title, key in (("with / without", "ratios"), ("without / without", "noise")):
        if found[key]:
            lines.append(f"{title:<22}" + "".join(f"{found[key][name]:>11.2f}" for name in names))
    trouble = f"; the reader said: {'; '.join(found['trouble'])}" if found["trouble"] else ""
    return "\n".join([
        *lines,
        f"errors 'busy' {found['busy']}, checkpoints held up {found['held_up']}, largest WAL "
        f"{found['log_mb']:.1f} MB",
        f"the reader polled {found['polls']:,} times, saw {found['rows_seen']:,} rows, missed "
        f"{found['rows_missed']:,}, used up to {found['reader_cpu']:.1%} of a core{trouble}",
        f"and got {found['told']:,} of {found['asked']:,} whole results that it asked for",
    ])  # fmt: skip


def well(found: dict[str, Any]) -> bool:
    """Whether Hermes noticed nothing that is an error, and the reader missed nothing."""
    nothing = ("busy", "held_up", "rows_missed")
    locked = all(each.endswith("is locked by another program") for each in found["trouble"])
    return locked and not any(found[name] for name in nothing) and found["log_mb"] * 2**20 <= LOG_BYTES


def main() -> None:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, metavar="N", help="in all (default 3)")
    parser.add_argument("--slice", type=float, default=5.0, metavar="S", help="seconds of one (default 5)")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 on an error, a starved WAL or a lost row"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON after the tables")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hammer-"))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    try:
        seconds = options.minutes * 60 / len(MODES)
        documents = [measure(folder, mode, seconds, options.slice) for mode in MODES]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(f"\n{show(found)}" for found in documents))
    if options.json:
        print(json.dumps(documents))
    if options.check and not all(map(well, documents)):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Where Hermes keeps its files: its home and the profiles in it (Hermes `hermes_constants.py`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

DEFAULT = "default"
_DELETED = ".deleted"  # marks of profiles that were taken away, whose folders may linger


class Home(msgspec.Struct, frozen=True):
    """A Hermes home or one of its profiles; `name` is what to call it, and unlike any other's."""

    name: str
    path: Path

    @property
    def state_db(self) -> Path:
        return self.path / "state.db"

    @property
    def processes(self) -> Path:
        return self.path / "processes.json"

    @property
    def active_sessions(self) -> Path:
        return self.path / "runtime" / "active_sessions.json"


def root(environment: Mapping[str, str] | None = None) -> Path:
    """The home that holds the profiles: $HERMES_HOME, or what is above it when it names a profile."""
    environment = os.environ if environment is None else environment
    named = environment.get("HERMES_HOME", "").strip()
    if not named:
        return Path.home() / ".hermes"
    path = Path(named).expanduser()
    return path.parent.parent if path.parent.name == "profiles" else path


def homes(more: Iterable[str | Path] = (), environment: Mapping[str, str] | None = None) -> list[Home]:
    """The user's home with all its profiles, and those of `more` homes; each folder once.

    Folders need not exist yet. Costs a few system calls.
    """
    found: dict[Path, Home] = {}
    names: set[str] = set()
    for base in (root(environment), *(Path(each).expanduser() for each in more)):
        for name, path in ((DEFAULT, base), *_profiles(base)):
            place = Path(os.path.abspath(path))
            if place in found:
                continue
            unlike = name if name not in names else f"{base.name or base}/{name}"
            if unlike in names:
                unlike = f"{base}/{name}"
            names.add(unlike)
            found[place] = Home(unlike, place)
    return list(found.values())


def _profiles(base: Path) -> list[tuple[str, Path]]:
    folder = base / "profiles"
    try:
        with os.scandir(folder) as entries:
            names = sorted(each.name for each in entries if not each.name.startswith(".") and each.is_dir())
    except OSError:
        return []
    return [(name, folder / name) for name in names if not (folder / _DELETED / name).exists()]

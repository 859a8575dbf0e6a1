"""Where hermes-otel looks for its configuration, and which file it takes.

Read in the plugin's `plugin_config.py`: versions up to 0.11 know one place and no variable; later ones
take HERMES_OTEL_CONFIG, else `hermes_otel.yaml` in Hermes' home, else the plugin folder's `config.yaml`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hermes_tui.hermes.dotenv import Environment
from hermes_tui.hermes.home import Home

VARIABLE = "HERMES_OTEL_CONFIG"
DURABLE = "hermes_otel.yaml"
_FOLDERS = ("hermes_otel", "hermes-otel")
_VERSION = re.compile(r"""^version:\s*["']?([^"'\s#]+)""", re.MULTILINE)


class Rules(Enum):
    """Which of the plugin's two ways of finding its configuration holds."""

    OLD = "0.11 and older"
    NEW = "1.x"


@dataclass(frozen=True, slots=True)
class Plugin:
    """hermes-otel as it lies in a home. `version` is as it says itself; None when it does not.

    `expands`: `${NAME}` in its file is replaced; `knows_mlflow`: it has backends of type mlflow.
    """

    folder: Path
    version: str | None
    rules: Rules
    expands: bool
    knows_mlflow: bool


@dataclass(frozen=True, slots=True)
class Place:
    """One file that hermes-otel could read. `why` says in a sentence why it is taken or ignored."""

    path: Path
    rule: str
    exists: bool
    wins: bool
    why: str


def installed(home: Home) -> Plugin | None:
    """The plugin in this home's folder, judged by its source: every version up to 0.11 calls itself 1.0."""
    for name in _FOLDERS:
        folder = home.path / "plugins" / name
        if not folder.is_dir():
            continue
        source = _text(folder / "plugin_config.py")
        if not source and not (folder / "plugin.yaml").is_file():
            continue  # a folder that holds nothing but a configuration
        new = VARIABLE in source or not source
        return Plugin(
            folder,
            _version(folder),
            Rules.NEW if new else Rules.OLD,
            expands="expand_env_refs" in source or not source,
            knows_mlflow="_resolve_mlflow" in _text(folder / "backends.py") or not source,
        )
    return None


def places(home: Home, environment: Mapping[str, str], rules: Rules) -> tuple[Place, ...]:
    """Every file that any version could read, the strongest first; at most one wins.

    `environment` is Hermes' own, `.env` included (see `dotenv.of_home`). Files need not exist.
    """
    user_home = Path(environment.get("HOME") or Path.home())
    durable = home.path / DURABLE
    folder = home.path / "plugins" / "hermes_otel" / "config.yaml"
    fixed = user_home / ".hermes" / "plugins" / "hermes_otel" / "config.yaml"
    named = Environment(environment).text(VARIABLE)
    if rules is Rules.OLD:
        return _old(Path(named).expanduser() if named else None, durable, folder, fixed)
    found: list[Place] = []
    winner: str | None = None
    if named:
        path = Path(named).expanduser()
        exists = path.is_file()
        why = f"{VARIABLE} names it, which is stronger than any other place"
        if not exists:
            why = f"{VARIABLE} names it, but there is no such file: hermes-otel reads nothing else instead"
        found.append(Place(path, VARIABLE, exists, True, why))
        winner = VARIABLE
    for path, rule in ((durable, f"$HERMES_HOME/{DURABLE}"), (folder, "the plugin's own folder")):
        exists, wins = path.is_file(), False
        if winner is not None:
            why = f"ignored: {winner} is stronger" if exists else "there is no such file"
        elif exists:
            wins, winner = True, rule
            why = "it is the strongest file that exists"
        else:
            why = "there is no such file"
        found.append(Place(path, rule, exists, wins, why))
    if not _same(fixed, folder):
        exists = fixed.is_file()
        why = f"ignored: Hermes' home is {home.path}; only versions up to 0.11 look here"
        found.append(Place(fixed, "~/.hermes", exists, False, why if exists else "there is no such file"))
    return tuple(found)


def best_place(home: Home, environment: Mapping[str, str], rules: Rules) -> Path:
    """Where a new configuration belongs: where it is read, and where a reinstallation leaves it alone."""
    for place in places(home, environment, rules):
        if place.wins or (rules is Rules.NEW and place.rule.endswith(DURABLE)):
            return place.path
    return (
        Path(environment.get("HOME") or Path.home()) / ".hermes" / "plugins" / "hermes_otel" / "config.yaml"
    )


def _old(named: Path | None, durable: Path, folder: Path, fixed: Path) -> tuple[Place, ...]:
    exists = fixed.is_file()
    why = "the only place that versions up to 0.11 read, whatever HERMES_HOME says"
    found = [Place(fixed, "~/.hermes", exists, exists, why if exists else "there is no such file")]
    others = [(durable, f"$HERMES_HOME/{DURABLE}")]
    if named is not None:
        others.insert(0, (named, VARIABLE))
    if not _same(folder, fixed):
        others.append((folder, "the plugin's own folder"))
    for path, rule in others:
        ignored = (
            "ignored: versions up to 0.11 do not look here" if path.is_file() else "there is no such file"
        )
        found.append(Place(path, rule, path.is_file(), False, ignored))
    return tuple(found)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _version(folder: Path) -> str | None:
    """The release, as the plugin's releasing tool wrote it if that is there, else what plugin.yaml says."""
    try:
        release = json.loads(_text(folder / ".release-please-manifest.json") or "{}").get(".")
    except (ValueError, AttributeError):
        release = None
    if isinstance(release, str):
        return release
    match = _VERSION.search(_text(folder / "plugin.yaml"))
    return match[1] if match else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

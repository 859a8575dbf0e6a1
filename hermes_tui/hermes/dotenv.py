"""The environment that Hermes gives its plugins: the shell's, overridden by the home's `.env`.

Hermes reads the file with python-dotenv and lets it win over the shell (`hermes_cli/env_loader.py`).
Values are credentials more often than not: nothing here prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_LINE = re.compile(
    r"""[ \t]*(?:export[ \t]+)?
    (?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*
    (?: '(?P<single>(?:\\.|[^'\\])*)' | "(?P<double>(?:\\.|[^"\\])*)" | (?P<bare>[^\r\n]*) )""",
    re.VERBOSE | re.DOTALL,
)
_REFERENCE = re.compile(r"\$\{(?P<name>[^}:]+)(?::-(?P<default>[^}]*))?\}")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class Environment(Mapping[str, str]):
    """Names and values, as a mapping whose repr tells names only."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Environment({len(self)} names)"

    def text(self, name: str) -> str:
        """The value without white space around it; "" when there is none, as hermes-otel asks for it."""
        return self._values.get(name, "").strip()


def of_home(home: Path, environment: Mapping[str, str]) -> Environment:
    """What Hermes' plugins see in this home. An unreadable `.env` counts as none."""
    try:
        text = (home / ".env").read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        text = ""
    return Environment({**environment, **parse(text, environment)})


def parse(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The names that a `.env` file sets; `${NAME}` means an earlier line or the environment.

    A line that is not understood is passed over, as python-dotenv does.
    """
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _LINE.match(text, at)
        if match is not None:
            found[match["name"]] = _value(match, {**environment, **found})
            at = match.end()
        end = text.find("\n", at)
        at = len(text) if end < 0 else end + 1
    return found


def _value(match: re.Match[str], known: Mapping[str, str]) -> str:
    if (single := match["single"]) is not None:
        return re.sub(r"\\([\\'])", r"\1", single)  # never expanded
    if (double := match["double"]) is not None:
        text = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), double, flags=re.DOTALL)
    else:
        text = re.sub(r"(^|[ \t]+)#.*", "", match["bare"]).strip()
    return _REFERENCE.sub(lambda found: known.get(found["name"], found["default"] or ""), text)

"""What a call of a tool changed in a file, read from what it was given and what it answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import unified_diff
from itertools import islice
from typing import Any, NamedTuple

from hermes_tui.model.results import read_object

_COMPARED = 2_000  # lines of two texts that are compared; longer ones are told one after the other
_KEPT = 5_000  # lines of a change that are kept
_FILE = re.compile(r"^\*\*\* (?:Update|Add|Delete) File: (.+)$", re.MULTILINE)
_HEADS = ("---", "+++", "***", "diff ", "index ")


class Change(NamedTuple):
    """`lines` begin with "+", "-", " " or "@" as in a diff; `added` and `removed` count them."""

    path: str
    added: int
    removed: int
    lines: tuple[str, ...]
    error: str = ""


def read_change(arguments: str | None, result: str | None) -> Change:
    """What was changed, as far as that is known."""
    given, whole = read_object(arguments or "")
    got, _ = read_object(result or "")
    lines = tuple(islice(_lines(given, got), _KEPT))
    path = given.get("path", given.get("file_path"))
    patch = given.get("patch")
    if not isinstance(path, str) and isinstance(patch, str):
        path = ", ".join(dict.fromkeys(_FILE.findall(patch)))
    error = got.get("error")
    return Change(
        path if isinstance(path, str) else "",
        sum(line.startswith("+") for line in lines),
        sum(line.startswith("-") for line in lines),
        lines if whole or not lines else (*lines, " ..."),
        error if isinstance(error, str) else "",
    )


def _lines(given: dict[str, Any], got: dict[str, Any]) -> Iterator[str]:
    diff, patch = got.get("diff"), given.get("patch", given.get("diff"))
    old, new = given.get("old_string", given.get("old")), given.get("new_string", given.get("new"))
    content = given.get("content")
    if isinstance(diff, str) and diff.strip():
        yield from _of_diff(diff)
    elif isinstance(old, str) and isinstance(new, str):
        yield from _between(old.splitlines(), new.splitlines())
    elif isinstance(patch, str):
        yield from _of_diff(patch)
    elif isinstance(content, str):
        yield from (f"+{line}" for line in content.splitlines())


def _of_diff(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if not line.startswith(_HEADS))


def _between(old: list[str], new: list[str]) -> Iterator[str]:
    if len(old) + len(new) > _COMPARED:
        yield from (f"-{line}" for line in old)
        yield from (f"+{line}" for line in new)
        return
    yield from (line for line in islice(unified_diff(old, new, lineterm="", n=2), 2, None) if line[:1] != "@")

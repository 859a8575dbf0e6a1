"""Documents of names and values, laid over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def leaves(layer: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every value with its path; an empty document is a value, None is none."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, value in layer.items():
        path = (*above, str(name))
        if isinstance(value, dict) and value:
            found += leaves(value, path)
        elif value is not None:
            found.append((path, value))
    return found


def nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """The document that holds this value, at this path, and nothing else."""
    for name in reversed(path):
        value = {name: value}
    return dict(value)


def merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Lay `layer` over `into`: its values win, None leaves what is there."""
    for name, value in layer.items():
        if isinstance(value, dict):
            below = into.setdefault(str(name), {})
            if isinstance(below, dict):
                merge(below, value)
                continue
        if value is not None:
            into[str(name)] = value

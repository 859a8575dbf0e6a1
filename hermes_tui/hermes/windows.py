"""How large Hermes itself takes its models' contexts to be: what it was told, and what it noted.

Hermes `agent/model_metadata.py`: `context_length` in config.yaml (of the default model, or of a model of a
custom provider) goes before `context_length_cache.yaml`, where it notes each model's under "model@address".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hermes_tui.hermes.home import Home, homes
from hermes_tui.model.windows import Windows
from hermes_tui.settings import Settings

log = logging.getLogger(__name__)

_LARGEST_FILE = 1024 * 1024


def known(settings: Settings) -> Windows:
    """What the settings and, if they allow to look, Hermes' files say. Blocks as `noted` does."""
    return Windows(settings.windows, noted(homes(settings.hermes_homes)) if settings.watch_hermes else ())


def noted(homes: Iterable[Home]) -> tuple[tuple[str, int], ...]:
    """(model, tokens) as each home has it; files that are missing or no YAML say nothing. Blocks for some
    tens of milliseconds.
    """
    found: set[tuple[str, int]] = set()
    for home in homes:
        told = _told(_read(home.path / "config.yaml"))
        found.update(told)
        names = {name for name, _ in told}
        found.update(
            each for each in _cached(_read(home.path / "context_length_cache.yaml")) if each[0] not in names
        )
    return tuple(sorted(found))


def _told(config: dict[str, Any]) -> list[tuple[str, int]]:
    """What the user told Hermes."""
    found = []
    model = config.get("model")
    if isinstance(model, dict) and (tokens := _tokens(model.get("context_length"))):
        name = model.get("default") or model.get("name") or model.get("model")
        if isinstance(name, str):
            found.append((name, tokens))
    providers = config.get("custom_providers")
    for provider in providers if isinstance(providers, list) else ():
        models = provider.get("models") if isinstance(provider, dict) else None
        for name, said in models.items() if isinstance(models, dict) else ():
            if isinstance(said, dict) and (tokens := _tokens(said.get("context_length"))):
                found.append((str(name), tokens))
    return found


def _cached(document: dict[str, Any]) -> list[tuple[str, int]]:
    lengths = document.get("context_lengths")
    items = lengths.items() if isinstance(lengths, dict) else ()
    named = ((str(key).rpartition("@")[0] or str(key), _tokens(value)) for key, value in items)
    return [(name, tokens) for name, tokens in named if tokens]


def _tokens(value: object) -> int:
    """A plain number of tokens as Hermes takes it, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else 0


def _read(file: Path) -> dict[str, Any]:
    """A YAML file's mapping. What is in it is never logged: there are keys in Hermes' configuration."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST_FILE + 1)
    except OSError:
        return {}
    if len(text) > _LARGEST_FILE:
        log.warning("%s is too large to look for context lengths in", file)
        return {}
    import yaml  # only here: most panes never ask

    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        log.warning("%s is not valid YAML (%s)", file, type(error).__name__)
        return {}
    return document if isinstance(document, dict) else {}

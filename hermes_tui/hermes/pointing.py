"""Point hermes-otel at the relay: which backend is meant, and the text of its file afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hermes_tui.hermes import plugin_config, surgery
from hermes_tui.hermes.plugin_config import EXPERIMENT_HEADER, TRACES, Backend, Config, Reading
from hermes_tui.hermes.surgery import CannotEdit

RELAY = "hermes-trace-tui"
"""What the relay is called among the backends when it is a second one."""

ENOUGH_CHARS = 20_000
"""Of a tool's output that a span should hold: the exit code is behind the output, and is cut with it."""

_PAGE: Mapping[str, bool | int] = {
    "enabled": True,
    "force_flush_on_session_end": True,
    "capture_sender_id": True,
    "capture_conversation_history": True,
    "tool_output_preview_max_chars": ENOUGH_CHARS,  # versions that do not know it pass over it
}


class Unclear(Exception):
    """Several backends could be meant; or the one that was named is not there. `choices` are labels."""

    def __init__(self, why: str, choices: tuple[str, ...]) -> None:
        super().__init__(why)
        self.choices = choices


def choose(config: Config, wanted: str | None, host: str, port: int) -> Backend | None:
    """The backend that sends to MLflow, or to the relay already; None when there is none.

    `wanted` is a name, or a number that counts from 1. Raises Unclear.
    """
    sending = [each for each in config.backends if each.traces and each.endpoint is not None]
    labels = tuple(f"{each.index + 1}: {each.label}" for each in sending)
    if wanted is not None:
        named = [each for each in sending if wanted in (str(each.index + 1), each.name, each.type)]
        if len(named) != 1:
            how_many = "several backends are" if named else "no backend that sends traces is"
            raise Unclear(f"{how_many} called {wanted}", labels)
        return named[0]
    kinds = (
        [each for each in sending if plugin_config.aims_at(each.endpoint, host, port)],
        [each for each in sending if each.is_mlflow],
        [each for each in sending if each.may_be_mlflow],
    )
    for found in kinds:
        if len(found) > 1:
            raise Unclear("several backends could be meant", labels)
        if found:
            return found[0]
    return None


def point(reading: Reading, config: Config, backend: Backend, relay: str) -> str:
    """The file's text with this backend's endpoint leading to the relay, an address without a path.

    Raises CannotEdit when that would change anything else.
    """
    text = _text(config)
    url = relay if backend.type == "mlflow" else relay + TRACES
    edited = surgery.assign(text, ["backends", backend.index, "endpoint"], url, after="type")
    after = plugin_config.parse(config.path, edited, reading.environment, reading.plugin)
    same = [one for one, other in zip(config.backends, after.backends, strict=False) if one == other]
    if len(after.backends) != len(config.backends) or len(same) != len(config.backends) - 1:
        raise CannotEdit("another backend shares its endpoint")
    now = next(each for each in after.backends if each.index == backend.index)
    if now.endpoint != relay + TRACES or after.settings != config.settings:
        raise CannotEdit("hermes-otel would not read it as it is meant")
    return edited


def add(reading: Reading, config: Config, entry: Mapping[str, Any]) -> str:
    """The file's text with one more backend. Raises CannotEdit."""
    edited = surgery.append(_text(config), ["backends"], entry)
    after = plugin_config.parse(config.path, edited, reading.environment, reading.plugin)
    if after.backends[: len(config.backends)] != config.backends or after.settings != config.settings:
        raise CannotEdit("another backend would change with it")
    return edited


def entry(name: str, relay: str, experiment: str | None) -> dict[str, Any]:
    """A backend that sends traces to the relay, as MLflow's page writes it."""
    found: dict[str, Any] = {
        "type": "otlp",
        "name": name,
        "endpoint": relay + TRACES,
        "metrics": False,
        "logs": False,
    }
    return found if experiment is None else found | {"headers": {EXPERIMENT_HEADER: experiment}}


def minimal(entries: Sequence[Mapping[str, Any]]) -> str:
    """A whole configuration: that of MLflow's page, with exit codes and with these backends."""
    head = [f"{name}: {surgery.literal(value)}" for name, value in _PAGE.items()]
    listed = [line for each in entries for line in surgery.lines(each, "  ", "- ")]
    return "\n".join([*head, "", "backends:", *listed]) + "\n"


def to_paste(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines for a user whose file is not understood."""
    return ["backends:", *(line for each in entries for line in surgery.lines(each, "  ", "- "))]


def _text(config: Config) -> str:
    if config.marked is None:
        raise CannotEdit(config.problems[0].text)
    return config.marked.text

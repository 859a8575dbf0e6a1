"""What setup would change, worked out before anything is: the plugin's file, our settings, the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hermes_tui.hermes import plugin_config, plugin_places, pointing, rewriting, surgery
from hermes_tui.hermes.plugin_config import TRACES, Backend, Config, Reading
from hermes_tui.hermes.rewriting import Change
from hermes_tui.hermes.surgery import CannotEdit, Scalar


class Mode(Enum):
    """TEE: the plugin sends to the relay, which sends on. SIDE: the plugin sends to both."""

    TEE = "tee"
    SIDE = "side"


class Refused(Exception):
    """A file is left alone. `paste` are the lines that the user can write into it instead."""

    def __init__(self, path: Path, why: str, paste: Sequence[str]) -> None:
        super().__init__(f"{path} is left as it is: {why}")
        self.paste = tuple(paste)


@dataclass(frozen=True, slots=True)
class Relay:
    """Where the relay listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """What is there now: `config` None when there is no file yet at `path`.

    `backend` sends to MLflow, or to the relay already; `relay` is a second one that sends to the relay.
    """

    reading: Reading
    path: Path
    config: Config | None
    backend: Backend | None
    relay: Backend | None = None
    points_at_relay: bool = False

    @property
    def destination(self) -> str | None:
        """MLflow's address as the plugin has it, credentials included; None when it does not say."""
        if self.backend is None:
            return self.reading.environment.text("OTEL_MLFLOW_ENDPOINT").removesuffix(TRACES) or None
        return None if self.points_at_relay else self.backend.base


@dataclass(frozen=True, slots=True)
class Destination:
    """MLflow for the relay: a plain address, and what stood in it before an @."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> Destination:
        parts = urlsplit(url)
        if "@" not in parts.netloc:
            return cls(url.rstrip("/"))
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        return cls(plain, unquote(parts.username or ""), unquote(parts.password or ""))


def target(reading: Reading, relay: Relay, wanted: str | None, mode: Mode) -> Target:
    """Find what is to be changed. Raises Refused, pointing.Unclear."""
    winner = reading.winner
    path = winner.path if winner is not None else _new_place(reading)
    config = reading.config
    if config is None:
        return Target(reading, path, None, None)
    if not config.usable:
        problem = config.problems[0]
        where = f"line {problem.line}: " if problem.line else ""
        raise Refused(
            path, where + problem.text, pointing.to_paste([pointing.entry("mlflow", relay.url, "1")])
        )
    at_relay = [
        each for each in config.backends if plugin_config.aims_at(each.endpoint, relay.host, relay.port)
    ]
    beside = [each for each in at_relay if not each.is_mlflow]
    others = [each for each in config.backends if each not in at_relay and each.traces and each.is_mlflow]
    if mode is Mode.SIDE or (beside and others):
        if len(others) > 1 and wanted is None:
            labels = tuple(f"{each.index + 1}: {each.label}" for each in others)
            raise pointing.Unclear("several backends could be meant", labels)
        second = beside[0] if beside else None
        if others:
            named = pointing.choose(config, wanted, "", 0) if wanted is not None else others[0]
            return Target(reading, path, config, named, second)
    backend = pointing.choose(config, wanted, relay.host, relay.port)
    aims = backend is not None and plugin_config.aims_at(backend.endpoint, relay.host, relay.port)
    return Target(reading, path, config, backend, points_at_relay=aims)


def plugin_change(
    found: Target, relay: Relay, mode: Mode, mlflow: str, experiment: str | None
) -> Change | None:
    """The plugin's file; None when it is as it should be. `mlflow` and `experiment` are for a new backend.

    Raises Refused, CannotWrite.
    """
    before = rewriting.read(found.path)
    entries = _entries(found, relay, mode, mlflow, experiment)
    if found.config is None and before is None:
        return Change(found.path, None, pointing.minimal(entries).encode())
    config = found.config or plugin_config.read_file(found.path, found.reading.environment)
    try:
        text = _edited(found, config, relay, mode, entries)
    except CannotEdit as why:
        raise Refused(found.path, str(why), _advice(found, relay, mode, entries)) from why
    return None if text is None else Change(found.path, before, text.encode())


def settings_change(file: Path, wanted: Mapping[tuple[str, ...], Scalar]) -> Change | None:
    """Our own settings with these values; None when all of them are there. Raises Refused, CannotWrite."""
    before = rewriting.read(file)
    try:
        text = (before or b"").decode("utf-8")
        for path, value in wanted.items():
            text = surgery.assign(text, path, value)
    except (CannotEdit, UnicodeDecodeError) as why:
        raise Refused(file, str(why), _nested_lines(wanted)) from why
    after = text.encode()
    private = any(path[-1] == "password" for path in wanted)
    return None if after == (before or b"") else Change(file, before, after, private)


def gateway_change(reading: Reading, mlflow: str, endpoint: str) -> Change | None:
    """Hermes' own config.yaml with MLflow's AI Gateway as its model. Raises Refused, CannotWrite."""
    path = reading.home.path / "config.yaml"
    wanted: dict[tuple[str, ...], Scalar] = {
        ("model", "provider"): "custom",
        ("model", "base_url"): f"{mlflow}/gateway/mlflow/v1",
        ("model", "default"): endpoint,
    }
    return settings_change(path, wanted)


def _new_place(reading: Reading) -> Path:
    return plugin_places.best_place(reading.home, reading.environment, reading.rules)


def _entries(
    found: Target, relay: Relay, mode: Mode, mlflow: str, experiment: str | None
) -> list[dict[str, Any]]:
    """The backends that are to come in."""
    second = pointing.entry(pointing.RELAY, relay.url, None)
    if found.backend is not None:
        missing = mode is Mode.SIDE and found.relay is None and not found.points_at_relay
        return [second] if missing else []
    if mode is Mode.TEE:
        return [pointing.entry("mlflow", relay.url, experiment)]
    return [pointing.entry("mlflow", mlflow, experiment), second]


def _edited(
    found: Target, config: Config, relay: Relay, mode: Mode, entries: Sequence[Mapping[str, Any]]
) -> str | None:
    if mode is Mode.TEE and found.relay is not None:
        raise CannotEdit("a second backend sends to the relay (--mode side); undo that first")
    if mode is Mode.SIDE and found.points_at_relay:
        raise CannotEdit("its backend sends to the relay alone (--mode tee); undo that first")
    if found.backend is not None and mode is Mode.TEE:
        return (
            None if found.points_at_relay else pointing.point(found.reading, config, found.backend, relay.url)
        )
    text: str | None = None
    for entry in entries:
        text = pointing.add(found.reading, config, entry)
        config = plugin_config.parse(config.path, text, found.reading.environment, found.reading.plugin)
    return text


def _advice(found: Target, relay: Relay, mode: Mode, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if entries:
        return pointing.to_paste(entries)
    if found.backend is None or mode is Mode.SIDE or found.relay is not None:
        return []
    url = relay.url if found.backend.type == "mlflow" else relay.url + TRACES
    return [f"# backend {found.backend.index + 1}, line {found.backend.line}", f"    endpoint: {url}"]


def _nested_lines(wanted: Mapping[tuple[str, ...], Scalar]) -> list[str]:
    document: dict[str, Any] = {}
    for path, value in wanted.items():
        place = document
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return surgery.lines(document)

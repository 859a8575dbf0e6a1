"""hermes-otel's configuration as the plugin itself would read it: which file, which backends, which limits.

Nothing is changed here, nothing is asked over a network. Credentials are resolved, because the plugin
would send them, but they are in no repr and no problem's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hermes_tui.hermes import dotenv, marked_yaml, plugin_places
from hermes_tui.hermes.dotenv import Environment
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.marked_yaml import Marked, Spot
from hermes_tui.hermes.plugin_places import Place, Plugin, Rules

EXPERIMENT_HEADER = "x-mlflow-experiment-id"
TRACES = "/v1/traces"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SIGNAL_PATH = re.compile(r"/v1/(traces|metrics|logs)$")
_LARGEST = 4 * 1024 * 1024
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
SETTINGS: Mapping[str, tuple[type, Any]] = {
    "enabled": (bool, True),
    "sample_rate": (float, None),
    "content_capture": (str, None),
    "capture_previews": (bool, True),
    "capture_full_prompts": (bool, None),
    "capture_full_responses": (bool, None),
    "capture_conversation_history": (bool, False),
    "capture_sender_id": (bool, False),
    "capture_logs": (bool, False),
    "preview_max_chars": (int, 1200),
    "tool_input_preview_max_chars": (int, None),
    "tool_output_preview_max_chars": (int, None),
    "llm_input_preview_max_chars": (int, None),
    "llm_output_preview_max_chars": (int, None),
    "force_flush_on_session_end": (bool, True),
    "force_flush_wait_ms": (int, None),
    "root_span_ttl_ms": (int, 600_000),
    "span_batch_export_timeout_ms": (int, 30_000),
}
"""Names, kinds and the plugin's defaults of the scalars that decide what arrives; None: unset."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, without any value that could be secret. Line and column count from 1.

    `fatal`: the plugin passes over the whole file, or over this backend.
    """

    text: str
    line: int | None = None
    column: int | None = None
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """A scalar as it takes effect. `source` is where it is set: a variable, a file's path, or ""."""

    name: str
    value: Any
    source: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """One entry of `backends`. `index` counts from 0; `line` from 1.

    `endpoint` is the address as the plugin would use it, None without one; `written` is the text in the
    file, which may be a reference. `unset` are the variables it names that nobody has set.
    """

    index: int
    type: str
    name: str | None
    line: int = field(compare=False)
    written: str | None = field(default=None, repr=False)
    endpoint: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    traces: bool = True
    unset: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.name or self.type

    @property
    def experiment(self) -> str | None:
        return header(self.headers, EXPERIMENT_HEADER)

    @property
    def workspace(self) -> str | None:
        return header(self.headers, "x-mlflow-workspace")

    @property
    def has_credentials(self) -> bool:
        return header(self.headers, "authorization") is not None or "@" in _netloc(self.endpoint)

    @property
    def base(self) -> str | None:
        """The address of the server behind the endpoint, credentials included: without /v1/traces."""
        if self.endpoint is None:
            return None
        return _SIGNAL_PATH.sub("", self.endpoint.rstrip("/")).rstrip("/")

    @property
    def is_mlflow(self) -> bool:
        """It is said to be MLflow: by its type or by the header that nobody but MLflow wants."""
        return self.type == "mlflow" or self.experiment is not None

    @property
    def may_be_mlflow(self) -> bool:
        """Nothing says what it is, but its name or its host does sound like it."""
        text = f"{self.name or ''} {_netloc(self.endpoint).rpartition('@')[2]}".lower()
        return self.type == "otlp" and "mlflow" in text


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file. `marked` is None when it is not understood; see `problems`."""

    path: Path
    backends: tuple[Backend, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    marked: Marked | None = field(default=None, repr=False)

    @property
    def usable(self) -> bool:
        return self.marked is not None


@dataclass(frozen=True, slots=True)
class Reading:
    """All that decides what hermes-otel does in one home.

    `config` is the winning file, None when there is none. `settings` are the scalars as they take effect.
    """

    home: Home
    plugin: Plugin | None
    rules: Rules
    environment: Environment
    places: tuple[Place, ...]
    config: Config | None
    settings: Mapping[str, Setting]
    problems: tuple[Problem, ...]

    @property
    def winner(self) -> Place | None:
        return next((place for place in self.places if place.wins), None)


def read(home: Home, environment: Mapping[str, str]) -> Reading:
    """What the plugin in `home` would do if Hermes were started with `environment`. Reads files only."""
    known = dotenv.of_home(home.path, environment)
    plugin = plugin_places.installed(home)
    rules = plugin.rules if plugin is not None else Rules.NEW
    found = plugin_places.places(home, known, rules)
    winner = next((place for place in found if place.wins), None)
    config = read_file(winner.path, known, plugin) if winner is not None and winner.exists else None
    problems = list(config.problems if config is not None else ())
    settings = dict(config.settings) if config is not None else {}
    for name, (kind, default) in SETTINGS.items():
        variable = f"HERMES_OTEL_{name.upper()}"
        value = _scalar(kind, known.text(variable)) if known.text(variable) else None
        if value is not None:
            settings[name] = Setting(name, value, variable)
        elif known.text(variable):
            problems.append(Problem(f"{variable} is not a {_KINDS[kind]}; hermes-otel ignores it"))
        settings.setdefault(name, Setting(name, default))
    if known.text("LANGSMITH_TRACING").lower() == "true" and known.text("LANGSMITH_API_KEY"):
        text = "LANGSMITH_TRACING is true: hermes-otel sends to LangSmith and passes over `backends`"
        problems.append(Problem(text, fatal=True))
    return Reading(home, plugin, rules, known, found, config, settings, tuple(problems))


def read_file(path: Path, environment: Mapping[str, str], plugin: Plugin | None = None) -> Config:
    """One configuration file. What cannot be used is named in its problems; nothing is raised."""
    try:
        if path.stat().st_size > _LARGEST:
            return _unusable(path, "it is larger than any configuration: not read")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return _unusable(path, "it is not UTF-8 text")
    except OSError as error:
        return _unusable(path, f"it cannot be read: {error.strerror or error}")
    return parse(path, text, environment, plugin)


def parse(path: Path, text: str, environment: Mapping[str, str], plugin: Plugin | None = None) -> Config:
    """A configuration out of its text; `path` is for messages only."""
    try:
        marked = marked_yaml.parse(text)
    except marked_yaml.YamlError as error:
        return _unusable(path, f"not valid YAML: {error}", error.line, error.column)
    if marked.document is None:
        return Config(path, marked=marked)
    if not isinstance(marked.document, dict):
        what = type(marked.document).__name__
        return _unusable(path, f"expected names and values, found a {what}", 1, 1)
    reader = _Reader(marked, Environment(environment), plugin)
    settings = reader.settings(str(path))
    backends = reader.backends()
    return Config(path, backends, settings, tuple(reader.problems), marked)


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's value, however it is spelled; None when it is missing or empty."""
    return next((value for each, value in headers.items() if each.lower() == name and value.strip()), None)


def aims_at(url: str | None, host: str, port: int) -> bool:
    """Whether an address leads to a receiver on this host and port; all loopback names are one."""
    try:
        parts = urlsplit(url or "")
        there = parts.hostname or ""
        return parts.scheme == "http" and (parts.port or 80) == port and _plain(there) == _plain(host)
    except ValueError:
        return False


def _plain(host: str) -> str:
    host = host.strip("[]").lower()
    return "loopback" if host in ("localhost", "::1", "0.0.0.0", "::") or host.startswith("127.") else host


def _unusable(path: Path, text: str, line: int | None = None, column: int | None = None) -> Config:
    return Config(path, problems=(Problem(text, line, column, fatal=True),))


def _netloc(url: str | None) -> str:
    try:
        return urlsplit(url or "").netloc
    except ValueError:
        return ""


_KINDS = {bool: "yes or no", int: "whole number", float: "number", str: "text"}


def _scalar(kind: type, value: Any) -> Any:
    """`value` as hermes-otel would take it for this kind; None when it would not."""
    if kind is bool:
        return value if isinstance(value, bool) else _BOOLEANS.get(str(value).strip().lower())
    if kind is str:
        if isinstance(value, bool):  # YAML reads a bare `off` as no
            return "full" if value else "off"
        return str(value).strip().lower()
    if isinstance(value, bool):
        return None
    try:
        number = float(str(value).strip())
        return number if kind is float else int(number)
    except (ValueError, OverflowError):
        return None


class _Reader:
    """One pass over a parsed file."""

    def __init__(self, marked: Marked, environment: Environment, plugin: Plugin | None) -> None:
        self.problems: list[Problem] = []
        self._marked = marked
        self._environment = environment
        self._rules = plugin.rules if plugin is not None else Rules.NEW
        self._expands = plugin.expands if plugin is not None else True
        self._knows_mlflow = plugin.knows_mlflow if plugin is not None else True
        self._unset: list[str] = []

    def settings(self, source: str) -> dict[str, Setting]:
        found: dict[str, Setting] = {}
        for name, (kind, _) in SETTINGS.items():
            value = self._marked.document.get(name)
            if value is None:
                continue
            taken = _scalar(kind, value)
            if taken is None:
                self._problem(
                    f"{name} is not a {_KINDS[kind]}; the default holds",
                    self._marked.entry(self._marked.root, name),
                )
            else:
                found[name] = Setting(name, taken, source)
        return found

    def backends(self) -> tuple[Backend, ...]:
        listed = self._marked.document.get("backends")
        spot = self._marked.entry(self._marked.root, "backends")
        if listed is None or spot is None:
            return ()
        if not isinstance(listed, list):
            self._problem("`backends` is not a list; hermes-otel ignores it", spot, fatal=True)
            return ()
        spots = self._marked.items(spot.node)
        found = (
            self._backend(index, raw, at) for index, (raw, at) in enumerate(zip(listed, spots, strict=True))
        )
        return tuple(backend for backend in found if backend is not None)

    def _backend(self, index: int, raw: Any, spot: Spot) -> Backend | None:
        which = f"backend {index + 1}"
        if not isinstance(raw, dict):
            self._problem(f"{which} is not a set of names and values; it is passed over", spot, fatal=True)
            return None
        kind = raw.get("type")
        if not isinstance(kind, str) or not kind.strip():
            self._problem(f"{which} has no `type`; it is passed over", spot, fatal=True)
            return None
        kind = kind.strip().lower()
        if kind == "mlflow" and not self._knows_mlflow:
            self._problem(
                f"{which}: this version of hermes-otel has no `type: mlflow` and passes it over; "
                f"write `type: otlp` with the header {EXPERIMENT_HEADER}",
                spot,
                fatal=True,
            )
        self._unset = []
        written = raw.get("endpoint")
        endpoint = self._endpoint(kind, raw)
        headers = self._headers(kind, raw)
        traces = raw.get("traces", raw.get("trace"))
        found = Backend(
            index,
            kind,
            self._text(raw.get("name")),
            spot.line,
            written=None if written is None else str(written),
            endpoint=endpoint,
            headers=headers,
            traces=True if traces is None else _scalar(bool, traces) is not False,
            unset=tuple(dict.fromkeys(self._unset)),
        )
        for name in found.unset:
            self._problem(f"{which} names the variable {name}, which is not set", spot)
        if endpoint is None and kind in ("otlp", "mlflow"):
            self._problem(f"{which} has no `endpoint`; it is passed over", spot, fatal=True)
        return found

    def _endpoint(self, kind: str, raw: dict[str, Any]) -> str | None:
        text = (self._text(raw.get("endpoint")) or "").strip()
        if kind != "mlflow":
            return text or None
        text = text or self._environment.text("OTEL_MLFLOW_ENDPOINT")
        return _SIGNAL_PATH.sub("", text.rstrip("/")).rstrip("/") + TRACES if text else None

    def _headers(self, kind: str, raw: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        if kind == "mlflow":
            names = ("OTEL_MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_ID")
            found[EXPERIMENT_HEADER] = self._first(raw, "experiment_id", names) or "0"
            if workspace := (self._text(raw.get("workspace")) or "").strip():
                found["x-mlflow-workspace"] = workspace
            if token := self._first(raw, "api_key", ("OTEL_MLFLOW_API_KEY", "MLFLOW_TRACKING_TOKEN")):
                found["authorization"] = f"Bearer {token}"
        layers = [self._marked.document.get("headers"), raw.get("headers")]
        if self._rules is Rules.OLD:  # which of the two is stronger was turned round
            layers.reverse()
        for layer in layers:
            if isinstance(layer, dict):
                for name, value in layer.items():
                    lower = str(name).lower()
                    found[lower] = self._text(str(value)) or ""
        return found

    def _first(self, raw: dict[str, Any], name: str, variables: tuple[str, ...]) -> str | None:
        """The first of: written here, in the variable named by `…_env`, in the usual variables."""
        if text := (self._text(raw.get(name)) or "").strip():
            return text
        named = raw.get(f"{name}_env")
        if named is not None:
            if text := self._environment.text(str(named)):
                return text
            self._unset.append(str(named))
        return next((text for each in variables if (text := self._environment.text(each))), None)

    def _text(self, value: Any) -> str | None:
        """A value as text with its `${NAME}` references replaced; an unset one stays as it is written."""
        if value is None:
            return None
        text = str(value)
        if not self._expands:
            return text
        self._unset += [name for name in _REFERENCE.findall(text) if name not in self._environment]
        return _REFERENCE.sub(lambda found: self._environment.get(found[1], found[0]), text)

    def _problem(self, text: str, spot: Spot | None, *, fatal: bool = False) -> None:
        line, column = (spot.line, spot.column) if spot is not None else (None, None)
        self.problems.append(Problem(text, line, column, fatal))

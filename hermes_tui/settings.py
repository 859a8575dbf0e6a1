"""Settings: flags > environment > YAML file > defaults."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import msgspec
import platformdirs

from hermes_tui.layers import leaves, merge, nested
from hermes_tui.model.flags import mistake
from hermes_tui.pane_settings import Pane

APP = "hermes-trace-tui"
HTTP_PORT = 4318
GRPC_PORT = 4317

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
RequestBytes = Annotated[int, msgspec.Meta(ge=1024, le=256 * 1024 * 1024)]
Days = Annotated[float, msgspec.Meta(ge=0, le=100_000)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Connections = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=100_000)]


class SettingsError(Exception):
    """A setting cannot be used. One line per mistake: where it is, what is wrong, what to write."""


class MLflow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The destination. `experiment` is an id; the sender's own headers win over all of this.

    Without `forward` nothing is sent there: another sends, and what arrives is only read back.
    """

    url: str | None = None
    experiment: str | None = None
    username: str | None = None
    password: str | None = None
    token: str | None = None
    workspace: str | None = None
    forward: bool = True

    def __repr__(self) -> str:
        url = self.url and re.sub(r"//[^/]*@", "//", self.url)  # never the credentials
        return f"MLflow(url={url!r}, experiment={self.experiment!r})"


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long delivered requests are kept, and how much; 0 switches a limit off.

    `days` since a session's newest arrival, `max_bytes` of the journal. Undelivered requests are kept
    whatever these say; beyond `undelivered_bytes` of them no more are taken.
    """

    days: Days = 14.0
    max_bytes: Bytes = 1024**3
    undelivered_bytes: Bytes = 4 * 1024**3


class Attention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What calls the user (`on`), and how: by default in no way.

    `terminal` is a notification of the terminal's: none, osc9, osc777, or auto. `command` is a list, or a
    line that is parted as a shell would part it; no shell ever sees it. Turns below `min_turn_s` end quietly.
    """

    on: tuple[str, ...] = ("approval", "turn", "error")
    bell: bool = False
    terminal: str = "none"
    command: str | tuple[str, ...] = ()
    min_turn_s: Seconds = 0.0

    def __repr__(self) -> str:
        names = (name for name in self.__struct_fields__ if name != "command")  # a word of it may be a token
        return f"Attention({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @property
    def words(self) -> tuple[str, ...]:
        """The command and its arguments; none: there is no command. Raises ValueError."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command

    def __bool__(self) -> bool:
        return bool(self.on) and (self.bell or self.terminal != "none" or bool(self.words))


class Flag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A regular expression, and why a command that has it deserves a look."""

    pattern: str
    why: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that can be set. `state_dir` is where the journal lies.

    `grpc_port` None: 4317 if it is free, else no gRPC; Hermes' plugins send over HTTP. `token`, or what
    `token_file` holds, is what senders must show; without one, `host` may be another than loopback only
    with `allow_anyone`. `allowed_hosts` are names in a Host header, `cors_origins` of web pages that may
    send. `max_request_bytes` holds before and after decompression. `watch_hermes`: look into Hermes' own
    records for what runs right now, in the user's home, its profiles, and `hermes_homes`. `windows` are
    the tokens that models' contexts hold, by pattern (`claude-*`). `flags` are told in the pane beside
    the ones that it has (`model.flags`).
    """

    state_dir: str | None = None
    host: str = "127.0.0.1"
    http_port: Port = HTTP_PORT
    grpc_port: Port | None = None
    token: str | None = None
    token_file: str | None = None
    allow_anyone: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_request_bytes: RequestBytes = 64 * 1024 * 1024
    max_connections: Connections = 256
    watch_hermes: bool = True
    hermes_homes: tuple[str, ...] = ()
    windows: dict[str, Tokens] = msgspec.field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    mlflow: MLflow = MLflow()
    retention: Retention = Retention()
    attention: Attention = Attention()
    pane: Pane = Pane()

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__ if name != "token")
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown)})"

    @property
    def state_path(self) -> Path:
        return Path(self.state_dir).expanduser() if self.state_dir else default_state_dir()


_LISTS = ("allowed_hosts", "cors_origins", "hermes_homes", "on")
_CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("attention", "on"): ("approval", "turn", "error"),
    ("attention", "terminal"): ("none", "osc9", "osc777", "auto"),
    ("pane", "theme"): ("auto", "dark", "light", "contrast", "plain"),
    ("pane", "copy"): ("terminal", "file"),
    ("pane", "beside"): ("auto", "newest"),
}
_SIZES = ("max_request_bytes", "max_bytes", "undelivered_bytes")
_SIZE = re.compile(r"([0-9]{1,12}) ?((?:Ki|Mi|Gi)?)B?", re.IGNORECASE)
_UNITS = ("", "ki", "mi", "gi")
_COUNT = re.compile(r"([0-9]{1,12}) ?([kM])")
_HOST = re.compile(r"[\w.-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+")
_TOKEN = re.compile(r"[!-~]+")
_TOKEN_LENGTH = 16

_ENVIRONMENT = {
    "HERMES_TRACE_STATE_DIR": ("state_dir",),
    "HERMES_TRACE_HOST": ("host",),
    "HERMES_TRACE_HTTP_PORT": ("http_port",),
    "HERMES_TRACE_GRPC_PORT": ("grpc_port",),
    "HERMES_TRACE_TOKEN_FILE": ("token_file",),
    "HERMES_TRACE_TOKEN": ("token",),
    "HERMES_TRACE_ALLOW_ANYONE": ("allow_anyone",),
    "HERMES_TRACE_ALLOWED_HOSTS": ("allowed_hosts",),
    "HERMES_TRACE_CORS_ORIGINS": ("cors_origins",),
    "HERMES_TRACE_MAX_REQUEST_BYTES": ("max_request_bytes",),
    "HERMES_TRACE_MAX_CONNECTIONS": ("max_connections",),
    "HERMES_TRACE_WATCH_HERMES": ("watch_hermes",),
    "HERMES_TRACE_HERMES_HOMES": ("hermes_homes",),
    "HERMES_TRACE_RETENTION_DAYS": ("retention", "days"),
    "HERMES_TRACE_RETENTION_MAX_BYTES": ("retention", "max_bytes"),
    "HERMES_TRACE_UNDELIVERED_BYTES": ("retention", "undelivered_bytes"),
    "HERMES_TRACE_ATTENTION_ON": ("attention", "on"),
    "HERMES_TRACE_ATTENTION_BELL": ("attention", "bell"),
    "HERMES_TRACE_ATTENTION_TERMINAL": ("attention", "terminal"),
    "HERMES_TRACE_ATTENTION_COMMAND": ("attention", "command"),
    "HERMES_TRACE_ATTENTION_MIN_TURN_S": ("attention", "min_turn_s"),
    "HERMES_TRACE_PANE_THEME": ("pane", "theme"),
    "HERMES_TRACE_PANE_COPY": ("pane", "copy"),
    "HERMES_TRACE_PANE_BESIDE": ("pane", "beside"),
    "MLFLOW_TRACKING_URI": ("mlflow", "url"),
    "MLFLOW_EXPERIMENT_ID": ("mlflow", "experiment"),
    "MLFLOW_TRACKING_USERNAME": ("mlflow", "username"),
    "MLFLOW_TRACKING_PASSWORD": ("mlflow", "password"),
    "MLFLOW_TRACKING_TOKEN": ("mlflow", "token"),
    "MLFLOW_WORKSPACE": ("mlflow", "workspace"),
    "HERMES_TRACE_FORWARD": ("mlflow", "forward"),
}


def default_state_dir() -> Path:
    return Path(platformdirs.user_state_dir(APP, appauthor=False))


def default_file(environment: Mapping[str, str] | None = None) -> Path:
    """The settings file: HERMES_TRACE_CONFIG, else config.yaml in the user's config folder."""
    named = (os.environ if environment is None else environment).get("HERMES_TRACE_CONFIG")
    return Path(named) if named else Path(platformdirs.user_config_dir(APP, appauthor=False)) / "config.yaml"


_FLAGS = {"mlflow.url": "--mlflow", "mlflow.experiment": "--experiment"}


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    destination: bool = True,
) -> Settings:
    """Put the settings together. `flags` are dotted names (`mlflow.url`); None means: not given.

    Without `destination` the MLFLOW_* variables are left alone: a command that only reads the journal
    must not fail over an address it never uses. Raises SettingsError with one line per mistake.
    """
    environment = os.environ if environment is None else environment
    layers: list[tuple[str, dict[str, Any]]] = []
    file = default_file(environment)
    document, mistakes = _read(file, required="HERMES_TRACE_CONFIG" in environment)
    layers.append((str(file), document))
    for name, path in _ENVIRONMENT.items():
        if environment.get(name) and (destination or path[0] != "mlflow"):
            layers.append((f"environment variable {name}", nested(path, environment[name])))
    for name, value in (flags or {}).items():
        if value is not None:
            flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
            layers.append((flag, nested(name.split("."), value)))
    merged: dict[str, Any] = {}
    for source, layer in layers:
        layer = _spelled_out(layer)
        mistakes += _check(source, layer)
        for one, other in (("token", "token_file"), ("token_file", "token")):
            if layer.get(one) is not None:
                merged.pop(other, None)  # the stronger source decides where the token comes from
        merge(merged, layer)
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    settings = msgspec.convert(merged, Settings, strict=False)
    return msgspec.structs.replace(settings, mlflow=_without_userinfo(settings.mlflow))


def _read(file: Path, *, required: bool) -> tuple[dict[str, Any], list[str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, [f"{file}: no such file; HERMES_TRACE_CONFIG names it"] if required else []
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{file}: cannot be read: {error}"]
    import yaml  # only here: the file is rare, and reading YAML costs a start 20 ms

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        return {}, [f"{file}:{where} is not valid YAML: {_yaml_problem(error)}"]
    if document is None:
        return {}, []
    if not isinstance(document, dict):
        return {}, [f"{file}: expected names and values, found {type(document).__name__}"]
    mlflow = document.get("mlflow")
    if isinstance(mlflow, dict) and type(mlflow.get("experiment")) is int:
        mlflow["experiment"] = str(mlflow["experiment"])  # YAML reads an id without quotes as a number
    attention = document.get("attention")
    if isinstance(attention, dict) and any(name is True for name in attention):
        attention["on"] = attention.pop(True)  # YAML reads `on` without quotes as true
    return document, []


def _yaml_problem(error: Exception) -> str:
    """What is wrong, on one line, without words of the file: one of them may be a password."""
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return re.sub(r" ?'(?!<)[^']{2,}'", "", problem)


def _check(source: str, layer: dict[str, Any]) -> list[str]:
    """One line per mistake: each value is checked by itself, so that one does not hide the next."""
    mistakes = []
    for path, value in leaves(layer):
        try:
            checked = msgspec.convert(nested(path, value), Settings, strict=False)
        except msgspec.ValidationError as error:
            name = ".".join(path)
            text = str(error).split(" - at")[0] + _choices(path)
            mistakes.append(f"{source}: {name}: {text}" if name not in source else f"{source}: {text}")
            continue
        mistakes += [f"{source}: {why}" for why in _more_mistakes(path, checked)]
    if layer.get("token") is not None and layer.get("token_file") is not None:
        mistakes.append(f"{source}: token and token_file: write one of them")
    return mistakes


def _more_mistakes(path: tuple[str, ...], checked: Settings) -> list[str]:
    """What a type cannot say about one value. No message repeats a token."""
    found: list[str | None] = []
    if path == ("mlflow", "url"):
        found.append(_url_mistake(checked.mlflow.url or ""))
    elif path[0] == "attention":
        found += _attention_mistakes(path, checked.attention)
    elif path == ("token",):
        found.append(_token_mistake(checked.token or ""))
    elif path == ("token_file",) and not Path(checked.token_file or "").expanduser().is_absolute():
        found.append(f"token_file: {checked.token_file!r} is not an absolute path")
    elif path == ("flags",):
        whys = enumerate((mistake(flag.pattern) for flag in checked.flags), 1)
        found += [f"flags: number {number}: {why}" for number, why in whys if why is not None]
    elif path == ("hermes_homes",):
        wrong = (name for name in checked.hermes_homes if not Path(name).expanduser().is_absolute())
        found += [f"hermes_homes: {name[:100]!r} is not an absolute path" for name in wrong]
    elif path == ("allowed_hosts",):
        wrong = (name for name in checked.allowed_hosts if not _HOST.fullmatch(name))
        found += [f"allowed_hosts: {name[:100]!r} is not a name; write it without a port" for name in wrong]
    elif path == ("cors_origins",):
        wrong = (origin for origin in checked.cors_origins if not _ORIGIN.fullmatch(origin))
        found += [
            f"cors_origins: {origin[:100]!r} is not an origin; write http://host:port" for origin in wrong
        ]
    return [why for why in found if why is not None]


def _attention_mistakes(path: tuple[str, ...], checked: Attention) -> list[str]:
    """No message repeats a word of the command: one may be a token."""
    name = ".".join(path)
    if path[-1] == "command":
        try:
            return [] if all(checked.words[:1]) else [f"{name}: it begins with an empty word"]
        except ValueError as error:
            return [f"{name}: {error}"]
    said = {"on": checked.on, "terminal": (checked.terminal,)}.get(path[-1], ())
    wrong = (word for word in said if word not in _CHOICES[path])
    return [f"{name}: {word[:100]!r} is unknown{_choices(path)}" for word in wrong]


def _choices(path: tuple[str, ...]) -> str:
    return f"; choose from {', '.join(_CHOICES[path])}" if path in _CHOICES else ""


def _token_mistake(token: str) -> str | None:
    if len(token) < _TOKEN_LENGTH or not _TOKEN.fullmatch(token):
        return (
            f"token: at least {_TOKEN_LENGTH} letters, digits or other visible ASCII characters, no spaces; "
            "`openssl rand -hex 32` makes one"
        )
    return None


def read_token(settings: Settings) -> str:
    """The token that senders must show, out of its file if need be; "" when there is none.

    Raises SettingsError.
    """
    if settings.token_file is None:
        return settings.token or ""
    file = Path(settings.token_file).expanduser()
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"the token file {file} cannot be read: {why}") from error
    if _token_mistake(token):
        raise SettingsError(f"{file}: {_token_mistake(token)}")
    return token


def _spelled_out(layer: dict[str, Any]) -> dict[str, Any]:
    """Lists written as "a, b", sizes as "64 MiB" and tokens as "200k", as people and environment variables
    write them.
    """
    layer = dict(layer)
    for name in _LISTS:
        if isinstance(text := layer.get(name), str):
            layer[name] = [part.strip() for part in text.split(",") if part.strip()]
    for name in _SIZES:
        text = layer.get(name)
        if isinstance(text, str) and (match := _SIZE.fullmatch(text.strip())):
            layer[name] = int(match[1]) * 1024 ** _UNITS.index(match[2].lower())
    for name in ("retention", "attention"):
        if isinstance(below := layer.get(name), dict):
            layer[name] = _spelled_out(below)
    if isinstance(windows := layer.get("windows"), dict):
        layer["windows"] = {
            name: int(match[1]) * (1_000 if match[2] == "k" else 1_000_000)
            if isinstance(text, str) and (match := _COUNT.fullmatch(text.strip()))
            else text
            for name, text in windows.items()
        }
    return layer


def _url_mistake(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    shown = url if len(url) < 100 and "@" not in url else "the address"
    return None if valid else f"{shown!r} is not the address of an MLflow server; write http://host:port"


def _without_userinfo(mlflow: MLflow) -> MLflow:
    """Credentials in an address become credentials: an address is shown and kept, they never are."""
    parts = urlsplit(mlflow.url or "")
    if "@" not in parts.netloc:
        return mlflow
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if mlflow.username or mlflow.token:
        return msgspec.structs.replace(mlflow, url=plain)
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    return msgspec.structs.replace(mlflow, url=plain, username=username, password=password)

"""The user's Hermes installation: its launcher, its version, the Python it runs in, its plugins.

Read in Hermes 0.19 (`hermes_cli/main.py`, `hermes_cli/plugins_discovery.py`) and tried with it. Nothing of
Hermes is imported here: the launcher and its Python are asked, in processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TRACER = "hermes_otel"
"""The plugin that this program knows in full."""

TRACERS = frozenset({TRACER, "otel_tracing", "hermes-otel-plugin", "latitude", "openlit", "agento11y"})
"""Plugins that export spans, by the names they have in `plugins.enabled`."""

PACKAGES = {
    "opentelemetry.sdk.trace": "opentelemetry-sdk",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter": "opentelemetry-exporter-otlp-proto-http",
    "yaml": "PyYAML",
}
"""What the plugin imports, and the package each comes from. Without YAML it reads no file, and is silent."""

_ANSWER_S = 30.0  # `--version` may ask the network whether there is a newer one
_MANIFESTS = ("plugin.yaml", "plugin.yml")
_VERSION = re.compile(r"\bv?(\d+\.\d+(?:\.\d+)?\S*)")
_PROBE = """
import importlib, importlib.metadata as metadata, json, platform, sys
found = {"version": platform.python_version(), "packages": {}, "plugins": []}
for module, package in json.loads(sys.argv[1]).items():
    try:
        importlib.import_module(module)
        try:
            found["packages"][package] = [metadata.version(package), ""]
        except metadata.PackageNotFoundError:
            found["packages"][package] = ["", ""]
    except Exception as error:
        found["packages"][package] = [None, f"{type(error).__name__}: {error}"[:300]]
for entry in metadata.entry_points(group="hermes_agent.plugins"):
    found["plugins"].append([entry.name, entry.dist.version if entry.dist else ""])
sys.stdout.write("\\n" + json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that Hermes would find. `folder` is None for one that came as a package.

    `names` are those that `plugins.enabled` may call it by; `version` is as its manifest says, which is
    1.0 for every hermes-otel up to 0.11: see `plugin_places.installed`.
    """

    name: str
    version: str = ""
    folder: Path | None = None
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Launcher:
    """What `hermes --version` said; `error` when it could not be asked."""

    path: Path
    version: str = ""
    directory: Path | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The Python that runs Hermes. `packages`: version ("": not known) and error by name of package.

    `how` says how it was found, `error` why it could not be asked.
    """

    python: Path
    how: str = ""
    version: str = ""
    packages: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)
    plugins: tuple[Plugin, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class HermesConfig:
    """What matters here of Hermes' own config.yaml. `enabled` None: there is no such list.

    `error` says why the file cannot be read; a file that is not there is no error.
    """

    path: Path
    exists: bool = False
    enabled: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()
    base_url: str = ""
    error: str = ""


def find_launcher(
    home: Path, named: str | None = None, environment: Mapping[str, str] | None = None
) -> Path | None:
    """The `hermes` command: `named`, on PATH, or where its installers put it."""
    environment = os.environ if environment is None else environment
    if named is not None:
        return Path(named).expanduser()
    if found := shutil.which("hermes", path=environment.get("PATH", "")):
        return Path(found)
    user = Path(environment.get("HOME") or Path.home())
    for place in (user / ".local/bin/hermes", home / "hermes-agent/venv/bin/hermes"):
        if os.access(place, os.X_OK) and place.is_file():
            return place
    return None


def ask_launcher(path: Path, environment: Mapping[str, str] | None = None) -> Launcher:
    """Run `hermes --version`; takes about half a second."""
    try:
        done = subprocess.run(
            [path, "--version"],
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Launcher(path, error=f"`{path} --version` did not answer within {_ANSWER_S:.0f} s")
    except OSError as error:
        return Launcher(path, error=f"`{path}` cannot be run: {error.strerror or error}")
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        last = said.strip().splitlines()[-1:] or ["nothing"]
        return Launcher(path, error=f"`{path} --version` ended with {done.returncode}: {last[0][:200]}")
    directory = re.search(r"^Install directory:\s*(\S.*?)\s*$", said, re.MULTILINE)
    version = _VERSION.search(said)
    return Launcher(
        path,
        version=version[1] if version else "",
        directory=Path(directory[1]) if directory else None,
    )


def find_python(launcher: Launcher | None, home: Path) -> tuple[Path, str] | None:
    """The Python that runs Hermes, and how it was found."""
    candidates: list[tuple[Path, str]] = []
    if launcher is not None and launcher.directory is not None:
        place = launcher.directory
        said = f"`hermes --version` names {place}"
        candidates += [(place / venv / "bin/python", said) for venv in ("venv", ".venv")]
        if place.name == "site-packages":
            candidates.append((place.parents[2] / "bin/python", said))
    if launcher is not None and (named := _shebang(launcher.path)) is not None:
        candidates.append((named, f"the first line of {launcher.path} names it"))
    candidates.append((home / "hermes-agent/venv/bin/python", "it is where Hermes' installer puts it"))
    for path, how in candidates:
        if os.access(path, os.X_OK) and path.is_file():
            return path, how
    return None


def _shebang(path: Path) -> Path | None:
    """The Python in a script's first line, or in that of the script it only hands over to."""
    try:
        with path.open("rb") as file:
            start = file.read(2048).decode("utf-8", "replace")
    except OSError:
        return None
    first = start.partition("\n")[0]
    if first.startswith("#!") and "python" in first:
        words = first[2:].split()
        if words and not words[0].endswith("/env"):
            return Path(words[0])
        found = shutil.which(words[-1]) if words else None
        return Path(found) if found else None
    handed = re.search(r"""^\s*exec\s+["']?(/[^"'\s]+/bin/)(?:hermes|python[\d.]*)\b""", start, re.MULTILINE)
    return Path(handed[1]) / "python" if handed else None


def ask_python(python: Path, how: str, environment: Mapping[str, str] | None = None) -> Runtime:
    """Which of `PACKAGES` it can import, and which plugins are packages of it; takes about a second."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, json.dumps(PACKAGES)],
            env={**(os.environ if environment is None else environment), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
            cwd="/",
        )
        found: dict[str, Any] = json.loads(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Runtime(python, how, error=f"it did not answer within {_ANSWER_S:.0f} s")
    except OSError as error:
        return Runtime(python, how, error=f"it cannot be run: {error.strerror or error}")
    except (ValueError, IndexError):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
        return Runtime(python, how, error=f"it ended with {done.returncode}: {last[0][:200]}")
    return Runtime(
        python,
        how,
        version=str(found["version"]),
        packages={name: (version, error) for name, (version, error) in found["packages"].items()},
        plugins=tuple(Plugin(name, version, names=frozenset({name})) for name, version in found["plugins"]),
    )


def plugins_in(home: Path) -> list[Plugin]:
    """The plugins in a home's folder, as Hermes finds them: one level below, or two in a category."""
    found: list[Plugin] = []
    for folder in _folders(home / "plugins"):
        if (plugin := _plugin(folder, folder.name)) is not None:
            found.append(plugin)
        else:
            below = ((each, f"{folder.name}/{each.name}") for each in _folders(folder))
            found += [plugin for each, key in below if (plugin := _plugin(each, key)) is not None]
    return found


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(
            each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(("__", "."))
        )
    except OSError:
        return []


def _plugin(folder: Path, key: str) -> Plugin | None:
    manifest = next((folder / name for name in _MANIFESTS if (folder / name).is_file()), None)
    if manifest is None:
        return None
    document, _ = read_yaml(manifest)
    name = str(document.get("name") or folder.name)
    return Plugin(
        name,
        str(document.get("version") or ""),
        folder,
        frozenset({key, name}),
    )


def hermes_config(home: Path) -> HermesConfig:
    """Read a home's config.yaml."""
    path = home / "config.yaml"
    document, error = read_yaml(path)
    if error or not path.exists():
        return HermesConfig(path, exists=path.exists(), error=error)
    plugins, model = document.get("plugins"), document.get("model")
    lists = plugins if isinstance(plugins, dict) else {}
    enabled = lists.get("enabled")
    url = model.get("base_url") if isinstance(model, dict) else None
    return HermesConfig(
        path,
        exists=True,
        enabled=_names(enabled) if isinstance(enabled, list) else None,
        disabled=_names(lists.get("disabled")),
        base_url=url if isinstance(url, str) else "",
    )


def _names(value: object) -> frozenset[str]:
    return frozenset(map(str, value)) if isinstance(value, list) else frozenset()


def read_yaml(path: Path) -> tuple[dict[str, Any], str]:
    """A YAML mapping, and why it could not be read ("" when it could, or is not there)."""
    import yaml  # only here: reading YAML costs a start 20 ms

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, UnicodeDecodeError) as error:
        return {}, getattr(error, "strerror", None) or "it is not text"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return {}, "it is not valid YAML" + (f" (line {mark.line + 1})" if mark is not None else "")
    if document is None:
        return {}, ""
    if not isinstance(document, dict):
        return {}, f"expected names and values, found {type(document).__name__}"
    return document, ""


def running(home: Path, launcher: Path | None, python: Path | None) -> list[tuple[int, int]]:
    """(pid, start in ns since the epoch) of the Hermes processes in a home, as far as they can be told."""
    import psutil

    wanted = {str(each) for each in (launcher, launcher and launcher.resolve()) if each is not None}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "create_time", "environ"]):
        words, environment = process.info["cmdline"] or [], process.info["environ"]
        if environment is None or _home_of(environment) != os.path.realpath(home):
            continue  # another user's, or a Hermes that works elsewhere
        if _is_hermes(words[:3], wanted, python):
            found.append((int(process.info["pid"]), int(process.info["create_time"] * 10**9)))
    return found


def _home_of(environment: Mapping[str, str]) -> str:
    named = environment.get("HERMES_HOME", "").strip()
    return os.path.realpath(named or Path(environment.get("HOME") or Path.home()) / ".hermes")


def _is_hermes(words: Iterable[str], launchers: set[str], python: Path | None) -> bool:
    first, *rest = [*words, ""]
    if first in launchers or launchers & set(rest):
        return True
    return python is not None and first == str(python) and any(each.endswith("/hermes") for each in rest)

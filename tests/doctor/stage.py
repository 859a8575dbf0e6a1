"""A user's machine in a folder: a Hermes that is a script, its home, the programs on PATH, a real relay."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hermes_tui.doctor.examine import Wanted, examine
from hermes_tui.doctor.finding import Finding, Fix, Verdict
from hermes_tui.hermes.home import Home
from hermes_tui.journal.files import StateDir
from hermes_tui.relay import launch
from hermes_tui.relay.lock import find
from hermes_tui.settings import load
from tests.fake_mlflow import FakeMLflow
from tests.processes import DEADLINE_S, MLFLOW_PYTHON, RelayProcess

OLD = {
    "plugin_config.py": "DEFAULT_CONFIG_PATH = Path.home()\n",
    "plugin.yaml": 'name: hermes_otel\nversion: "1.0"\n',
}
NEW = {
    "plugin_config.py": 'CONFIG_PATH_ENV = "HERMES_OTEL_CONFIG"\ndef expand_env_refs(): ...\n',
    "backends.py": "def _resolve_mlflow(bc): ...\n",
    "plugin.yaml": "name: hermes_otel\nversion: 1.23.0\nmanifest_version: 2\n",
}

HERMES = '''#!{python}
"""What `hermes` does of the things that the doctor tells to do."""
import os, pathlib, sys
import yaml

home = pathlib.Path(os.environ.get("HERMES_HOME") or pathlib.Path.home() / ".hermes")
config = home / "config.yaml"
said = sys.argv[1:]
if said == ["--version"]:
    print("Hermes Agent v0.19.0 (2026.7.20)")
    if {directory!r}:
        print("Install directory:", {directory!r})
    print("Python: 3.11.7")
elif said[:2] == ["plugins", "install"]:
    folder = home / "plugins" / "hermes_otel"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {new!r}.items():
        (folder / name).write_text(text)
    if "--enable" in said:
        said = ["plugins", "enable", "hermes_otel"]
elif said == ["setup"]:
    home.mkdir(parents=True)
    config.write_text("plugins: {{enabled: [hermes_otel]}}\\n")
if said[:2] == ["plugins", "enable"]:
    document = yaml.safe_load(config.read_text()) or {{}}
    plugins = document.setdefault("plugins", {{}})
    plugins["enabled"] = sorted({{*(plugins.get("enabled") or []), said[2]}})
    plugins["disabled"] = [name for name in plugins.get("disabled") or [] if name != said[2]]
    config.write_text(yaml.safe_dump(document))
'''


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Stage:
    """Everything is well on it at first, but that no relay runs: `start` does that."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, mlflow: FakeMLflow, relays: Callable[..., RelayProcess]
    ) -> None:
        self.folder, self.patch, self.mlflow = folder, patch, mlflow
        self._relays = relays
        self.user = folder / "user"
        self.home = self.user / ".hermes"
        self.bin = folder / "bin"
        self.state = StateDir(folder / "state")
        self.port = free_port()
        self.placeholders = {"EXPERIMENT_ID": "1", "NAME": "1"}
        self.python = Path(sys.executable)
        for name, value in {
            "HOME": str(self.user),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "XDG_CONFIG_HOME": str(self.user / ".config"),
            "HERMES_TRACE_STATE_DIR": str(self.state.path),
            "HERMES_TRACE_HTTP_PORT": str(self.port),
            "HERMES_TRACE_GRPC_PORT": "0",
            "MLFLOW_TRACKING_URI": mlflow.url,
        }.items():
            patch.setenv(name, value)
        self._furnish()

    def _furnish(self) -> None:
        self.bin.mkdir(parents=True)
        self.install_hermes()
        for name, python, module in (
            ("hermes-trace-tui", sys.executable, "hermes_tui"),
            ("mlflow", MLFLOW_PYTHON, "mlflow"),
        ):
            self.program(name, f'#!/bin/sh\nexec {shlex.quote(python)} -m {module} "$@"\n')
        self.plugin(NEW)
        self.config(plugins={"enabled": ["hermes_otel"]})
        self.otel()

    # ---- what is on it

    def program(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def install_hermes(self, directory: str = "") -> None:
        self.program("hermes", HERMES.format(python=self.python, directory=directory, new=NEW))

    def plugin(self, files: Mapping[str, str], name: str = "hermes_otel") -> None:
        folder = self.home / "plugins" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")

    def config(self, **document: Any) -> None:
        """Hermes' own configuration."""
        self.write(self.home / "config.yaml", yaml.safe_dump(document))

    def otel(self, *, path: Path | None = None, port: int | None = None, **more: Any) -> Path:
        """The plugin's configuration; `more` are settings, or `backend` for what differs in the backend."""
        backend = {
            "type": "otlp",
            "endpoint": f"http://127.0.0.1:{port or self.port}/v1/traces",
            "headers": {"x-mlflow-experiment-id": "1"},
            **more.pop("backend", {}),
        }
        document = {"tool_output_preview_max_chars": 20_000, "backends": [backend], **more}
        path = path or self.home / "hermes_otel.yaml"
        self.write(path, yaml.safe_dump(document))
        return path

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def start(self, *flags: str, **environment: str) -> RelayProcess:
        """A real relay on the port that the plugin sends to, with the environment that is set now."""
        kept = {
            name: value for name, value in os.environ.items() if name.startswith(("MLFLOW_", "HERMES_TRACE_"))
        }
        flags = ("--http-port", str(self.port), *flags)
        return self._relays(self.state, *flags, **{**kept, **environment})

    def close(self) -> None:
        """End the relay that a fix may have started."""
        if self.state.path.is_dir() and find(self.state) is not None:
            launch.stop(self.state)

    # ---- the doctor, and doing what it says

    def examine(self, *, probe: bool = False, **said: Any) -> dict[str, Finding]:
        named = os.environ.get("HERMES_HOME")
        home = Home("default", Path(named) if named else self.home)
        wanted = Wanted(load(), home, probe=probe, environment=dict(os.environ), **said)
        return {each.name: each for each in examine(wanted)}

    def ask(self, name: str, **said: Any) -> Finding:
        return self.examine(**said)[name]

    def follow(self, fix: Fix | None) -> None:
        """Do exactly what a fix says, with what it leaves to the user filled in."""
        assert fix is not None
        if fix.lines:
            assert fix.file is not None
            self._put(Path(fix.file), self._filled(fix.lines))
        for command in fix.commands:
            self._run(self._filled(command))

    def _filled(self, text: str) -> str:
        for name, value in self.placeholders.items():
            text = re.sub(rf"\b{name}\b", value, text)
        return text

    def _run(self, command: str) -> None:
        if command.startswith("unset "):
            self.patch.delenv(command.removeprefix("unset "))
            return
        if command.startswith("hermes-trace-tui setup"):
            command += " --yes"  # there is no terminal to say yes on
        shell, nothing = ["/bin/bash", "-c", command], subprocess.DEVNULL
        done = subprocess.run(shell, stdin=nothing, capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 0 or "doctor" in command, (command, done.stdout, done.stderr)

    def _put(self, path: Path, lines: str) -> None:
        """As a user with an editor would: names that are there get the new values."""
        if path.suffix not in (".yaml", ".yml"):
            with path.open("a", encoding="utf-8") as file:
                file.write(lines)
            return
        news = yaml.safe_load(lines)
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError):
            document = {}
        if not isinstance(document, dict):
            document = {}
        into = document
        if not news.keys() & {"enabled", "backends", "mlflow", "plugins", *_SETTINGS}:
            into = document["backends"][0]  # "into the backend …"
        _merge(into, news)
        self.write(path, yaml.safe_dump(document))


_SETTINGS = ("sample_rate", "capture_previews", "content_capture", "tool_output_preview_max_chars")


def _merge(into: dict[str, Any], news: dict[str, Any]) -> None:
    for name, value in news.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def is_well(found: Finding) -> bool:
    return found.verdict is Verdict.OK

"""The relay as a service of its user: a systemd unit, or a launchd agent on macOS; see docs/service.md."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = "hermes-trace-tui"
_TIMEOUT_S = 60.0

_UNIT = """\
[Unit]
Description=Relay between Hermes Agent and MLflow
StartLimitIntervalSec=0

[Service]
ExecStart={command}
{environment}EnvironmentFile=-{secrets}
Restart=on-failure
RestartSec=200ms
# 2: a setting is wrong; starting again would not help.
RestartPreventExitStatus=2
TimeoutStopSec=30
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=default.target
"""


class ServiceError(Exception):
    """The service manager refused; the message is what it said, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service manager's file and the commands that start, stop and restart what it describes."""

    kind: str
    path: Path
    content: bytes
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    restart: tuple[str, ...]

    def run(self, commands: Sequence[Sequence[str]]) -> None:
        """Raises ServiceError at the first that fails."""
        for command in commands:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    encoding="utf-8",
                    errors="replace",
                    timeout=_TIMEOUT_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise ServiceError(f"`{' '.join(command)}`: {error}") from error
            if done.returncode != 0:
                said = (done.stderr or done.stdout).strip() or f"it ended with {done.returncode}"
                raise ServiceError(f"`{' '.join(command)}`: {said}")


def service(
    arguments: Sequence[str], environment: Mapping[str, str], *, platform: str = sys.platform
) -> Service:
    """The service of this platform, running `relay` with these arguments. Raises ServiceError."""
    home = Path(environment.get("HOME") or Path.home())
    command = [*program(), "relay", *arguments]
    if platform == "darwin":
        return _launchd(home, command, environment)
    if shutil.which("systemctl") is None:
        raise ServiceError("there is no systemd here; docs/service.md says how a service runs the relay")
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    named = _named(environment)
    lines = "".join(f'Environment="{name}={_escaped(value)}"\n' for name, value in named.items())
    unit = _UNIT.format(
        command=" ".join(map(_quoted, command)),
        environment=lines,
        secrets=str(config / NAME / "relay.env").replace("%", "%%"),
    )
    systemctl = ("systemctl", "--user")
    return Service(
        "systemd",
        config / "systemd" / "user" / f"{NAME}.service",
        unit.encode(),
        start=((*systemctl, "daemon-reload"), (*systemctl, "enable", NAME), (*systemctl, "restart", NAME)),
        stop=((*systemctl, "disable", "--now", NAME),),
        restart=(*systemctl, "restart", NAME),
    )


def program() -> list[str]:
    """How this program is started again, by an absolute path."""
    own = Path(sys.argv[0])
    if own.name == NAME and own.is_file():
        return [os.path.abspath(own)]
    beside = Path(sys.executable).with_name(NAME)
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", "hermes_tui"]


def _launchd(home: Path, command: Sequence[str], environment: Mapping[str, str]) -> Service:
    path = home / "Library" / "LaunchAgents" / f"{NAME}.plist"
    agent = {
        "Label": NAME,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "Umask": 0o077,
    }
    if named := _named(environment):
        agent["EnvironmentVariables"] = named
    domain = f"gui/{os.getuid()}"
    return Service(
        "launchd",
        path,
        plistlib.dumps(agent),
        start=(("launchctl", "bootstrap", domain, str(path)),),
        stop=(("launchctl", "bootout", f"{domain}/{NAME}"),),
        restart=("launchctl", "kickstart", "-k", f"{domain}/{NAME}"),
    )


def _named(environment: Mapping[str, str]) -> dict[str, str]:
    """Where its settings are, if that is not the usual place: a service inherits no shell's variables."""
    names = ("HERMES_TRACE_CONFIG", "HERMES_HOME")
    return {name: os.path.abspath(environment[name]) for name in names if environment.get(name)}


def _quoted(word: str) -> str:
    """A word of ExecStart (systemd.service, COMMAND LINES)."""
    return f'"{_escaped(word).replace("$", "$$")}"' if set(word) & set(" \t\"'\\$%;") else word


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")

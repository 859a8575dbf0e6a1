"""`--split`: open the pane beside the terminal's own, and what is said once a pane was left."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from hermes_tui import neutral
from hermes_tui.commands.common import Command, fail, relay_arguments

_PATIENCE_S = 15.0
_SECRET = frozenset({"HERMES_TRACE_TOKEN", "HERMES_TRACE_ATTENTION_COMMAND"})
_ALSO = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_WORKSPACE", "HERMES_HOME", "NO_COLOR")


class Host(NamedTuple):
    """A program that can split its terminal. `command` takes a side, a working folder and the environment."""

    name: str
    variable: str
    programs: tuple[str, ...]
    command: Callable[[str, str, Mapping[str, str]], list[str]]
    hint: str = ""


def _tmux(side: str, folder: str, environment: Mapping[str, str]) -> list[str]:
    # In a folder's name tmux would expand `#{…}`, and run `#(…)`. Several words are run without a shell.
    words = ["split-window", "-d", "-h" if side == "right" else "-v", "-c", folder.replace("#", "##")]
    pane = environment.get("TMUX_PANE")
    return [*words, *(["-t", pane] if pane else []), "--"]


def _zellij(side: str, folder: str, _: Mapping[str, str]) -> list[str]:
    name = ["--name", "hermes-trace-tui"]
    return ["run", "--direction", side, "--close-on-exit", *name, "--cwd", folder, "--"]


def _wezterm(side: str, folder: str, environment: Mapping[str, str]) -> list[str]:
    where = "--right" if side == "right" else "--bottom"
    return ["cli", "split-pane", where, "--pane-id", environment["WEZTERM_PANE"], "--cwd", folder, "--"]


def _kitty(side: str, folder: str, _: Mapping[str, str]) -> list[str]:
    where = "vsplit" if side == "right" else "hsplit"
    return [
        "@",
        "launch",
        "--self",
        "--keep-focus",
        "--type=window",
        f"--location={where}",
        f"--cwd={folder}",
    ]


HOSTS = (
    Host("tmux", "TMUX", ("tmux",), _tmux),
    Host("zellij", "ZELLIJ", ("zellij",), _zellij),
    Host("wezterm", "WEZTERM_PANE", ("wezterm",), _wezterm),
    Host("kitty", "KITTY_WINDOW_ID", ("kitten", "kitty"), _kitty, "it needs `allow_remote_control yes`"),
)
"""The first one whose variable is set is asked: what runs inside another comes before it."""


def with_split(command: Command) -> Command:
    return click.option(
        "--split",
        is_flag=False,
        flag_value="right",
        type=click.Choice(["right", "down"]),
        help="Open the pane beside this one (default right), in tmux, zellij, wezterm or kitty (there in its "
        "layout `splits`).",
    )(command)


def host_for(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> tuple[Host, str]:
    """Who can split the terminal, and its program. Ends the process, with what to do, when nobody can."""
    environment = os.environ if environment is None else environment
    host = next((each for each in HOSTS if environment.get(each.variable)), None)
    if host is None:
        names = ", ".join(each.name for each in HOSTS)
        fail(f"--split works inside {names}; here is none of them. {_by_hand(flags, 'terminal')}", 1)
    program = next((each for each in host.programs if shutil.which(each, path=environment.get("PATH"))), None)
    if program is None:
        lost = f"this is {host.name}, but `{host.programs[0]}` is not in your PATH"
        fail(f"{lost}. {_by_hand(flags, 'pane')}", 1)
    return host, program


def open_beside(side: str, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
    """Split the terminal and run the pane there, with these flags. Ends the process when that fails."""
    environment = os.environ if environment is None else environment
    host, program = host_for(flags, environment)
    # -P: the folder that the user works in is no place to import from.
    pane = ["env", *own_environment(environment, flags), sys.executable, "-P", "-m", "hermes_tui"]
    command = [program, *host.command(side, os.getcwd(), environment), *pane, *relay_arguments(dict(flags))]
    problem = _run(command, environment)
    if problem is not None:
        hint = f" ({host.hint})" if host.hint else ""
        fail(f"{host.name} does not split: {problem}{hint}. {_by_hand(flags, 'pane')}", 1)


def _by_hand(flags: Mapping[str, Any], where: str) -> str:
    return f"Run `{shlex.join(['hermes-trace-tui', *relay_arguments(dict(flags))])}` in a second {where}."


def _run(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """What went wrong, on one line; None: nothing."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environment),
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return neutral.line(str(error))
    if done.returncode == 0:
        return None
    said = neutral.line(done.stderr.decode("utf-8", "replace").strip()[:500])
    return said or f"it ended with {done.returncode}"


def own_environment(environment: Mapping[str, str], flags: Mapping[str, Any]) -> list[str]:
    """`NAME=VALUE` of what the pane reads: a multiplexer starts programs with an environment of its own.

    Nothing secret is among them, as the relay, which alone needs that, runs already.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _ALSO or (name.startswith("HERMES_TRACE_") and name not in _SECRET)
    }
    if "HERMES_TRACE_CONFIG" in kept:
        kept["HERMES_TRACE_CONFIG"] = os.path.abspath(kept["HERMES_TRACE_CONFIG"])
    address = flags.get("mlflow.url") or environment.get("MLFLOW_TRACKING_URI")
    if address:
        kept["MLFLOW_TRACKING_URI"] = _without_userinfo(address)
    return [f"{name}={value}" for name, value in sorted(kept.items())]


def _without_userinfo(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def goes_on(running: Any, state_dir: str | None) -> str:
    """What is said once the pane was left; "" when the relay is not a pane's own."""
    if running is None or running.started_by != "pane" or not running.pid:
        return ""
    where = f", {running.http}" if running.http else ""
    stop = shlex.join(["hermes-trace-tui", "stop", *(["--state-dir", state_dir] if state_dir else [])])
    return neutral.line(f"The relay goes on (pid {running.pid}{where}); `{stop}` ends it.")

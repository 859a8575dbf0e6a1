"""How long a new user needs: install, setup, doctor, and the first spans seen and confirmed in MLflow.

In a folder of its own it clones what is committed here, installs it into a new environment and does what the
README's quick start says, against a real MLflow and with an empty `~/.hermes`; a recorded turn stands for
Hermes'. Prints what the user types and sees, with the seconds of each step; fails where a step does.

    python benchmarks/new_user.py                                    # `hermes` is a script of the tests'
    python benchmarks/new_user.py --hermes FILE --plugin FOLDER      # a real one, and its hermes-otel

HERMES_TRACE_TEST_MLFLOW_PYTHON names the Python that has MLflow, if this one has not. The recorded turns take
7 s; MLflow was just started, and its first model call takes it some seconds more.
"""

from __future__ import annotations

import argparse
import base64
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common import TRACES, SpanIds, span_ids

from hermes_tui.relay.replay import read_recording
from tests.doctor.stage import HERMES, NEW
from tests.processes import DEADLINE_S, MLflowServer, clean_environment
from tests.tui.terminal import Terminal

HERE = Path(__file__).parent.parent
RECORDING = "tests/recordings/three_turns.otlp.jsonl"
RELAY_PORT, MLFLOW_PORT = 4318, 5000
SIZE = (60, 20)
INSTALL_S = 900.0  # a slow network


def port_near(wanted: int) -> int:
    """The wanted port, or another one when a program has it."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind(("127.0.0.1", wanted))
        except OSError:
            free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(slots=True)
class User:
    """Someone at a shell in a clone of the project; `took` are the seconds of what was typed."""

    root: Path
    environment: Mapping[str, str]
    took: dict[str, float] = field(default_factory=dict)

    @property
    def clone(self) -> Path:
        return self.root / "hermes-trace-tui"

    def types(self, line: str, step: str, *, within_s: float = DEADLINE_S * 2, **more: str) -> str:
        """Run a line, print it with what it said; its output. Raises SystemExit where it fails."""
        print(f"\n$ {line}", flush=True)
        begin = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.clone if self.clone.exists() else self.root,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=within_s,
            check=False,
        )
        self.says(done.stdout)
        self.notes(step, time.monotonic() - begin)
        if done.returncode:
            raise SystemExit(f"it ended with {done.returncode}")
        return done.stdout

    def says(self, text: str) -> None:
        if text := text.replace(str(self.root), "~").rstrip():
            print(text, flush=True)

    def notes(self, step: str, seconds: float) -> None:
        self.took[step] = seconds
        print(f"# {step}: {seconds:.1f} s", flush=True)


# ------------------------------------------------------------------------------------ the machine


def furnish(root: Path, hermes: Path | None, plugin: Path | None, relay_port: int) -> dict[str, str]:
    """A user's home with Hermes and its plugin, neither configured; the environment of a shell in it."""
    home, programs = root / ".hermes", root / "bin"
    folder = home / "plugins" / "hermes_otel"
    programs.mkdir(parents=True)
    if plugin is not None:
        left = shutil.ignore_patterns(
            "config.yaml", "*.db*", "__pycache__", "docs", "website", "video", "tests"
        )
        shutil.copytree(plugin, folder, ignore=left)
    else:
        folder.mkdir(parents=True)
        for name, text in NEW.items():
            (folder / name).write_text(text, encoding="utf-8")
    if hermes is not None:
        (programs / "hermes").symlink_to(hermes.absolute())
    else:
        (programs / "hermes").write_text(HERMES.format(python=sys.executable, directory="", new=NEW), "utf-8")
        (programs / "hermes").chmod(0o755)
    (programs / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    (home / "config.yaml").write_text("plugins:\n  enabled: [hermes_otel]\n", encoding="utf-8")
    said = {
        "HOME": str(root),
        "XDG_CONFIG_HOME": str(root / ".config"),
        "XDG_STATE_HOME": str(root / ".state"),
    }
    if relay_port != RELAY_PORT:
        said["HERMES_TRACE_HTTP_PORT"] = str(relay_port)
    system = {name: text for name, text in clean_environment(**said).items() if name != "VIRTUAL_ENV"}
    del system["HERMES_HOME"], system["HERMES_TRACE_CONFIG"]  # a new user has set nothing
    return {**system, "PATH": f"{root}/hermes-trace-tui/.venv/bin:{programs}:/usr/local/bin:/usr/bin:/bin"}


@contextmanager
def mlflow_server(root: Path) -> Iterator[MLflowServer]:
    """MLflow as it is before its first question; its start is not the user's wait."""
    folder = root / "mlflow"
    folder.mkdir()
    server = MLflowServer(folder, port=port_near(MLFLOW_PORT))
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


# ------------------------------------------------------------------------------------ the steps


def install(user: User) -> None:
    """Clone and install, with the package index that is set for whoever runs this."""
    subprocess.run(["git", "clone", "--quiet", f"file://{HERE}", str(user.clone)], check=True)
    own = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
    line = "python3 -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check ."
    user.types(line, "installed", within_s=INSTALL_S, **own)


def look(user: User, mlflow: MLflowServer) -> None:
    """The pane opens, a turn is played, and its spans are seen and confirmed; then ask MLflow itself."""
    bodies = [each.body for each in read_recording(user.clone / RECORDING) if each.path == TRACES]
    wanted = span_ids(bodies)
    begin = time.monotonic()
    print("\n$ hermes-trace-tui", flush=True)
    environment = {**user.environment, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONUTF8": "1"}
    with Terminal(["hermes-trace-tui"], size=SIZE, environment=environment) as pane:
        pane.shows("No spans yet")
        user.notes("the pane is open", time.monotonic() - begin)
        with playing(user) as begin:
            pane.hides("No spans yet")
            user.notes("first span in the pane", time.monotonic() - begin)
            pane.shows(f"MLflow ✓ {len(wanted)}/{len(wanted)}")
            user.notes("all of them confirmed", time.monotonic() - begin)
        user.says("\n".join(line.rstrip() for line in pane.lines))
        pane.send("q")
        if code := pane.wait():
            raise SystemExit(f"the pane ended with {code}")
    if missing := wanted - in_mlflow(mlflow, wanted):
        raise SystemExit(f"MLflow lacks {len(missing)} of {len(wanted)} spans")
    print(f"(asked by itself, MLflow has these {len(wanted)} spans)")


@contextmanager
def playing(user: User) -> Iterator[float]:
    """The recorded turn in place of Hermes, in another terminal; when it began."""
    line = ["hermes-trace-tui", "replay", "--now", RECORDING]
    print(f"(in place of Hermes, at its own pace: {shlex.join(line)})", flush=True)
    with subprocess.Popen(
        line, cwd=user.clone, env=user.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield time.monotonic()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise SystemExit(f"replay ended with {process.returncode}")


def in_mlflow(mlflow: MLflowServer, wanted: SpanIds) -> SpanIds:
    """The spans that MLflow has of these traces."""
    found: SpanIds = set()
    for trace in {trace for trace, _ in wanted}:
        got = mlflow.call(f"/api/3.0/mlflow/traces/get?trace_id=tr-{trace.hex()}&allow_partial=true")
        found |= {(trace, base64.b64decode(span["span_id"])) for span in got["trace"]["spans"]}
    return found


def run(root: Path, hermes: Path | None, plugin: Path | None) -> dict[str, float]:
    """The whole way; the seconds of each step."""
    user = User(root, furnish(root, hermes, plugin, port_near(RELAY_PORT)))
    with mlflow_server(root) as mlflow, ExitStack() as at_the_end:
        install(user)
        at_the_end.callback(
            subprocess.run,
            ["hermes-trace-tui", "stop"],
            env=user.environment,
            capture_output=True,
            check=False,
        )
        url = mlflow.url.replace("127.0.0.1", "localhost")
        setup = f"hermes-trace-tui setup --mlflow {url} --experiment hermes --yes"
        user.types(f". .venv/bin/activate && {setup}", "set up")
        user.types("hermes-trace-tui doctor", "examined")
        look(user, mlflow)
        user.types("hermes-trace-tui verify", "verified")
    return user.took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hermes", type=Path, help="a real Hermes (default: a script that answers like it)")
    parser.add_argument("--plugin", type=Path, help="hermes-otel's folder for it")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        took = run(Path(folder).resolve(), chosen.hermes, chosen.plugin)
    print("\n" + "\n".join(f"{seconds:6.1f} s  {step}" for step, seconds in took.items()))


if __name__ == "__main__":
    main()

"""`setup` as a user runs it: real processes, a real relay, Hermes' files in a folder of their own."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.relay.lock import find
from tests.fake_mlflow import FakeMLflow
from tests.hermes.configurations import COMMENTED, PAGE, SECRET, WRITTEN
from tests.processes import DEADLINE_S, Post, Reply, clean_environment, counts, post, run_cli
from tests.support import body_of, wait_for, wire_span

pytestmark = pytest.mark.process


class Experiments(FakeMLflow):
    """With MLflow's experiments, as 3.17 answers."""

    def __init__(self) -> None:
        super().__init__()
        self.named = {"Default": "0", "hermes": "7"}

    def read(self, taken: Post) -> Reply:
        parts = urlsplit(taken.path)
        query, what = parse_qs(parts.query), parts.path.rpartition("/")[2]
        if "/experiments/" not in parts.path:
            return super().read(taken)
        if what == "search":
            found = [{"experiment_id": number, "name": name} for name, number in self.named.items()]
            return _json({"experiments": found})
        if what == "create":
            name = json.loads(taken.body)["name"]
            self.named[name] = str(len(self.named) + 40)
            return _json({"experiment_id": self.named[name]})
        wanted = (query.get("experiment_name") or query["experiment_id"])[0]
        for name, number in self.named.items():
            if wanted in ((name,) if what == "get-by-name" else (number,)):
                return _json({"experiment": {"experiment_id": number, "name": name}})
        return _json({"error_code": "RESOURCE_DOES_NOT_EXIST"}, 404)


def _json(document: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(document).encode())


@dataclass(slots=True)
class Desk:
    """A user's folders. Called with arguments it runs `setup`."""

    root: Path
    port: int
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / ".hermes"

    @property
    def state(self) -> StateDir:
        return StateDir(self.root / "state")

    @property
    def plugin_file(self) -> Path:
        return self.home / "hermes_otel.yaml"

    @property
    def settings_file(self) -> Path:
        return self.root / "config" / "config.yaml"

    @property
    def relay(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.root),
            "HERMES_HOME": "",
            "HERMES_TRACE_CONFIG": str(self.settings_file),
            "HERMES_TRACE_STATE_DIR": str(self.state.path),
            "HERMES_TRACE_GRPC_PORT": "0",
            **self.more,
        }

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_cli("setup", *arguments, environment=self.environment)

    def plant(self, text: str) -> bytes:
        self.plugin_file.write_bytes(text.encode())
        return self.plugin_file.read_bytes()

    def files(self) -> dict[str, bytes]:
        """Everything outside the state folder, byte for byte."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not path.is_relative_to(self.state.path)
        }


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = Desk(tmp_path / "user", port)
    own.home.mkdir(parents=True)
    own.settings_file.parent.mkdir()
    own.settings_file.write_text(f"# mine\nhttp_port: {port}\n", encoding="utf-8")
    own.settings_file.chmod(0o644)
    try:
        yield own
    finally:
        run_cli("stop", environment=own.environment)


@pytest.fixture
def mlflow() -> Iterator[Experiments]:
    server = Experiments()
    with server:
        yield server


def test_setup_and_undo(desk: Desk, mlflow: Experiments) -> None:
    desk.plant(COMMENTED.replace("http://localhost:5000/v1/traces     #", f"{mlflow.url}/v1/traces     #"))
    before = desk.files()
    done = desk("--yes")
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    text = desk.plugin_file.read_text(encoding="utf-8")
    assert text.encode() == before[".hermes/hermes_otel.yaml"].replace(
        mlflow.url.encode(), desk.relay.encode(), 1
    )
    assert desk.settings_file.read_text(encoding="utf-8") == (
        f"# mine\nhttp_port: {desk.port}\nmlflow:\n  url: {mlflow.url}\n"
    )
    assert post(f"127.0.0.1:{desk.port}", body_of(wire_span(1)), x_mlflow_experiment_id="12") == 200
    wait_for(lambda: counts(desk.state)["confirmed"] == 1, DEADLINE_S)
    again = desk()
    assert (again.returncode, "set up already" in again.stdout) == (0, True)
    undone = desk("--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert desk.files() == before
    assert desk("--undo", "--yes").returncode == 1


def test_without_a_terminal_it_shows_and_says_how_to_go_on(desk: Desk, mlflow: Experiments) -> None:
    desk.plant(PAGE.replace("http://localhost:5000", mlflow.url))
    before = desk.files()
    for arguments, code in ((("--dry-run",), 0), ((), 2)):
        shown = desk(*arguments)
        assert shown.returncode == code
        assert f"+    endpoint: {desk.relay}/v1/traces" in shown.stdout
        assert f"-    endpoint: {mlflow.url}/v1/traces" in shown.stdout
    assert "--yes" in shown.stderr
    assert desk.files() == before
    assert not desk.state.path.exists()
    desk.more["HERMES_TRACE_TOKEN"] = SECRET * 2
    shown = desk("--dry-run")
    assert "x-hermes-trace-token" in shown.stdout
    assert SECRET not in shown.stdout


def test_nothing_yet(desk: Desk, mlflow: Experiments) -> None:
    assert "--mlflow URL" in desk("--yes").stderr
    missing = desk("--yes", "--mlflow", mlflow.url)
    assert (missing.returncode, "--experiment NAME" in missing.stderr) == (2, True)
    assert desk("--dry-run", "--mlflow", mlflow.url, "--experiment", "new one").returncode == 0
    assert "new one" not in mlflow.named
    done = desk("--yes", "--mlflow", mlflow.url, "--experiment", "new one")
    assert done.returncode == 0, done.stderr
    number = mlflow.named["new one"]
    expected = WRITTEN.replace("http://localhost:5000", desk.relay).replace('"1"', f'"{number}"')
    assert desk.plugin_file.read_text(encoding="utf-8") == expected
    assert "hermes-otel is not installed" in done.stdout
    assert "Restart Hermes" in done.stdout


@pytest.mark.parametrize(("wanted", "number"), [("hermes", "7"), ("0", "0")])
def test_an_experiment_by_name_or_id(desk: Desk, mlflow: Experiments, wanted: str, number: str) -> None:
    done = desk("--dry-run", "--mlflow", mlflow.url, "--experiment", wanted)
    assert f'x-mlflow-experiment-id: "{number}"' in done.stdout, done.stderr


def test_side(desk: Desk, mlflow: Experiments) -> None:
    desk.plant(PAGE.replace("http://localhost:5000", mlflow.url))
    before = desk.files()
    done = desk("--mode", "side", "--yes")
    assert done.returncode == 0, done.stderr
    text = desk.plugin_file.read_text(encoding="utf-8")
    assert text.startswith(PAGE.replace("http://localhost:5000", mlflow.url))
    assert f"  - type: otlp\n    name: hermes-trace-tui\n    endpoint: {desk.relay}/v1/traces\n" in text
    assert "forward: false" in desk.settings_file.read_text(encoding="utf-8")
    sent = body_of(wire_span(1))
    assert post(f"127.0.0.1:{desk.port}", sent) == 200
    assert post(f"127.0.0.1:{mlflow.port}", sent, x_mlflow_experiment_id="1") == 200
    wait_for(lambda: counts(desk.state)["confirmed"] == 1, DEADLINE_S)
    assert len(mlflow.posts) == 1
    assert "set up already" in desk("--mode", "side").stdout
    refused = desk("--yes")
    assert (refused.returncode, "undo that first" in refused.stderr) == (1, True)
    assert desk("--undo", "--yes").returncode == 0
    assert desk.files() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [("backends: [\n", "not valid YAML"), ("- a\n", "expected names and values")],
)
def test_what_is_not_understood_is_left_with_lines_to_paste(desk: Desk, text: str, says: str) -> None:
    desk.plant(text)
    before = desk.files()
    refused = desk("--yes", "--mlflow", "http://localhost:5000")
    assert refused.returncode == 1
    assert says in refused.stderr
    assert f"        endpoint: {desk.relay}/v1/traces" in refused.stdout
    assert desk.files() == before


def test_several_backends_want_a_choice(desk: Desk) -> None:
    desk.plant(
        "backends:\n- {type: mlflow, name: a, endpoint: 'http://a:1'}\n"
        "- {type: mlflow, name: b, endpoint: 'http://b:1'}\n"
    )
    unclear = desk("--yes")
    assert (unclear.returncode, "--backend: 1: a, 2: b" in unclear.stderr) == (2, True)
    assert "+- {type: mlflow, name: b" in desk("--dry-run", "--backend", "b").stdout


def test_a_port_that_another_has(desk: Desk, mlflow: Experiments) -> None:
    desk.plant(PAGE.replace("http://localhost:5000", mlflow.url))
    before = desk.files()
    with socket.create_server(("127.0.0.1", desk.port)):
        taken = desk("--yes")
    assert (taken.returncode, "another program has it" in taken.stderr) == (1, True)
    assert desk.files() == before


def test_settings_that_were_edited_since_stay_and_keep_nothing_else(desk: Desk, mlflow: Experiments) -> None:
    """An older setup can be undone then, too."""
    profile = desk.home / "profiles" / "work"
    profile.mkdir(parents=True)
    text = PAGE.replace("http://localhost:5000", mlflow.url)
    (profile / "hermes_otel.yaml").write_text(text)
    desk.plant(text)
    for name in ("default", "work"):
        assert desk("--yes", "--profile", name).returncode == 0
    with desk.settings_file.open("a") as file:
        file.write("watch_hermes: false\n")
    edited = desk.settings_file.read_bytes()
    for path in (profile / "hermes_otel.yaml", desk.plugin_file):
        undone = desk("--undo", "--yes")
        assert undone.returncode == 0, undone.stderr
        assert path.read_text() == text
    assert f"Stays as it is: {desk.settings_file} has been changed since" in undone.stdout
    assert desk.settings_file.read_bytes() == edited
    again = desk("--undo", "--yes")
    assert (again.returncode, "nothing is left to undo but this" in again.stderr) == (1, True)


def test_a_profile(desk: Desk, mlflow: Experiments) -> None:
    profile = desk.home / "profiles" / "work"
    profile.mkdir(parents=True)
    (profile / "hermes_otel.yaml").write_text(f"backends: [{{type: mlflow, endpoint: '{mlflow.url}'}}]\n")
    desk.plant(PAGE)
    done = desk("--profile", "work", "--yes")
    assert done.returncode == 0, done.stderr
    assert desk.plugin_file.read_text(encoding="utf-8") == PAGE
    assert f"endpoint: '{desk.relay}'" in (profile / "hermes_otel.yaml").read_text(encoding="utf-8")
    assert desk("--profile", "no").returncode == 2
    assert desk("--undo", "--profile", "default", "--yes").returncode == 1
    assert desk("--undo", "--profile", "work", "--yes").returncode == 0


def test_the_gateway(desk: Desk, mlflow: Experiments) -> None:
    desk.plant(PAGE.replace("http://localhost:5000", mlflow.url))
    config = desk.home / "config.yaml"
    config.write_text("plugins:\n  enabled: [hermes_otel]\nmodel:\n  default: old # mine\n", encoding="utf-8")
    assert desk("--gateway", "my-endpoint", "--yes").returncode == 0
    assert config.read_text(encoding="utf-8") == (
        "plugins:\n  enabled: [hermes_otel]\nmodel:\n  default: my-endpoint # mine\n  provider: custom\n"
        f"  base_url: {mlflow.url}/gateway/mlflow/v1\n"
    )
    config.write_text("model: a/b\n", encoding="utf-8")
    refused = desk("--gateway", "my-endpoint", "--yes")
    assert (refused.returncode, "provider: custom" in refused.stdout) == (1, True)


def test_credentials_in_the_address_move_and_are_not_shown(desk: Desk, mlflow: Experiments) -> None:
    desk.plant(PAGE.replace("http://localhost:5000", f"http://me:{SECRET}@127.0.0.1:{mlflow.port}"))
    done = desk("--yes")
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    text = desk.settings_file.read_text(encoding="utf-8")
    assert f"  username: me\n  password: {SECRET}\n" in text
    assert SECRET not in desk.plugin_file.read_text(encoding="utf-8")
    assert desk.settings_file.stat().st_mode & 0o777 == 0o600  # it was for everybody's eyes
    assert desk("--undo", "--yes").returncode == 0
    assert desk.settings_file.stat().st_mode & 0o777 == 0o644


def test_the_relay_is_restarted_when_its_settings_change(desk: Desk, mlflow: Experiments) -> None:
    desk.plant(PAGE.replace("http://localhost:5000", mlflow.url))
    assert desk("--yes").returncode == 0
    first = find(desk.state)
    assert desk("--undo", "--yes").returncode == 0
    assert desk("--mode", "side", "--yes").returncode == 0
    second = find(desk.state)
    assert first is not None
    assert second is not None
    assert first.pid != second.pid


STUB = """\
#!/bin/sh
echo "$@" >> "$HOME/said"
case "$*" in
  *restart*) {relay} ;;
esac
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="systemd's")
def test_a_service(desk: Desk, mlflow: Experiments, tmp_path: Path) -> None:
    desk.plant(PAGE.replace("http://localhost:5000", mlflow.url))
    before = desk.files()
    tools = tmp_path / "tools"
    tools.mkdir()
    command = f"{sys.executable} -m hermes_tui relay --started-by service >/dev/null 2>&1 </dev/null &"
    (tools / "systemctl").write_text(STUB.format(relay=command), encoding="utf-8")
    (tools / "systemctl").chmod(0o755)
    desk.more["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    desk.more["XDG_CONFIG_HOME"] = str(desk.root / "xdg")
    done = desk("--service", "--yes")
    assert done.returncode == 0, done.stderr
    assert "runs as a systemd service" in done.stdout
    unit = (desk.root / "xdg" / "systemd" / "user" / "hermes-trace-tui.service").read_text(encoding="utf-8")
    (start,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert " relay" in start
    assert f'Environment="HERMES_TRACE_CONFIG={desk.settings_file}"' in unit
    said = desk.root / "said"
    assert said.read_text(encoding="utf-8").splitlines() == [
        "--user daemon-reload",
        "--user enable hermes-trace-tui",
        "--user restart hermes-trace-tui",
    ]
    assert desk("--undo", "--yes").returncode == 0
    assert said.read_text(encoding="utf-8").splitlines()[3:] == ["--user disable --now hermes-trace-tui"]
    said.unlink()
    assert desk.files() == before


def test_the_units_are_what_the_docs_show() -> None:
    from hermes_tui.commands.service_unit import service

    docs = (Path(__file__).parents[1] / "docs" / "service.md").read_text(encoding="utf-8")
    unit = service([], {"HOME": "/home/you"}, platform="linux").content.decode()
    for line in unit.splitlines():
        if not line.startswith(("ExecStart=", "EnvironmentFile=")):
            assert line in docs.splitlines(), line
    agent = service(["--state-dir", "/a b"], {"HOME": "/Users/you"}, platform="darwin")
    assert agent.path == Path("/Users/you/Library/LaunchAgents/hermes-trace-tui.plist")
    assert b"<string>/a b</string>" in agent.content


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1)])
def test_on_a_terminal_it_asks(desk: Desk, mlflow: Experiments, answer: str, code: int) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes_tui", "setup"],
        env=clean_environment(**desk.environment),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    answers = iter(
        [("Where is MLflow", f"{mlflow.url}\n"), ("Experiment by name", "\n"), ("Make these changes", answer)]
    )
    wanted, reply = next(answers)
    said = ""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            break  # the terminal's other end is closed
        if not chunk:
            break
        said += chunk.decode()
        if wanted and wanted in said:
            os.write(ours, reply.encode())
            wanted, reply = next(answers, ("", ""))
    os.close(ours)
    assert process.wait(DEADLINE_S) == code, said
    assert "7  hermes" in said
    assert desk.plugin_file.exists() == (code == 0)
    if code == 0:
        assert 'x-mlflow-experiment-id: "0"' in desk.plugin_file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(401), "other credentials"),
        (Reply(500, b"boom"), "answered 500"),
        (Reply(200, b"<html>"), "not as an MLflow"),
    ],
)
def test_a_server_that_is_not_as_it_should_be(reply: Reply, says: str, desk: Desk) -> None:
    class Broken(FakeMLflow):
        def read(self, taken: Post) -> Reply:
            return reply

    with Broken() as server:
        refused = desk("--yes", "--mlflow", server.url, "--experiment", "hermes")
    assert (refused.returncode, says in refused.stderr) == (1, True), refused.stderr
    assert "nothing" not in refused.stdout
    assert not desk.plugin_file.exists()

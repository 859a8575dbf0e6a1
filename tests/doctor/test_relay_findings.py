"""What the doctor finds of relay and destination: real relays, a destination that answers from a script."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hermes_tui import __version__
from hermes_tui.doctor import look_relay
from hermes_tui.doctor.finding import Verdict
from hermes_tui.doctor.fixes import fix
from hermes_tui.doctor.relay_checks import RelayFacts, judge
from hermes_tui.journal.checkup import summary
from hermes_tui.journal.desk import Desk
from hermes_tui.relay import launch
from hermes_tui.relay.lock import find
from tests.doctor.stage import Stage, is_well
from tests.fake_mlflow import JSON
from tests.processes import DEADLINE_S, Reply, clean_environment, counts
from tests.support import wait_for
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.process

BAD, WARN, OK, UNKNOWN = Verdict.BAD, Verdict.WARN, Verdict.OK, Verdict.UNKNOWN
SECRET = "hunter2-hunter2-hunter2"


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user on the stage runs it."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("HERMES_", "MLFLOW_"))}
    places = {name: os.environ[name] for name in ("HOME", "PATH", "XDG_CONFIG_HOME")}
    return subprocess.run(
        [sys.executable, "-m", "hermes_tui", "doctor", *arguments],
        env={**clean_environment(**{"HERMES_HOME": "", **kept}), **places},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE_S * 2,
        check=False,
    )


def document(*arguments: str, code: int) -> dict[str, Any]:
    done = cli("--json", *arguments)
    assert (done.returncode, done.stderr) == (code, ""), (done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def named(found: dict[str, Any], name: str) -> dict[str, Any]:
    (each,) = [each for each in found["findings"] if each["name"] == name]
    return dict(each)


# ---- the whole way


def test_all_is_well_and_the_probe_span_leaves_nothing_behind(stage: Stage) -> None:
    relay = stage.start()
    found = stage.examine(probe=True)
    wrong = [each for each in found.values() if each.verdict is BAD]
    assert wrong == []
    assert is_well(found["probe span"])
    assert "deleted again" in found["probe span"].proof
    assert stage.mlflow.posts[0].headers["x-mlflow-experiment-id"] == "1"
    assert (stage.mlflow.stored(), sum(counts(stage.state).values())) == (set(), 0)
    assert found["spans arrive"].verdict is WARN
    assert relay.stop() == 0


def test_no_relay_and_fix_starts_one(stage: Stage) -> None:
    found = document(code=1)
    assert named(found, "relay")["verdict"] == "bad"
    assert named(found, "relay")["fixable"]
    assert found["first_fix"] == "hermes-trace-tui doctor --fix"
    fixed = document("--fix", code=0)
    (done,) = fixed["fixed"]
    assert re.fullmatch(rf"started the relay: http://127\.0\.0\.1:{stage.port}, pid \d+", done)
    assert named(fixed, "probe span")["verdict"] == "ok"
    assert (fixed["ok"], fixed["bad"], fixed["version"]) == (True, 0, __version__)
    with Desk(stage.state) as desk:
        last = summary(desk)
    assert last is not None
    assert (last.bad, last.warn, last.first_fix) == (0, 1, "hermes")
    assert 0 <= last.age_s < DEADLINE_S


def test_text_names_proof_and_fix_under_the_pages_headings(stage: Stage) -> None:
    done = cli("--no-probe")
    assert (done.returncode, done.stderr) == (1, "")
    headings = [line for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert headings[:4] == [
        "No traces appear in MLflow",
        "Hermes runs but tool spans are missing",
        "You only see gateway logs, not full agent traces",
        "Traces appear, but they are not whole",
    ]
    assert re.search(
        r"✗ relay +No relay runs.*\n +proof  .*\n +fix .*\n +\$ hermes-trace-tui doctor --fix", done.stdout
    )
    assert headings[4].startswith("1 thing is wrong. 1 warning. First: hermes-trace-tui doctor --fix")


def test_a_pane_in_which_nothing_arrives_sends_for_the_doctor(stage: Stage) -> None:
    """What is there is said at once, and what a new look finds; the probe does not become its session."""
    stage.otel(sample_rate=0)
    command = [sys.executable, "-m", "hermes_tui"]
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    with Terminal(command, size=(80, 30), environment=environment) as pane:
        pane.shows("No spans yet", "doctor  not asked yet (d shows)")
        pane.send("d")
        pane.shows("Doctor  not asked yet")
        pane.send("r")
        pane.shows("✗ sampling: no turn is traced", "→ write `sample_rate: 1.0` into ", "Doctor  1 finding, ")
        pane.send("\x1b")
        pane.shows("No spans yet", "doctor  1 finding, ")
        pane.send("q")
        assert pane.wait() == 0
    assert [each.plain() for each in stage.mlflow.posts], "the probe went the whole way"


def test_wrong_usage_is_2(stage: Stage) -> None:
    assert stage.home.is_dir()
    assert cli("--nonsense").returncode == 2
    assert cli("--mlflow", "no address").returncode == 2


# ---- the relay


def test_another_program_on_the_port(stage: Stage) -> None:
    script = (
        "import http.server, sys; "
        "handler = http.server.BaseHTTPRequestHandler; "
        "there = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), handler); "
        "print(1, flush=True); there.serve_forever()"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(stage.port)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        found = stage.examine()
        assert found["relay"].verdict is BAD
        port = found["port"]
        assert (port.verdict, f"pid {other.pid}" in port.finding) == (BAD, True), port
        stage.follow(port.fix)
        assert other.wait(20)
        again = stage.examine()
        assert is_well(again["port"])
        assert is_well(again["relay"])
    finally:
        other.kill()
        other.wait()
        assert other.stdout is not None
        other.stdout.close()


def test_a_relay_that_hangs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_relay, "_ANSWER_S", 0.5)
    monkeypatch.setattr(launch, "_STOP_S", 0.5)
    relay = stage.start("--started-by", "pane")
    relay.process.send_signal(signal.SIGSTOP)
    found = stage.ask("relay")
    assert (found.verdict, "does not answer" in found.finding) == (BAD, True)
    stage.follow(found.fix)
    assert relay.process.wait(20) == -signal.SIGKILL
    assert is_well(stage.ask("relay"))
    again = find(stage.state)
    assert again is not None
    os.kill(again.pid, signal.SIGSTOP)
    try:
        (done,) = fix(list(stage.examine().values()), launch.Launcher(stage.state))
    except BaseException:
        os.kill(again.pid, signal.SIGCONT)
        raise
    assert re.match(r"restarted the relay: http://", done)
    assert is_well(stage.ask("relay"))


def test_a_relay_of_another_version(stage: Stage) -> None:
    code = (
        "import sys, runpy, hermes_tui; hermes_tui.__version__ = '0.0.1'; "
        "sys.argv[0] = 'hermes-trace-tui'; "
        "runpy.run_module('hermes_tui', run_name='__main__', alter_sys=True)"
    )
    flags = [
        "relay",
        "--state-dir",
        str(stage.state.path),
        "--http-port",
        str(stage.port),
        "--started-by",
        "pane",
    ]
    with (stage.folder / "old.log").open("wb") as log:
        old = subprocess.Popen([sys.executable, "-c", code, *flags], stdout=log, stderr=log)
    try:
        wait_for(lambda: (there := find(stage.state)) is not None and there.ready, DEADLINE_S)
        found = stage.ask("relay version")
        assert (found.verdict, "0.0.1" in found.finding, found.fixable) == (WARN, True, True)
        stage.follow(found.fix)
        assert old.wait(20) == 0
        assert is_well(stage.ask("relay version"))
    finally:
        old.kill()
        old.wait()


def test_a_relay_that_only_looks_on(stage: Stage) -> None:
    """`setup --mode side`: Hermes sends to MLflow by itself, and to the relay."""
    stage.otel(backend={"endpoint": f"{stage.mlflow.url}/v1/traces"})
    setup = [stage.bin / "hermes-trace-tui", "setup", "--mode", "side", "--yes"]
    subprocess.run(setup, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    found = stage.examine(probe=True)
    assert [each for each in found.values() if each.verdict is BAD] == []
    assert is_well(found["probe span"])
    assert "forwards nothing" in found["destination"].finding
    assert (stage.mlflow.stored(), sum(counts(stage.state).values())) == (set(), 0)
    stage.mlflow.experiments = set()
    assert stage.ask("experiment", probe=True).verdict is BAD
    stage.mlflow.experiments = {"1"}
    stage.otel()
    alone = stage.ask("endpoint")
    assert (alone.verdict, "Nobody sends to MLflow" in alone.finding) == (BAD, True)
    stage.follow(alone.fix)
    assert is_well(stage.ask("endpoint"))


def test_a_relay_that_wants_a_token(stage: Stage) -> None:
    token = "a-token-of-sixteen-letters"
    assert is_well(stage.ask("token"))
    stage.patch.setenv("HERMES_TRACE_TOKEN", token)
    stage.start()
    found = stage.examine(probe=True, token=token)
    assert is_well(found["relay"])
    assert is_well(found["probe span"])
    assert (found["token"].verdict, "refused (401)" in found["token"].finding) == (BAD, True)
    stage.placeholders |= {"TOKEN": token}
    stage.follow(found["token"].fix)
    again = stage.examine(token=token)
    assert is_well(again["token"])
    assert all(token not in each.proof for each in again.values())


def test_a_journal_that_is_noise(stage: Stage) -> None:
    relay = stage.start("--started-by", "pane")
    stage.examine(probe=True)
    assert relay.stop() == 0
    size = stage.state.journal.stat().st_size
    stage.state.journal.write_bytes(stage.state.journal.read_bytes()[:100] + os.urandom(size - 100))
    found = stage.examine()
    assert (found["journal"].verdict, "cannot be read" in found["journal"].finding) == (BAD, True)
    stage.follow(found["journal"].fix)
    again = stage.ask("journal")
    assert "was damaged" in again.finding, again
    stage.follow(again.fix)
    wait_for(lambda: is_well(stage.ask("journal")), DEADLINE_S)


def test_a_relay_that_sends_elsewhere(stage: Stage) -> None:
    stage.start("--started-by", "pane", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    found = stage.ask("destination")
    assert (found.verdict, "not to" in found.finding, found.fixable) == (WARN, True, True)
    stage.follow(found.fix)
    assert is_well(stage.ask("destination"))


def test_a_relay_that_sends_to_nobody(stage: Stage) -> None:
    stage.patch.delenv("MLFLOW_TRACKING_URI")
    stage.start("--started-by", "pane")
    found = stage.examine(probe=True)
    assert found["destination"].verdict is BAD
    assert is_well(found["probe span"])
    assert "sends to nobody" in found["probe span"].finding
    stage.placeholders |= {"http://localhost:5000": stage.mlflow.url}
    stage.follow(found["destination"].fix)
    subprocess.run([stage.bin / "hermes-trace-tui", "stop"], check=True)  # as it says
    subprocess.run([stage.bin / "hermes-trace-tui", "doctor", "--fix"], stdout=subprocess.DEVNULL, check=True)
    assert is_well(stage.ask("destination"))


def test_a_folder_that_is_no_folder(stage: Stage) -> None:
    stage.state.path.write_text("in the way", encoding="utf-8")
    found = stage.ask("journal")
    assert (found.verdict, "in the way" in found.finding) == (BAD, True)
    stage.follow(found.fix)
    assert is_well(stage.ask("journal"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user(stage: Stage) -> None:
    stage.state.create()
    os.chown(stage.state.path, 12345, 12345)
    stage.program("sudo", '#!/bin/sh\nexec "$@"\n')
    found = stage.ask("journal")
    assert (found.verdict, "another user" in found.finding) == (BAD, True)
    stage.follow(found.fix)
    assert is_well(stage.ask("journal"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(stage: Stage) -> None:
    stage.state.create()
    stage.state.path.chmod(0o500)
    found = stage.ask("journal")
    assert (found.verdict, "not writable" in found.finding) == (BAD, True)
    stage.follow(found.fix)
    assert is_well(stage.ask("journal"))


@pytest.mark.parametrize(
    ("free", "verdict"), [(10 * 1024**3, OK), (500 * 1024**2, WARN), (10 * 1024**2, BAD), (-1, UNKNOWN)]
)
def test_room_on_the_disk(tmp_path: Path, free: int, verdict: Verdict) -> None:
    facts = RelayFacts(tmp_path, tmp_path / "config.yaml", "127.0.0.1:4318", free=free)
    (found,) = [each for each in judge(facts) if each.name == "disk"]
    assert found.verdict is verdict


@pytest.mark.parametrize(
    ("keeping", "verdict", "words"),
    [
        ({"full": True, "reason": "4 GiB wait"}, BAD, "takes no more"),
        (
            {"damage": {"file": "journal.db.damaged-1", "reason": "noise", "lost": 2}},
            WARN,
            "2 requests are lost",
        ),
        ({}, OK, "can be written"),
    ],
)
def test_what_the_relay_says_of_its_journal(
    tmp_path: Path, keeping: dict[str, Any], verdict: Verdict, words: str
) -> None:
    facts = RelayFacts(tmp_path, tmp_path / "config.yaml", "127.0.0.1:4318", keeping=keeping)
    (found,) = [each for each in judge(facts) if each.name == "journal"]
    assert (found.verdict, words in found.finding) == (verdict, True)


# ---- MLflow, from a script


def no_experiment(stage: Stage) -> None:
    stage.mlflow.experiments = {"2"}


def reading(status: int, body: bytes, *paths: str) -> Callable[[Stage], None]:
    """MLflow answers this to questions whose path ends so."""

    def provoke(stage: Stage) -> None:
        real = stage.mlflow.read

        def read(taken: Any) -> Reply:
            said = taken.path.split("?")[0].endswith(paths)
            return Reply(status, body, JSON) if said else real(taken)

        stage.patch.setattr(stage.mlflow, "read", read)

    return provoke


DELETED = json.dumps({"experiment": {"experiment_id": "1", "name": "hermes", "lifecycle_stage": "deleted"}})


@pytest.mark.parametrize(
    ("provoke", "name", "words", "command"),
    [
        (lambda s: s.mlflow.close(), "MLflow", "cannot be reached", "mlflow server --host 127.0.0.1"),
        (
            reading(403, b"Invalid Host header", "/health"),
            "MLflow",
            "refuses the host name",
            "--allowed-hosts",
        ),
        (reading(404, b"<html>", "/health"), "MLflow", "no healthy MLflow", "mlflow server"),
        (reading(200, b"3.5.1", "/version"), "MLflow version", "takes no OTLP", "pip install --upgrade"),
        (no_experiment, "experiment", "does not exist", "experiments create"),
        (
            reading(200, DELETED.encode(), "/experiments/get"),
            "experiment",
            "is deleted",
            "experiments restore --experiment-id 1",
        ),
        (reading(403, b"{}", "/experiments/get"), "credentials", "no rights", "permissions/grant"),
        (reading(401, b"{}", "/experiments/get"), "credentials", "does not accept", ""),
    ],
)
def test_what_mlflow_answers(
    stage: Stage, provoke: Callable[[Stage], None], name: str, words: str, command: str
) -> None:
    stage.start()
    before = stage.examine()
    assert is_well(before[name]) or name == "credentials"
    provoke(stage)
    found = stage.ask(name)
    assert (found.verdict, words in found.finding) == (BAD, True), found
    assert found.fix is not None
    assert command in " ".join(found.fix.commands)
    assert found.proof


def test_a_store_of_files_is_told_by_the_probe_span(stage: Stage) -> None:
    refusal = b'{"detail": "REST OTLP span logging is not supported by FileStore"}'
    stage.mlflow.answer = lambda _: Reply(501, refusal, JSON)
    stage.start()
    found = stage.examine(probe=True)
    assert (found["MLflow store"].verdict, "files" in found["MLflow store"].finding) == (BAD, True)
    assert (found["probe span"].verdict, "held" in found["probe span"].finding) == (BAD, True)
    assert sum(counts(stage.state).values()) == 0, "a probe that is held is taken away again"
    stage.mlflow.answer = lambda _: Reply()
    again = stage.examine(probe=True)
    assert is_well(again["MLflow store"])
    assert is_well(again["probe span"])


def test_a_probe_span_that_waits(stage: Stage) -> None:
    stage.mlflow.answer = lambda _: Reply(503)
    stage.start()
    found = stage.ask("probe span", probe=True, patience_s=2.0)
    assert (found.verdict, "has not accepted it" in found.finding) == (WARN, True), found
    assert sum(counts(stage.state).values()) == 0


@contextmanager
def echo() -> Iterator[str]:
    """A server that says back whatever credentials it is shown."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ok = self.path.startswith(("/health", "/version"))
            body = f'{{"message": "who is {self.headers.get("Authorization")}?"}}'.encode()
            self.send_response(200 if ok else 401)
            self.end_headers()
            self.wfile.write(b"3.17.2" if ok else body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_no_credential_is_ever_said(stage: Stage) -> None:
    with echo() as url:
        stage.patch.setenv("MLFLOW_TRACKING_URI", url)
        stage.patch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        stage.patch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
        headers = {"authorization": f"Bearer {SECRET}", "x-mlflow-experiment-id": "1"}
        stage.otel(
            backend={"headers": headers, "endpoint": f"http://me:{SECRET}@127.0.0.1:{stage.port}/v1/traces"}
        )
        done = cli("--json", "--no-probe")
        text = cli("-v", "--no-probe")
    assert done.returncode == text.returncode == 1
    assert named(json.loads(done.stdout), "credentials")["verdict"] == "bad"
    assert "who is" in done.stdout
    for said in (done.stdout, done.stderr, text.stdout, text.stderr):
        assert SECRET not in said

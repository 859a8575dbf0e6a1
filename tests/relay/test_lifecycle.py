"""Real relay processes from start to end: one per state folder, whoever starts it, however it ends."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from hermes_tui import __version__
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.relay.lock import Running, find
from tests.processes import (
    DEADLINE_S,
    Destination,
    RelayProcess,
    Reply,
    clean_environment,
    counts,
    post,
    run_cli,
    span_keys,
)
from tests.support import body_of, tail_all, wait_for, wire_span

pytestmark = pytest.mark.process

ENSURE = """
import sys
from hermes_tui.journal.files import StateDir
from hermes_tui.relay.launch import Launcher, LaunchError
from pathlib import Path
folder, *flags = sys.argv[1:]
try:
    print(Launcher(StateDir(Path(folder)), ["--state-dir", folder, "--http-port", "0", *flags]).ensure().pid)
except LaunchError as error:
    sys.exit(f"LaunchError: {error}")
"""

PRIVATE = """
import sys
from hermes_tui.relay.launch import private_relay
with private_relay() as state:
    print(state.path, flush=True)
    sys.stdin.readline()
"""


def python(code: str, *arguments: str, umask: int = -1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        umask=umask,
    )


def ended(process: subprocess.Popen[str]) -> str:
    """The output of a process that must end well."""
    said, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    return said.strip()


def end(running: Running | None) -> None:
    """kill -9 a relay that a test had started by others."""
    if running is not None and running.pid > 0:
        relay = psutil.Process(running.pid)
        relay.kill()
        psutil.wait_procs([relay], DEADLINE_S)


def relays_of(state: StateDir) -> list[int]:
    """Ids of all processes that were started with this state folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(state.path) in (process.info["cmdline"] or ())
    ]


@pytest.fixture
def launched(state: StateDir) -> Iterator[StateDir]:
    """A state folder whose relays others start; all are ended at the end."""
    yield state
    left = [psutil.Process(pid) for pid in relays_of(state)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, DEADLINE_S)


def identity(running: Running | None) -> dict[str, str]:
    assert running is not None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{running.http}/", timeout=DEADLINE_S) as answer:
        found: dict[str, str] = json.load(answer)
        return found


def one_line(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one line that a failing command says, on standard error alone."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def status(state: StateDir) -> dict[str, object]:
    done = run_cli("status", "--json", "--state-dir", str(state.path))
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_start_status_stop(start_relay: Callable[..., RelayProcess], state: StateDir) -> None:
    assert status(state)["running"] is False
    assert not state.path.exists()  # looking creates nothing
    relay = start_relay(state)
    found = status(state)
    assert found["running"] is True
    assert found["pid"] == relay.process.pid
    assert found["http"] == relay.address
    assert found["version"] == __version__
    assert identity(find(state)) == {"service": "hermes-trace-tui", "version": __version__}
    assert f"relay on {relay.url}, journal in {state.path}, MLflow not configured" in relay.said()
    done = run_cli("stop", "--state-dir", str(state.path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "The relay has ended.\n", "")
    assert relay.process.wait(DEADLINE_S) == 0
    assert relay.stop() == 0  # its log holds no traceback
    assert status(state)["running"] is False
    done = run_cli("stop", "--state-dir", str(state.path))
    assert (done.returncode, done.stdout) == (1, "No relay runs for this state folder.\n")


def test_a_second_relay_names_the_first(start_relay: Callable[..., RelayProcess], state: StateDir) -> None:
    first = start_relay(state)
    second = run_cli("relay", "--state-dir", str(state.path), "--http-port", "0")
    said = one_line(second, 1)
    assert f"pid {first.process.pid}" in said
    assert first.url in said
    assert first.process.poll() is None
    assert find(state) == first.running


def test_of_many_that_start_at_once_one_relay_is_left(launched: StateDir) -> None:
    starting = [python(ENSURE, str(launched.path)) for _ in range(5)]
    pids = {ended(process) for process in starting}
    running = find(launched)
    assert running is not None
    assert pids == {str(running.pid)}
    assert running.started_by == "pane"
    wait_for(lambda: relays_of(launched) == [running.pid], DEADLINE_S)
    # Its starters are gone, it is not.
    assert identity(running)["service"] == "hermes-trace-tui"
    assert ended(python(ENSURE, str(launched.path))) == str(running.pid)


def test_after_kill_9_a_new_one_is_started(launched: StateDir) -> None:
    first = int(ended(python(ENSURE, str(launched.path))))
    running = find(launched)
    assert running is not None
    assert post(str(running.http), body_of(wire_span(1))) == 200
    end(running)
    assert find(launched) is None
    second = int(ended(python(ENSURE, str(launched.path))))
    assert second != first
    assert identity(find(launched))["version"] == __version__
    wait_for(lambda: counts(launched)["local"] == 1, DEADLINE_S)


def test_why_a_relay_did_not_start_is_told(launched: StateDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = python(ENSURE, str(launched.path), "--http-port", str(port))
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith(f"LaunchError: port {port} on 127.0.0.1 is in use")


def test_a_taken_port_names_its_holder(state: StateDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = one_line(run_cli("relay", "--state-dir", str(state.path), "--http-port", port))
    assert port in said
    assert f"(pid {os.getpid()})" in said
    assert "--http-port" in said


def test_a_port_taken_by_another_relay_says_so(
    start_relay: Callable[..., RelayProcess], state: StateDir, tmp_path: Path
) -> None:
    first = start_relay(state)
    port = first.address.rpartition(":")[2]
    said = one_line(run_cli("relay", "--state-dir", str(tmp_path / "other"), "--http-port", port))
    assert f"relay of another state folder (pid {first.process.pid})" in said


def test_an_unusable_state_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "below", tmp_path / "file" / "far" / "below"):
        said = one_line(run_cli("relay", "--state-dir", str(folder), "--http-port", "0"))
        assert str(folder) in said
        assert "--state-dir" in said
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "journal.db").mkdir()
    said = one_line(run_cli("relay", "--state-dir", str(tmp_path / "taken"), "--http-port", "0"))
    assert "journal.db" in said


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        (["--http-port", "70000"], {}, "--http-port"),
        ([], {"HERMES_TRACE_HTTP_PORT": "many"}, "HERMES_TRACE_HTTP_PORT"),
        ([], {"MLFLOW_TRACKING_URI": "file:///runs"}, "MLFLOW_TRACKING_URI"),
        (["--mlflow", "localhost:5000"], {}, "--mlflow"),
        (["--host", "not.an.address.invalid"], {}, "not.an.address.invalid"),
        (["--host", "192.0.2.7"], {}, "192.0.2.7"),
    ],
)
def test_wrong_settings(state: StateDir, flags: list[str], environment: dict[str, str], words: str) -> None:
    flags = [*flags, *([] if "--http-port" in flags or environment else ["--http-port", "0"])]
    done = run_cli("relay", "--state-dir", str(state.path), *flags, environment=environment)
    assert words in one_line(done)


@pytest.mark.parametrize("text", ["mlflow: [", "mlflow:\n  ur: http://x", "- a list", "http_port: many"])
def test_a_wrong_settings_file(state: StateDir, tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    done = run_cli("relay", "--state-dir", str(state.path), environment={"HERMES_TRACE_CONFIG": str(file)})
    assert str(file) in one_line(done)


@pytest.mark.parametrize(
    "arguments", [["relay", "--no-such-flag"], ["relay", "--http-port", "x"], ["nonsense"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_everything_is_private_whatever_the_umask_says(launched: StateDir) -> None:
    ended(python(ENSURE, str(launched.path), umask=0))
    running = find(launched)
    assert running is not None
    assert post(str(running.http), body_of(wire_span(1)), Authorization="Bearer x") == 200
    assert stat.S_IMODE(launched.path.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in launched.path.iterdir()}
    assert {launched.log.name, launched.journal.name, launched.credentials.name} <= modes.keys()
    assert set(modes.values()) == {0o600}, modes


def test_a_folder_open_to_others_is_closed(start_relay: Callable[..., RelayProcess], state: StateDir) -> None:
    state.path.mkdir()
    state.path.chmod(0o755)
    assert start_relay(state).stop() == 0
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_sigterm_in_the_middle_of_traffic_loses_nothing_it_answered(
    start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    relay = start_relay(state)
    address = relay.address
    answered: list[bytes] = []
    enough = threading.Event()

    def send(lane: int) -> None:
        for number in range(1_000_000):
            body = body_of(wire_span(lane * 1_000_000 + number))
            try:
                status = post(address, body)
            except OSError:
                return
            if status != 200:
                return
            answered.append(body)
            if len(answered) >= 100:
                enough.set()

    senders = [threading.Thread(target=send, args=(lane,)) for lane in range(4)]
    for sender in senders:
        sender.start()
    assert enough.wait(DEADLINE_S)
    assert relay.stop() == 0
    for sender in senders:
        sender.join(DEADLINE_S)
        assert not sender.is_alive()
    with Reader(state.journal) as reader:
        kept = {(span.trace_id, span.span_id, span.end_ns) for span in tail_all(reader)}
    sent = {key for body in answered for key in span_keys(body)}
    assert sent <= kept
    assert len(kept) - len(sent) <= len(senders)  # at most one a sender whose answer got lost


def raw_request(body: bytes, host: str) -> bytes:
    head = f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-protobuf\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def test_sigterm_while_requests_arrive_and_the_destination_hangs(
    start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    """Half a request is either taken whole or not at all; what was answered is sent after the next start."""
    bodies = [body_of(wire_span(number, trace=number, text="x" * 200_000)) for number in range(12)]
    with Destination(answer=lambda _: Reply(hang=True)) as there, ExitStack() as stack:
        relay = start_relay(state, "--mlflow", there.url)
        address = relay.address
        assert post(address, bodies[0]) == 200
        wait_for(lambda: there.posts, DEADLINE_S)  # it hangs from now on
        host, port = address.split(":")
        slow = []
        for body in bodies[1:]:
            sender = stack.enter_context(socket.create_connection((host, int(port)), timeout=DEADLINE_S))
            sender.sendall(raw_request(body, address)[:100_000])
            slow.append(sender)
        relay.process.terminate()
        answers = [
            finish_slowly(sender, raw_request(body, address)[100_000:])
            for sender, body in zip(slow, bodies[1:], strict=True)
        ]
        assert relay.process.wait(DEADLINE_S) == 0
        taken = [
            bodies[0],
            *(body for body, answer in zip(bodies[1:], answers, strict=True) if answer == 200),
        ]
        assert set(answers) <= {200, 503, None}
        there.answer = lambda _: Reply()
        relay = start_relay(state, "--mlflow", there.url)
        wanted = {key for body in taken for key in span_keys(body)}
        wait_for(lambda: wanted <= there.accepted(), DEADLINE_S)
        assert relay.stop() == 0


def finish_slowly(sender: socket.socket, rest: bytes) -> int | None:
    """Send the rest of a request; the status of the answer, None when there is none."""
    try:
        for at in range(0, len(rest), 20_000):
            sender.sendall(rest[at : at + 20_000])
        answer = sender.makefile("rb").readline()
    except OSError:
        return None
    return int(answer.split()[1]) if answer else None


def test_a_private_relay_goes_with_its_owner(tmp_path: Path) -> None:
    owner = python(PRIVATE)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    running = find(StateDir(folder))
    assert identity(running)["service"] == "hermes-trace-tui"
    assert running is not None
    relay = psutil.Process(running.pid)
    ended(owner)
    assert not folder.exists()
    psutil.wait_procs([relay], DEADLINE_S)
    assert not relay.is_running()


def test_a_private_relay_goes_even_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = python(PRIVATE)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    running = find(StateDir(folder))
    assert running is not None
    relay = psutil.Process(running.pid)
    owner.kill()
    owner.communicate(timeout=DEADLINE_S)
    psutil.wait_procs([relay], DEADLINE_S)
    assert not relay.is_running()
    wait_for(lambda: not folder.exists(), DEADLINE_S)


def test_a_private_relay_reaches_nobody(tmp_path: Path) -> None:
    environment = clean_environment(MLFLOW_TRACKING_URI="http://127.0.0.1:9", HERMES_TRACE_HTTP_PORT="x")
    owner = subprocess.run(
        [sys.executable, "-c", PRIVATE.replace("sys.stdin.readline()", "print(state.address.read_text())")],
        env=environment,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert owner.returncode == 0, owner.stderr
    assert json.loads(owner.stdout.splitlines()[1])["destination"] is None

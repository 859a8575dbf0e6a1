"""verify, retry and purge as users run them: real relays, a destination that can be read back."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir
from hermes_tui.relay.lock import find
from tests.fake_mlflow import FakeMLflow
from tests.processes import (
    DEADLINE_S,
    HEEDING,
    Destination,
    RelayProcess,
    Reply,
    clean_environment,
    counts,
    post,
    relays,
    run_cli,
    span_keys,
)
from tests.support import body_of, span_id, wait_for, wire_span

pytestmark = pytest.mark.process

SESSIONS = ("a", "b", "c")
REFUSED = Reply(403, b'{"error_code": "PERMISSION_DENIED", "message": "no rights"}')


def turn(number: int) -> bytes:
    """A request with a turn of three spans in session a, b or c; their numbers are 10 * `number` + 0…2."""
    session = SESSIONS[number % 3]
    first = 10 * number
    return body_of(
        wire_span(first, trace=number, name="agent", session__id=session),
        *(
            wire_span(first + each, trace=number, parent=first, name=f"tool {each}", session__id=session)
            for each in (1, 2)
        ),
    )


def hex_id(number: int) -> str:
    return span_id(number).hex()


class Scene:
    """A state folder, its relays and the commands run on it."""

    def __init__(self, state: StateDir, start: Callable[..., RelayProcess]) -> None:
        self.state = state
        self._start = start
        self.relay: RelayProcess | None = None

    def start(self, *flags: str) -> None:
        self.relay = self._start(self.state, *flags)

    def send(self, *turns: int) -> None:
        """In one request: merged protobuf messages are one."""
        assert self.relay is not None
        assert post(self.relay.address, b"".join(turn(number) for number in turns)) == 200

    def stop(self) -> None:
        assert self.relay is not None
        assert self.relay.stop() == 0

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = run_cli(
            *arguments, "--state-dir", str(self.state.path), environment=environment
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def document(self, *arguments: str, code: int = 0, **environment: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json", **environment)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert done.stderr == ""
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def sentence(self, *arguments: str, code: int, **environment: str) -> str:
        done = self.run(*arguments, **environment)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ")
        return line

    def settled(self, **said: int) -> None:
        """Wait until these are the counts, those not named 0."""
        expected = {**dict.fromkeys(counts(self.state), 0), **said}
        wait_for(lambda: counts(self.state) == expected, DEADLINE_S)

    def wishes(self) -> list[str]:
        with Desk(self.state) as desk:
            return [wish.id for wish in desk.wishes()]


@pytest.fixture
def scene(state: StateDir, tmp_path: Path) -> Iterator[Scene]:
    with relays(tmp_path) as start:
        yield Scene(state, start)


@pytest.fixture
def mlflow() -> Iterator[FakeMLflow]:
    with FakeMLflow() as there:
        yield there


def bad_span(number: int) -> Callable[[Any], bool]:
    return lambda key: key[1] == span_id(number)


# ---- verify


def test_a_missing_a_refused_and_a_confirmed_span_and_their_repair(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.refuse = bad_span(1)
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=2, quarantined=1)
    mlflow.forget([key for key in mlflow.stored() if key[1] == span_id(2)])
    found = scene.document("verify", code=1)
    assert (found["destination"], found["spans"], found["confirmed"]) == (mlflow.url, 3, 1)
    assert found["missing"] == [hex_id(1), hex_id(2)]
    assert [(each["span"], each["name"]) for each in found["quarantined"]] == [
        (hex_id(1), "tool 1"),
        (hex_id(2), "tool 2"),
    ]
    assert "Failed to convert" in found["quarantined"][0]["reason"]
    assert "no longer there" in found["quarantined"][1]["reason"]
    done = scene.run("verify", "--session", "last")
    assert (done.returncode, done.stderr) == (1, "")
    first, *table = done.stdout.splitlines()
    assert first == f"1 of 3 spans confirmed in {mlflow.url}, 2 missing"
    assert [line.split()[:3] for line in table[1:] if line.strip()] == [
        [hex_id(1), "tool", "1"],
        [hex_id(2), "tool", "2"],
    ]
    assert "Failed to convert" in done.stdout
    again = scene.document("retry", code=1)
    assert (again["sent_again"], again["accepted"], again["quarantined"]) == (2, 1, 1)
    mlflow.refuse = lambda _: False
    assert scene.document("retry")["accepted"] == 1
    done = scene.run("verify")
    assert (done.returncode, done.stdout) == (0, f"3 of 3 spans confirmed in {mlflow.url}\n")
    assert mlflow.stored() == set(span_keys(turn(0)))
    assert scene.wishes() == []
    scene.stop()


def test_verify_is_about_one_session_when_asked(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.refuse = bad_span(11)
    scene.start("--mlflow", mlflow.url)
    scene.send(0, 1)
    scene.settled(confirmed=5, quarantined=1)
    assert scene.document("verify", "--session", "a")["spans"] == 3
    assert scene.document("verify", "--session", "b", code=1)["missing"] == [hex_id(11)]
    assert scene.document("verify", "--session", "last", code=1)["spans"] == 3
    assert scene.document("verify", code=1)["spans"] == 6
    assert "no session 'nobody'" in scene.sentence("verify", "--session", "nobody", code=1)
    assert scene.document("retry", "--session", "a")["sent_again"] == 0
    scene.stop()


def test_what_is_lost_twice_is_named(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.lose = bad_span(0)
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=2, quarantined=1)
    found = scene.document("verify", code=1)
    assert found["missing"] == [hex_id(0)]
    assert "answered 200 twice" in found["quarantined"][0]["reason"]
    mlflow.lose = lambda _: False
    assert scene.run("retry").returncode == 0
    assert scene.document("verify")["confirmed"] == 3
    scene.stop()


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        pytest.param(REFUSED, "403", id="no rights to read"),
        pytest.param(Reply(500), "500", id="it fails"),
        pytest.param(Reply(404, b"<html>"), "cannot be read back", id="no such API"),
        pytest.param(Reply(200, b"<html>"), "read back", id="no JSON"),
        pytest.param(Reply(drop=True), "could not be read back", id="it hangs up"),
    ],
)
def test_what_cannot_be_read_back_is_said(
    scene: Scene, mlflow: FakeMLflow, reading: Reply, says: str
) -> None:
    mlflow.reading = reading
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(accepted=3)
    found = scene.document("verify", code=1)
    assert found["missing"] == [hex_id(number) for number in range(3)]
    assert found["confirmed"] == 0
    assert says in found["error"]
    assert mlflow.url in found["error"]
    mlflow.reading = None
    assert scene.document("verify")["confirmed"] == 3
    scene.stop()


def test_a_collector_takes_everything_and_proves_nothing(scene: Scene) -> None:
    with Destination() as collector:
        scene.start("--mlflow", collector.url)
        scene.send(0)
        scene.settled(accepted=3)
        assert f"{collector.url} cannot be read back" in scene.sentence("verify", code=1)
        scene.stop()


def test_there_must_be_somewhere_to_look(scene: Scene, mlflow: FakeMLflow) -> None:
    for command in ("verify", "retry"):
        assert "no destination is configured" in scene.sentence(command, code=2)
        assert "no session yet" in scene.sentence(
            command, "--session", "x", code=1, MLFLOW_TRACKING_URI=mlflow.url
        )
    assert scene.document("verify", "--mlflow", mlflow.url) == {
        "destination": mlflow.url,
        "spans": 0,
        "confirmed": 0,
        **{
            name: []
            for name in ("missing", "not_found", "quarantined", "held", "accepted", "queued", "local")
        },
        "error": None,
    }
    assert scene.document("retry", "--mlflow", mlflow.url)["sent_again"] == 0
    assert not scene.state.path.exists()
    scene.start()
    scene.send(0)
    scene.settled(local=3)
    assert "no destination" in scene.sentence("verify", code=1)
    assert "no destination" in scene.sentence("retry", code=1)
    assert f"sends to nobody, not to {mlflow.url}" in scene.sentence("verify", "--mlflow", mlflow.url, code=2)
    scene.stop()


def test_another_destination_than_the_relays_is_said(scene: Scene, mlflow: FakeMLflow) -> None:
    scene.start("--mlflow", mlflow.url + "/")
    scene.send(0)
    scene.settled(confirmed=3)
    assert scene.document("verify", "--mlflow", mlflow.url)["confirmed"] == 3
    line = scene.sentence("verify", "--mlflow", "http://user:secret@127.0.0.1:9", code=2)
    assert f"the running relay sends to {mlflow.url}" in line
    assert "not to http://127.0.0.1:9;" in line
    done = scene.run("verify", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (done.returncode, done.stdout[:6]) == (0, "3 of 3")
    assert done.stderr.startswith("Note: the running relay sends to")
    assert len(done.stderr.splitlines()) == 1
    scene.stop()


# ---- retry


def test_held_spans_go_when_it_is_mended(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.answer = lambda _: REFUSED
    scene.start("--mlflow", mlflow.url)
    scene.send(0, 1)
    scene.settled(held=6)
    found = scene.document("verify", code=1)
    assert [each["name"] for each in found["held"]] == ["agent", "tool 1", "tool 2"] * 2
    again = scene.document("retry", "--session", "a", code=1)
    assert (again["sent_again"], again["held"]) == (3, 3)
    (reason,) = again["reasons"]
    done = scene.run("retry")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == ["Sent 6 spans again: 6 held.", reason]
    mlflow.answer = lambda _: Reply()
    done = scene.run("retry")
    assert (done.returncode, done.stdout) == (0, "Sent 6 spans again: 6 accepted.\n")
    assert scene.document("verify")["confirmed"] == 6
    done = scene.run("retry")
    assert (done.returncode, done.stdout) == (0, "Nothing is held or quarantined.\n")
    scene.stop()


def test_local_spans_are_sent_when_asked_for(scene: Scene, mlflow: FakeMLflow) -> None:
    scene.start()
    scene.send(0)
    scene.send(1)
    scene.settled(local=6)
    scene.stop()
    assert scene.document("retry", "--mlflow", mlflow.url)["sent_again"] == 0
    assert scene.document("verify", "--mlflow", mlflow.url, code=1)["local"] == [
        hex_id(number) for number in (0, 1, 2, 10, 11, 12)
    ]
    done = scene.run("verify", "--mlflow", mlflow.url)
    assert "retry --local" in done.stdout
    assert mlflow.stored() == set()
    again = scene.document("retry", "--local", "--session", "b", "--mlflow", mlflow.url)
    assert (again["sent_again"], again["accepted"]) == (3, 3)
    assert mlflow.stored() == set(span_keys(turn(1)))
    again = scene.document("retry", "--local", "--mlflow", mlflow.url)
    assert again["sent_again"] == 3
    assert scene.document("verify", "--mlflow", mlflow.url)["confirmed"] == 6


def test_a_destination_that_is_down_leaves_them_queued(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.refuse = bad_span(1)
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=2, quarantined=1)
    mlflow.close()
    again = scene.document("retry")
    assert (again["sent_again"], again["queued"]) == (1, 1)
    assert "cannot be reached" in again["reasons"][0]
    mlflow.refuse = lambda _: False
    mlflow.open()
    scene.settled(confirmed=3)
    scene.stop()


# ---- purge


FORGOTTEN = {"requests": 1, "spans": 3, "undelivered": 0}


def test_a_session_is_forgotten_and_the_rest_stays(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.refuse = bad_span(11)
    scene.start("--mlflow", mlflow.url)
    for number in range(3):
        scene.send(number)
    scene.settled(confirmed=8, quarantined=1)
    found = scene.document("purge", "--session", "b", "--yes")
    assert found.pop("bytes") > 0
    assert found == {**FORGOTTEN, "undelivered": 1}
    scene.settled(confirmed=6)
    assert scene.document("verify")["spans"] == 6
    assert {each["session"] for each in json.loads(scene.run("sessions", "--json").stdout)} == {"a", "c"}
    assert len(mlflow.stored()) == 8  # MLflow keeps what it has
    assert "no session 'b'" in scene.sentence("purge", "--session", "b", "--yes", code=1)
    done = scene.run("purge", "--session", "last", "--yes")
    assert (done.returncode, done.stdout) == (0, "Forgot 1 request with 3 spans.\n")
    scene.settled(confirmed=3)
    assert scene.wishes() == []
    scene.stop()


def test_what_is_older_is_forgotten(scene: Scene) -> None:
    scene.start()
    scene.send(0)
    scene.send(1)
    scene.settled(local=6)
    nothing = {"requests": 0, "spans": 0, "undelivered": 0, "bytes": 0}
    for before in ("1d", "1970-01-01", "1970-01-01T00:00:01Z", "2000-01-01 12:00+02:00", "99999999d"):
        assert scene.document("purge", "--before", before, "--yes") == nothing
    assert scene.run("purge", "--before", "3w", "--yes").stdout == "Nothing to forget.\n"
    scene.settled(local=6)
    done = scene.run("purge", "--before", "9999-12-31", "--yes")
    assert (done.returncode, done.stdout) == (0, "Forgot 2 requests with 6 spans.\n")
    scene.settled()
    scene.stop()


def test_nothing_is_forgotten_unasked(scene: Scene) -> None:
    scene.start()
    scene.send(0)
    scene.settled(local=3)
    line = scene.sentence("purge", "--session", "a", code=2)
    assert "Forget 1 request with 3 spans?" in line
    assert "--yes" in line
    asked = b"Forget 1 request with 3 spans? [y/N]"
    for answer, code in ((b"n\n", 1), (b"\n", 1), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        with ExitStack() as stack:
            stack.callback(os.close, ours)
            streams = {"stdin": theirs, "stderr": theirs}
            command = stack.enter_context(begin(scene, "purge", "--session", "a", **streams))
            os.close(theirs)
            os.write(ours, answer)
            said, _ = command.communicate(timeout=DEADLINE_S)
            assert asked in os.read(ours, 65536)
        assert command.returncode == code
        assert said == (b"" if code else b"Forgot 1 request with 3 spans.\n")
        scene.settled(**({"local": 3} if code else {}))
    scene.stop()


def test_what_is_forgotten_without_a_relay_is_not_sent_first(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.answer = lambda _: Reply(503)
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.send(1)
    wait_for(lambda: mlflow.posts, DEADLINE_S)
    scene.stop()
    mlflow.answer = lambda _: Reply()
    found = scene.document("purge", "--session", "a", "--yes", "--mlflow", mlflow.url)
    assert (found["requests"], found["undelivered"]) == (1, 3)
    assert scene.document("verify", "--mlflow", mlflow.url)["confirmed"] == 3
    assert mlflow.stored() == set(span_keys(turn(1)))


def test_an_address_that_purge_never_uses_is_no_hindrance(scene: Scene) -> None:
    scene.start()
    scene.send(0)
    scene.settled(local=3)
    wrong = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    assert scene.document("purge", "--session", "a", "--yes", **wrong)["spans"] == 3
    scene.stop()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--session ID or --before DATE"),
        (("--session", "a", "--before", "1d"), "--session ID or --before DATE"),
        (("--before", "yesterday"), "no date or age"),
        (("--before", "5"), "no date or age"),
        (("--before", "-1d"), "no date or age"),
        (("--before", ""), "no date or age"),
        (("--before", "2026-13-01"), "no date or age"),
    ],
)
def test_what_purge_cannot_understand(scene: Scene, arguments: tuple[str, ...], says: str) -> None:
    done = scene.run("purge", "--yes", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in " ".join(done.stderr.split())
    assert not scene.state.path.exists()


# ---- a relay for as long as it takes


def test_a_relay_is_lent_when_none_runs(scene: Scene, mlflow: FakeMLflow, tmp_path: Path) -> None:
    scene.start()
    scene.send(0)
    scene.settled(local=3)
    scene.stop()
    config = tmp_path / "config.yaml"
    config.write_text(f"mlflow:\n  url: {mlflow.url}\n  experiment: 7\nhost: 192.0.2.1\nhttp_port: 1\n")
    mlflow.experiments = {"7"}
    environment = {"HERMES_TRACE_CONFIG": str(config)}
    assert scene.document("retry", "--local", **environment)["accepted"] == 3
    assert scene.document("verify", **environment)["confirmed"] == 3
    assert find(scene.state) is None
    assert scene.wishes() == []
    mlflow.experiments = {"8"}
    mlflow.forget(mlflow.stored())
    assert scene.run("verify", "--experiment", "8", **environment).returncode == 1
    assert scene.document("retry", "--experiment", "8", **environment)["accepted"] == 3


def test_many_at_once_share_relays(scene: Scene, mlflow: FakeMLflow) -> None:
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=3)
    scene.stop()
    found: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(scene.run("verify", "--mlflow", mlflow.url)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert [(done.returncode, done.stderr) for done in found] == [(0, "")] * 4
    assert find(scene.state) is None
    assert scene.wishes() == []


def begin(scene: Scene, *arguments: str, **said: Any) -> subprocess.Popen[bytes]:
    """A command that goes on by itself."""
    return subprocess.Popen(
        [*HEEDING, *arguments, "--state-dir", str(scene.state.path)],
        env=clean_environment(),
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **said},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_the_command_ends_its_relay_and_takes_the_wish_back(
    scene: Scene, mlflow: FakeMLflow, number: signal.Signals
) -> None:
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=3)
    scene.stop()
    mlflow.reading = Reply(hang=True)
    with begin(scene, "verify", "--mlflow", mlflow.url) as command:
        asked = len(mlflow.reads)
        wait_for(lambda: len(mlflow.reads) > asked, DEADLINE_S)
        command.send_signal(number)
        said, wrong = command.communicate(timeout=DEADLINE_S)
    assert command.returncode != 0
    assert (said, b"Traceback" in wrong) == (b"", False)
    wait_for(lambda: find(scene.state) is None, DEADLINE_S)
    assert len(scene.wishes()) == (1 if number == signal.SIGKILL else 0)
    mlflow.reading = None
    assert scene.document("verify", "--mlflow", mlflow.url)["confirmed"] == 3


def test_a_relay_that_dies_meanwhile_is_replaced(scene: Scene, mlflow: FakeMLflow) -> None:
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=3)
    mlflow.reading = Reply(hang=True)
    with begin(scene, "verify", "--json", "--mlflow", mlflow.url) as command:
        asked = len(mlflow.reads)
        wait_for(lambda: len(mlflow.reads) > asked, DEADLINE_S)
        assert scene.relay is not None
        mlflow.reading = None
        scene.relay.kill()
        said, wrong = command.communicate(timeout=DEADLINE_S)
    assert (command.returncode, wrong) == (0, b"")
    assert json.loads(said)["confirmed"] == 3
    assert find(scene.state) is None


def test_a_wish_that_nobody_waits_for_is_answered_by_the_next_relay(scene: Scene, mlflow: FakeMLflow) -> None:
    mlflow.refuse = bad_span(1)
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=2, quarantined=1)
    scene.stop()
    with Desk(scene.state) as desk:
        desk.wish("retry", {"session": "a", "local": False})
    mlflow.refuse = lambda _: False
    scene.start("--mlflow", mlflow.url)
    scene.settled(confirmed=3)
    scene.stop()


def test_a_damaged_desk_is_one_line(scene: Scene, mlflow: FakeMLflow) -> None:
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=3)
    scene.state.desk.write_bytes(b"noise" * 1000)
    line = scene.sentence("verify", code=1)
    assert f"the desk {scene.state.desk} is damaged" in line
    scene.state.desk.unlink()
    assert scene.document("verify")["confirmed"] == 3
    scene.stop()


def test_progress_is_shown_on_a_terminal_only(scene: Scene, mlflow: FakeMLflow) -> None:
    scene.start("--mlflow", mlflow.url)
    scene.send(*range(60))
    scene.settled(confirmed=180)
    whole, slow = mlflow.read, threading.Event()

    def read(taken: Any) -> Reply:
        slow.wait(0.2)  # so that there is something to see
        return whole(taken)

    mlflow.read = read  # type: ignore[method-assign]
    ours, theirs = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, ours)
        command = stack.enter_context(begin(scene, "verify", stderr=theirs))
        os.close(theirs)
        said, _ = command.communicate(timeout=DEADLINE_S)
        shown = os.read(ours, 65536)
    assert command.returncode == 0
    assert said.startswith(b"180 of 180")
    assert b"/60 traces read back" in shown
    assert shown.endswith(b"\r\x1b[K")
    scene.stop()


def test_help_says_what_each_does() -> None:
    for command in ("verify", "retry", "purge"):
        done = run_cli(command, "--help")
        assert done.returncode == 0
        assert "--state-dir" in done.stdout
        assert "Uses the running relay" in " ".join(done.stdout.split())


def test_the_journal_answers_in_the_contracts_words(scene: Scene, mlflow: FakeMLflow) -> None:
    scene.start("--mlflow", mlflow.url)
    scene.send(0)
    scene.settled(confirmed=3)
    keys = ["destination", "spans", "confirmed", "missing"]
    found = scene.document("verify")
    assert list(found)[:4] == keys
    lists = {"missing", "not_found", "quarantined", "held", "accepted", "queued", "local"}
    assert {name for name, value in found.items() if value == []} == lists
    assert found["error"] is None
    assert list(scene.document("retry")) == [
        "sent_again",
        "accepted",
        "held",
        "quarantined",
        "queued",
        "reasons",
    ]
    scene.stop()

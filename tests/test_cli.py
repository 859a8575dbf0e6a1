"""The commands as users and scripts run them: whole processes, what they print and how they end."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from hermes_tui import __version__
from hermes_tui.cli import main
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.otlp.codec import PROTOBUF
from tests.processes import (
    DEADLINE_S,
    Destination,
    RelayProcess,
    Reply,
    clean_environment,
    counts,
    relays,
    run_cli,
)
from tests.support import RECORDINGS, body_of, caught_up, recording_names, truth, wait_for, wire_span

HEAVY = {"aiohttp", "grpc", "textual"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.?\d*Z")
FAILED = {"failed", "timeout", "interrupted", "blocked"}

SESSION_KEYS = {
    "session": str,
    "source": (str, type(None)),
    "model": (str, type(None)),
    "started": str,
    "ended": (str, type(None)),
    "turns": int,
    "spans": int,
    "commands": int,
    "input_tokens": int,
    "output_tokens": int,
    "cache_read_tokens": int,
    "reasoning_tokens": int,
    "cost": (float, int, type(None)),
    "status": str,
    "title": (str, type(None)),
}
COMMAND_KEYS = {
    "session": str,
    "trace": str,
    "span": str,
    "tool": str,
    "command": (str, type(None)),
    "cwd": (str, type(None)),
    "exit_code": (int, type(None)),
    "outcome": str,
    "started": str,
    "duration_s": (float, int),
    "output": (str, type(None)),
    "error": (str, type(None)),
    "truncated": bool,
    "command_truncated": bool,
    "source": str,
}
STATUS_KEYS = {
    "running": bool,
    "version": (str, type(None)),
    "pid": (int, type(None)),
    "http": (str, type(None)),
    "grpc": (str, type(None)),
    "destination": (str, type(None)),
    "spans": int,
    "local": int,
    "queued": int,
    "accepted": int,
    "confirmed": int,
    "held": int,
    "quarantined": int,
    "last_error": (str, type(None)),
}


def document(*arguments: str) -> Any:
    """The one JSON document that a command prints, and nothing else."""
    done = run_cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def has_shape(record: dict[str, Any], keys: dict[str, Any]) -> None:
    assert list(record) == list(keys)
    for name, kinds in keys.items():
        assert isinstance(record[name], kinds), (name, record[name])
        assert kinds is not int or not isinstance(record[name], bool), name


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., RelayProcess]]:
    with relays(tmp_path) as start:
        yield start


def indexed(state: StateDir) -> bool:
    with Reader(state.journal) as reader:
        return caught_up(reader)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    """A journal into which a real relay received all recordings, sent by `replay`."""
    folder = tmp_path_factory.mktemp("everything")
    state = StateDir(folder / "state")
    files = [str(RECORDINGS / f"{name}.otlp.jsonl") for name in recording_names()]
    with relays(folder) as start:
        relay = start(state)
        done = run_cli("replay", *files, "--speed", "0", "--state-dir", str(state.path))
        assert done.returncode == 0, done.stderr
        sent = sum(len(Path(file).read_text().splitlines()) for file in files)
        assert done.stderr == f"Sent {sent} requests, 0 refused.\n"
        assert relay.stop() == 0
    assert indexed(state)
    return state


# ---- help


def _all_commands() -> list[str]:
    return sorted(main.commands)


@pytest.mark.parametrize("name", ["", *_all_commands()])
def test_help_is_there_and_light(name: str) -> None:
    code = (
        "import sys\nfrom hermes_tui.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    print('MODULES', *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *([name] if name else []), "--help"],
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    text, _, modules = done.stdout.partition("MODULES")
    assert HEAVY.isdisjoint(modules.split())
    assert text.startswith("Usage: ")
    command = main.commands[name] if name else main
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.opts[0] in text
            assert parameter.help, parameter.opts
    if not name:
        assert all(each in text for each in _all_commands())


def test_version() -> None:
    done = run_cli("--version")
    assert done.returncode == 0
    assert __version__ in done.stdout


def test_the_pane_needs_a_terminal() -> None:
    for arguments in ([], ["demo"]):
        assert "terminal" in one_line(run_cli(*arguments), 2)


def test_options_go_behind_the_command(tmp_path: Path) -> None:
    done = run_cli("--state-dir", str(tmp_path), "status")
    assert done.returncode == 2
    assert "behind the command" in done.stderr


# ---- what was received


def test_sessions_agree_with_the_recordings(everything: StateDir) -> None:
    wanted: dict[str, dict[str, Any]] = {}
    for recording in truth().values():
        for name, session in recording["sessions"].items():
            known = wanted.setdefault(name, dict.fromkeys(_COUNTED, 0) | {"statuses": []})
            for key in _COUNTED:
                said = session[key]
                known[key] += len(said) if key == "commands" else said
            known["statuses"].append(session["status"])
    found = document("sessions", "--state-dir", str(everything.path))
    for record in found:
        has_shape(record, SESSION_KEYS)
        assert TIME.fullmatch(record["started"])
        assert record["ended"] is None or record["ended"] >= record["started"]
        assert record["status"] in {"running", "completed", "interrupted", "failed", "unknown"}
    assert [record["started"] for record in found] == sorted(record["started"] for record in found)
    assert sorted(record["session"] for record in found) == sorted(wanted)
    for record in found:
        known = wanted[record["session"]]
        assert {key: record[key] for key in _COUNTED} == {key: known[key] for key in _COUNTED}
        if len(known["statuses"]) == 1 and known["statuses"][0] is not None:
            assert record["status"] == known["statuses"][0], record["session"]


_COUNTED = ("spans", "turns", "commands", "input_tokens", "output_tokens", "cache_read_tokens")


def test_commands_agree_with_the_recordings(everything: StateDir) -> None:
    wanted = {
        each["span"]: {**each, "session": name}
        for recording in truth().values()
        for name, session in recording["sessions"].items()
        for each in session["commands"]
    }
    found = document("commands", "--state-dir", str(everything.path))
    for record in found:
        has_shape(record, COMMAND_KEYS)
        assert TIME.fullmatch(record["started"])
        assert len(record["trace"]) == 32
        assert record["duration_s"] >= 0
    assert [record["started"] for record in found] == sorted(record["started"] for record in found)
    assert sorted(record["span"] for record in found) == sorted(wanted)
    for record in found:
        known = wanted[record["span"]]
        told = ("exit_code", "outcome", "truncated") if record["source"] == "span" else ()
        for key in ("session", "trace", "tool", *told):
            assert record[key] == known[key], (key, known["begins"])
        if known["command"] is not None:
            assert record["command"] == known["command"]
    completed = {record["span"] for record in found if record["source"] != "span"}
    assert {record["source"] for record in found} == {"span", "model"}  # there is no state.db here
    assert all(wanted[span]["truncated"] for span in completed)
    assert not any(record["truncated"] for record in found if record["span"] in completed)
    outputs = {record["command"]: record["output"] for record in found}
    assert "tick 5" in outputs["for i in 1 2 3 4 5; do echo tick $i; sleep 1; done"]


def test_failed_commands(everything: StateDir) -> None:
    everyone = document("commands", "--state-dir", str(everything.path))
    failed = document("commands", "--failed", "--state-dir", str(everything.path))
    assert failed == [record for record in everyone if record["outcome"] in FAILED]
    assert {record["outcome"] for record in failed} == FAILED


def test_commands_of_one_session(everything: StateDir) -> None:
    folder = ("--state-dir", str(everything.path))
    everyone = document("commands", *folder)
    (name,) = truth()["thirty_steps"]["sessions"]
    ours = document("commands", "--session", name, *folder)
    assert len(ours) == 30
    assert ours == [record for record in everyone if record["session"] == name]
    # `weather` was sent last of all.
    (newest,) = truth()["weather"]["sessions"]
    assert document("commands", "--session", "last", *folder) == document(
        "commands", "--session", newest, *folder
    )
    unknown = run_cli("commands", "--session", "nobody", "--json", *folder)
    assert "'nobody'" in one_line(unknown, 1)


def test_status_of_a_journal_whose_relay_is_gone(everything: StateDir) -> None:
    found = document("status", "--state-dir", str(everything.path))
    has_shape(found, STATUS_KEYS)
    spans = sum(recording["spans"] for recording in truth().values())
    assert (found["running"], found["spans"], found["local"]) == (False, spans, spans)
    text = run_cli("status", "--state-dir", str(everything.path)).stdout
    assert "not running" in text
    assert f"{spans} local" in text


def test_formats(everything: StateDir, tmp_path: Path) -> None:
    (name,) = truth()["shell_corners"]["sessions"]
    flags = ("--session", name, "--state-dir", str(everything.path))
    records = document("commands", *flags)
    script = run_cli("commands", "--format", "sh", *flags).stdout
    assert script.startswith("#!/bin/sh\n")
    for record in records:
        assert record["command"] in script
    assert "exit 3" in script
    file = tmp_path / "script.sh"
    file.write_text(script, encoding="utf-8")
    assert subprocess.run(["sh", "-n", str(file)], check=False).returncode == 0
    text = run_cli("commands", *flags).stdout
    assert text == run_cli("commands", "--format", "text", *flags).stdout
    assert "✗ 3" in text
    marked = run_cli("commands", "--format", "md", *flags).stdout
    assert marked.count("\n```sh\n") == len(records)
    assert run_cli("commands", "--format", "toml", *flags).returncode == 2


def test_nothing_received_yet(tmp_path: Path) -> None:
    folder = ("--state-dir", str(tmp_path / "none"))
    assert document("sessions", *folder) == []
    assert document("commands", *folder) == []
    has_shape(found := document("status", *folder), STATUS_KEYS)
    assert (found["running"], found["spans"]) == (False, 0)
    assert run_cli("sessions", *folder).stdout == "No sessions yet.\n"
    assert run_cli("commands", *folder).stdout == "No commands.\n"
    one_line(run_cli("commands", "--session", "last", *folder), 1)
    assert not (tmp_path / "none").exists()


def test_a_narrow_terminal_loses_no_column(everything: StateDir) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes_tui", "sessions", "--state-dir", str(everything.path)],
        env=clean_environment(COLUMNS="80", LINES="24", TERM="dumb"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait(DEADLINE_S) == 0
    header, *rows = said.decode().splitlines()
    assert header.split()[-5:] == ["turns", "commands", "spans", "in", "out"]
    (name,) = truth()["thirty_steps"]["sessions"]
    (row,) = [row for row in rows if name in row]
    assert row.split()[-5:] == ["1", "30", "58", "428.3k", "1.2k"]


# ---- text from outside

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07\x9b2J\x90q\x9c\u202egnp.\u2066x\u2069\x7f\x08\r\x00\u200b\ufeff\u2028end"
)
BAD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def _hostile_body() -> bytes:
    agent = wire_span(
        1, name="agent" + HOSTILE, session__id="s" + HOSTILE, input__value=HOSTILE, hermes__platform=HOSTILE
    )
    call = wire_span(2, parent=1, name="api." + HOSTILE, session__id="s" + HOSTILE)
    call.attributes.add(key="gen_ai.response.model").value.string_value = "m" + HOSTILE
    spans = [agent, call]
    texts = ("echo " + HOSTILE, HOSTILE + "\n```\n" + HOSTILE, "half \ud83d a pair", "")
    for number, text in enumerate(texts, 10):
        arguments = {"command": text, "workdir": "/tmp/" + HOSTILE, "code": text}
        result = {"output": text, "exit_code": number - 10, "error": HOSTILE, "status": HOSTILE}
        tool = wire_span(number, parent=1, name="tool.terminal", session__id="s" + HOSTILE)
        tool.attributes.add(key="gen_ai.tool.name").value.string_value = "terminal"
        tool.attributes.add(key="input.value").value.string_value = json.dumps(arguments)
        tool.attributes.add(key="output.value").value.string_value = json.dumps(result)
        tool.attributes.add(key="hermes.tool.outcome").value.string_value = HOSTILE
        spans.append(tool)
    code = wire_span(30, parent=1, name="tool.execute_code" + HOSTILE, session__id="s" + HOSTILE)
    code.attributes.add(key="gen_ai.tool.name").value.string_value = "execute_code"
    code.attributes.add(key="input.value").value.string_value = json.dumps({"code": HOSTILE + "\nrm -rf /"})
    return body_of(*spans, code)


def _recording(file: Path, *bodies: bytes, **said: Any) -> Path:
    lines = [
        {
            "t": number / 100,
            "wall": 1_790_000_000 + number / 100,
            "method": "POST",
            "path": "/v1/traces",
            "headers": [["Content-Type", PROTOBUF]],
            "body": base64.b64encode(body).decode(),
            **said,
        }
        for number, body in enumerate(bodies)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_no_command_obeys_text_from_outside(start_relay: Callable[..., RelayProcess], tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    named = wire_span(50, name=HOSTILE)
    named.span_id = b"bad"
    recording = _recording(tmp_path / "hostile.jsonl", _hostile_body(), body_of(named))
    folder = ("--state-dir", str(state.path))
    said: list[bytes] = []

    def say(*arguments: str, code: int = 0) -> str:
        done = run_cli(*arguments, *folder, text=False)
        assert done.returncode == code, done.stderr
        said.extend((done.stdout, done.stderr))
        text: str = done.stdout.decode("utf-8")
        return text

    refusal = json.dumps({"detail": "Invalid " + HOSTILE}).encode()
    with Destination(answer=lambda _: Reply(422, refusal)) as there:
        relay = start_relay(state, "--mlflow", there.url, "--experiment", "1")
        say("replay", str(recording), "--speed", "0", code=1)
        wait_for(lambda: counts(state)["quarantined"] == 7, DEADLINE_S)
        say("status")
        say("status", "--json")
        assert relay.stop() == 0
    said.append(relay.log.read_bytes())
    say("sessions")
    say("commands")
    say("commands", "--format", "md")
    script = say("commands", "--format", "sh")
    assert "\nrm -rf /" not in script  # code is a comment there, all of its lines
    say("commands", "--session", HOSTILE.replace("\x00", ""), code=1)
    say("replay", str(tmp_path / HOSTILE.replace("\x00", "").replace("/", "")), "--to", "http://x", code=1)
    (session,) = json.loads(say("sessions", "--json"))
    assert session["session"] == "s" + HOSTILE
    assert session["model"] == "m" + HOSTILE
    records = json.loads(say("commands", "--json"))
    assert [record["command"] for record in records[:3]] == [
        "echo " + HOSTILE,
        HOSTILE + "\n```\n" + HOSTILE,
        "half \ud83d a pair",
    ]
    say("commands", "--session", "last")
    for text in said:
        decoded = text.decode("utf-8")
        assert not (found := BAD.findall(decoded)), (found, decoded)


# ---- replay


def test_replay_refuses_in_one_line(tmp_path: Path) -> None:
    folder = ("--state-dir", str(tmp_path / "none"))
    nobody = ("--to", "http://127.0.0.1:9", "--speed", "0")
    weather = str(RECORDINGS / "weather.otlp.jsonl")
    missing = str(tmp_path / "missing.jsonl")
    assert missing in one_line(run_cli("replay", missing, *nobody), 1)
    broken = tmp_path / "broken.jsonl"
    first = Path(weather).read_text().splitlines()[0]
    no_base64 = json.dumps({**json.loads(first), "body": "***"})
    for text in ("{", '{"t": 0}', "[]", no_base64, "\x00"):
        broken.write_text(f"{first}\n\n{text}\n")
        line = one_line(run_cli("replay", str(broken), *nobody), 1)
        assert f"{broken}, line 3" in line
    broken.write_bytes(b"\xff\xfe")
    assert str(broken) in one_line(run_cli("replay", str(broken), *nobody), 1)
    broken.write_text("\n")
    assert "holds no requests" in one_line(run_cli("replay", str(broken), *nobody), 1)
    assert "cannot reach http://127.0.0.1:9" in one_line(run_cli("replay", weather, *nobody), 1)
    assert "nonsense" in one_line(run_cli("replay", weather, "--to", "nonsense"), 1)
    assert "no relay runs" in one_line(run_cli("replay", weather, *folder), 2)
    assert run_cli("replay", weather, "--speed", "-1", *nobody[:2]).returncode == 2


def test_replay_keeps_the_pace_and_the_bytes(tmp_path: Path) -> None:
    name = "three_turns"
    file = RECORDINGS / f"{name}.otlp.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    with Destination() as there:
        done = run_cli("replay", str(file), "--to", there.url, "--speed", "20")
        assert done.returncode == 0, done.stderr
        assert [post.body for post in there.posts] == [base64.b64decode(line["body"]) for line in lines]
        assert [post.path for post in there.posts] == [line["path"] for line in lines]
        expected = (lines[-1]["t"] - lines[0]["t"]) / 20
        assert there.posts[-1].at - there.posts[0].at > expected - 0.1
        experiment = {post.headers.get("x-mlflow-experiment-id") for post in there.posts}
        assert experiment == {"1"}


def test_replay_counts_refusals(tmp_path: Path) -> None:
    with Destination(Reply(400)) as there:
        file = str(RECORDINGS / "weather.otlp.jsonl")
        done = run_cli("replay", file, "--to", there.url, "--speed", "0")
    assert (done.returncode, done.stderr) == (1, "Sent 2 requests, 1 refused.\n")


def test_replay_now_moves_all_times(tmp_path: Path) -> None:
    file = RECORDINGS / "weather.otlp.jsonl"
    before = time.time_ns()
    with Destination() as there:
        done = run_cli("replay", str(file), "--to", there.url, "--speed", "0", "--now")
        assert done.returncode == 0, done.stderr
        moved = sorted(key for post in there.posts for key in post.spans())
        assert run_cli("replay", str(file), "--to", there.url, "--speed", "0").returncode == 0
        original = sorted(key for post in there.posts[2:] for key in post.spans())
    assert [key[:2] for key in moved] == [key[:2] for key in original]
    shifts = {new[2] - old[2] for new, old in zip(moved, original, strict=True)}
    assert len(shifts) == 1
    assert max(key[2] for key in moved) > before


def test_replay_now_sends_on_what_cannot_be_read(tmp_path: Path) -> None:
    early = body_of(wire_span(1, start_ns=5, end_ns=6))
    broken = b"broken" * 10
    file = _recording(tmp_path / "odd.jsonl", broken, early, wall=4e9)
    with Destination() as there:
        done = run_cli("replay", str(file), "--to", there.url, "--speed", "0", "--now")
        assert done.returncode == 0, done.stderr
        assert [post.body for post in there.posts] == [broken, early]

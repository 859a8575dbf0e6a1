"""What the doctor finds of what arrived: recordings of real Hermes runs in real journals, real logs."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from hermes_tui.doctor import errors_log
from hermes_tui.doctor.finding import Verdict
from hermes_tui.otlp.codec import moved
from tests.doctor.stage import Stage, is_well
from tests.fake_mlflow import JSON
from tests.processes import DEADLINE_S, RelayProcess, Reply, counts, post, run_cli, span_keys
from tests.support import body_of, recorded_requests, span_id, wait_for, wire_span

pytestmark = pytest.mark.process

BAD, WARN, OK, UNKNOWN = Verdict.BAD, Verdict.WARN, Verdict.OK, Verdict.UNKNOWN
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
HOUR_NS = 3600 * 10**9


def play(relay: RelayProcess, stage: Stage, name: str) -> None:
    """A recording, into experiment 1, as if its last span had just ended."""
    bodies = [b"".join(recorded_requests(name))]  # merged protobuf messages are one
    before = sum(counts(stage.state).values())
    newest = max(end for body in bodies for _, _, end in span_keys(body))
    for body in bodies:
        assert post(relay.address, moved(body, time.time_ns() - newest), x_mlflow_experiment_id="1") == 200
    spans = before + len({key[:2] for body in bodies for key in span_keys(body)})
    wait_for(lambda: sum(counts(stage.state).values()) == spans, DEADLINE_S)


def hermes_worked(stage: Stage, ago_s: float, session: str = "s", tools: int = 0) -> None:
    """Hermes' own records, as far as they are looked at."""
    path = stage.home / "state.db"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE sessions (id TEXT PRIMARY KEY)")
        database.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, timestamp REAL)"
        )
        rows = [(session, "user"), *[(session, "tool")] * tools]
        database.executemany(
            "INSERT INTO messages (session_id, role, timestamp) VALUES (?, ?, ?)",
            [(*row, time.time() - ago_s) for row in rows],
        )
    database.close()


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


# ---- arrival


def test_nothing_arrived_although_hermes_worked(stage: Stage) -> None:
    relay = stage.start()
    for path in (stage.home / "config.yaml", stage.home / "hermes_otel.yaml"):
        age(path, 1000)
    assert stage.ask("spans arrive").verdict is WARN
    hermes_worked(stage, ago_s=2000)
    assert stage.ask("spans arrive").verdict is WARN, "that was before it was configured"
    hermes_worked(stage, ago_s=300)
    found = stage.ask("spans arrive")
    assert (found.verdict, "none of it arrived" in found.finding) == (BAD, True)
    play(relay, stage, "weather")  # Hermes was restarted, and sends
    assert is_well(stage.ask("spans arrive"))


def test_tool_spans_are_missing_though_tools_were_called(stage: Stage) -> None:
    relay = stage.start()
    assert stage.ask("tool spans").verdict is UNKNOWN
    llm = {"session__id": "s", "mlflow__spanType": "LLM"}
    now = time.time_ns()
    body = body_of(wire_span(1, name="api.gpt", start_ns=now - 10**9, end_ns=now, **llm))
    assert post(relay.address, body, x_mlflow_experiment_id="1") == 200
    wait_for(lambda: sum(counts(stage.state).values()) == 1, DEADLINE_S)
    assert stage.ask("tool spans").verdict is WARN, "Hermes' records are not there"
    hermes_worked(stage, 0, tools=0)
    assert is_well(stage.ask("tool spans"))
    hermes_worked(stage, 0, tools=3)
    found = stage.ask("tool spans")
    assert (found.verdict, "3 tool calls" in found.proof) == (BAD, True)
    stage.follow(found.fix)
    play(relay, stage, "weather")  # what the new plugin sends
    assert is_well(stage.ask("tool spans"))


def test_gateway_logs_alone(stage: Stage) -> None:
    relay = stage.start()
    assert is_well(stage.ask("gateway"))
    stage.config(
        plugins={"enabled": []},
        model={"provider": "custom", "base_url": "http://me:hunter2@127.0.0.1:5000/gateway/mlflow/v1"},
    )
    found = stage.ask("gateway")
    assert (found.verdict, "never what the agent did" in found.finding) == (BAD, True)
    assert "hunter2" not in found.proof
    stage.follow(found.fix)
    assert is_well(stage.ask("plugin enabled"))
    play(relay, stage, "weather")
    assert is_well(stage.ask("gateway"))


# ---- delivery


def test_spans_are_held_until_the_cause_is_gone(stage: Stage) -> None:
    relay = stage.start()
    stage.mlflow.experiments = set()
    play(relay, stage, "weather")
    wait_for(lambda: counts(stage.state)["held"] == 5, DEADLINE_S)
    found = stage.ask("held")
    assert (found.verdict, "experiment 1 does not exist" in found.finding, found.fixable) == (BAD, True, True)
    stage.mlflow.experiments = {"1"}
    stage.follow(found.fix)
    assert is_well(stage.ask("held"))


def test_a_span_that_is_refused(stage: Stage) -> None:
    relay = stage.start()
    stage.mlflow.refuse = lambda key: key[1] == span_id(2)
    body = body_of(wire_span(1, session__id="s"), wire_span(2, parent=1, session__id="s"))
    assert post(relay.address, body, x_mlflow_experiment_id="1") == 200
    wait_for(lambda: counts(stage.state)["quarantined"] == 1, DEADLINE_S)
    found = stage.ask("quarantined")
    assert (found.verdict, "Failed to convert" in found.finding) == (WARN, True)
    stage.mlflow.refuse = lambda _: False
    stage.follow(found.fix)
    assert is_well(stage.ask("quarantined"))


# ---- roots that never came


def orphan(at_ns: int, **said: str) -> bytes:
    """A span that was left without its parents."""
    return body_of(wire_span(2, parent=1, session__id="s-1", start_ns=at_ns, end_ns=at_ns + 1, **said))  # type: ignore[arg-type]


INTERRUPTED = '{"output": "[Command interrupted]", "exit_code": 130}'
TOOL = {"name": "tool.terminal", "mlflow__spanType": "TOOL", "gen_ai__tool__name": "terminal"}
MADE = {
    "killed": lambda at_ns: orphan(at_ns, **TOOL),
    "interrupted": lambda at_ns: orphan(at_ns, **TOOL, output__value=INTERRUPTED),
    "delegated": lambda at_ns: orphan(at_ns, name="subagent.leaf", mlflow__spanType="AGENT"),
}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("api_error", "the model's API failed"),
        ("subagents", ""),
        ("killed", "Hermes ended in mid-turn"),
        ("interrupted", "the turn was interrupted"),
        ("delegated", "only a delegated agent's"),
    ],
)
def test_traces_in_progress_and_why(stage: Stage, name: str, why: str) -> None:
    relay = stage.start()
    bodies = (MADE[name](time.time_ns() - HOUR_NS),) if name in MADE else recorded_requests(name)
    for body in bodies:
        assert post(relay.address, body, x_mlflow_experiment_id="1") == 200
    spans = {key[:2] for body in bodies for key in span_keys(body)}
    wait_for(lambda: sum(counts(stage.state).values()) == len(spans), DEADLINE_S)
    found = stage.ask("in progress")
    if not why:  # its root came
        assert is_well(found)
        return
    assert (found.verdict, why in found.finding) == (WARN, True), found
    stage.follow(found.fix)
    assert is_well(stage.ask("in progress"))


def test_a_trace_that_goes_on_is_not_in_question(stage: Stage) -> None:
    relay = stage.start()
    now = time.time_ns()
    body = body_of(wire_span(2, parent=1, session__id="s", start_ns=now - 10**9, end_ns=now))
    assert post(relay.address, body, x_mlflow_experiment_id="1") == 200
    wait_for(lambda: sum(counts(stage.state).values()) == 1, DEADLINE_S)
    assert is_well(stage.ask("in progress"))


# ---- errors.log


def line(text: str, *, ago_s: float = 0, level: str = "ERROR", logger: str = EXPORTER) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - ago_s))
    return f"{at},123 {level} [20261123_094749_be9614] {logger}: {text}\n"


REFUSED = (
    "Transient error HTTPConnectionPool(host='127.0.0.1', port=4318): Max retries exceeded with url: "
    "/v1/traces (Caused by NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=4318): Failed to "
    'establish a new connection: [Errno 111] Connection refused")) encountered while exporting spans '
    "batch, retrying in 1.04s."
)
GAVE_UP = "Failed to export spans batch due to timeout, max retries or shutdown."


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line(REFUSED, level="WARNING"), line(GAVE_UP)], "nobody listened"),
        ([line("Failed to export spans batch code: 401, reason: Unauthorized")], "wants credentials"),
        ([line("Failed to export spans batch code: 404, reason: Not Found")], "must end in /v1/traces"),
        ([line("Failed to export span batch code: 422, reason: Field required")], "wants an experiment"),
        (
            [line("Transient error Read timed out. encountered while exporting spans batch"), line(GAVE_UP)],
            "in time",
        ),
        ([line(GAVE_UP)], "in time"),
        ([line("Queue full, dropping Span.", logger="opentelemetry.sdk._shared_internal")], "dropped"),
        (
            [line("[hermes-otel] ✗ OpenTelemetry packages not available", logger="hermes_otel")],
            "could not import",
        ),
        ([line("Failed to export spans batch code: 418, reason: teapot")], "the exporter failed"),
    ],
)
def test_export_errors_are_explained(stage: Stage, lines: list[str], words: str) -> None:
    relay = stage.start()
    assert is_well(stage.ask("errors.log"))
    stage.write(
        stage.home / "logs" / "errors.log", line("tools.registry: nothing", logger="x") + "".join(lines)
    )
    found = stage.ask("errors.log")
    assert (found.verdict, words in found.finding) == (BAD, True), found
    play(relay, stage, "weather")  # Hermes was restarted, and sends
    assert is_well(stage.ask("errors.log"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no record at all\n",
        line("Failed to export metrics batch code: 404, reason: Not Found", logger="a.metric_exporter"),
        line(GAVE_UP.replace("spans", "logs")),
        line("check_fn failed", logger="tools.registry"),
        "\x00\xff" * 100,
    ],
    ids=["empty", "no record", "metrics", "logs", "another logger", "noise"],  # the texts hold the time
)
def test_what_is_no_trouble_in_exporting_spans(text: str) -> None:
    assert errors_log.explain(text.splitlines()) is None


def test_old_trouble_is_told_and_not_held_against_anybody(stage: Stage) -> None:
    stage.write(stage.home / "logs" / "errors.log", line(REFUSED, ago_s=2 * 24 * 3600))
    found = stage.ask("errors.log")
    assert is_well(found)
    assert "more than a day ago" in found.finding


def test_a_log_that_cannot_be_read(stage: Stage) -> None:
    (stage.home / "logs" / "errors.log").mkdir(parents=True)
    assert stage.ask("errors.log").verdict is UNKNOWN


def test_only_the_end_of_a_huge_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "errors.log"
    log.write_text(line("x" * 1000) * 2000 + line(REFUSED), encoding="utf-8")
    lines, error = errors_log.read(log)
    assert (error, len(lines) < 600) == ("", True)
    trouble = errors_log.explain(lines)
    assert trouble is not None
    assert trouble.kind == "refused"


def test_held_spans_are_sent_again_by_fix(stage: Stage) -> None:
    relay = stage.start()
    stage.mlflow.answer = lambda _: Reply(401, b"{}", JSON)
    play(relay, stage, "weather")
    wait_for(lambda: counts(stage.state)["held"] == 5, DEADLINE_S)
    stage.mlflow.answer = lambda _: Reply()
    done = run_cli(
        "doctor", "--fix", "--no-probe", "--json", "--state-dir", str(stage.state.path),
        environment={"HERMES_HOME": str(stage.home), "MLFLOW_TRACKING_URI": stage.mlflow.url},
    )  # fmt: skip
    assert "sent 5 spans again: 5 accepted" in done.stdout, done.stderr
    assert is_well(stage.ask("held"))

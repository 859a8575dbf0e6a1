"""What MLflow answers and what becomes of the spans: one row per case, scripted, then for real.

The cases are those of MLflow 3.17 and 3.18, measured, and of the OTLP specification's retryable codes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.relay import exporter as exporter_module
from tests.fake_mlflow import FakeMLflow
from tests.processes import (
    DEADLINE_S,
    MLflowServer,
    Post,
    RelayProcess,
    Reply,
    counts,
    document,
    post,
    span_keys,
    until,
)
from tests.relay.conftest import Parts
from tests.support import body_of, span_id, store, wait_for, wire_span

Make = Callable[..., Parts]

MISSING = json.dumps({"detail": [{"loc": ["header", "x-mlflow-experiment-id"], "msg": "Field required"}]})
UNKNOWN = '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No Experiment with id=7 exists"}'
NO_NUMBER = '{"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid experiment ID \'hermes\'"}'
LONG = '{"message": "\'Session ID\' exceeds the maximum length of 250 characters"}'
OTHER = '{"message": "Trace belongs to another experiment"}'
FILE_STORE = '{"detail": "REST OTLP span logging is not supported by FileStore"}'
LOCKED = '{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is locked"}'
BAD_SPAN = '{"detail": "Cannot convert OpenTelemetry span to MLflow span"}'
FAILED = '{"detail": "Failed to log OpenTelemetry spans"}'

BAD = span_id(2)
"""The span that is at fault where one is; three others came with it, and one in another trace."""

EVERYTHING = body_of(*(wire_span(number, parent=1 if number > 1 else None) for number in (1, 2, 3, 4)))
NEIGHBOUR = body_of(wire_span(9, trace=1))


@dataclass(frozen=True)
class Case:
    """An answer; `always` to every request, else only to those with the bad span.

    `then` are the deliveries while the destination answers so, of five spans in two traces.
    """

    name: str
    reply: Reply
    then: dict[str, int]
    state: str = "ok"
    says: str = ""
    always: bool = True
    experiment: str | None = "1"
    recovers: bool = field(default=True)


HELD = {"held": 5}
QUEUED = {"queued": 5}
ONE_BAD = {"confirmed": 4, "quarantined": 1}


def reply(status: int, body: str = "", **headers: str) -> Reply:
    return Reply(status, body.encode(), {name.replace("_", "-"): value for name, value in headers.items()})


CASES = [
    Case("ok", reply(200), {"confirmed": 5}),
    Case("no experiment header", reply(422, MISSING), HELD, "held", "--experiment", experiment=None),
    Case("unknown experiment", reply(404, UNKNOWN), HELD, "held", "experiment 7 does not", experiment="7"),
    Case("experiment is no number", reply(400, NO_NUMBER), HELD, "held", "'hermes'", experiment="hermes"),
    Case("no credentials", reply(401), HELD, "held", "credentials"),
    Case("no rights", reply(403, '{"message": "Permission denied"}'), HELD, "held", "Permission denied"),
    Case("Host header not allowed", reply(403, "Invalid Host header"), HELD, "held", "Invalid Host header"),
    Case("no OTLP there", reply(404, "<html>404</html>"), HELD, "held", "no OTLP endpoint"),
    Case("not a SQL store", reply(501, FILE_STORE), HELD, "held", "SQL store"),
    Case("redirect to a login", reply(302, Location="/login"), HELD, "held", "no OTLP endpoint"),
    Case("one bad span", reply(422, BAD_SPAN), ONE_BAD, says="Cannot convert", always=False),
    Case("session id too long", reply(400, LONG), ONE_BAD, says="250 characters", always=False),
    Case("trace in another experiment", reply(400, OTHER), ONE_BAD, says="another experiment", always=False),
    Case("too large for a proxy", reply(413), ONE_BAD, says="413", always=False),
    Case("failed to log, one span", reply(422, FAILED), ONE_BAD, says="Failed to log", always=False),
    Case("unexpected exception, one span", reply(500, "boom"), ONE_BAD, says="boom", always=False),
    Case("failed to log, everything", reply(422, FAILED), QUEUED, "retrying", "Failed to log"),
    Case("unexpected exception, everything", reply(500, "boom"), QUEUED, "retrying", "boom"),
    Case("store locked", reply(503, LOCKED), QUEUED, "retrying", "database is locked"),
    Case("told when to come again", reply(503, Retry_After="0"), QUEUED, "retrying", "503"),
    Case("too many requests", reply(429, Retry_After="0"), QUEUED, "retrying", "429"),
    Case("bad gateway", reply(502, "<html>"), QUEUED, "retrying", "502"),
    Case("gateway timeout", reply(504), QUEUED, "retrying", "504"),
    Case("request timeout", reply(408), QUEUED, "retrying", "408"),
    Case("hung up", Reply(drop=True), QUEUED, "retrying", "cannot be reached"),
]


def shown(state: StateDir) -> dict[str, int]:
    return {name: count for name, count in counts(state).items() if count}


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_scripted_destination(
    parts: Make, state: StateDir, impatient: pytest.MonkeyPatch, case: Case
) -> None:
    impatient.setattr(exporter_module, "_ASIDE_S", 0.02)
    trouble = True

    def answer(taken: Post) -> Reply:
        hit = case.always or any(key[1] == BAD for key in taken.spans())
        return case.reply if hit and trouble else Reply()

    with FakeMLflow(answer=answer) as there:
        own = parts(there.url, experiment=case.experiment)
        store(own.writer, EVERYTHING, NEIGHBOUR)
        await own.export()
        if not case.always and case.reply.status in (422, 500) and "Cannot" not in case.reply.body.decode():
            # A span that merely fails is given up on only when others went meanwhile.
            await until(lambda: counts(state)["accepted"] + counts(state)["confirmed"] == 4)
            store(own.writer, body_of(wire_span(20, trace=20)))
            await until(lambda: shown(state) == {"confirmed": 5, "quarantined": 1})
        else:
            await until(lambda: shown(state) == case.then)
        await until(lambda: document(state, "exporter").get("state") == case.state)
        said = document(state, "exporter")
        assert case.says in said["reason"] + said["last_error"]
        trouble = False
        own.exporter.try_again()
        if "quarantined" not in case.then:
            await until(lambda: shown(state) == {"confirmed": 5})
            assert there.stored() == {*span_keys(EVERYTHING), *span_keys(NEIGHBOUR)}
            await until(lambda: document(state, "exporter")["state"] == "ok")
        await own.tee.stop(0.0)


# ---- a real MLflow: the cases that can be provoked


@dataclass(frozen=True)
class RealCase:
    """What provokes it; `held` or the ids of the spans that end up quarantined."""

    name: str
    spans: dict[str, object] = field(default_factory=dict)
    experiment: str | None = "0"
    headers: dict[str, str] = field(default_factory=dict)
    held: str = ""
    refused: str = ""


REAL = [
    RealCase("ok"),
    RealCase("no experiment header", experiment=None, held="MLflow wants an experiment"),
    RealCase("unknown experiment", experiment="99999", held="experiment 99999 does not exist"),
    RealCase("experiment is no number", experiment="hermes", held="not the number of an experiment"),
    RealCase("session id too long", {"session__id": "x" * 300}, refused="250 characters"),
    RealCase("a time beyond SQLite", {"end_ns": 2**64 - 1, "start_ns": 2**64 - 2}, refused="too large"),
]


@pytest.mark.mlflow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", REAL, ids=lambda case: case.name)
def test_a_real_mlflow(
    mlflow: MLflowServer, start_relay: Callable[..., RelayProcess], state: StateDir, case: RealCase
) -> None:
    """The bad span comes in one batch with good ones of the same and of another trace."""
    unique = 10_000 + REAL.index(case) * 10  # this module's traces in a server that others use too
    flags = [] if case.experiment is None else ["--experiment", case.experiment]
    relay = start_relay(state, "--mlflow", mlflow.url, *flags)
    good = [wire_span(1, trace=unique), wire_span(3, parent=1, trace=unique)]
    bad = wire_span(2, parent=1, trace=unique, **case.spans)  # type: ignore[arg-type]
    assert post(relay.address, body_of(good[0], bad, good[1])) == 200
    assert post(relay.address, body_of(wire_span(9, trace=unique + 1))) == 200
    if case.held:
        wait_for(lambda: shown(state) == {"held": 4}, DEADLINE_S)
        assert case.held in document(state, "exporter")["reason"]
        relay.kill()
        relay = start_relay(state, "--mlflow", mlflow.url, "--experiment", "0")
        wait_for(lambda: shown(state) == {"confirmed": 4}, DEADLINE_S)
    elif case.refused and case.spans.get("end_ns"):
        # It fails as a whole server would (500): set aside for now, the others are through.
        wait_for(lambda: shown(state) == {"confirmed": 3, "queued": 1}, DEADLINE_S)
        assert case.refused in document(state, "exporter")["last_error"]
    elif case.refused:
        wait_for(lambda: shown(state) == {"confirmed": 3, "quarantined": 1}, DEADLINE_S)
        with Reader(state.journal) as reader:
            ((_, span, _, reason),) = reader.reasons()
        assert span == span_id(2)
        assert case.refused in reason
    else:
        wait_for(lambda: shown(state) == {"confirmed": 4}, DEADLINE_S)
    relay.stop()


@pytest.mark.mlflow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.timeout(600)
def test_a_locked_store(
    mlflow: MLflowServer, start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    """MLflow waits 20 s for its store before it answers 503: longer than most senders would."""
    relay = start_relay(state, "--mlflow", mlflow.url, "--experiment", "0")
    with closing(sqlite3.connect(mlflow.store, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert post(relay.address, body_of(wire_span(1, trace=20_000))) == 200
        wait_for(lambda: document(state, "exporter")["state"] == "retrying", DEADLINE_S)
        assert "database is locked" in document(state, "exporter")["reason"]
        other.execute("ROLLBACK")
    wait_for(lambda: shown(state) == {"confirmed": 1}, DEADLINE_S)
    relay.stop()

"""Another sends: the relay forwards nothing, and confirms what MLflow is seen to have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import RequestState
from hermes_tui.relay import onlooker as onlooker_module
from tests.fake_mlflow import FakeMLflow
from tests.processes import RelayProcess, Reply, counts, document, post, span_keys, until
from tests.relay.conftest import Parts
from tests.support import body_of, store, wire_span

Make = Callable[..., Parts]


@pytest.fixture
def mlflow() -> Iterator[FakeMLflow]:
    with ExitStack() as stack:
        yield stack.enter_context(FakeMLflow())


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch, prompt: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The onlooker's waiting times in milliseconds."""
    for name, value in (("_FIRST_S", 0.01), ("_LONGEST_S", 0.05), ("_UNREADABLE_S", 0.05)):
        monkeypatch.setattr(onlooker_module, name, value)
    monkeypatch.setattr(onlooker_module, "backoff_s", lambda *_: 0.02)
    return monkeypatch


def body(*numbers: int, trace: int = 0) -> bytes:
    return body_of(*(wire_span(number, trace=trace) for number in numbers))


def plugin_sends(mlflow: FakeMLflow, sent: bytes) -> None:
    """What Hermes' plugin does beside the relay."""
    assert post(f"127.0.0.1:{mlflow.port}", sent, x_mlflow_experiment_id="1") == 200


async def delivered(state: StateDir, **wanted: int) -> None:
    await until(lambda: {name: count for name, count in counts(state).items() if count} == wanted)


async def test_what_the_plugin_sent_is_confirmed_and_nothing_is_sent(
    parts: Make, mlflow: FakeMLflow, state: StateDir, sql: Callable[..., Any], prompt: object
) -> None:
    own = parts(mlflow.url, forward=False)
    store(own.writer, body(1, 2, 3), body(1, 2, trace=1))
    await own.export()
    await until(lambda: len(mlflow.reads) >= 2)
    assert counts(state)["queued"] == 5
    plugin_sends(mlflow, body(1, 2))
    await delivered(state, confirmed=2, queued=3)
    plugin_sends(mlflow, body(3))
    plugin_sends(mlflow, body(1, 2, trace=1))
    await delivered(state, confirmed=5)
    await until(lambda: [row[0] for row in sql("SELECT state FROM requests")] == [RequestState.PROVEN] * 2)
    assert len(mlflow.posts) == 3  # the plugin's own
    assert document(state, "exporter")["forwards"] is False


async def test_what_never_comes_stays_queued_and_is_asked_for_less_often(
    parts: Make, mlflow: FakeMLflow, state: StateDir, prompt: pytest.MonkeyPatch
) -> None:
    prompt.setattr(onlooker_module, "_LONGEST_S", 3600.0)
    prompt.setattr(onlooker_module, "_FIRST_S", 600.0)
    own = parts(mlflow.url, forward=False)
    plugin_sends(mlflow, body(1))
    store(own.writer, body(1), body(2, trace=1))
    await own.export()
    await until(lambda: document(state, "exporter").get("forwards") is False)
    assert mlflow.reads == []  # the plugin may not have sent it yet
    own.exporter.try_again()  # somebody wants to know now
    await delivered(state, confirmed=1, queued=1)
    asked = len(mlflow.reads)
    plugin_sends(mlflow, body(3, trace=2))
    prompt.setattr(onlooker_module, "_FIRST_S", 0.01)
    store(own.writer, body(3, trace=2))  # news are no reason to ask for the old
    await delivered(state, confirmed=2, queued=1)
    assert len(mlflow.reads) == asked + 2  # which traces are there, and the spans of one
    assert [len(each.spans()) for each in mlflow.posts] == [1, 1]


@pytest.mark.parametrize(("reading", "word"), [(Reply(503), "retrying"), (Reply(404, b"no"), "held")])
async def test_mlflow_that_cannot_be_read(
    parts: Make, mlflow: FakeMLflow, state: StateDir, prompt: object, reading: Reply, word: str
) -> None:
    mlflow.reading = reading
    own = parts(mlflow.url, forward=False)
    plugin_sends(mlflow, body(1))
    store(own.writer, body(1))
    await own.export()
    await until(lambda: document(state, "exporter").get("state") == word)
    assert document(state, "exporter")["reason"]
    mlflow.reading = None
    await delivered(state, confirmed=1)
    await until(lambda: document(state, "exporter")["state"] == "ok")


async def test_verify_reads_what_is_queued_too(
    parts: Make, mlflow: FakeMLflow, state: StateDir, prompt: pytest.MonkeyPatch
) -> None:
    prompt.setattr(onlooker_module, "_FIRST_S", 3600.0)
    own = parts(mlflow.url, forward=False)
    plugin_sends(mlflow, body(1))
    store(own.writer, body(1, 2))
    await own.export()
    await delivered(state, queued=2)

    async def progress(done: int, total: int) -> None:
        await asyncio.sleep(0)

    report = await own.tee.verifier.verify(None, progress)
    assert (report["confirmed"], len(report["queued"]), report["error"]) == (1, 1, None)
    assert span_keys(body(2))[0][1].hex() in report["missing"]


@pytest.mark.process
def test_a_real_relay_forwards_nothing(
    start_relay: Callable[..., RelayProcess], mlflow: FakeMLflow, state: StateDir
) -> None:
    relay = start_relay(state, "--mlflow", mlflow.url, HERMES_TRACE_FORWARD="false")
    plugin_sends(mlflow, body(1, 2))
    assert relay.running is not None
    assert relay.running.http is not None
    assert post(relay.running.http, body(1, 2)) == 200
    asyncio.run(delivered(state, confirmed=2))
    assert len(mlflow.posts) == 1

"""Proof of delivery: what is read back is confirmed, what is not there is sent again, then said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import GONE, LOST, RequestState
from hermes_tui.relay import prover as prover_module
from tests.fake_mlflow import FakeMLflow
from tests.processes import Destination, Reply, counts, document, span_keys, until
from tests.relay.conftest import Parts
from tests.support import body_of, span_id, store, trace_id, wire_span

pytestmark = pytest.mark.usefixtures("impatient", "prompt")

Make = Callable[..., Parts]


@pytest.fixture
def mlflow() -> Iterator[FakeMLflow]:
    with ExitStack() as stack:
        yield stack.enter_context(FakeMLflow())


def body(*numbers: int, trace: int = 0, root: bool = True) -> bytes:
    """One request; the first span is the root of its trace."""
    parents = {numbers[0]: None if root else 999}
    spans = [wire_span(number, trace=trace, parent=parents.get(number, numbers[0])) for number in numbers]
    return body_of(*spans)


def states(sql: Callable[..., Any]) -> list[int]:
    return [state for (state,) in sql("SELECT state FROM requests ORDER BY id")]


async def delivered(state: StateDir, **wanted: int) -> None:
    await until(lambda: {name: count for name, count in counts(state).items() if count} == wanted)


async def test_what_is_there_is_confirmed(
    parts: Make, mlflow: FakeMLflow, state: StateDir, sql: Callable[..., Any]
) -> None:
    own = parts(mlflow.url)
    store(own.writer, body(1, 2, 3), body(1, 2, trace=1))
    await own.export()
    await delivered(state, confirmed=5)
    await until(lambda: states(sql) == [RequestState.PROVEN] * 2)
    assert document(state, "proof")["readable"] is True
    ((kept,),) = sql("SELECT document FROM read_back WHERE trace_id = ?", trace_id(0))
    assert '"state": "OK"' in kept
    assert '"spans": 3' in kept


async def test_a_trace_that_goes_on_is_proven_too(parts: Make, mlflow: FakeMLflow, state: StateDir) -> None:
    own = parts(mlflow.url)
    store(own.writer, body(5, root=False))
    await own.export()
    await delivered(state, confirmed=1)


async def test_a_trace_that_has_ended_is_read_back_first(
    parts: Make, mlflow: FakeMLflow, state: StateDir, prompt: pytest.MonkeyPatch
) -> None:
    prompt.setattr(prover_module, "_OLD_S", 3600.0)
    own = parts(mlflow.url)
    store(own.writer, body(5, root=False), body(6, 7, trace=1))
    await own.export()
    await delivered(state, confirmed=2, accepted=1)
    store(own.writer, body(4, 5))  # now its root has come
    await delivered(state, confirmed=4)


async def test_questions_are_batched(parts: Make, mlflow: FakeMLflow, state: StateDir) -> None:
    own = parts(mlflow.url)
    store(own.writer, *(body(1, trace=number) for number in range(60)))
    await until(lambda: counts(state)["queued"] == 60)
    await own.export()
    await delivered(state, confirmed=60)
    infos = [read for read in mlflow.reads if read.method == "POST"]
    assert len(infos) <= 3
    assert len(mlflow.reads) - len(infos) <= 6


async def test_a_lost_span_is_sent_again_and_then_confirmed(
    parts: Make, mlflow: FakeMLflow, state: StateDir
) -> None:
    lost = {span_id(2)}
    mlflow.lose = lambda key: key[1] in lost
    own = parts(mlflow.url)
    store(own.writer, body(1, 2, 3))
    await own.export()
    await until(lambda: len(mlflow.posts) == 2)
    assert span_keys(mlflow.posts[1].plain()) == span_keys(body(1, 2, 3))[1:2]  # the lost one only
    await delivered(state, confirmed=2, quarantined=1)
    lost.clear()


async def test_a_span_lost_once_is_confirmed_in_the_end(
    parts: Make, mlflow: FakeMLflow, state: StateDir
) -> None:
    seen: list[bytes] = []
    mlflow.lose = lambda key: key[1] == span_id(2) and not seen.append(key[1]) and len(seen) == 1
    own = parts(mlflow.url)
    store(own.writer, body(1, 2, 3))
    await own.export()
    await delivered(state, confirmed=3)
    assert len(mlflow.posts) == 2


async def test_a_span_lost_twice_is_quarantined_with_its_reason(
    parts: Make, mlflow: FakeMLflow, state: StateDir, sql: Callable[..., Any]
) -> None:
    mlflow.lose = lambda key: key[1] == span_id(2)
    own = parts(mlflow.url)
    store(own.writer, body(1, 2, 3))
    await own.export()
    await delivered(state, confirmed=2, quarantined=1)
    assert sql("SELECT reason FROM marks WHERE state = 5") == [(LOST,)]
    await until(lambda: states(sql) == [RequestState.STUCK])
    assert len(mlflow.posts) == 2


async def test_an_older_version_at_mlflow_is_no_proof(
    parts: Make, mlflow: FakeMLflow, state: StateDir
) -> None:
    """Confirmed means: the end matches too."""
    own = parts(mlflow.url)
    later = body_of(wire_span(1, end_ns=2_000 * 10**9))
    mlflow.lose = lambda key: key[2] == 2_000 * 10**9
    store(own.writer, body(1), later)
    await own.export()
    await delivered(state, quarantined=1)
    assert mlflow.stored() == set(span_keys(body(1)))


@pytest.mark.parametrize(
    ("reading", "state_word"),
    [
        (Reply(500, b"boom"), "failing"),
        (Reply(503), "failing"),
        (Reply(401), "failing"),
        (Reply(404, b"404 page not found"), "unreadable"),
        (Reply(405), "unreadable"),
        (Reply(200, b"<html>"), "unreadable"),
        (Reply(200, b"[]"), "unreadable"),
        (Reply(200, b'{"trace_infos": [{"trace_id": 3}]}'), "unreadable"),
    ],
)
async def test_what_cannot_be_read_stays_accepted_until_it_can(
    parts: Make, mlflow: FakeMLflow, state: StateDir, reading: Reply, state_word: str
) -> None:
    mlflow.reading = reading
    own = parts(mlflow.url)
    store(own.writer, body(1))
    await own.export()
    await until(lambda: document(state, "proof").get("state") == state_word)
    assert document(state, "proof")["reason"]
    assert counts(state)["accepted"] == 1
    mlflow.reading = None
    await delivered(state, confirmed=1)
    assert document(state, "proof")["state"] == "ok"


async def test_a_collector_is_no_place_to_read_from(parts: Make, state: StateDir) -> None:
    with Destination() as there:
        own = parts(there.url)
        store(own.writer, body(1))
        await own.export()
        await until(lambda: document(state, "proof").get("readable") is False)
        assert counts(state)["accepted"] == 1
        await own.tee.stop(0.0)


async def test_reading_uses_the_senders_credentials_and_then_erases_them(
    parts: Make, mlflow: FakeMLflow, state: StateDir
) -> None:
    own = parts(mlflow.url, token="ours")
    name = own.credentials.keep("Bearer theirs")
    own.credentials.settle(name)
    store(own.writer, body(1), credential=name, headers={"x-mlflow-workspace": "w"})
    await own.export()
    await delivered(state, confirmed=1)
    assert {read.headers["authorization"] for read in mlflow.reads} == {"Bearer theirs"}
    assert {read.headers["x-mlflow-workspace"] for read in mlflow.reads} == {"w"}
    await until(lambda: not own.credentials.values())


async def test_a_new_destination_is_not_asked_for_what_the_old_one_has(
    parts: Make, mlflow: FakeMLflow, state: StateDir
) -> None:
    own = parts(mlflow.url)
    mlflow.reading = Reply(503)
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)
    await own.close()
    with FakeMLflow() as other:
        new = parts(other.url)
        store(new.writer, body(2, trace=1))
        await new.export()
        await delivered(state, accepted=1, confirmed=1)
        assert other.stored() == set(span_keys(body(2, trace=1)))
        await new.tee.stop(0.0)


async def no_progress(done: int, total: int) -> None:
    assert done <= total


async def test_verify_names_what_is_not_there(parts: Make, mlflow: FakeMLflow, state: StateDir) -> None:
    mlflow.refuse = lambda key: key[1] == span_id(3)
    own = parts(mlflow.url, experiment="1")
    store(own.writer, body(1, 2, 3))
    await own.export()
    await delivered(state, confirmed=2, quarantined=1)
    mlflow.forget(span_keys(body(1, 2))[1:])
    found = await own.tee.verifier.verify(None, no_progress)
    assert (found["spans"], found["confirmed"], found["error"]) == (3, 1, None)
    assert sorted(found["missing"]) == [span_id(2).hex(), span_id(3).hex()]
    assert found["not_found"] == [span_id(2).hex()]
    assert {entry["span"]: entry["reason"] for entry in found["quarantined"]} == {
        span_id(2).hex(): GONE,
        span_id(3).hex(): "refused with 422: Failed to convert OTLP span",
    }


async def test_verify_confirms_what_is_there_after_all(
    parts: Make, mlflow: FakeMLflow, state: StateDir
) -> None:
    """Quarantined here, but MLflow has it: whoever sent it, it is proven."""
    mlflow.lose = lambda key: key[1] == span_id(2)
    own = parts(mlflow.url)
    store(own.writer, body(1, 2))
    await own.export()
    await delivered(state, confirmed=1, quarantined=1)
    mlflow.lose = lambda _: False
    with mlflow._changing:
        mlflow.received(mlflow.posts[0], Reply())
    found = await own.tee.verifier.verify(None, no_progress)
    assert (found["confirmed"], found["missing"]) == (2, [])


@pytest.mark.parametrize("reading", [Reply(404, b"no"), Reply(503)])
async def test_verify_says_when_it_cannot_read(
    parts: Make, mlflow: FakeMLflow, state: StateDir, reading: Reply
) -> None:
    mlflow.reading = reading
    own = parts(mlflow.url)
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)
    found = await own.tee.verifier.verify(None, no_progress)
    assert mlflow.url in found["error"]
    assert found["missing"] == [span_id(1).hex()]


async def test_verify_without_a_destination_says_so(parts: Make, state: StateDir) -> None:
    own = parts()
    store(own.writer, body(1))
    await delivered(state, local=1)
    found = await own.tee.verifier.verify(None, no_progress)
    assert "no destination" in found["error"]
    assert found["local"] == [span_id(1).hex()]

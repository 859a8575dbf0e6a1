"""Delivery: what the destination is sent, and what happens to each span when it says no."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import PROTOBUF
from hermes_tui.relay import exporter as exporter_module
from hermes_tui.relay import sender as sender_module
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.exporter import Exporter
from hermes_tui.relay.sender import traces_url
from tests.processes import (
    DEADLINE_S,
    Destination,
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
from tests.support import body_of, envelope, store, wait_for, wire_span

pytestmark = pytest.mark.usefixtures("impatient")

UNKNOWN_FIELD = b"\xc2\x3e\x05later"  # field 1000, five bytes
FIELD_REQUIRED = b'{"detail": [{"loc": ["header", "x-mlflow-experiment-id"], "msg": "Field required"}]}'
NO_EXPERIMENT = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No Experiment with id=7 exists"}'

Make = Callable[..., Parts]
MakeDestination = Callable[..., Destination]


def body(number: int, **said: Any) -> bytes:
    return body_of(wire_span(number, **said))


def keys(*bodies: bytes) -> set[tuple[bytes, bytes, int]]:
    return {key for each in bodies for key in span_keys(each)}


def has_names(post: Post, *names: str) -> bool:
    return any(name.encode() in post.plain() for name in names)


async def delivered(state: StateDir, **wanted: int) -> None:
    """Wait until the spans are where they should be, all others nowhere."""
    everything = {each.name.lower(): wanted.get(each.name.lower(), 0) for each in Delivery}
    await until(lambda: counts(state) == everything)


# ---- what is sent


@pytest.mark.parametrize("zipped", [False, True])
async def test_a_request_that_goes_alone_keeps_its_very_bytes(
    parts: Make, destination: MakeDestination, state: StateDir, zipped: bool
) -> None:
    there = destination()
    own = parts(there.url, experiment="1")
    sent = body(1) + UNKNOWN_FIELD
    sent = gzip.compress(sent) if zipped else sent
    headers = {"Content-Type": f"{PROTOBUF}; v=1", **({"Content-Encoding": "gzip"} if zipped else {})}
    await own.export()
    async with own.receiver() as receiver, aiohttp.ClientSession() as session:
        url = f"http://{receiver.address}/v1/traces"
        async with session.post(url, data=sent, headers=headers) as answer:
            assert answer.status == 200
        await delivered(state, accepted=1)
    (arrived,) = there.posts
    assert arrived.path == "/v1/traces"
    assert arrived.body == sent
    assert arrived.headers["content-type"] == f"{PROTOBUF}; v=1"
    assert arrived.headers.get("content-encoding") == ("gzip" if zipped else None)
    assert arrived.headers["host"] == there.url.removeprefix("http://")


async def test_small_requests_of_the_same_sender_go_in_one(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination()
    own = parts(there.url)
    bodies = [body(number) + UNKNOWN_FIELD for number in range(20)]
    store(own.writer, *bodies[:10], headers={"x-mlflow-experiment-id": "1"})
    zipped = [gzip.compress(each) for each in bodies[10:]]
    for each, plain in zip(zipped, bodies[10:], strict=True):
        same = envelope(plain, content_encoding="gzip", headers={"x-mlflow-experiment-id": "1"})
        same.body = each
        own.writer.append(same).result(20)
    await delivered(state, queued=20)
    await own.export()
    await delivered(state, accepted=20)
    (arrived,) = there.posts
    assert set(arrived.spans()) == keys(*bodies)
    assert arrived.body.count(UNKNOWN_FIELD) == 20
    assert "content-encoding" not in arrived.headers


async def test_a_merged_request_has_a_bound(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination()
    own = parts(there.url)
    large = [body_of(*(wire_span(200 * each + n) for n in range(200))) for each in range(6)]
    store(own.writer, *large)
    await delivered(state, queued=1200)
    await own.export()
    await delivered(state, accepted=1200)
    assert [len(post.spans()) for post in there.posts] == [1000, 200]


async def test_different_headers_are_never_merged(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination()
    own = parts(there.url)
    secret = own.credentials.keep("Bearer one")
    routes: list[dict[str, Any]] = [
        {"headers": {"x-mlflow-experiment-id": "1"}},
        {"headers": {"x-mlflow-experiment-id": "2"}},
        {"headers": {"x-mlflow-experiment-id": "2", "x-mlflow-workspace": "w"}},
        {"headers": {"x-mlflow-experiment-id": "2"}, "credential": secret},
        {"headers": {}},
    ]
    sent: list[set[Any]] = [set() for _ in routes]
    for number in range(15):
        one = body(number)
        store(own.writer, one, **routes[number % 5])
        sent[number % 5] |= keys(one)
    await delivered(state, queued=15)
    await own.export()
    await delivered(state, accepted=15)
    assert len(there.posts) == 5
    found = {
        (
            post.headers.get("x-mlflow-experiment-id"),
            post.headers.get("x-mlflow-workspace"),
            post.headers.get("authorization"),
        ): set(post.spans())
        for post in there.posts
    }
    assert found == {
        ("1", None, None): sent[0],
        ("2", None, None): sent[1],
        ("2", "w", None): sent[2],
        ("2", None, "Bearer one"): sent[3],
        (None, None, None): sent[4],
    }


@pytest.mark.parametrize(
    ("said", "authorization"),
    [
        ({}, None),
        ({"token": "tok"}, "Bearer tok"),
        ({"username": "u", "password": "pä:ss"}, "Basic " + base64.b64encode("u:pä:ss".encode()).decode()),
        ({"username": "u"}, "Basic " + base64.b64encode(b"u:").decode()),
        ({"username": "u", "password": "p", "token": "tok"}, "Bearer tok"),
    ],
)
async def test_settings_say_who_we_are(
    parts: Make,
    destination: MakeDestination,
    state: StateDir,
    said: dict[str, str],
    authorization: str | None,
) -> None:
    there = destination()
    own = parts(there.url + "/", experiment="5", workspace="team", **said)
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)
    (arrived,) = there.posts
    assert arrived.headers.get("authorization") == authorization
    assert arrived.headers["x-mlflow-experiment-id"] == "5"
    assert arrived.headers["x-mlflow-workspace"] == "team"


async def test_the_senders_headers_win_over_settings(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination()
    own = parts(there.url, experiment="5", workspace="ours", token="ours")
    await own.export()
    theirs = {
        "Content-Type": PROTOBUF,
        "X-MLflow-Experiment-Id": "9",
        "x-mlflow-workspace": "theirs",
        "x-mlflow-anything": "else",
        "X-Other": "stays",
        "Authorization": "Bearer theirs",
    }
    async with own.receiver() as receiver, aiohttp.ClientSession() as session:
        url = f"http://{receiver.address}/v1/traces"
        async with session.post(url, data=body(1), headers=theirs) as answer:
            assert answer.status == 200
        await delivered(state, accepted=1)
    (arrived,) = there.posts
    assert arrived.headers["x-mlflow-experiment-id"] == "9"
    assert arrived.headers["x-mlflow-workspace"] == "theirs"
    assert arrived.headers["x-mlflow-anything"] == "else"
    assert arrived.headers["authorization"] == "Bearer theirs"
    assert "x-other" not in arrived.headers


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://m:5000", "http://m:5000/v1/traces"),
        ("http://m:5000/", "http://m:5000/v1/traces"),
        ("https://m/prefix/", "https://m/prefix/v1/traces"),
        ("https://m/prefix/v1/traces", "https://m/prefix/v1/traces"),
        ("https://m/prefix/v1/traces/", "https://m/prefix/v1/traces"),
    ],
)
def test_where_otlp_goes(base: str, url: str) -> None:
    assert traces_url(base) == url


async def test_a_netrc_entry_is_no_reason_to_fail(
    parts: Make, destination: MakeDestination, state: StateDir, impatient: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    impatient.setenv("NETRC", str(netrc))
    there = destination()
    own = parts(there.url, token="ours")
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)
    assert there.posts[0].headers["authorization"] == "Bearer ours"


async def test_a_proxy_of_the_environment_is_used(
    parts: Make, destination: MakeDestination, state: StateDir, impatient: pytest.MonkeyPatch
) -> None:
    proxy = destination()
    impatient.setenv("http_proxy", proxy.url)
    own = parts("http://mlflow.invalid:5000")
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)
    assert proxy.posts[0].path == "http://mlflow.invalid:5000/v1/traces"
    assert proxy.posts[0].headers["host"] == "mlflow.invalid:5000"


# ---- when it does not work at once


async def test_trouble_is_waited_out(parts: Make, destination: MakeDestination, state: StateDir) -> None:
    there = destination(
        Reply(503),
        Reply(500, b"oops"),
        Reply(drop=True),
        Reply(502),
        Reply(429),
        Reply(422, b"Failed to log"),
    )
    own = parts(there.url)
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)
    assert [post.status for post in there.posts] == [503, 500, None, 502, 429, 422, 200]
    assert len({post.body for post in there.posts}) == 1
    await until(lambda: document(state, "exporter")["state"] == "ok")


async def test_a_destination_that_is_not_there_is_asked_until_it_is(parts: Make, state: StateDir) -> None:
    there = Destination()
    own = parts(there.url)
    store(own.writer, body(1), body(2))
    await own.export()
    await until(lambda: document(state, "exporter").get("state") == "retrying")
    assert "cannot be reached" in document(state, "exporter")["reason"]
    assert counts(state)["queued"] == 2
    with there:
        await delivered(state, accepted=2)
        await until(lambda: document(state, "exporter")["state"] == "ok")
        assert "cannot be reached" in document(state, "exporter")["last_error"]


async def test_a_retry_is_due_even_when_saying_why_took_longer_than_its_pause(
    parts: Make, destination: MakeDestination, state: StateDir, impatient: pytest.MonkeyPatch
) -> None:
    there = destination(Reply(503), Reply(401))
    own = parts(there.url)
    save = Exporter._save

    async def slow(exporter: Exporter) -> None:
        await save(exporter)
        await asyncio.sleep(0.1)  # ten times the pause: a slow disk

    impatient.setattr(Exporter, "_save", slow)
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)


async def test_an_answer_that_never_comes_is_given_up(
    parts: Make, destination: MakeDestination, state: StateDir, impatient: pytest.MonkeyPatch
) -> None:
    impatient.setattr(sender_module, "_TIMEOUT_S", 0.3)
    there = destination(Reply(hang=True))
    own = parts(there.url)
    store(own.writer, body(1))
    await own.export()
    await until(lambda: len(there.posts) >= 2)
    await delivered(state, accepted=1)


async def test_retry_after_is_respected(parts: Make, destination: MakeDestination, state: StateDir) -> None:
    there = destination(Reply(429, headers={"Retry-After": "1"}), Reply(503, headers={"Retry-After": "soon"}))
    own = parts(there.url)
    store(own.writer, body(1))
    await own.export()
    await delivered(state, accepted=1)
    first, second, _ = there.posts
    assert second.at - first.at >= 1.0


HELD = [
    (Reply(401), "credentials"),
    (Reply(403, b'{"message": "Permission denied"}'), "Permission denied"),
    (Reply(404, NO_EXPERIMENT), "experiment 7 does not exist"),
    (Reply(404, b"<html>"), "no OTLP endpoint"),
    (Reply(422, FIELD_REQUIRED), "--experiment"),
    (Reply(307, headers={"Location": "http://127.0.0.1:9/v1/traces"}), "no OTLP endpoint"),
]


@pytest.mark.parametrize(("refusal", "words"), HELD, ids=lambda value: str(getattr(value, "status", "")))
async def test_what_the_user_must_fix_is_held_while_others_go_on(
    parts: Make,
    destination: MakeDestination,
    state: StateDir,
    sql: Callable[..., Any],
    refusal: Reply,
    words: str,
) -> None:
    fixed = False

    def answer(taken: Post) -> Reply:
        return refusal if taken.headers.get("x-mlflow-experiment-id") == "7" and not fixed else Reply()

    there = destination(answer=answer)
    own = parts(there.url)
    store(own.writer, body(1), body(2), headers={"x-mlflow-experiment-id": "7"})
    store(own.writer, body(3), headers={"x-mlflow-experiment-id": "1"})
    await own.export()
    await delivered(state, held=2, accepted=1)
    await until(lambda: document(state, "exporter")["state"] == "held")
    assert words in document(state, "exporter")["reason"]
    assert all(words in reason for (reason,) in sql("SELECT reason FROM marks WHERE state = 4"))
    store(own.writer, body(4), headers={"x-mlflow-experiment-id": "1"})
    store(own.writer, body(5), headers={"x-mlflow-experiment-id": "7"})
    await delivered(state, held=3, accepted=2)
    fixed = True
    await delivered(state, accepted=5)
    await until(lambda: document(state, "exporter")["state"] == "ok")
    assert document(state, "exporter")["reason"] == ""
    assert there.accepted() == keys(*(body(number) for number in range(1, 6)))


async def test_one_bad_request_is_set_apart_and_all_others_arrive(
    parts: Make, destination: MakeDestination, state: StateDir, sql: Callable[..., Any]
) -> None:
    there = destination(
        answer=lambda taken: Reply(422, b'{"detail": "Invalid span"}') if has_names(taken, "bad") else Reply()
    )
    own = parts(there.url, experiment="1")
    bodies = [body(number, name="bad" if number in (13, 37) else "good") for number in range(50)]
    store(own.writer, *bodies)
    await delivered(state, queued=50)
    await own.export()
    await delivered(state, accepted=48, quarantined=2)
    good = [each for number, each in enumerate(bodies) if number not in (13, 37)]
    assert there.accepted() == keys(*good)
    assert len(there.posts) < 40
    assert {reason for (reason,) in sql("SELECT reason FROM marks WHERE state = 5")} == {
        "refused with 422: Invalid span"
    }
    await until(lambda: document(state, "exporter")["state"] == "ok")
    asked = len(there.posts)
    store(own.writer, body(60))
    await delivered(state, accepted=49, quarantined=2)
    assert len(there.posts) == asked + 1  # what is set apart is not sent again


async def test_a_request_that_always_fails_does_not_block_the_others(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination(answer=lambda taken: Reply(500, b"boom") if has_names(taken, "poison") else Reply())
    own = parts(there.url, experiment="1")
    bodies = [body(number, name="poison" if number == 5 else "good") for number in range(30)]
    store(own.writer, *bodies)
    await own.export()
    await delivered(state, accepted=29, queued=1)
    store(own.writer, body(40))
    await delivered(state, accepted=30, queued=1)


async def test_what_failed_is_tried_again_later(
    parts: Make, destination: MakeDestination, state: StateDir, impatient: pytest.MonkeyPatch
) -> None:
    impatient.setattr(exporter_module, "_ASIDE_S", 0.1)
    well = False
    there = destination(answer=lambda _: Reply() if well else Reply(500))
    own = parts(there.url, experiment="1")
    store(own.writer, body(1), body(2))
    await own.export()
    await until(lambda: len(there.posts) > 10)
    assert counts(state)["queued"] == 2
    well = True
    await delivered(state, accepted=2)


async def test_a_hold_ends_when_the_destination_looks_at_the_spans_again(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination(Reply(401), answer=lambda _: Reply(422, b'{"detail": "Invalid span"}'))
    own = parts(there.url, experiment="1")
    store(own.writer, body(1))
    await own.export()
    await delivered(state, quarantined=1)
    await until(lambda: "Invalid span" in document(state, "exporter")["last_error"])
    await until(lambda: document(state, "exporter")["state"] == "ok")


@pytest.mark.parametrize("table", ["marks", "meta"])
async def test_delivery_goes_on_after_the_journal_could_not_be_written(
    parts: Make, destination: MakeDestination, state: StateDir, sql: Callable[..., Any], table: str
) -> None:
    there = destination()
    own = parts(there.url)
    store(own.writer, body(1))
    wait_for(lambda: counts(state)["queued"] == 1)
    sql(f"CREATE TRIGGER full BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    await own.export()
    await until(lambda: len(there.posts) >= (2 if table == "marks" else 1))
    sql("DROP TRIGGER full")
    await delivered(state, accepted=1)
    store(own.writer, body(2))
    await delivered(state, accepted=2)


# ---- restarts


async def test_without_a_destination_spans_stay_here(parts: Make, state: StateDir) -> None:
    own = parts()
    await own.export()
    store(own.writer, body(1))
    await delivered(state, local=1)
    await until(lambda: document(state, "exporter").get("state") == "none")


def test_real_relays_queue_restart_and_deliver(
    start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    relay = start_relay(state)
    assert post(relay.address, body(1)) == 200
    assert relay.stop() == 0
    assert counts(state) == _all(local=1)
    there = Destination()
    relay = start_relay(state, "--mlflow", there.url)
    assert post(relay.address, body(2)) == 200
    assert post(relay.address, body(3), x_mlflow_experiment_id="3") == 200
    wait_for(lambda: counts(state) == _all(local=1, queued=2), DEADLINE_S)
    assert relay.stop() == 0
    with there:
        relay = start_relay(state, "--mlflow", there.url, "--experiment", "8")
        wait_for(lambda: counts(state) == _all(local=1, accepted=2), DEADLINE_S)
        assert post(relay.address, gzip.compress(body(4) + UNKNOWN_FIELD), Content_Encoding="gzip") == 200
        wait_for(lambda: counts(state) == _all(local=1, accepted=3), DEADLINE_S)
        assert relay.stop() == 0
        assert there.accepted() == keys(body(2), body(3), body(4))
        assert {taken.headers["x-mlflow-experiment-id"] for taken in there.posts} == {"3", "8"}
        assert gzip.decompress(there.posts[-1].body) == body(4) + UNKNOWN_FIELD


def _all(**wanted: int) -> dict[str, int]:
    return {each.name.lower(): wanted.get(each.name.lower(), 0) for each in Delivery}


async def test_every_span_is_in_just_one_delivery_at_any_time(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    refusals = {"bad": Reply(422, b"no"), "hold": Reply(401), "poison": Reply(500)}

    def answer(taken: Post) -> Reply:
        return next((reply for name, reply in refusals.items() if has_names(taken, name)), Reply())

    there = destination(answer=answer)
    own = parts(there.url, experiment="1")
    await own.export()
    names = ["good", "bad", "good", "poison", "good"]
    for number in range(40):
        hold = number % 8 == 7
        headers = {"x-mlflow-experiment-id": "2"} if hold else {}
        store(own.writer, body(number, name="hold" if hold else names[number % 5]), headers=headers)
        await until(lambda total=number + 1: sum(counts(state).values()) == total)
    expected = Counter("hold" if n % 8 == 7 else names[n % 5] for n in range(40))
    await delivered(
        state,
        accepted=expected["good"],
        quarantined=expected["bad"],
        held=expected["hold"],
        queued=expected["poison"],
    )


# ---- secrets


def _files_with(folder: Path, value: str) -> list[str]:
    return sorted(
        path.name for path in folder.rglob("*") if path.is_file() and value.encode() in path.read_bytes()
    )


def test_a_senders_credential_lies_apart_and_only_while_needed(
    start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    there = Destination()
    relay = start_relay(state, "--mlflow", there.url, MLFLOW_TRACKING_TOKEN="settings-token")
    assert post(relay.address, body(1), Authorization="Bearer sender-token") == 200
    wait_for(lambda: counts(state)["queued"] == 1, DEADLINE_S)
    assert _files_with(state.path, "sender-token") == [state.credentials.name]
    assert stat.S_IMODE(state.credentials.stat().st_mode) == 0o600
    relay.kill()
    relay = start_relay(state, "--mlflow", there.url, MLFLOW_TRACKING_TOKEN="settings-token")
    with there:
        wait_for(lambda: counts(state)["accepted"] == 1, DEADLINE_S)
        assert there.posts[-1].headers["authorization"] == "Bearer sender-token"
        wait_for(lambda: _files_with(state.path, "sender-token") == [], DEADLINE_S)
        assert post(relay.address, body(2), Authorization="Bearer sender-token") == 200
        wait_for(lambda: counts(state)["accepted"] == 2, DEADLINE_S)
        assert there.posts[-1].headers["authorization"] == "Bearer sender-token"
        wait_for(lambda: _files_with(state.path, "sender-token") == [], DEADLINE_S)
        assert relay.stop() == 0
    assert _files_with(state.path.parent, "settings-token") == []
    assert _files_with(state.path.parent, "sender-token") == []


def test_credentials_in_the_address_are_used_and_shown_nowhere(
    start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    with Destination() as there:
        url = there.url.replace("http://", "http://me:s%3Acret-value@")
        relay = start_relay(state, MLFLOW_TRACKING_URI=url)
        assert post(relay.address, body(1)) == 200
        assert post(relay.address, body(2), Authorization="Bearer own") == 200
        wait_for(lambda: counts(state)["accepted"] == 2, DEADLINE_S)
        basic = "Basic " + base64.b64encode(b"me:s:cret-value").decode()
        assert {taken.headers["authorization"] for taken in there.posts} == {basic, "Bearer own"}
        assert relay.running is not None
        assert relay.running.destination == there.url
        assert _files_with(state.path.parent, "cret-value") == []
        assert relay.stop() == 0
        assert _files_with(state.path.parent, "cret-value") == []


async def test_a_credential_is_not_erased_while_its_request_is_on_its_way_to_the_disk(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination()
    own = parts(there.url)
    await own.export()
    async with own.receiver() as receiver, aiohttp.ClientSession() as session:

        async def send(number: int) -> int:
            headers = {"Content-Type": PROTOBUF, "Authorization": f"Bearer {number % 3}"}
            url = f"http://{receiver.address}/v1/traces"
            async with session.post(url, data=body(number), headers=headers) as answer:
                return answer.status

        for begin in range(0, 120, 4):
            answers = await asyncio.gather(*(send(number) for number in range(begin, begin + 4)))
            assert answers == [200] * 4
        await delivered(state, accepted=120)
    said = {taken.headers.get("authorization") for taken in there.posts}
    assert said == {"Bearer 0", "Bearer 1", "Bearer 2"}


def test_a_credential_kept_but_not_stored_yet_survives_a_clean_up(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "credentials.json")
    name = credentials.keep("Bearer x")
    credentials.keep_only(())
    assert credentials.value(name) == "Bearer x"
    credentials.settle(name)
    credentials.keep_only(())
    assert credentials.value(name) is None
    assert "Bearer x" not in (tmp_path / "credentials.json").read_text()


def test_what_a_killed_relay_left_half_written_is_erased(tmp_path: Path) -> None:
    left = tmp_path / ".credentials.json.4711"
    left.write_text("Bearer x")
    Credentials(tmp_path / "credentials.json")
    assert not left.exists()


def test_credentials_survive_a_restart_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    name = Credentials(path).keep("Bearer x")
    again = Credentials(path)
    assert again.value(name) == "Bearer x"
    assert again.keep("Bearer x") == name
    assert "Bearer" not in repr(again)
    for damage in ("", "{", "[]", '{"salt": "s"}', json.dumps({"salt": "s", "values": 3})):
        path.write_text(damage)
        damaged = Credentials(path)
        assert damaged.value(name) is None
        assert damaged.value(damaged.keep("Bearer y")) == "Bearer y"


async def test_compressed_requests_are_bounded_by_what_they_unfold_to(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination()
    own = parts(there.url)
    fat = [body(number) + b"\x12" + _varint(5_000_000) + bytes(5_000_000) for number in range(3)]
    for plain in fat:
        small = envelope(plain, content_encoding="gzip")
        small.body = gzip.compress(plain)
        own.writer.append(small).result(20)
    await delivered(state, queued=3)
    await own.export()
    await delivered(state, accepted=3)
    assert [len(post.spans()) for post in there.posts] == [1, 1, 1]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


# ---- what still runs


async def test_what_still_runs_is_shown_and_never_sent(
    parts: Make, destination: MakeDestination, state: StateDir, sql: Callable[..., Any]
) -> None:
    """A root without an end would settle its trace's state at MLflow for good."""
    there = destination()
    own = parts(there.url)
    running, ended = wire_span(1, end_ns=0), wire_span(2, parent=1)
    store(own.writer, body_of(running), body_of(running, ended) + UNKNOWN_FIELD)
    await own.export()
    await delivered(state, accepted=1)
    (arrived,) = there.posts
    assert [key[1] for key in arrived.spans()] == [ended.span_id]
    assert arrived.body.endswith(UNKNOWN_FIELD)  # what nobody here knows travels on
    await until(lambda: sql("SELECT count(*) FROM requests WHERE state IN (1, 3)") == [(0,)])
    store(own.writer, body_of(wire_span(1)))
    await delivered(state, accepted=2)
    assert there.accepted() == keys(body_of(wire_span(1)), body_of(ended))


async def test_order_within_a_trace_is_kept(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    there = destination()
    own = parts(there.url)
    store(own.writer, *(body(number, trace=number % 3) for number in range(40)))
    await own.export()
    await delivered(state, accepted=40)
    arrived = [key for post in there.posts for key in post.spans()]
    assert arrived == sorted(arrived, key=lambda key: key[1])


async def test_a_large_request_that_is_refused_is_parted_to_the_span(
    parts: Make, destination: MakeDestination, state: StateDir, sql: Callable[..., Any]
) -> None:
    def answer(taken: Post) -> Reply:
        return Reply(422, b'{"detail": "Invalid span"}') if has_names(taken, "bad") else Reply()

    there = destination(answer=answer)
    own = parts(there.url, experiment="1")
    spans = [wire_span(n, trace=n // 20, name="bad" if n in (7, 333) else "good") for n in range(400)]
    store(own.writer, whole := body_of(*spans))
    await own.export()
    await delivered(state, accepted=398, quarantined=2)
    assert there.accepted() == keys(whole) - {
        (span.trace_id, span.span_id, span.end_time_unix_nano) for span in (spans[7], spans[333])
    }
    assert len(there.posts) < 45
    asked = len(there.posts)
    store(own.writer, body(1000))
    await delivered(state, accepted=399, quarantined=2)
    assert len(there.posts) == asked + 1  # what was accepted or refused is not sent again


async def test_a_restart_in_the_middle_of_a_search_goes_on_with_what_is_left(
    parts: Make, destination: MakeDestination, state: StateDir
) -> None:
    """The destination goes away when half of a refused request is through."""
    refusals = 0

    def answer(taken: Post) -> Reply:
        nonlocal refusals
        if refusals and len(there.accepted()) >= 5:
            return Reply(503)
        bad = has_names(taken, "bad")
        refusals += bad
        return Reply(422, b'{"detail": "Invalid span"}') if bad else Reply()

    there = destination(answer=answer)
    own = parts(there.url, experiment="1")
    store(own.writer, body_of(*(wire_span(n, name="bad" if n == 18 else "good") for n in range(20))))
    await own.export()
    await until(lambda: counts(state)["accepted"] >= 5 and document(state, "exporter")["state"] == "retrying")
    await own.close()
    first = len(there.posts)
    there.answer = lambda taken: (
        Reply(422, b'{"detail": "Invalid span"}') if has_names(taken, "bad") else Reply()
    )
    again = parts(there.url, experiment="1")
    await again.export()
    await delivered(state, accepted=19, quarantined=1)
    sent_again = {key for post in list(there.posts)[first:] for key in post.spans()}
    assert len(sent_again) <= 15


# ---- certificates

CERTIFICATE = Path(__file__).with_name("certificate.pem")
"""A certificate for 127.0.0.1 that nobody trusts, with its key."""


class Encrypted(Destination):
    """A destination behind TLS."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def open(self) -> Destination:
        super().open()
        assert self._server is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        return self


@pytest.mark.parametrize(
    "variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_SERVER_CERT_PATH"]
)
async def test_a_certificate_must_be_trusted(
    parts: Make, state: StateDir, impatient: pytest.MonkeyPatch, variable: str
) -> None:
    with Encrypted() as there:
        own = parts(there.url)
        store(own.writer, body(1))
        await own.export()
        await delivered(state, held=1)
        await until(lambda: "certificate is not trusted" in document(state, "exporter").get("reason", ""))
        await own.close()
        impatient.setenv(variable, str(CERTIFICATE))
        again = parts(there.url)
        await again.export()
        await delivered(state, accepted=1)
        await again.close()


async def test_a_user_may_trust_any_certificate(
    parts: Make, state: StateDir, impatient: pytest.MonkeyPatch
) -> None:
    impatient.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    with Encrypted() as there:
        own = parts(there.url)
        store(own.writer, body(1))
        await own.export()
        await delivered(state, accepted=1)
        await own.close()

"""Files of requests played again: recordings and what the Collector's file exporter writes."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal.export import export
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.otlp.codec import JSON, Request
from hermes_tui.relay.replay import Recording, ReplayError, read_recording, replay
from tests.journal.folders import journal
from tests.processes import Destination, RelayProcess, Reply, run_cli
from tests.support import (
    RECORDINGS,
    SECOND,
    body_of,
    caught_up,
    picture,
    recorded_requests,
    recording_names,
    store,
    tail_all,
    wait_for,
    wire_span,
)

BEGIN = 1_700_000_000 * SECOND


def line(number: int, *, end_ns: int | None = None, **said: Any) -> str:
    """An exported request with one span that ended `number` seconds after the beginning."""
    start = BEGIN + (number - 1) * SECOND
    end = BEGIN + number * SECOND if end_ns is None else end_ns
    return Request(body_of(wire_span(number, start_ns=start, end_ns=end, **said))).to_json()


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    return path


def test_lines_of_the_file_exporter_keep_their_bytes_order_and_pace(tmp_path: Path) -> None:
    lines = [line(5), line(7), line(6), line(9)]
    found = read_recording(written(tmp_path / "x.jsonl", *lines))
    assert [request.body.decode() for request in found] == lines
    assert [request.at_s for request in found] == [0, 2, 2, 4]  # what came late is not sent early
    assert [request.wall_s - BEGIN / SECOND for request in found] == [5, 7, 6, 9]
    assert {request.path for request in found} == {"/v1/traces"}
    assert all(request.headers == {"content-type": JSON} for request in found)


def test_a_line_comes_when_its_last_span_ended(tmp_path: Path) -> None:
    several = Request(
        body_of(
            *(wire_span(n, start_ns=BEGIN, end_ns=BEGIN + n * SECOND) for n in (3, 8, 5)),
            wire_span(9, start_ns=BEGIN + 9 * SECOND, end_ns=0),
        )
    ).to_json()
    running = line(20, end_ns=0)
    nothing = '{"resourceSpans":[]}'
    found = read_recording(written(tmp_path / "x.jsonl", line(1), several, running, nothing, line(40)))
    assert [request.at_s for request in found] == [0, 8, 18, 18, 39]


def test_lines_in_which_times_are_numbers(tmp_path: Path) -> None:
    """Some exporters write 64-bit integers as numbers."""
    lines = [line(1), line(4)]
    for each in lines:
        assert f'"{BEGIN + 4 * SECOND}"' in lines[1], each
    lines[1] = lines[1].replace(f'"{BEGIN + 4 * SECOND}"', str(BEGIN + 4 * SECOND))
    assert [request.at_s for request in read_recording(written(tmp_path / "x.jsonl", *lines))] == [0, 3]


def test_other_signals_go_where_they_belong(tmp_path: Path) -> None:
    lines = ['{"resourceMetrics":[]}', line(1), '{"resourceLogs":[{}]}', line(3)]
    found = read_recording(written(tmp_path / "x.jsonl", *lines))
    assert [request.path for request in found] == ["/v1/metrics", "/v1/traces", "/v1/logs", "/v1/traces"]
    assert [request.at_s for request in found] == [0, 0, 0, 2]


def test_a_recording_is_played_in_the_order_of_its_times(tmp_path: Path) -> None:
    said = {"path": "/v1/traces", "headers": []}
    lines = [
        json.dumps({"t": at, "wall": 100 + at, "body": b64encode(body).decode(), **said})
        for at, body in ((2, b"third"), (0, b"first"), (1, b"second"))
    ]
    found = read_recording(written(tmp_path / "x.jsonl", *lines))
    assert [(request.at_s, request.wall_s) for request in found] == [(0, 100), (1, 101), (2, 102)]
    assert [request.body for request in found] == [b"first", b"second", b"third"]


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    """The Collector does not escape what Python's splitlines takes for the end of a line."""
    text = json.dumps(json.loads(line(1, text="a\u2028b\u0085c\x1c")), ensure_ascii=False)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\r\n" + text.replace("\x1c", "\u2029").encode() + b"\r\n\r\n" + line(2).encode())
    found = read_recording(path)
    assert len(found) == 2
    assert Request(found[0].body, JSON).detail(0).attributes == {"text": "a\u2028b\u0085c\x1c"}


def test_a_gzipped_file_and_a_pipe_are_read_too(tmp_path: Path) -> None:
    lines = [line(1), line(2)]
    plain = written(tmp_path / "x.jsonl", *lines)
    packed = tmp_path / "x.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_recording(packed) == read_recording(plain)
    for content in (plain.read_bytes(), packed.read_bytes()):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(content,))
        writer.start()
        assert read_recording(pipe) == read_recording(plain)
        writer.join()
        pipe.unlink()


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "5",
        "[]",
        '"resourceSpans"',
        '["resourceSpans"]',
        "{}",
        '{"resourceSpans": null}',
        '{"resourceSpans": [5]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": "soon"}]}]}]}',
        '{"resourceSpans": ' + "[" * 100_000,
        '{"t": 0, "wall": 1, "path": "/v1/traces", "headers": [], "body": "***"}',
        '{"t": 0, "wall": 1, "path": "/v1/traces", "headers": 5, "body": ""}',
    ],
    ids=lambda line: line[-30:],
)
def test_a_broken_line_is_named_before_anything_is_sent(tmp_path: Path, broken: str) -> None:
    path = written(tmp_path / "x.jsonl", line(1), "", broken)
    with pytest.raises(ReplayError, match=r"line 3 is not a recorded request .* expected an OTLP request"):
        Recording(path)


@pytest.mark.parametrize("content", [b"", b"\n \n", gzip.compress(b"")], ids=["no bytes", "blank", "gzip"])
def test_a_file_without_requests_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ReplayError, match="holds no requests"):
        Recording(tmp_path / "x.jsonl")


@pytest.mark.parametrize("cut", [12, -4])
def test_a_broken_archive_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(line(1).encode() * 50)[:cut])
    with pytest.raises(ReplayError, match="cannot read"):
        Recording(tmp_path / "x.gz")
    with pytest.raises(ReplayError, match="cannot read"):
        Recording(tmp_path)


def test_one_request_is_in_memory_at_a_time(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", *(line(n, text="x" * 1_000_000) for n in range(1, 41)))
    tracemalloc.start()
    try:
        with Recording(path) as recording:
            assert sum(len(request.body) for request in recording) > 40_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


# ------------------------------------------------------------------------------------------- playing


async def test_the_pace_is_that_of_the_spans(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", line(1), line(3), line(5))
    with Destination() as there:
        assert await replay([path], there.url, speed=20) == (3, 0)
        times = [post.at for post in there.posts]
        assert [post.headers["content-type"] for post in there.posts] == [JSON] * 3
        assert [post.body.decode() for post in there.posts] == path.read_text().splitlines()
    assert times[-1] - times[0] > 4 / 20 - 0.05


async def test_refusals_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", line(1), line(2))
    with Destination(Reply(400)) as there:
        assert await replay([path, path], there.url, speed=0) == (4, 1)


@pytest.mark.parametrize("packed", [False, True])
async def test_now_moves_json_as_it_moves_protobuf(tmp_path: Path, packed: bool) -> None:
    """Both formats, and a recording that holds JSON."""
    lines = [line(5), line(7)]
    recorded = []
    for number, each in enumerate(lines):
        body = gzip.compress(each.encode()) if packed else each.encode()
        headers = [["Content-Type", "application/json; charset=utf-8"]]
        headers += [["Content-Encoding", "gzip"]] if packed else []
        recorded.append(
            json.dumps(
                {
                    "t": 2 * number,
                    "wall": BEGIN / SECOND + 5 + 2 * number,
                    "path": "/v1/traces",
                    "headers": headers,
                    "body": b64encode(body).decode(),
                }
            )
        )
    for name, content in (("exported", lines), ("recorded", recorded)):
        path = written(tmp_path / f"{name}.jsonl", *content)
        before = time.time_ns()
        with Destination() as there:
            assert await replay([path], there.url, speed=0, now=True) == (2, 0)
            posts = [Request(post.body, post.headers["content-type"]) for post in there.posts]
            assert all("content-encoding" not in post.headers for post in there.posts)
        ends = [request.ids()[0][2] for request in posts]
        assert ends[1] - ends[0] == 2 * SECOND
        assert before - SECOND < ends[0] < time.time_ns() + SECOND
        (entry,) = posts[0].entries()
        assert entry.end_ns - entry.start_ns == SECOND


async def test_now_begins_with_the_first_line_that_has_a_time(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", '{"resourceMetrics":[]}', line(5))
    with Destination() as there:
        await replay([path], there.url, speed=0, now=True)
        ((*_, end),) = Request(there.posts[1].body, JSON).ids()
    assert abs(time.time_ns() - end) < 60 * SECOND


# ------------------------------------------------------------------------- there and back again


@pytest.mark.parametrize("name", recording_names())
async def test_what_was_exported_replays_to_the_same_tree(
    name: str, tmp_path: Path, parts: Callable[..., Any]
) -> None:
    with journal() as (writer, open_reader):
        store(writer, *recorded_requests(name))
        reader: Reader = open_reader()
        wait_for(lambda: caught_up(reader))
        before = picture(tail_all(reader))
        path = written(tmp_path / "exported.jsonl", *export(reader, None))
    relay = parts()
    async with relay.receiver() as receiver:
        assert await replay([path], f"http://{receiver.address}", speed=0) == (
            len(recorded_requests(name)),
            0,
        )
    with Reader(relay.state.journal) as reader:
        wait_for(lambda: caught_up(reader))
        assert picture(tail_all(reader)) == before


def test_by_the_commands(tmp_path: Path, start_relay: Callable[..., RelayProcess]) -> None:
    """Recorded traffic into one relay, its export into another: the same sessions and commands."""
    files = [str(RECORDINGS / f"{name}.otlp.jsonl") for name in recording_names()]
    copy = tmp_path / "copy.jsonl"
    seen = []
    for name, sources in (("first", files), ("second", [str(copy)])):
        folder = ("--state-dir", str(tmp_path / name))
        relay = start_relay(StateDir(tmp_path / name))
        played = run_cli("replay", *sources, "--speed", "0", *folder)
        assert played.returncode == 0, played.stderr
        assert relay.stop() == 0
        done = run_cli("export", *folder, "-o", str(copy if name == "first" else tmp_path / "again.jsonl"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        seen.append([run_cli(what, "--json", *folder).stdout for what in ("sessions", "commands")])
    assert len(json.loads(seen[0][0])) > 10
    assert seen[0] == seen[1]
    assert copy.read_text() == (tmp_path / "again.jsonl").read_text()
    assert copy.stat().st_mode & 0o777 == 0o600
    printed = run_cli("export", *folder, "--session", "last")
    assert printed.returncode == 0
    assert all(json.loads(each)["resourceSpans"] for each in printed.stdout.splitlines())
    unknown = run_cli("export", *folder, "--session", "nobody")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no session 'nobody'" in unknown.stderr
    nowhere = run_cli("export", *folder, "-o", str(tmp_path / "none" / "x"))
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert nowhere.stderr.startswith("Error: cannot write")


def test_an_export_of_nothing_is_empty(tmp_path: Path) -> None:
    folder = ("--state-dir", str(tmp_path / "none"))
    done = run_cli("export", *folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run_cli("export", *folder, "--session", "last")
    assert (done.returncode, done.stdout) == (1, "")

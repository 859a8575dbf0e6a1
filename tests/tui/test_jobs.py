"""What the details of a background command say of the job that it started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.model.jobs import Job, read_job
from hermes_tui.model.live_turns import LiveCall
from hermes_tui.model.span import Outcome
from hermes_tui.tui.describe_record import job_lines
from hermes_tui.tui.glyphs import UNICODE
from hermes_tui.tui.page import Page
from tests.hermes_process import HermesProcess, hermes_process
from tests.joint import brought_to, joint_events
from tests.state_player import StateEvent
from tests.support import SECOND, envelope, recorded_requests, store
from tests.tui.stage import pane

STARTED = '{"output": "Background process started", "session_id": "proc_1", "pid": 7, "exit_code": 0}'


def call(tool: str, result: str, at: int, arguments: str = "{}") -> LiveCall:
    outcome = Outcome.BACKGROUND if tool == "terminal" else None
    return LiveCall(
        ("s", str(at)),
        str(at),
        tool,
        arguments,
        at * SECOND,
        ended_ns=at * SECOND,
        result=result,
        outcome=outcome,
    )


def said(job: Job | None) -> list[str]:
    page = Page(UNICODE, full=False)
    job_lines(page, job)
    return page.text.plain.splitlines()


def clock(at: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


RUNS = '{"processes": [{"session_id": "proc_1", "cwd": "/srv\\u001b[2J", "pid": 7, "status": "running"}]}'
JOBS: dict[str, tuple[list[LiveCall], list[str]]] = {
    "nobody asked": ([], ["started; nobody asked for it since (proc_1)", "process id   7"]),
    "runs": (
        [call("process", RUNS, 9)],
        [f"running when last asked at {clock(9)} (proc_1)", "process id   7", "in           /srv␛[2J"],
    ),
    "ended": (
        [
            call("process", RUNS, 9),
            call("process", '{"status": "exited", "exit_code": 3}', 12, '{"session_id": "proc_1"}'),
        ],
        [f"over when last asked at {clock(12)}, exit 3 (proc_1)", "process id   7", "in           /srv␛[2J"],
    ),
    "of another": (
        [call("process", RUNS.replace("proc_1", "proc_2"), 9)],
        ["started; nobody asked for it since (proc_1)", "process id   7"],
    ),
}


@pytest.mark.parametrize("case", JOBS)
def test_a_job_is_told_as_hermes_last_told_of_it(case: str) -> None:
    later, lines = JOBS[case]
    assert said(read_job("s", call("terminal", STARTED, 5), later)) == ["Background job", *lines]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"alive": True}, "running: its process is there (proc_1)"),
        ({"alive": False}, "its process is gone, exit not known (proc_1)"),
        ({"ended": True}, "over, exit not known (proc_1)"),
    ],
)
def test_what_the_system_says_of_its_process(facts: dict[str, Any], line: str) -> None:
    assert said(Job("proc_1", "s", **facts)) == ["Background job", line]


def test_without_a_job_nothing_is_said() -> None:
    assert read_job("s", call("terminal", '{"output": "started"', 5), []) is None
    assert said(None) == []


@pytest.mark.parametrize("name", ["v123_background", "timeout_background"])
async def test_spans_alone_tell_of_it(name: str, state: StateDir, open_writer: Callable[..., Writer]) -> None:
    store(open_writer(), *recorded_requests(name))
    async with pane(state, (120, 40)) as stage:
        await stage.shows("sleep 3; echo bg-done")
        await stage.go_to("sleep 3; echo bg-done")
        await stage.press("enter")
        await stage.shows("Background job", "running when last asked at", "(proc_", "process id", "/work")


@pytest.fixture(scope="module")
def process() -> Iterator[HermesProcess]:
    with hermes_process() as started:
        yield started


async def test_hermes_records_tell_of_it(
    process: HermesProcess, state: StateDir, tmp_path: Path, open_writer: Callable[..., Writer]
) -> None:
    process.begin(tmp_path / "home")
    writer = open_writer()
    try:
        for event in brought_to(joint_events("v123_background"), time.time() - 1):
            if isinstance(event, StateEvent):
                process.commit(event)
            else:
                writer.append(envelope(event.body)).result(30)
        watch = Watch(find=lambda: [Home("default", tmp_path / "home")])
        async with pane(state, (120, 40), watch=watch) as stage:
            await stage.shows("sleep 3; echo bg-done")
            await stage.go_to("sleep 3; echo bg-done")
            await stage.press("enter")
            await stage.shows("Background job", "running when last asked at", "(proc_22f1a0edd469)", "6141")
    finally:
        process.end()

"""Recordings as they happened: a process commits rows, spans come into a journal, and three panes look on.

One pane sees Hermes' own records and the journal, one the journal alone, one the records alone. Ten times
as fast as it was; HERMES_TRACE_TEST_PLAY_SPEED says another speed.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest
from textual.pilot import Pilot

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.model.live import Live
from hermes_tui.model.span import Span
from hermes_tui.tui.app import TraceApp
from hermes_tui.tui.glyphs import UNICODE
from hermes_tui.tui.rows import shown as as_text
from hermes_tui.tui.rows import turn_keys
from hermes_tui.tui.shown import ShownSession
from tests.hermes_process import HermesProcess, hermes_process
from tests.joint import Event, at_s, brought_to, joint_events
from tests.model.timeline import roots
from tests.processes import until
from tests.state_player import StateEvent, state_names
from tests.support import envelope, spans_in
from tests.tui.stage import NARROW, check_rows

SPEED = float(os.environ.get("HERMES_TRACE_TEST_PLAY_SPEED", "10"))

Line = tuple[int, str, str, str]
"""How deep a row is, its glyph, its text and how it ended."""

CUT = {
    "shell_corners": [(1, "$", "python3 -c \"print('x'*60000)\"", "✓")],
    "v123_preview": [(1, "$", "python3 -c \"print('x'*60000)\"", "✓")],
    "truncated": [(1, "$", "seq 1 3000; exit 7", "✗ 7")],
}
"""Commands whose exit codes the spans cut off."""

NEVER = "✗ not ended"
LOST = {
    "subagents": [
        (1, "◈", "[[s:child]] first child", ""),
        (2, "$", "ls /etc | wc -l; sleep 1", NEVER),
        (1, "◈", "[[s:child2]] second child", ""),
        (2, "$", "echo child2; sleep 2", NEVER),
    ],
}
"""What no span ever told."""

PLACEHOLDERS = {"subagents": [(1, "◌", "parent never seen", "")] * 2}
"""What is drawn in their stead where nobody knows better."""


# ---- what has to be there in the end


def lines(shown: ShownSession) -> list[Line]:
    """The rows of a session as they are."""
    rows = [shown.tree.row(number) for number in range(len(shown.tree))]
    return [(row.depth, row.glyph, row.text, row.value) for row in rows]


def unfolded(shown: ShownSession) -> list[Line]:
    """All rows of a session, those of older turns too."""
    for turn in shown.turns:
        shown.tree.set_fold(turn_keys(turn)[0], False)
    shown.refresh(time.time_ns())
    return lines(shown)


def without_tokens(some: Iterable[Line]) -> list[Line]:
    """Only who looks on while it happens can tell from Hermes' records what each model call took."""
    return [(*line[:3], line[3] if line[1] in UNICODE.command + UNICODE.tool else "") for line in some]


def spans_of(events: Iterable[Event], session: str) -> list[Span]:
    """All spans of the traces that a session is in."""
    spans = [span for each in events if not isinstance(each, StateEvent) for span in spans_in(each.body)]
    traces = {span.trace_id for span in spans if span.session == session}
    return [span for span in spans if span.trace_id in traces]


def at_once(session: str, live: Live, spans: Iterable[Span]) -> ShownSession:
    """The session when everything comes in one go."""
    shown = ShownSession(session, UNICODE, live)
    shown.add(spans)
    shown.refresh(time.time_ns())
    return shown


def recorded(home: Path, sessions: Iterable[str]) -> Live:
    """Hermes' records as a late reader finds them."""
    live = Live()
    with closing(watch(home)) as records:
        live.take(records.poll())
        for session in sessions:
            records.pin(session)
        live.take(records.poll())
    return live


def commands(events: Iterable[Event]) -> Counter[str]:
    """Every command that Hermes noted, in all sessions: straight from the rows."""
    found: Counter[str] = Counter()
    for event in events:
        if isinstance(event, StateEvent) and (calls := event.row.get("tool_calls")):
            arguments = [json.loads(call["function"]["arguments"]) for call in json.loads(calls)]
            found.update(as_text(each["command"]) for each in arguments if "command" in each)
    return found


def ran(some: Iterable[Line]) -> Counter[str]:
    """The commands among some rows."""
    return Counter(text for _, glyph, text, _ in some if glyph == UNICODE.command)


# ---- the play


@pytest.fixture(scope="module")
def hermes() -> Iterator[HermesProcess]:
    with hermes_process() as process:
        yield process


def watch(home: Path) -> Watch:
    return Watch(find=lambda: [Home("default", home)])


@asynccontextmanager
async def panes(state: StateDir, home: Path, elsewhere: Path) -> AsyncIterator[list[TraceApp]]:
    """With both sources, with the journal alone, with Hermes' records alone."""
    apps = [
        TraceApp(state, watch=watch(home)),
        TraceApp(state),
        TraceApp(StateDir(elsewhere), watch=watch(home)),
    ]
    async with AsyncExitStack() as stack:
        for app in apps:
            pilot: Pilot[None] = await stack.enter_async_context(app.run_test(size=NARROW))
            assert pilot.app is app
        yield apps


async def play(events: Sequence[Event], hermes: HermesProcess, writer: Writer) -> None:
    """Commit and store everything when its time comes."""
    begin = time.monotonic()
    for event in events:
        await asyncio.sleep(begin + at_s(event) - time.monotonic())
        if isinstance(event, StateEvent):
            await asyncio.to_thread(hermes.commit, event)
        else:
            await asyncio.wrap_future(writer.append(envelope(event.body)))
    await asyncio.to_thread(hermes.end)


async def comes_to(
    app: TraceApp, expected: ShownSession, seen: Callable[[list[Line]], list[Line]] = list
) -> list[Line]:
    """Wait until a pane shows the same rows, of its own accord, and nothing twice or at work; all of them."""
    app._show_session(expected.id)
    wanted = seen(lines(expected))
    try:
        await until(lambda: app.shown.id == expected.id and seen(lines(app.shown)) == wanted)
    except AssertionError:
        assert seen(lines(app.shown)) == wanted  # says where they differ
        raise
    everything = unfolded(expected)
    assert seen(unfolded(app.shown)) == seen(everything)
    check_rows(app.shown.tree)
    rows = [app.shown.tree.row(number) for number in range(len(app.shown.tree))]
    # Nobody tells of the end of a background job that Hermes did not ask for.
    assert [row for row in rows if row.since_ns and row.value != UNICODE.background] == []
    return everything


@pytest.mark.process
@pytest.mark.parametrize("name", state_names())
async def test_a_recording_as_it_happens(
    name: str, tmp_path: Path, state: StateDir, hermes: HermesProcess, open_writer: Callable[..., Writer]
) -> None:
    home, sessions, writer = tmp_path / "home", roots(name), open_writer()
    hermes.begin(home)
    async with panes(state, home, tmp_path / "elsewhere") as (both, traced, noted):
        events = brought_to(joint_events(name), time.time(), SPEED)
        await play(events, hermes, writer)
        live, joined, own = recorded(home, sessions), Counter[str](), Counter[str]()
        for session in sessions:
            spans = spans_of(events, session)
            alone = Counter(await comes_to(traced, at_once(session, Live(), spans)))
            full = Counter(await comes_to(both, at_once(session, live, spans)))
            unknown = [(*line[:3], "exit ?") for line in CUT.get(name, [])]
            assert full - alone == Counter([*CUT.get(name, []), *LOST.get(name, [])])
            assert alone - full == Counter([*unknown, *PLACEHOLDERS.get(name, [])])
            joined += ran(full.elements())
            own += ran(await comes_to(noted, at_once(session, live, []), without_tokens))
        assert joined == own == commands(events)

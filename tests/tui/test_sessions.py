"""The list of sessions: what it says of each, and how one is found and chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_tui.figures import short_number
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader, SessionRow
from hermes_tui.journal.writer import Writer
from hermes_tui.model.live import Live
from hermes_tui.model.span import Kind, Role
from hermes_tui.model.state_rows import HomeRow, MessageRow
from hermes_tui.model.state_rows import SessionRow as NotedRow
from hermes_tui.tui.directory import Facts, Listed, directory, facts_of
from hermes_tui.tui.facts_feed import FactsFeed
from hermes_tui.tui.glyphs import ASCII, UNICODE
from hermes_tui.tui.heading import heading
from hermes_tui.tui.messages import FactsArrived
from hermes_tui.tui.screens.sessions import SessionsScreen
from hermes_tui.tui.session_lines import session_lines
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.trust import RelaySays
from tests.model.timeline import HOME, roots, timeline
from tests.support import (
    SECOND,
    agent_span,
    body_of,
    fold,
    make_span,
    recorded_requests,
    recorded_spans,
    store,
    wait_for,
)
from tests.tui.conftest import Play
from tests.tui.stage import Clock, pane, rows_of, show, wire_command, wire_turn

NOW = SECOND * 1_000


def noted(session: str, **said: object) -> NotedRow:
    return NotedRow(**{"home": "default", "revision": 1, "id": session, **said})  # type: ignore[arg-type]


def asked(session: str, number: int, at_s: int) -> MessageRow:
    return MessageRow(
        home="default", revision=1, id=number, session=session, role="user", text=f"prompt of {session}",
        at_ns=at_s * SECOND,
    )  # fmt: skip


def opened(name: str, session: str | None = None) -> tuple[ShownSession, list[Listed]]:
    """A recording's session as the pane shows it a while after its end, and the list of all of them."""
    live = Live()
    for _, rows, _ in timeline(name):
        live.take(rows)
    live.take([HomeRow(HOME, 1, closed=False)])  # as while another Hermes has it open
    spans = recorded_spans(name)
    now_ns = max(span.end_ns for span in spans) + 16 * SECOND
    shown = ShownSession(session or roots(name)[0], UNICODE, live)
    shown.add(spans)
    shown.refresh(now_ns)
    facts = {name: facts_of(each, now_ns) for name, each in fold(spans).items()}
    return shown, directory([SessionRow(each, now_ns, 1) for each in roots(name)], live, now_ns, facts)


# ---- what is known of each


def test_sources_are_put_together() -> None:
    live = Live()
    live.take([
        noted("a", title="Walk", source="cli", model="m", cwd="/srv/w", input_tokens=5, started_ns=SECOND),
        asked("a", 1, 990),
        noted("kid", source="subagent", parent="a", started_ns=991 * SECOND),
        asked("kid", 2, 991),
    ])  # fmt: skip
    facts = {"b": Facts("failed", "gpt", "cron", turns=2, commands=3, failed=1, errors=1, tokens=1_234)}
    found = directory([SessionRow("b", 980 * SECOND, 2)], live, NOW, facts)
    assert [(each.session, each.depth, each.status) for each in found] == [
        ("a", 0, "running"),
        ("kid", 1, "running"),
        ("b", 0, "failed"),
    ]
    assert (found[0].title, found[0].cwd, found[0].tokens) == ("Walk", "/srv/w", 5)
    assert found[1].title == "prompt of kid"
    assert (found[2].model, found[2].source, found[2].tokens) == ("gpt", "cron", 1_234)


def test_the_records_know_better_whether_it_still_runs() -> None:
    """The plugin's span of a killed turn never came."""
    live = Live()
    live.take([noted("a"), asked("a", 1, 10)])
    long_after = 10_000 * SECOND
    [listed] = directory([SessionRow("a", 10 * SECOND, 1)], live, long_after, {"a": Facts("running")})
    assert not listed.running


@pytest.mark.parametrize(
    ("ended_s", "status"),
    [
        (0, "running"),  # the spans tell of no end
        (994, "running"),  # and asked again since
        (996, "failed"),
    ],
)
def test_a_turn_that_ended_by_its_spans_does_not_run(ended_s: int, status: str) -> None:
    """A model call that fails for good leaves no record, and another Hermes has the database open."""
    live = Live()
    live.take([
        noted("a"), asked("a", 1, 995), HomeRow("default", 1, closed=False),
    ])  # fmt: skip
    facts = {"a": Facts("failed", errors=3, ended_ns=ended_s * SECOND)}
    [listed] = directory([SessionRow("a", 996 * SECOND, 1)], live, NOW, facts)
    assert listed.status == status
    assert listed.running is (status == "running")


def test_the_list_agrees_with_the_header_of_a_failed_session() -> None:
    shown, [listed] = opened("v123_fatal")
    assert (shown.status(), listed.status, listed.facts and listed.facts.errors) == ("failed", "failed", 3)


@pytest.mark.parametrize(
    ("name", "status", "texts"),
    [
        ("v123_subagent", "interrupted", ["[[s:child]] Count", "fake-gpt-1 → 1 to", "ls /etc | wc -l; "]),
        ("subagents", "running", ["[[s:child]] first", "fake-gpt-1 → 1 to", "ls /etc | wc -l; "]),
    ],
)
def test_a_subagents_session_is_shown_as_its_own_part(name: str, status: str, texts: list[str]) -> None:
    """And nothing of its parent's turn, below which its spans hang; in `subagents` most of them were lost."""
    _, [_, child, *_] = opened(name)
    shown, [_, listed, *_] = opened(name, child.session)
    assert child == listed
    assert (listed.depth, listed.status, shown.status()) == (1, status, status)
    assert [row.text[:17] for row in rows_of(shown.tree)] == texts
    assert [row.depth for row in rows_of(shown.tree)] == [0, 1, 1]
    head = heading(shown, RelaySays(), "")
    assert (head.input_tokens + head.output_tokens) == listed.tokens
    assert rows_of(shown.tree)[0].value == short_number(listed.tokens)
    assert shown.find(rows_of(shown.tree)[1].key).turn is shown.turns[0]


def test_a_subagents_own_subagent_is_in_its_part() -> None:
    agent = {"kind": Kind.AGENT, "role": Role.SUBAGENT, "name": "subagent.leaf", "end_ns": SECOND * 1_050}
    call = {"kind": Kind.LLM, "role": Role.MODEL_CALL, "input_tokens": 1_000, "model": "m"}
    shown = show(
        [
            agent_span(0, prompt="above", end_ns=SECOND * 1_100),
            make_span(1, parent=0, **agent, prompt="job"),
            agent_span(2, parent=1, session="child", prompt="job", end_ns=SECOND * 1_040),
            make_span(3, parent=2, **call, session="child"),
            make_span(4, parent=2, **agent, session="child", prompt="inner", final_status="completed"),
            agent_span(5, parent=4, session="inner", prompt="inner"),
            make_span(6, parent=5, **call, session="inner"),
            make_span(7, parent=0, **call),
        ],
        session="child",
        now_ns=SECOND * 2_000,
    )
    texts = [(row.depth, row.text, row.value) for row in rows_of(shown.tree)]
    assert texts == [(0, "job", "2.0k"), (1, "m", "1.0k"), (1, "inner", "✓"), (2, "m", "1.0k")]
    assert (shown.status(), shown.totals.usage.tokens) == ("completed", 1_000)


LISTED = Listed(
    "20260101_1", 940 * SECOND, 2, "Walk \x1b[31m", "cli", "work", "gpt-x", "/srv", "waits for you",
    tokens=9_200, cost=0.5, facts=Facts("running", turns=1, commands=2, failed=1, errors=2, more=True),
)  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "glyphs", "lines"),
    [
        (
            LISTED,
            UNICODE,
            [
                "? Walk \u241b[31m ◂                         waits for you",
                "  cli, work, gpt-x, 2 errors, 2 $ ✗1, 9.2k tokens",
            ],
        ),
        (
            Listed("id", 940 * SECOND, 0, source="cron", home="default", status="completed", depth=1),
            ASCII,
            ["  + id <                                      1m ago", "    cron"],
        ),
        (
            Listed("id", 940 * SECOND),
            UNICODE,
            ["– id ◂                                        1m ago", "  no spans"],
        ),
    ],
)
def test_two_lines_say_what_it_is(listed: Listed, glyphs: object, lines: list[str]) -> None:
    text = session_lines(listed, shown=True, now_s=1_000, width=52, glyphs=glyphs)  # type: ignore[arg-type]
    assert [line.rstrip() for line in text.plain.split("\n")] == lines
    assert all(len(line) <= 52 for line in text.plain.split("\n"))


@pytest.mark.parametrize(
    ("width", "told"),
    [
        (100, "cli, work, gpt-x, 2 errors, 2 $ ✗1, over 1 turn, 9.2k tokens, $0.50, 20260101_1"),
        (76, "cli, work, gpt-x, 2 errors, 2 $ ✗1, over 1 turn, 9.2k tokens, $0.50"),
        (60, "cli, work, gpt-x, 2 errors, 2 $ ✗1, 9.2k tokens"),
        (42, "cli, work, gpt-x, 2 errors, 9.2k tokens"),
        (34, "cli, work, gpt-x, 2 errors, 9.2k"),
        (20, "cli, work, gpt-x"),
        (14, "cli, gpt-x"),
        (9, "cli, g…"),
    ],
)
def test_what_tells_it_from_others_is_kept_in_narrow_lists(width: int, told: str) -> None:
    text = session_lines(LISTED, shown=False, now_s=1_000, width=width, glyphs=UNICODE)
    assert text.plain.split("\n")[1] == f"  {told}"


@pytest.mark.parametrize(
    ("status", "mark"),
    [("completed", "✓"), ("failed", "✗"), ("interrupted", "◼"), ("running", "●"), ("", "–")],
)
def test_it_is_marked_as_turns_are(status: str, mark: str) -> None:
    text = session_lines(Listed("id", 1, status=status), shown=False, now_s=1, width=40, glyphs=UNICODE)
    assert text.plain.startswith(f"{mark} id")


@pytest.mark.parametrize(
    ("words", "found"), [("walk gpt", True), ("srv", True), ("20260101", True), ("x y", False)]
)
def test_it_is_found_by_what_names_it(words: str, found: bool) -> None:
    assert LISTED.has(words.split()) is found


def test_facts_are_read_again_only_of_what_moved(state: StateDir, open_writer: Callable[..., Writer]) -> None:
    writer = open_writer()
    store(writer, body_of(*wire_turn(0, session="one")), received_ns=SECOND)
    store(
        writer,
        body_of(*wire_turn(1, session="two"), wire_command(1, 9, session="two", code=3)),
        received_ns=2,
    )
    posted: list[object] = []
    feed = FactsFeed(state.journal, posted.append)

    def read() -> None:
        posted.clear()
        with Reader(state.journal) as reader:
            feed.read(reader.recent_sessions())
        wait_for(lambda: any(isinstance(each, FactsArrived) for each in posted))

    wait_for(lambda: _indexed(state))
    read()
    one, two = feed.known["one"], feed.known["two"]
    assert (one.turns, one.commands, one.failed, one.status) == (1, 2, 0, "completed")
    assert (two.commands, two.failed) == (3, 1)
    store(writer, body_of(*wire_turn(2, session="two")), received_ns=3 * SECOND)
    wait_for(lambda: _indexed(state))
    read()
    assert feed.known["one"] is not None
    assert feed.known["two"].turns == 2
    posted.clear()
    with Reader(state.journal) as reader:
        feed.read(reader.recent_sessions())
    feed.stop()
    assert posted == []


def test_facts_of_subagents_come_with_those_of_the_session_above(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    store(open_writer(), *recorded_requests("v123_subagent"), received_ns=SECOND)
    wait_for(lambda: _indexed(state))
    posted: list[object] = []
    feed = FactsFeed(state.journal, posted.append)
    with Reader(state.journal) as reader:
        feed.read(reader.recent_sessions())
    wait_for(lambda: posted)
    feed.stop()
    _, [top, child] = opened("v123_subagent")
    assert feed.known == {top.session: top.facts, child.session: child.facts}
    assert child.facts is not None
    assert (child.facts.status, child.facts.failed, child.facts.turns) == ("interrupted", 1, 0)


def _indexed(state: StateDir) -> bool:
    with Reader(state.journal) as reader:
        done, last = reader.indexed()
        return done == last


# ---- on the screen


async def start(play: Play, *names: str) -> None:
    for number, name in enumerate(names):
        play(*wire_turn(number, session=name, at_s=1_000 + 60 * number))


async def test_it_chooses_one(state: StateDir, play: Play, clock: Clock) -> None:
    await start(play, "one", "two", "three")
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.id == "three")
        await stage.press("s")
        await stage.shows(
            "Sessions, newest activity first", "✓ three ◂", "2 $, 1 turn", "3 sessions, 0 running"
        )
        lines = [line for line in stage.lines() if " ago" in line]
        assert [re.findall(r"one|two|three", line) for line in lines] == [["three"], ["two"], ["one"]]
        await stage.press("j", "down", "enter")
        await stage.shows("turn 0")
        assert stage.app.shown.id == "one"
        assert stage.app.screen is stage.main
        await stage.press("s")
        assert isinstance(stage.app.screen, SessionsScreen)
        await stage.press("escape")
        assert stage.app.screen is stage.main
        assert stage.app.shown.id == "one"


async def test_a_filter_narrows_it_down(state: StateDir, play: Play, clock: Clock) -> None:
    await start(play, "one", "two", "three")
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.id == "three")
        await stage.press("s", "slash", *"tw")
        await stage.shows("1 of 3 sessions, 0 running")
        await stage.press("enter", "enter")
        await stage.until(lambda: stage.app.shown.id == "two")
        await stage.press("s", "slash", *"zzz")
        await stage.shows("0 of 3")
        await stage.press("escape")  # the filter goes first, then the list
        await stage.shows("3 sessions, 0 running")
        await stage.press("escape")
        assert stage.app.screen is stage.main


async def test_it_is_brought_up_to_date_while_it_is_open(
    state: StateDir, play: Play, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The highlighted session stays so when another one comes above it."""
    monkeypatch.setattr("hermes_tui.tui.app._CLOCK_S", 0.05)
    await start(play, "one", "two")
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.id == "two")
        await stage.press("s", "down")
        play(*wire_turn(5, session="three"))
        await stage.shows("three", "3 sessions, 0 running")
        await stage.press("enter")
        await stage.until(lambda: stage.app.shown.id == "one")


def test_no_path_is_needed_for_nothing(tmp_path: Path) -> None:
    """A journal that is not there yet is no error."""
    posted: list[object] = []
    feed = FactsFeed(tmp_path / "journal.db", posted.append)
    feed.read([SessionRow("a", 1, 1)])
    wait_for(lambda: posted)
    feed.stop()
    assert feed.known == {}

"""The usage view in the pane: it follows what arrives while it is seen, and leads to the tree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from textual.message import Message

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.live import Sums
from hermes_tui.model.span import Delivery
from hermes_tui.model.windows import Windows
from hermes_tui.tui.app import TraceApp
from hermes_tui.tui.messages import UsageMoved
from hermes_tui.tui.usage import Others
from hermes_tui.tui.usage_feed import UsageLook
from hermes_tui.tui.widgets.usage_view import UsageView
from tests.support import SECOND, body_of, caught_up, store, trace_id, wait_for, wire_span
from tests.tui import hostile
from tests.tui.stage import NARROW, WIDE, Stage, deliver, key_of, pane, tell, wire_turn

SMALL = (40, 20)
SIZES = pytest.mark.parametrize("size", [SMALL, NARROW, WIDE], ids=["small", "narrow", "wide"])
pytestmark = pytest.mark.usefixtures("clock")
Play = Callable[..., None]
Open = Callable[..., Writer]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_tui.tui.usage_feed._PAUSE_S", 0.02)
    monkeypatch.setattr("hermes_tui.tui.widgets.usage_view._PAUSE_S", 0.01)


def wire_call(trace: int, index: int, *, tokens: int = 1_000, took_s: float = 1.0, **said: Any) -> Any:
    """A model call in the turn of a trace."""
    start = SECOND * (1_000 + 10 * trace) + index * SECOND // 100
    facts = {
        "name": "api.gpt",
        "session__id": "s",
        "openinference__span__kind": "LLM",
        "gen_ai__response__model": "gpt",
        "llm__token_count__prompt": tokens,
        "llm__token_count__completion": 10,
        **said,
    }
    number = trace * 1_000
    return wire_span(
        number + 500 + index, parent=number + 1, trace=trace, start_ns=start,
        end_ns=start + int(took_s * SECOND), **facts,
    )  # fmt: skip


def turn(trace: int, *, calls: int = 2, tokens: int = 1_000, session: str = "s") -> list[Any]:
    """A turn of four spans and some model calls."""
    asked = [wire_call(trace, at, tokens=tokens, session__id=session) for at in range(calls)]
    return [*asked, *wire_turn(trace, session=session)]


async def opened(stage: Stage, *texts: str) -> UsageView:
    """The usage view, once it shows these texts."""
    await stage.until(lambda: stage.app.shown.totals.spans)
    await stage.press("3")
    assert stage.view == "usage"
    await stage.shows(*texts)
    assert stage.app.board.later.usage is not None
    return stage.app.board.later.usage


def page(view: UsageView) -> list[str]:
    return ["".join(text for text, _ in line.parts).rstrip() for line in view._lines]


@SIZES
async def test_by_key_and_back(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*turn(0))
    async with pane(state, size) as stage:
        for back in ("escape", "1"):
            view = await opened(stage, "Tokens", "session", "2.0k", "Context after each of 2 calls")
            assert stage.app.focused is view
            await stage.press(back)
            assert stage.view == "tree"
            assert stage.app.focused is stage.rows


async def test_the_footer_fits_forty_columns(state: StateDir, play: Play) -> None:
    play(*turn(0))
    async with pane(state, SMALL) as stage:
        await stage.shows("turn 0")
        assert stage.footer.split() == ["1", "Tree", "2", "2", "3", "4", "–", "5", "s", "/", "?", "q"]
        await opened(stage, "Tokens")
        assert stage.footer.split() == ["1", "Tree", "2", "2", "3", "Usage", "4", "–", "5", "s", "?", "q"]
        await stage.pilot.click("#footer", offset=(stage.footer.index("4 –"), 0))
        await stage.until(lambda: stage.view == "delivery")
        assert "4 MLflow –" in stage.footer


@SIZES
async def test_every_line_can_be_reached(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*turn(0))
    play(*turn(1))
    async with pane(state, size) as stage:
        view = await opened(stage, "Tokens")
        await stage.press("end", "home")  # from now on something is picked, and its details are beside it
        lines = page(view)
        seen: set[str] = set()
        for _ in range(len(lines) // 10 + 1):
            seen |= {line.rstrip() for line in stage.text.splitlines()}
            await stage.press("pagedown")
        shown = "\n".join(seen)
        assert [line for line in lines if line.strip() and line.strip() not in shown] == []


async def test_it_follows_what_arrives_while_it_is_seen_and_only_then(state: StateDir, play: Play) -> None:
    play(*turn(0))
    async with pane(state) as stage:
        view = await opened(stage, "2.0k", "turn 1")
        play(wire_call(0, 7, tokens=5_000))
        await stage.shows("7.0k", "Context after each of 3 calls")
        play(*turn(1, tokens=700))
        await stage.until(lambda: page(view)[1].split() == ["turn", "2", "1.4k", "–", "20", "2"])
        assert page(view)[2].split()[1] == "8.4k"
        await stage.press("1")
        laid_out = view.laid_out
        play(*turn(2))
        await stage.shows("turn 2")
        await stage.until(lambda: stage.app.shown.totals.usage.input_tokens == 10_400)
        assert view.laid_out == laid_out
        await opened(stage, "10.4k")


async def test_a_page_that_stays_is_not_laid_out_again(state: StateDir, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, body_of(*turn(0)), received_ns=SECOND)
    async with pane(state) as stage:
        view = await opened(stage, "2.0k")
        await stage.until(lambda: view._timer is None)
        laid_out = view.laid_out
        before = stage.app._journal
        writer.set_meta("received", {"x": 1}).result(20)
        await stage.until(lambda: stage.app._journal is not before)
        await stage.until(lambda: view._timer is None)
        assert view.laid_out == laid_out


@SIZES
async def test_enter_opens_a_slow_span_and_a_turn_in_the_tree(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    slow = wire_call(0, 9, took_s=3.5)
    play(*turn(0), slow)
    play(*turn(1, tokens=5_000))
    async with pane(state, size) as stage:
        view = await opened(stage, "Tokens")
        keys = [key for key, _, _ in view._picks]
        assert (trace_id(0), b"", "turn") in keys
        assert keys.index(key_of(slow)) == 2, "the slowest comes right behind the two turns"
        while view.cursor != key_of(slow):
            await stage.press("down")
        await stage.press("enter")
        assert stage.view == "tree"
        assert stage.cursor == key_of(slow)
        assert stage.drawn_cursor == [stage.cursor_line]
        await stage.press("3")
        while view.cursor != (trace_id(1), b"", "turn"):
            await stage.press("up")
        await stage.press("enter")
        assert stage.view == "tree"
        assert stage.cursor == (trace_id(1), b"", "turn")


async def test_beside_it_are_the_details_of_what_is_picked(state: StateDir, play: Play) -> None:
    slow = wire_call(0, 9, took_s=3.5)
    play(*turn(0), slow)
    async with pane(state, WIDE) as stage:
        view = await opened(stage, "Tokens")
        while view.cursor != key_of(slow):
            await stage.press("down")
        await stage.shows("Model call to gpt, answered after 3.5s")


async def test_another_session_is_counted_anew(state: StateDir, play: Play) -> None:
    play(*turn(0, session="before"), wire_call(0, 5, tokens=77_000, session__id="before"))
    play(*turn(1))
    async with pane(state) as stage:
        await opened(stage, "2.0k")
        await stage.press("left_square_bracket")
        await stage.until(lambda: stage.app.shown.id == "before")
        await stage.shows("77.0k")


async def test_a_long_session_is_counted_in_slices(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes_tui.model.spending.SLICE", 1)
    monkeypatch.setattr("hermes_tui.model.spending.Book.update.__defaults__", (1,), raising=False)
    for trace in range(6):
        play(*turn(trace))
    async with pane(state) as stage:
        await stage.until(lambda: len(stage.app.shown.forest.turns) == 6)
        seen: list[int] = []
        show = UsageView.show
        monkeypatch.setattr(
            UsageView, "show", lambda self, data: (seen.append(data.behind), show(self, data))
        )
        await stage.press("3")
        await stage.until(lambda: seen and seen[-1] == 0)
        assert seen[0] == 5, "the first slice is shown at once"
        assert sorted(seen, reverse=True) == seen
        await stage.shows("Context after each of 12 calls")


async def test_days_of_all_sessions_and_what_mlflow_says(state: StateDir, open_writer: Open) -> None:
    writer = open_writer(forward=True)
    spans = turn(0)
    more = wire_call(1, 5, tokens=40_000, session__id="other")
    store(writer, body_of(*turn(1, session="other"), more), received_ns=SECOND)
    store(writer, body_of(*spans), received_ns=9 * SECOND)
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))
    deliver(writer, spans, Delivery.CONFIRMED)
    tell(writer, trace_id(0), state="OK", spans=len(spans), input_tokens=4_000, output_tokens=20)
    async with pane(state) as stage:
        await opened(stage, "all today", "MLflow: tokens in 2,000 here, 4,000 there")
        today = next(line for line in stage.lines() if "all today" in line)
        assert today.split()[2] == "44.0k"
        assert "tokens in +2.0k" in " ".join(stage.text.split())


async def test_windows_are_asked_for_once_and_aside(state: StateDir, play: Play) -> None:
    play(*turn(0))
    asked: list[bool] = []

    def windows() -> Windows:
        asked.append(threading.current_thread() is threading.main_thread())
        return Windows({"gpt": 10_000})

    app = TraceApp(state, windows=windows)
    async with app.run_test(size=NARROW) as pilot:
        stage = Stage(app, pilot)
        await stage.shows("turn 0")
        assert asked == []
        await opened(stage, "left of the 10.0k that gpt holds (settings)")
        await stage.press("1", "3")
        assert asked == [False]


async def test_what_hermes_says_stands_below_the_session(state: StateDir, play: Play) -> None:
    play(*turn(0))
    async with pane(state) as stage:
        view = await opened(stage, "2.0k")
        view.tell_hermes(Sums(5_000, 20, 0, 0, 0, None), 4)
        await stage.shows("Hermes: 5.0k in (4 model calls, here 2)")
        view.tell_hermes(None, 0)
        await stage.gone("Hermes:")


@pytest.mark.parametrize("width", [33, 60, 120])
async def test_it_obeys_nothing(state: StateDir, open_writer: Open, width: int) -> None:
    spans = hostile.spans()
    writer = open_writer()
    store(writer, body_of(*spans), received_ns=SECOND)
    async with pane(state, (width, 200)) as stage:
        await stage.until(lambda: stage.app.shown.totals.spans == len(spans))
        await stage.press("3")
        await stage.until(lambda: page(stage.app.board.later.usage))
        for strip in stage.strips():
            assert strip.cell_length == width
            for segment in strip:
                assert segment.control is None
                assert hostile.OBEYED.search(segment.text) is None, ascii(segment.text)


async def test_ascii_shows_only_ascii(state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_TRACE_ASCII", "1")
    play(*turn(0))
    play(*turn(1))
    async with pane(state, (60, 60)) as stage:
        await opened(stage, "Took")
        assert stage.text.isascii()


async def test_resizing_keeps_what_is_picked(state: StateDir, play: Play) -> None:
    play(*turn(0))
    play(*turn(1))
    async with pane(state) as stage:
        view = await opened(stage, "Tokens")
        while view.cursor is None:
            await stage.press("down")
        key = view.cursor
        for size in (SMALL, WIDE, (200, 50), NARROW):
            await stage.pilot.resize_terminal(*size)
            await stage.until(lambda size=size: stage.app.size == size)  # type: ignore[misc]
            assert view.cursor == key
            assert all(strip.cell_length == size[0] for strip in stage.strips())


# ---- the feed's part


@contextmanager
def looking(state: StateDir) -> Iterator[tuple[UsageLook, Reader, list[UsageMoved]]]:
    messages: list[Message] = []
    with Reader(state.journal) as reader:
        yield UsageLook(messages.append), reader, messages  # type: ignore[misc]


def test_nothing_is_read_while_nobody_looks(state: StateDir, open_writer: Open) -> None:
    store(open_writer(), body_of(*turn(0)))
    with looking(state) as (look, reader, messages):
        for _ in range(5):
            look.step(reader, "s", changed=True)
        assert messages == []
        look.look(True)
        look.step(reader, "s", changed=False)
        assert [message.session for message in messages] == ["s"]
        look.look(False)
        look.step(reader, "s", changed=True)
        assert len(messages) == 1


def test_it_tells_when_asked_when_it_changed_and_of_another_session(
    state: StateDir, open_writer: Open
) -> None:
    writer = open_writer()
    store(writer, body_of(*turn(0)))
    with looking(state) as (look, reader, messages):
        wait_for(lambda: caught_up(reader))
        look.look(True)

        def told(session: str, changed: bool) -> bool:
            count = len(messages)
            look.step(reader, session, changed)
            return len(messages) > count

        assert told("s", False)
        assert not told("s", False)
        assert told("other", False)
        assert not told("other", False)
        look.look(True)
        assert told("other", False)
        look.step(reader, "other", changed=True)
        wait_for(lambda: told("other", False))
        assert not told("other", False)


def test_another_journal_is_read_from_its_beginning(state: StateDir, open_writer: Open) -> None:
    store(open_writer(), body_of(*turn(0)))
    with looking(state) as (look, reader, messages):
        look.look(True)
        look.step(reader, "s", changed=False)
        look.reset()
        look.step(reader, "s", changed=True)
        assert len(messages) == 2


def test_others_are_unknown_at_first() -> None:
    assert Others().days is None

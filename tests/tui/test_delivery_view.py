"""The delivery view in the pane: keys, mouse, wishes, and the ways into the tree and back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import Pen
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.tui.messages import RelayInfo
from hermes_tui.tui.screens.details import DetailsScreen
from tests.support import SECOND, body_of, caught_up, store, trace_id, wait_for, wire_span
from tests.tui import hostile
from tests.tui.stage import (
    NARROW,
    WIDE,
    Clock,
    FakeRelay,
    FakeSupervisor,
    Stage,
    deliver,
    head_of,
    key_of,
    pane,
    says,
    tell,
    wire_command,
    wire_turn,
)

SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
pytestmark = pytest.mark.usefixtures("clock")
Open = Callable[..., Writer]

OK: dict[str, dict[str, Any]] = {
    "exporter": {"state": "ok", "destination": "http://mlflow:5000"},
    "proof": {"state": "ok", "readable": True},
}


class Set:
    """A journal with a relay's writer, filled turn by turn."""

    def __init__(self, state: StateDir, writer: Writer) -> None:
        self.state = state
        self.writer = writer
        self.turns: dict[int, list[trace_pb2.Span]] = {}
        says(writer, **OK)

    def turn(self, trace: int, *, state: Delivery = Delivery.CONFIRMED, **said: Any) -> list[trace_pb2.Span]:
        spans = self.turns[trace] = wire_turn(trace, **said)
        self.store(*spans, arrived_s=trace + 1)
        if state is not Delivery.QUEUED:
            deliver(self.writer, spans, state)
        return spans

    def store(self, *spans: trace_pb2.Span, arrived_s: int = 1) -> None:
        """Spans that arrive, and are in the index: only then can they be marked."""
        store(self.writer, body_of(*spans), received_ns=arrived_s * SECOND)
        with Reader(self.state.journal) as reader:
            wait_for(lambda: caught_up(reader))

    def refuse(self, *spans: trace_pb2.Span, reason: str = "bad span", **said: Any) -> None:
        """Spans that were never accepted are refused."""
        deliver(self.writer, spans, Delivery.QUARANTINED, reason=reason, **said)

    def answer(self, wish: str, state: str, document: str = "{}") -> None:
        def work(pen: Pen) -> None:
            pen.connection.execute(
                "INSERT OR REPLACE INTO answers (wish, at_ns, state, document) VALUES (?, 1, ?, ?)",
                (wish, state, document),
            )

        self.writer.do(work).result(20)


@pytest.fixture
def relay(state: StateDir, open_writer: Open, monkeypatch: pytest.MonkeyPatch) -> Set:
    monkeypatch.setattr("hermes_tui.tui.feed._DELIVERY_S", 0.02)
    return Set(state, open_writer(forward=True))


async def opened(stage: Stage, *texts: str) -> None:
    """The delivery view, once it shows these texts."""
    await stage.until(lambda: stage.app.shown.totals.spans)
    await stage.press("4")
    assert stage.view == "delivery"
    await stage.shows(*texts)


def picked(stage: Stage) -> str:
    """The line under the cursor, and that it alone is drawn so."""
    view = stage.proof
    background = view.get_component_rich_style("row--cursor").bgcolor
    drawn = [
        "".join(segment.text for segment in strip).strip()
        for strip in (view.render_line(y) for y in range(view.scrollable_content_region.height))
        if any(segment.style is not None and segment.style.bgcolor == background for segment in strip)
    ]
    assert len(drawn) <= 1
    return drawn[0] if drawn else ""


# ---- there and back


@SIZES
async def test_by_key_and_by_click_and_back(state: StateDir, relay: Set, size: tuple[int, int]) -> None:
    relay.turn(0)
    async with pane(state, size) as stage:
        await stage.shows("turn 0", "4 MLflow ✓")
        assert "MLflow ✓ 4/4" in stage.header
        for back in ("escape", "1"):
            await opened(stage, "✓ ok  http://mlflow:5000", "Every span was read back.", "✓ confirmed")
            assert stage.app.focused is stage.proof
            assert "r retry" in stage.footer
            await stage.press(back)
            assert stage.view == "tree"
            assert stage.app.focused is stage.rows
            assert "r retry" not in stage.footer
        await stage.pilot.click("#footer", offset=(stage.footer.index("4 MLflow"), 0))
        await stage.until(lambda: stage.view == "delivery")
        await stage.pilot.click("#footer", offset=(stage.footer.index("2 Commands"), 0))
        await stage.until(lambda: stage.view == "commands")


async def test_it_follows_the_journal_while_it_is_seen_and_only_then(state: StateDir, relay: Set) -> None:
    spans = relay.turn(0, state=Delivery.QUEUED)
    async with pane(state) as stage:
        assert stage.app._feed._wishes is None
        await opened(stage, "… queued", "On the way: 4 to send.")
        deliver(relay.writer, spans, Delivery.ACCEPTED)
        await stage.shows("→ accepted", "On the way: 4 to read back.")
        deliver(relay.writer, spans, Delivery.CONFIRMED)
        await stage.shows("Every span was read back.")
        await stage.gone("accepted")
        assert stage.app._feed._wishes == ()
        await stage.press("1")
        assert stage.app._feed._wishes is None
        laid_out = stage.proof.laid_out
        relay.turn(1)
        await stage.shows("turn 1")
        assert stage.proof.laid_out == laid_out
        await opened(stage, "Every span was read back.")
        await stage.until(lambda: "8         8" in stage.text)


async def test_a_page_that_stays_is_not_laid_out_again(state: StateDir, relay: Set) -> None:
    relay.turn(0)
    async with pane(state) as stage:
        await opened(stage, "Every span")
        laid_out = stage.proof.laid_out
        before = stage.app.board.later.delivery.snapshot
        relay.writer.set_meta("received", {"x": 1}).result(20)
        await stage.until(lambda: stage.app.board.later.delivery.snapshot is not before)
        assert stage.proof.laid_out == laid_out


# ---- picking


@SIZES
async def test_enter_opens_a_refused_span_in_the_tree(
    state: StateDir, relay: Set, size: tuple[int, int]
) -> None:
    relay.turn(0, state=Delivery.QUEUED, calls=4)
    relay.turn(1)
    relay.refuse(*relay.turns[0][1:3])
    async with pane(state, size) as stage:
        await opened(stage, "✗ quarantined: bad span", "2 spans refused for good")
        assert "MLflow ✗ 2 refused" in stage.header
        assert picked(stage) == ""
        await stage.press("down")
        assert picked(stage).startswith("tool.terminal")
        assert "turn 1" in picked(stage)
        assert "1m" in picked(stage)
        await stage.press("down", "enter")
        assert stage.view == "tree"
        assert stage.cursor == key_of(relay.turns[0][1])
        assert "▾ 1 turn 0" in stage.text
        assert stage.drawn_cursor == [stage.cursor_line]


async def test_beside_it_are_the_details_of_what_is_picked(state: StateDir, relay: Set) -> None:
    relay.turn(0, state=Delivery.QUEUED)
    relay.turn(1, session="before")
    relay.refuse(relay.turns[0][0], reason="no\x1b[2Jway")
    relay.refuse(wire_command(1, 0, session="before"))  # was read back: it stays confirmed
    async with pane(state, WIDE) as stage:
        await stage.shows("before")
        await opened(stage, "✗ quarantined: no␛[2Jway")
        await stage.press("down")
        # Of another session than the one that is shown: read from the journal.
        await stage.shows("Command, completed, exit 0", "echo 0.0", "✗ quarantined: the destination does not")
        await stage.shows("refused      1970-01-01 00:23:20.000")
        assert stage.app.shown.id == "before"
        await stage.press("tab")
        assert stage.app.focused is stage.main.query_one("#side")
        await stage.press("escape")
        assert stage.app.focused is stage.proof


async def test_enter_on_a_span_of_another_session_goes_there(state: StateDir, relay: Set) -> None:
    relay.turn(0, session="first", state=Delivery.QUEUED)
    relay.turn(1, session="second")
    relay.refuse(relay.turns[0][1])
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.id == "second")
        await opened(stage, "✗ quarantined: bad span")
        await stage.press("down")
        assert "first" in picked(stage)
        await stage.press("enter")
        await stage.until(lambda: stage.app.shown.id == "first" and stage.view == "tree")
        assert stage.cursor == key_of(relay.turns[0][1])
        store(relay.writer, body_of(*wire_turn(2, session="third")), received_ns=9 * SECOND)
        await stage.until(lambda: stage.app._journal.newest == "third")
        assert stage.app.shown.id == "first"  # it was chosen


async def test_a_click_picks_and_a_second_one_opens(state: StateDir, relay: Set) -> None:
    relay.turn(0, state=Delivery.QUEUED)
    relay.refuse(*relay.turns[0][:2])
    async with pane(state) as stage:
        await opened(stage, "tool.terminal")
        lines = [stage.proof.render_line(y).text for y in range(16)]
        at = [y for y, line in enumerate(lines) if "tool.terminal" in line]
        await stage.pilot.click("#delivery", offset=(10, at[1]))
        assert stage.view == "delivery"
        assert picked(stage).startswith("tool.terminal")
        await stage.pilot.click("#delivery", offset=(10, 0))  # the state: nothing to pick
        assert stage.view == "delivery"
        await stage.pilot.click("#delivery", offset=(10, at[1]))
        await stage.until(lambda: stage.view == "tree")
        assert stage.cursor == key_of(relay.turns[0][0])


async def test_the_cursor_stays_on_its_item_and_then_on_its_place(state: StateDir, relay: Set) -> None:
    spans = relay.turn(0, state=Delivery.QUEUED, calls=5)
    relay.refuse(*spans[:3])
    async with pane(state, (60, 40)) as stage:
        await opened(stage, "✗ quarantined: bad span")
        await stage.press("down", "down")
        key = stage.proof.cursor
        assert key == key_of(spans[1])
        relay.refuse(*spans[3:5])  # newer ones come first
        await stage.until(lambda: stage.text.count("tool.terminal") == 5)
        assert stage.proof.cursor == key
        assert picked(stage)
        deliver(relay.writer, [spans[1]], Delivery.CONFIRMED)
        await stage.until(lambda: stage.text.count("tool.terminal") == 4)
        assert stage.proof.cursor == key_of(spans[0])
        deliver(relay.writer, spans, Delivery.CONFIRMED)
        await stage.shows("Every span was read back.")
        assert stage.proof.cursor is None
        await stage.press("enter")
        assert stage.view == "delivery"


async def test_moving_through_a_page_that_is_longer_than_the_screen(state: StateDir, relay: Set) -> None:
    spans = relay.turn(0, state=Delivery.QUEUED, calls=14)
    relay.refuse(*spans[:14], reason="a reason of some length " * 5)
    async with pane(state) as stage:
        await opened(stage, "✗ quarantined")
        view = stage.proof
        height = view.scrollable_content_region.height
        for _ in range(35):
            await stage.press("down")
        assert picked(stage)
        assert view.cursor == key_of(spans[0])
        assert view.scroll_offset.y == len(view._lines) - height
        for _ in range(35):
            await stage.press("k")
        assert view.scroll_offset.y == 0
        assert "✗ bad" not in stage.text
        await stage.press("pagedown")
        assert view.scroll_offset.y == min(height - 1, len(view._lines) - height)
        assert picked(stage)
        await stage.press("end")
        assert view.cursor == key_of(spans[0])
        await stage.press("home")
        assert view.scroll_offset.y == 0
        await stage.press("G", "g", "j", "ctrl+f", "ctrl+b")
        assert view.scroll_offset.y == 0


async def test_a_short_page_without_anything_to_pick_stays(state: StateDir, relay: Set) -> None:
    relay.turn(0)
    async with pane(state) as stage:
        await opened(stage, "Every span")
        await stage.press("down", "up", "pagedown", "end", "home", "enter", "g", "G", "j", "k")
        assert stage.view == "delivery"
        assert stage.proof.scroll_offset.y == 0
        assert stage.proof.cursor is None


async def test_a_span_that_was_forgotten_meanwhile(
    state: StateDir, relay: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    relay.turn(0, state=Delivery.QUEUED)
    relay.refuse(relay.turns[0][0])
    async with pane(state) as stage:
        monkeypatch.setattr(stage.app, "notify", lambda text, **_: said.append(text))
        await opened(stage, "tool.terminal")
        stage.app._go_to((trace_id(99), b"12345678", "span"))
        assert said == ["It is no longer in the journal."]
        assert stage.view == "delivery"


# ---- what MLflow says otherwise


@SIZES
async def test_turns_that_mlflow_sees_otherwise(state: StateDir, relay: Set, size: tuple[int, int]) -> None:
    for number in range(3):
        relay.turn(number)
    tell(relay.writer, trace_id(1), state="IN_PROGRESS", spans=9, duration_s=5.0)
    tell(relay.writer, trace_id(2), state="OK", spans=4, duration_s=5.0)
    async with pane(state, size) as stage:
        await opened(stage, "MLflow says otherwise", "turn 2  turn 1", "spans: 4 here, 9 there")
        assert "turn 3  turn 2" not in stage.text  # that one agrees
        await stage.press("down")
        assert picked(stage).startswith("turn 2")
        await stage.press("enter")
        assert stage.view == "tree"
        assert stage.cursor == head_of(1)
        await stage.press("enter")
        page = stage.app.screen.query_one("#page, #side").children[0]
        await stage.until(lambda: "MLflow says otherwise" in str(page.render()))
        text = str(page.render())
        assert "state        completed here, IN_PROGRESS there" in text
        assert "5 spans came there by another way" in text


async def test_a_turn_without_its_own_span_says_what_mlflow_makes_of_it(
    state: StateDir, relay: Set, clock: Clock
) -> None:
    clock.now_ns = SECOND * 9_000
    spans = relay.turn(0, root=False)
    deliver(relay.writer, spans, Delivery.CONFIRMED)
    tell(relay.writer, trace_id(0), state="IN_PROGRESS", spans=2)
    async with pane(state) as stage:
        await stage.shows("(prompt not seen)")
        await stage.press("home", "enter")
        assert isinstance(stage.app.screen, DetailsScreen)
        await stage.shows(
            "This turn's own span has not arrived yet", "unknown here, IN_PROGRESS there", "no root span came"
        )


async def test_details_of_a_turn_follow_its_proof(state: StateDir, relay: Set) -> None:
    spans = relay.turn(0, state=Delivery.QUEUED)
    deliver(relay.writer, spans[-1:], Delivery.CONFIRMED)
    async with pane(state) as stage:
        await stage.shows("turn 0")
        await stage.press("home", "enter")
        page = stage.app.screen.query_one("#page").children[0]
        await stage.until(lambda: "✓ read back from MLflow" in str(page.render()))
        tell(relay.writer, trace_id(0), state="OK", spans=7, duration_s=5.0)
        deliver(relay.writer, spans[:-1], Delivery.CONFIRMED)
        await stage.until(lambda: "4 here, 7 there" in str(page.render()))


# ---- wishes


@pytest.mark.parametrize(("key", "kind"), [("r", "retry"), ("v", "verify")])
async def test_a_wish_is_laid_answered_and_tidied_away(
    state: StateDir, relay: Set, key: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    relay.turn(0, session="one")
    async with pane(state) as stage:
        monkeypatch.setattr(stage.app, "notify", lambda text, **_: said.append(text))
        await opened(stage, "Every span")
        await stage.press(key)
        await stage.shows(f"… {kind}: waits for the relay")
        with Desk(state) as desk:
            (wish,) = desk.wishes()
            assert (wish.kind, wish.argument) == (kind, {"session": "one"} if kind == "verify" else {})
            await stage.press(key)
            await stage.until(lambda: said)
            assert len(desk.wishes()) == 1
            relay.answer(wish.id, "working", '{"done": 1, "of": 3}')
            await stage.shows(f"… {kind}: 1 of 3 ")
            relay.answer(wish.id, "done", '{"spans": 4, "confirmed": 4, "missing": [], "sent_again": 2}')
            await stage.shows(
                "✓ verified: all 4 spans" if kind == "verify" else "✓ retry: sent 2 again", "(0s ago)"
            )
            await stage.until(lambda: desk.wishes() == [])
            assert stage.app._feed._wishes == () or stage.app.board.later.delivery.wishes.open == ()


async def test_wishes_by_the_footer_and_not_from_other_views(state: StateDir, relay: Set) -> None:
    relay.turn(0)
    async with pane(state, WIDE) as stage:
        await stage.shows("turn 0")
        await stage.press("r", "v")
        assert not state.desk.exists()
        await opened(stage, "Every span")
        await stage.pilot.click("#footer", offset=(stage.footer.index("v verify"), 0))
        await stage.shows("… verify: waits for the relay")
        with Desk(state) as desk:
            assert [wish.kind for wish in desk.wishes()] == ["verify"]


async def test_an_answer_is_read_when_the_view_is_seen_again(state: StateDir, relay: Set) -> None:
    relay.turn(0)
    async with pane(state) as stage:
        await opened(stage, "Every span")
        await stage.press("v")
        await stage.shows("waits for the relay")
        await stage.press("1")
        with Desk(state) as desk:
            relay.answer(desk.wishes()[0].id, "failed", '{"error": "no way"}')
        await opened(stage, "✗ verify: no way")


# ---- without a relay, and with too much


async def test_a_relay_that_does_not_run_is_said(
    state: StateDir, relay: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes_tui.tui.supervision._LONGEST_S", 0.05)
    relay.turn(0)
    mended = threading.Event()

    class Supervisor(FakeSupervisor):
        def ensure(self) -> RelayInfo:
            if not mended.wait(0.05):
                raise RuntimeError("port 4318 is taken")
            return super().ensure()

    async with pane(state, supervisor=Supervisor(None, [FakeRelay()])) as stage:
        await stage.until(lambda: "cannot be started" in stage.header)
        await opened(stage, "✗ stopped", "port 4318 is taken", "received or sent meanwhile.")
        mended.set()
        await stage.shows("✓ ok  http://mlflow:5000")
        await stage.gone("stopped")


@pytest.mark.parametrize(
    ("documents", "shown"),
    [
        ({"exporter": {"state": "none"}}, ("– none", "Spans are kept here only.", "MLflow – not configured")),
        ({"exporter": {"state": "held", "reason": "no"}}, ("‖ held", "No. Mend that", "‖ held: no")),
        (
            {"exporter": {"state": "retrying", "reason": "503"}},
            ("… retrying", "503. It is tried again", "0/4"),
        ),
        ({"proof": {"state": "unreadable", "readable": False}}, ("→ unreadable", "OTLP … 0/4 accepted")),
        ({"keeping": {"full": True, "reason": "4 GiB wait"}}, ("‖ full", "4 GiB wait. New spans are turned")),
    ],
)
async def test_each_state_in_a_word_and_a_sentence(
    state: StateDir, relay: Set, documents: dict[str, dict[str, Any]], shown: tuple[str, ...]
) -> None:
    relay.turn(0, state=Delivery.QUEUED)
    says(relay.writer, **documents)
    async with pane(state) as stage:
        await opened(stage, *shown)


@SIZES
async def test_resizing_lays_out_anew_and_keeps_the_pick(
    state: StateDir, relay: Set, size: tuple[int, int]
) -> None:
    relay.turn(0, state=Delivery.QUEUED)
    relay.refuse(relay.turns[0][0], reason="a reason that is longer than a line is wide, for once")
    async with pane(state, size) as stage:
        await opened(stage, "✗ quarantined")
        await stage.press("down")
        key = stage.proof.cursor
        for other in (WIDE, NARROW, (30, 12), (8, 3), size):
            await stage.pilot.resize_terminal(*other)
            await stage.until(lambda other=other: stage.app.size == other)  # type: ignore[misc]
            assert stage.proof.cursor == key
            assert all(strip.cell_length == other[0] for strip in stage.strips())
        await stage.press("enter")
        assert stage.view == "tree"


@pytest.mark.parametrize("width", [60, 120, 33])
async def test_it_obeys_nothing(state: StateDir, relay: Set, width: int) -> None:
    spans = hostile.spans()
    relay.store(*spans, arrived_s=2)
    relay.refuse(*spans, reason=hostile.ALL)
    relay.store(wire_span(1, trace=9, name=hostile.ALL, session__id=hostile.ALL))
    relay.refuse(wire_span(1, trace=9), reason="x")
    says(
        relay.writer,
        exporter={
            "state": "held",
            "destination": f"http://{hostile.ALL}",
            "reason": hostile.ALL,
            "last_error": f"2 {hostile.ALL}",
        },
    )
    async with pane(state, (width, 200)) as stage:
        await stage.until(lambda: stage.app.shown.totals.spans == len(spans))
        await opened(stage, "␛[2J", "✗ quarantined")
        for _ in range(4):
            for strip in stage.strips():
                assert strip.cell_length == width
                for segment in strip:
                    assert segment.control is None
                    assert hostile.OBEYED.search(segment.text) is None, ascii(segment.text)
                    assert segment.style is None or not segment.style.meta.get("@click")
            await stage.press("down")


async def test_ascii_shows_only_ascii(state: StateDir, relay: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_TRACE_ASCII", "1")
    relay.turn(0, state=Delivery.QUEUED)
    relay.turn(1)
    relay.refuse(*relay.turns[0][:2])
    tell(relay.writer, trace_id(1), state="ERROR", spans=9)
    says(relay.writer, exporter={"state": "held", "reason": "no", "last_error": "no"})
    async with pane(state, WIDE) as stage:
        await opened(stage, "x quarantined", "MLflow says otherwise")
        await stage.press("v", "down")
        await stage.shows("verify: waits")
        assert stage.text.isascii()

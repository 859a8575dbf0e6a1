"""What is said before something is forgotten is what then goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from hermes_tui.journal import forgetting
from hermes_tui.journal.extent import before, of_session
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.forgetting import Cut, Forgotten
from hermes_tui.journal.keeping import Finder
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from tests.processes import span_keys
from tests.support import body_of, caught_up, store, wait_for, wire_span

DAY_NS = 86_400 * 10**9


@pytest.fixture
def writer(state: StateDir, open_writer: Callable[..., Writer], open_reader: Callable[[], Reader]) -> Writer:
    """A journal of some days with shared traces, spans that run, and every delivery."""
    writer = open_writer(forward=True)
    bodies = [
        body_of(
            *(
                wire_span(
                    10 * number + each,
                    trace=number // 2,
                    session__id="abc"[(number + each) % 3],
                    end_ns=0 if each == 3 else None,
                )
                for each in range(4)
            )
        )
        for number in range(12)
    ]
    for day, body in enumerate(bodies):
        store(writer, body, received_ns=(day + 1) * DAY_NS)
    reader = open_reader()
    wait_for(lambda: caught_up(reader))
    for body, delivery in zip(bodies, (each for each in Delivery for _ in range(2)), strict=True):
        writer.mark(span_keys(body), delivery, destination="http://there").result(20)
    return writer


def taken(state: StateDir, writer: Writer, find: Callable[[Finder], object]) -> Forgotten:
    total, finder = Forgotten(), Finder(state.journal)
    pages: list[list[Cut]] = list(find(finder))  # type: ignore[call-overload]
    for cuts in pages:
        total.add(writer.do(partial(forgetting.forget, cuts=cuts)).result(20))
    finder.close()
    return total


def same(said: dict[str, int], total: Forgotten) -> bool:
    return said == {
        "requests": total.requests,
        "spans": total.spans,
        "undelivered": total.undelivered,
    }


@pytest.mark.parametrize("session", ["a", "b", "c", "nobody"])
def test_of_a_session(
    state: StateDir, writer: Writer, open_reader: Callable[[], Reader], session: str
) -> None:
    said = of_session(open_reader(), session)
    assert (said["undelivered"] > 0) == (session != "nobody")
    assert same(said, taken(state, writer, lambda finder: finder.of_session(session)))


@pytest.mark.parametrize("days", [0, 1, 5, 9, 100])
def test_before_a_time(state: StateDir, writer: Writer, open_reader: Callable[[], Reader], days: int) -> None:
    said = before(open_reader(), days * DAY_NS)
    assert said["requests"] == min(12, max(0, days - 1))
    assert same(said, taken(state, writer, lambda finder: finder.before(days * DAY_NS)))

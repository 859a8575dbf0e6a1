"""Fixtures of the pane's tests: one time zone, and nothing from the environment of whoever runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui.journal.writer import Writer
from tests.support import SECOND, body_of, store
from tests.tui.gallery import gallery as gallery
from tests.tui.stage import Clock


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local times on the screen are the same everywhere."""
    for name in ("NO_COLOR", "HERMES_TRACE_ASCII", "TEXTUAL_ANIMATIONS", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The pane's clock, standing at a moment soon after what `wire_turn` makes up."""
    return Clock(SECOND * 1_500).install(monkeypatch)


Play = Callable[..., None]


@pytest.fixture
def play(open_writer: Callable[..., Writer]) -> Play:
    """Store spans in the journal, in one request; a new request arrives a second after the last."""
    writer = open_writer()
    moment = [0]

    def played(*spans: trace_pb2.Span) -> None:
        moment[0] += SECOND
        store(writer, body_of(*spans), received_ns=moment[0])

    return played

"""Objects that have room for what they were given alone, and are the same to everybody else."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace

import pytest

from hermes_tui.model import slim as module
from hermes_tui.model.slim import slim
from hermes_tui.model.span import Role, Span


@slim
@dataclass(eq=False, frozen=True)
class Thing:
    __slots__ = ()

    name: str
    size: int = 0
    colour: str | None = None


def test_what_is_not_said_is_the_default_and_takes_no_room() -> None:
    small, large = Thing(name="a"), Thing(name="a", size=3, colour="red")
    assert (small.name, small.size, small.colour) == ("a", 0, None)
    assert (large.name, large.size, large.colour) == ("a", 3, "red")
    assert sys.getsizeof(large) - sys.getsizeof(small) == sys.getsizeof(object())  # two pointers
    assert isinstance(small, Thing)
    assert repr(small) == "Thing(name='a', size=0, colour=None)"


def test_equal_is_what_says_the_same_however_it_was_said() -> None:
    assert Thing(name="a") == Thing(name="a", size=0, colour=None)
    assert Thing(name="a") != Thing(name="a", size=1)
    assert Thing(name="a") != "a"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Thing(name="a"))


def test_a_copy_with_something_else_may_say_more() -> None:
    thing = replace(Thing(name="a"), colour="red")
    assert thing == Thing(name="a", colour="red")
    assert replace(thing, colour=None) == Thing(name="a")


def test_what_is_not_there_or_lacks_is_an_error() -> None:
    with pytest.raises(TypeError, match="Thing has no, or needs: weight"):
        Thing(name="a", weight=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Thing has no, or needs: name"):
        Thing(size=3)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Thing(name="a").size = 4  # type: ignore[misc]


def test_there_are_not_more_shapes_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 1)

    @slim
    @dataclass(eq=False)
    class Other:
        __slots__ = ()

        first: int = 0
        second: int = 0
        third: int = 0

    shapes = {type(Other(**{name: 1})) for name in ("first", "second", "third")}
    assert len(shapes) == 2
    assert Other(second=1) == replace(Other(first=1), first=0, second=1)


def test_a_span_of_a_command_is_half_of_one_that_says_everything() -> None:
    every = Span(**{field.name: field.default for field in fields(Span)})
    few = Span(trace_id=b"1" * 16, span_id=b"2" * 8, role=Role.TOOL, tool="terminal", command="ls")
    assert sys.getsizeof(few) < sys.getsizeof(every) / 2
    assert (few.prompt, few.running, few.failed) == (None, True, False)

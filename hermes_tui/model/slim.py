"""Objects with room for what they were given, and no more: a long session keeps 100,000 of some."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_MOST = 512  # shapes of one class: what is given depends on who sends


def slim(cls: type[T]) -> type[T]:
    """Decorator of a `dataclass(eq=False)` with `__slots__ = ()`: its objects are of subclasses ("shapes"),
    each with slots for the fields that were given.

    All other fields are their defaults, and cannot be set later. Equal are objects that say the same.
    """
    shapes = _Shapes(cls)
    known = shapes.known
    make = object.__new__
    put = object.__setattr__  # those that are frozen too

    def new(_: type[T], /, **given: Any) -> T:
        shape = known.get(frozenset(given))
        if shape is None:
            shape, given = shapes.find(given)
        self = make(shape)
        for name, value in given.items():
            put(self, name, value)
        return self

    def same(self: T, other: object) -> Any:
        if not isinstance(other, cls):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in shapes.fields)

    del cls.__init__  # what `dataclass` made; to the type checker it is still there
    for name, what in (("__new__", new), ("__eq__", same), ("__hash__", None)):
        setattr(cls, name, what)
    return cls


class _Shapes(Generic[T]):
    """The subclasses of a class, by what is given."""

    def __init__(self, cls: type[T]) -> None:
        own: tuple[Field[Any], ...] = fields(cls)  # type: ignore[arg-type]  # a dataclass
        self.fields = [field.name for field in own]
        self.known: dict[frozenset[str], type[T]] = {}
        self._needed = {field.name for field in own if field.default is MISSING}
        self._defaults = {field.name: field.default for field in own}
        self._cls = cls

    def find(self, given: dict[str, Any]) -> tuple[type[T], dict[str, Any]]:
        """A shape, and what its objects are to be given: everything when there are very many shapes."""
        if wrong := (given.keys() - self._defaults.keys()) | (self._needed - given.keys()):
            raise TypeError(f"{self._cls.__name__} has no, or needs: {', '.join(sorted(wrong))}")
        if len(self.known) >= _MOST:
            given = {**self._defaults, **given}
        names = frozenset(given)
        if names not in self.known:
            self.known[names] = type(self._cls.__name__, (self._cls,), {"__slots__": tuple(sorted(names))})
        return self.known[names], given

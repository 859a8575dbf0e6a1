"""A part of some requests on its way: its bytes, and its halves when it is refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from hermes_tui.journal.marks import SpanKey
from hermes_tui.otlp.portions import merge, pick
from hermes_tui.relay.outbox import Parcel


@dataclass(frozen=True)
class Cargo:
    """Spans of one media type that go in one POST."""

    parts: tuple[tuple[Parcel, tuple[SpanKey, ...]], ...]

    @classmethod
    def of(cls, parcels: Sequence[Parcel]) -> Cargo:
        return cls(tuple((parcel, parcel.wanted) for parcel in parcels if parcel.wanted))

    @cached_property
    def spans(self) -> tuple[SpanKey, ...]:
        """Every span once, in the order of arrival."""
        return tuple(dict.fromkeys(key for _, keys in self.parts for key in keys))

    @property
    def content_type(self) -> str:
        first = self.parts[0][0]
        return first.content_type if len(self.parts) == 1 else first.media_type

    def body(self) -> tuple[bytes, str]:
        """The bytes and their Content-Encoding; a whole request that goes alone keeps its very bytes."""
        if len(self.parts) == 1:
            parcel, keys = self.parts[0]
            if len(keys) == len(parcel.keys):
                return parcel.body, parcel.content_encoding
        bodies = [
            parcel.plain
            if len(keys) == len(parcel.keys)
            else pick(parcel.plain, parcel.media_type, set(keys))
            for parcel, keys in self.parts
        ]
        return (bodies[0] if len(bodies) == 1 else merge(bodies, self.parts[0][0].media_type)), ""

    def halves(self) -> tuple[Cargo, Cargo] | None:
        """Two smaller ones: traces apart first, then spans; None when one span is left."""
        traces = list(dict.fromkeys(key[0] for key in self.spans))
        if len(traces) > 1:
            first = set(traces[: len(traces) // 2])
            return self._only({key for key in self.spans if key[0] in first}), self._only(
                {key for key in self.spans if key[0] not in first}
            )
        if len(self.spans) > 1:
            middle = len(self.spans) // 2
            return self._only(set(self.spans[:middle])), self._only(set(self.spans[middle:]))
        return None

    def _only(self, spans: Collection[SpanKey]) -> Cargo:
        parts = ((parcel, tuple(key for key in keys if key in spans)) for parcel, keys in self.parts)
        return Cargo(tuple((parcel, keys) for parcel, keys in parts if keys))

"""How much there is of something that may be forgotten, for whoever is asked before it goes."""

from __future__ import annotations

from hermes_tui.journal.reader import Reader
from hermes_tui.journal.records import views
from hermes_tui.model.span import UNDELIVERED


def of_session(reader: Reader, session: str) -> dict[str, int]:
    """Requests that hold spans of a session, its spans, and those that no destination has accepted."""
    requests: set[int] = set()
    spans = undelivered = 0
    for tree, view in views(reader, reader.traces_of(session)):
        for span in tree.spans:
            if view.owners[span.span_id] == session:
                requests.add(span.request)
                spans += 1
                undelivered += not span.running and span.delivery in UNDELIVERED
    return {"requests": len(requests), "spans": spans, "undelivered": undelivered}


def before(reader: Reader, time_ns: int) -> dict[str, int]:
    """The same of all that arrived before a time."""
    requests, spans, undelivered = reader.arrived_before(time_ns)
    return {"requests": requests, "spans": spans, "undelivered": undelivered}

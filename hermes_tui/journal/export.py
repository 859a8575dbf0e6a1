"""Stored requests as OTLP JSON lines, the format of the OpenTelemetry Collector's file exporter."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from hermes_tui.journal import records
from hermes_tui.journal.files import open_private
from hermes_tui.journal.reader import Reader, StoredRequest
from hermes_tui.otlp.codec import BadRequest, Request, decompress
from hermes_tui.otlp.encodings import NO_LIMIT
from hermes_tui.otlp.portions import pick

log = logging.getLogger(__name__)


def export(reader: Reader, session: str | None) -> Iterator[str]:
    """One line a request, in the order of arrival: all of them, or the spans that count in one session.

    A line is printable ASCII without its end. One request is in memory at a time, and the ids of the
    session's spans.
    """
    if session is None:
        yield from _everything(reader)
        return
    spans: set[tuple[bytes, bytes]] = set()
    requests: set[int] = set()
    for tree, view in records.views(reader, reader.traces_of(session)):
        for span in tree.spans:
            if view.owners[span.span_id] == session:
                spans.add((span.trace_id, span.span_id))
                requests.add(span.request)
    for number in sorted(requests):
        stored = reader.request_after(number - 1)
        if stored is None or stored.id != number:
            continue  # gone meanwhile
        line = _line(stored, spans)
        if line is not None:
            yield line


def private(path: Path) -> TextIO:
    """Open a file for writing that only its owner can read, whatever it was before. Raises OSError."""
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="ascii")


def _everything(reader: Reader) -> Iterator[str]:
    stored = reader.request_after(0)
    while stored is not None:
        line = _line(stored, None)
        if line is not None:
            yield line
        stored = reader.request_after(stored.id)


def _line(stored: StoredRequest, spans: set[tuple[bytes, bytes]] | None) -> str | None:
    try:
        plain = decompress(stored.body, stored.content_encoding, NO_LIMIT)
        request = Request(plain, stored.content_type)
        if spans is not None:
            wanted = {key for key in request.ids() if key[:2] in spans}
            request = Request(pick(plain, stored.content_type, wanted), stored.content_type)
    except BadRequest as error:
        log.warning("request %d is left out, it cannot be read: %s", stored.id, error)
        return None
    return request.to_json() if len(request) else None

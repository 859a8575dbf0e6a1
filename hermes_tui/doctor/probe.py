"""Send one span the whole way: into the relay, on to MLflow, read back, and away again."""

from __future__ import annotations

import http.client
import secrets
import sqlite3
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from hermes_tui.doctor.ask_mlflow import Client
from hermes_tui.doctor.mlflow_checks import Arrived, ProbeFacts
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.reader import PROBE, Reader
from hermes_tui.model.span import Delivery
from hermes_tui.otlp import probe
from hermes_tui.otlp.access import TOKEN_HEADER
from hermes_tui.otlp.encodings import PROTOBUF
from hermes_tui.relay.lock import Running
from hermes_tui.relay.policy import Verdict
from hermes_tui.relay.wishing import WishError, fulfil

PATIENCE_S = 45.0
"""For the whole way: MLflow answers a first request after 7 s, and waits 20 s for a locked store."""

_POST_S = 10.0
_POLL_S = 0.05
_ARRIVED = {
    Delivery.LOCAL: Arrived.LOCAL,
    Delivery.QUEUED: Arrived.QUEUED,
    Delivery.ACCEPTED: Arrived.UNPROVEN,
    Delivery.CONFIRMED: Arrived.CONFIRMED,
    Delivery.HELD: Arrived.HELD,
    Delivery.QUARANTINED: Arrived.QUARANTINED,
}
_SETTLED = (Arrived.ACCEPTED, Arrived.CONFIRMED, Arrived.HELD, Arrived.QUARANTINED)


class _NoRelay(Exception):
    """It ended meanwhile; a new one is not started for the sake of a probe."""


def send(
    state: StateDir,
    running: Running,
    headers: Mapping[str, str],
    token: str,
    client: Client | None,
    patience_s: float,
    *,
    beside: bool = False,
) -> ProbeFacts:
    """What became of a probe span; it is removed from the journal and, where that is allowed, from MLflow.

    `beside`: the relay forwards nothing, so the span is sent to MLflow itself, too, as the plugin does.
    """
    trace_id, span_id = secrets.token_bytes(16), secrets.token_bytes(8)
    session = PROBE + secrets.token_hex(4)
    began, now = time.monotonic(), time.time_ns()
    request = probe.document(
        trace_id, span_id, session=session, name="doctor", start_ns=now - 1_000_000, end_ns=now
    )
    if beside and client is not None and (answer := client.send(request)).verdict is not Verdict.ACCEPTED:
        return ProbeFacts(Arrived.HELD, answer.reason, time.monotonic() - began)
    body = probe.protobuf(request)
    if (refusal := _post(running, body, headers, token)) is not None:
        return ProbeFacts(Arrived.REFUSED, refusal, time.monotonic() - began)
    if _pauses(state):  # what was wrong may be mended: the relay need not wait for its next try
        _wish(state, "retry", {"session": session, "local": False})
    found = _follow(state, running, trace_id, span_id, began + patience_s)
    found = replace(found, seconds=time.monotonic() - began, trace=f"tr-{trace_id.hex()}")
    _wish(
        state, "purge", {"session": session, "erase": False}
    )  # before MLflow forgets it: else the relay would miss it and send it again
    if client is None or found.arrived not in (Arrived.ACCEPTED, Arrived.UNPROVEN, Arrived.CONFIRMED):
        return found
    gone, why = client.delete(found.trace)
    return replace(found, deleted=gone, kept="" if gone else why)


def _post(running: Running, body: bytes, headers: Mapping[str, str], token: str) -> str | None:
    """Why the relay did not take it; None when it did."""
    host, _, port = (running.http or "").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port or 0), timeout=_POST_S)
    own = {TOKEN_HEADER: token} if token else {}
    try:
        connection.request("POST", "/v1/traces", body, {**headers, **own, "Content-Type": PROTOBUF})
        answer = connection.getresponse()
        said = answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if answer.status == 200 else f"{answer.status} {said}".strip()


def _follow(
    state: StateDir, running: Running, trace_id: bytes, span_id: bytes, deadline: float
) -> ProbeFacts:
    """How far it comes until the deadline."""
    found = ProbeFacts(Arrived.LOST, "it is not in the journal")
    with Reader(state.journal) as reader:
        while time.monotonic() < deadline:
            try:
                span = reader.span(trace_id, span_id)
                if span is not None:
                    found = ProbeFacts(_ARRIVED[span.delivery], reader.reason(span))
                found = _explained(found, reader)
            except sqlite3.Error as error:
                return ProbeFacts(Arrived.LOST, f"the journal cannot be read: {error}")
            if found.arrived in _SETTLED or (found.arrived is Arrived.LOCAL and not running.destination):
                break
            time.sleep(_POLL_S)  # another process: there is nothing to be woken by
    return found


def _explained(found: ProbeFacts, reader: Reader) -> ProbeFacts:
    """Why it waits, if it does."""
    if found.arrived is Arrived.QUEUED:
        return replace(found, reason=str(reader.document("exporter").get("reason") or ""))
    if found.arrived is Arrived.UNPROVEN:
        proof = reader.document("proof")
        if proof.get("readable") is False:
            return replace(found, arrived=Arrived.ACCEPTED)
        return replace(found, reason=str(proof.get("reason") or ""))
    return found


def _pauses(state: StateDir) -> bool:
    """Whether the relay has met with trouble, and waits before it sends again."""
    with Reader(state.journal) as reader:
        return reader.document("exporter").get("state") in ("held", "retrying")


def _wish(state: StateDir, kind: str, argument: dict[str, object]) -> None:
    """Ask the relay for something that helps, and can be done without.

    A probe that is not purged stays in the journal, under a name that tells what it is, until retention
    takes it.
    """

    def none() -> AbstractContextManager[Running]:
        raise _NoRelay

    with suppress(WishError, StateError, _NoRelay, sqlite3.Error):
        fulfil(state, kind, argument, lend=none)

"""Hermes' errors.log: what the span exporter could not do, and what it means.

The texts are those of opentelemetry-exporter-otlp-proto-http and of opentelemetry-sdk, 1.27 to 1.45, and of
hermes-otel (`tracer.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_TAIL_BYTES = 512 * 1024
_RECORD = re.compile(r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:[.,]\d+)? (?P<level>[A-Z]+)\s+(?P<text>.*)")
_OURS = re.compile(r"otel|opentelemetry|otlp|span batch|exporting span|\[hermes-otel\]", re.IGNORECASE)
_OTHER_SIGNALS = re.compile(r"(?:metric|_log)_exporter|(?:metrics|logs) batch")
_GAVE_UP = "max retries or shutdown"
_CODE = re.compile(r"batch code: (\d{3})|StatusCode\.(\w+)|\b(4\d\d|5\d\d) (?:Client|Server) Error")

_MEANINGS = (
    ("refused", ("Connection refused", "NewConnectionError", "Max retries exceeded", "Failed to establish"),
     "nobody listened at the address: the relay did not run, or the address is wrong"),
    ("name", ("Name or service not known", "nodename nor servname", "getaddrinfo", "in name resolution"),
     "the host name in the address is not known"),
    ("timeout", ("Read timed out", "timed out", "timeout, max retries", "ReadTimeout"),
     "the receiver did not answer in time; that happens when hermes-otel sends to MLflow directly"),
    ("tls", ("SSLError", "certificate verify failed", "SSL: "), "the certificate is not trusted"),
    ("import", ("packages not available", "import error"), "Hermes' Python could not import OpenTelemetry"),
    ("full", ("Queue full", "dropping"), "spans came faster than they could be sent, and were dropped"),
    ("off", ("Disabled via config",), "hermes-otel was switched off"),
    ("backend", ("no valid entries", "skipped:", "No backend configured", "must be a", "malformed"),
     "hermes-otel did not understand its configuration"),
    ("shutdown", ("already shutdown",), "spans came after the exporter had ended"),
)  # fmt: skip
_CODES = {
    "401": "the receiver wants credentials, or other ones",
    "403": "the receiver does not allow it",
    "404": "there is no OTLP endpoint at this address: it must end in /v1/traces",
    "413": "a request was too large for the receiver",
    "422": "MLflow wants an experiment: the header x-mlflow-experiment-id is missing",
    "429": "the receiver was asked too often",
    "503": "the receiver could take no more",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the log says of exporting: the newest record's time (ns), its text, what it means, how many."""

    at_ns: int
    text: str
    kind: str
    meaning: str
    times: int


def read(path: Path) -> tuple[list[str], str]:
    """The last lines of a log, and why they cannot be read ("" when they can, or there is none)."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            start = max(0, file.tell() - _TAIL_BYTES)
            file.seek(start)
            lines = file.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], error.strerror or str(error)
    return lines[1:] if start else lines, ""


def explain(lines: Iterable[str]) -> Trouble | None:
    """The newest trouble in exporting spans, with how often its kind is in these lines."""
    found: list[tuple[int, str, str, str]] = []
    tried: tuple[str, str] | None = None  # why the tries failed: at last the exporter only says it gave up
    for line in lines:
        record = _RECORD.match(line)
        if record is None:
            continue
        text = record["text"]
        if not _OURS.search(text) or _OTHER_SIGNALS.search(text) or (meant := _meaning(text)) is None:
            continue
        if _GAVE_UP in text:
            meant, tried = tried or meant, None
        elif "Transient error" in text:
            tried = meant
        found.append((_time_ns(record["at"]), text, *meant))
    if not found:
        return None
    at_ns, text, kind, meaning = found[-1]
    return Trouble(at_ns, text, kind, meaning, sum(each[2] == kind for each in found))


def _meaning(text: str) -> tuple[str, str] | None:
    if (code := _CODE.search(text)) is not None:
        number = next((group for group in code.groups() if group), "")
        if number in _CODES:
            return number, _CODES[number]
    for kind, words, meaning in _MEANINGS:
        if any(word in text for word in words):
            return kind, meaning
    if "export" in text.lower():
        return code[0] if code else "other", "the exporter failed"
    return None


def _time_ns(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp()) * 10**9  # the log is in local time
    except (ValueError, OSError, OverflowError):
        return 0

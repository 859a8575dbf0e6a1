"""What a destination's answer means: the table of MLflow's answers as code, without I/O.

Measured on MLflow 3.18 and read in its `mlflow/server/otel_api.py`; retryable codes as in the OTLP
specification, "Retryable Response Codes".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What a forwarder does next."""

    ACCEPTED = auto()
    RETRY = auto()  # the destination is in trouble; nothing is wrong with the request
    DOUBT = auto()  # either may be at fault: retry a few times, then part the batch
    HOLD = auto()  # the user must change something
    REFUSED = auto()  # part the batch until the bad request is alone, then set it apart


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reason in a sentence for the user."""

    verdict: Verdict
    reason: str = ""


def judge(status: int, body: bytes, *, experiment: str | None = None, url: str = "") -> Judgement:
    """Judge an HTTP answer to POST /v1/traces."""
    if 200 <= status < 300:
        return Judgement(Verdict.ACCEPTED)
    said = explain(body)
    if status in (408, 425, 429) or status in (502, 503, 504):
        return Judgement(Verdict.RETRY, f"the destination is busy ({status}{said})")
    if status >= 500:
        return Judgement(Verdict.DOUBT, f"the destination failed ({status}{said})")
    if status in (401, 407):
        return Judgement(Verdict.HOLD, f"the destination wants other credentials ({status}{said})")
    if status == 403:
        return Judgement(Verdict.HOLD, f"the destination does not allow it ({status}{said})")
    if status == 404 and "RESOURCE_DOES_NOT_EXIST" in body.decode("utf-8", "replace"):
        return Judgement(Verdict.HOLD, f"experiment {experiment or '?'} does not exist at the destination")
    if 300 <= status < 400 or status in (404, 405):
        return Judgement(Verdict.HOLD, f"no OTLP endpoint at {url or 'the destination'} ({status})")
    if status == 422 and b"Field required" in body:
        return Judgement(
            Verdict.HOLD,
            "MLflow wants an experiment: set --experiment or MLFLOW_EXPERIMENT_ID, or the sender's "
            "x-mlflow-experiment-id header",
        )
    if status == 400 and not (experiment or "").isdigit():
        return Judgement(Verdict.HOLD, f"experiment {experiment!r} is not the number of an experiment")
    if status == 422 and b"Failed to log" in body:
        return Judgement(Verdict.DOUBT, f"MLflow failed to store it (422{said})")
    return Judgement(Verdict.REFUSED, f"refused with {status}{said}")


def explain(body: bytes) -> str:
    """The message in an error body, short; "" when there is none worth showing."""
    text = body[:4000].decode("utf-8", "replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        text = "" if text.startswith("<") else text
    else:
        if isinstance(document, dict):
            text = str(document.get("message") or document.get("detail") or text)
    text = re.sub(r"\s+", " ", "".join(char if char.isprintable() else " " for char in text)).strip()
    return f": {text[:200]}" if text else ""


def backoff_s(failures: int, jitter: float) -> float:
    """Seconds to wait after `failures` failures in a row: 0.5, 1, 2 … 60, times 0.5 to 1.5.

    `jitter` is a random number from 0 to 1.
    """
    return min(60.0, 0.5 * 2.0 ** min(failures - 1, 10)) * (0.5 + jitter)

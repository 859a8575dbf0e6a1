"""What a destination's answer means: the table of MLflow's answers as code, without I/O.

Measured on MLflow 3.17 and 3.18 and read in its `mlflow/server/otel_api.py`; retryable codes as in the
OTLP specification, "Retryable Response Codes".
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What a forwarder does next."""

    ACCEPTED = auto()
    RETRY = auto()  # the destination is in trouble; nothing is wrong with the request
    AWAY = auto()  # nobody listens there: trying again costs nobody anything
    DOUBT = auto()  # either may be at fault: retry a few times, then part the batch
    HOLD = auto()  # the user must change something
    REFUSED = auto()  # part the batch until the bad span is alone, then quarantine it


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reason in a sentence for the user."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table: these statuses, with these words in the body, mean this."""

    statuses: Collection[int]
    words: str
    verdict: Verdict
    reason: str  # {status}, {said}, {experiment} and {url} are filled in


_SUCCESS, _MOVED, _SERVER = range(200, 300), range(300, 400), range(500, 600)
_BUSY = (408, 425, 429, 502, 503, 504)

RULES = (
    Rule(_SUCCESS, "", Verdict.ACCEPTED, ""),
    # The user must act: configuration, credentials, address.
    Rule(
        (422,),
        "Field required",
        Verdict.HOLD,
        "MLflow wants an experiment: set --experiment or MLFLOW_EXPERIMENT_ID, or the sender's "
        "x-mlflow-experiment-id header",
    ),
    Rule(
        (404,),
        "RESOURCE_DOES_NOT_EXIST",
        Verdict.HOLD,
        "experiment {experiment} does not exist at the destination",
    ),
    Rule((401, 407), "", Verdict.HOLD, "the destination wants other credentials ({status}{said})"),
    Rule((403,), "", Verdict.HOLD, "the destination does not allow it ({status}{said})"),
    Rule(
        (501,),
        "not supported by",
        Verdict.HOLD,
        "MLflow takes spans only with a SQL store: start it with --backend-store-uri sqlite:///… "
        "({status}{said})",
    ),
    Rule((*_MOVED, 404, 405), "", Verdict.HOLD, "no OTLP endpoint at {url} ({status})"),
    # The destination's trouble.
    Rule(_BUSY, "", Verdict.RETRY, "the destination is busy ({status}{said})"),
    Rule((422,), "Failed to log", Verdict.DOUBT, "MLflow failed to store it ({status}{said})"),
    Rule(_SERVER, "", Verdict.DOUBT, "the destination failed ({status}{said})"),
    # The request's fault.
    Rule(range(100, 600), "", Verdict.REFUSED, "refused with {status}{said}"),
)


def judge(status: int, body: bytes, *, experiment: str | None = None, url: str = "") -> Judgement:
    """Judge an HTTP answer to POST /v1/traces."""
    if status == 400 and experiment is not None and not experiment.isdigit():
        return Judgement(Verdict.HOLD, f"experiment {experiment!r} is not the number of an experiment")
    text = body.decode("utf-8", "replace")
    for rule in RULES:
        if status in rule.statuses and rule.words in text:
            filled = {
                "status": status,
                "said": explain(body),
                "experiment": experiment or "?",
                "url": url or "the destination",
            }
            return Judgement(rule.verdict, rule.reason.format_map(filled))
    return Judgement(Verdict.REFUSED, f"no HTTP answer: status {status}")


def explain(body: bytes) -> str:
    """The message in an error body, short; "" when there is none worth showing."""
    text = body[:4000].decode("utf-8", "replace").strip()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
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

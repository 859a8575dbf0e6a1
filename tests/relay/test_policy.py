"""What a destination's answer means, as a table, and how long a retry waits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.relay.policy import Verdict, backoff_s, explain, judge

FIELD_REQUIRED = json.dumps(
    {"detail": [{"type": "missing", "loc": ["header", "x-mlflow-experiment-id"], "msg": "Field required"}]}
).encode()
NO_EXPERIMENT = json.dumps(
    {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No Experiment with id=77 exists"}
).encode()
NOT_FOUND = b"<!doctype html><title>404 Not Found</title>"


@pytest.mark.parametrize(
    ("status", "body", "experiment", "verdict", "words"),
    [
        (200, b"", "1", Verdict.ACCEPTED, ""),
        (202, b"ok", "1", Verdict.ACCEPTED, ""),
        (422, FIELD_REQUIRED, None, Verdict.HOLD, "experiment"),
        (404, NO_EXPERIMENT, "77", Verdict.HOLD, "experiment 77 does not exist"),
        (400, b'{"message": "invalid literal"}', "hermes", Verdict.HOLD, "'hermes'"),
        (401, b"", "1", Verdict.HOLD, "credentials"),
        (407, b"", "1", Verdict.HOLD, "credentials"),
        (403, b'{"message": "Permission denied"}', "1", Verdict.HOLD, "Permission denied"),
        (403, b"Invalid Host header", "1", Verdict.HOLD, "Invalid Host header"),
        (404, NOT_FOUND, "1", Verdict.HOLD, "no OTLP endpoint at http://there/v1/traces"),
        (405, b"", "1", Verdict.HOLD, "no OTLP endpoint"),
        (301, b"", "1", Verdict.HOLD, "no OTLP endpoint"),
        (307, b"", "1", Verdict.HOLD, "no OTLP endpoint"),
        (422, b'{"detail": "Invalid span"}', "1", Verdict.REFUSED, "Invalid span"),
        (400, b'{"detail": "Invalid OpenTelemetry protobuf format"}', "1", Verdict.REFUSED, "Invalid"),
        (400, b'{"message": "trace already in another experiment"}', "1", Verdict.REFUSED, "another"),
        (413, b"", "1", Verdict.REFUSED, "413"),
        (415, b"", "1", Verdict.REFUSED, "415"),
        (422, b'{"detail": "Failed to log OTLP spans"}', "1", Verdict.DOUBT, "Failed to log"),
        (500, b"Internal Server Error", "1", Verdict.DOUBT, "Internal Server Error"),
        (501, b"", "1", Verdict.DOUBT, "501"),
        (503, b"", "1", Verdict.RETRY, "busy"),
        (502, NOT_FOUND, "1", Verdict.RETRY, "busy"),
        (504, b"", "1", Verdict.RETRY, "busy"),
        (429, b"", "1", Verdict.RETRY, "busy"),
        (408, b"", "1", Verdict.RETRY, "busy"),
        (425, b"", "1", Verdict.RETRY, "busy"),
    ],
)
def test_answers(status: int, body: bytes, experiment: str | None, verdict: Verdict, words: str) -> None:
    found = judge(status, body, experiment=experiment, url="http://there/v1/traces")
    assert found.verdict is verdict
    assert words in found.reason
    assert (found.reason == "") == (verdict is Verdict.ACCEPTED)


@given(st.integers(100, 599), st.binary(max_size=300), st.none() | st.text(max_size=5))
def test_any_answer_has_a_verdict_and_a_harmless_reason(
    status: int, body: bytes, experiment: str | None
) -> None:
    found = judge(status, body, experiment=experiment)
    assert (found.verdict is Verdict.ACCEPTED) == (200 <= status < 300)
    assert len(found.reason) < 400
    said = explain(body)
    assert said.isprintable()


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_backoff_grows_to_a_bound(failures: int, jitter: float) -> None:
    middle = backoff_s(failures, 0.5)
    assert 0.5 <= middle <= 60.0
    assert middle * 0.5 <= backoff_s(failures, jitter) <= middle * 1.5
    assert backoff_s(failures + 1, jitter) >= backoff_s(failures, jitter)
    if failures <= 7:
        assert middle == min(60.0, 0.5 * 2 ** (failures - 1))

"""Answers as bytes: what OTLP senders read in them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from hermes_tui.otlp.answers import (
    HTTP_STATUS,
    Answer,
    Code,
    answer_body,
    media_type_of_answer,
    status_details,
)
from hermes_tui.otlp.encodings import JSON, PROTOBUF
from tests.rpc import Status, retry_delay_s

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400)
failures = st.sampled_from([code for code in Code if code is not Code.OK])


@given(failures, texts)
def test_an_error_is_a_google_rpc_status(code: Code, message: str) -> None:
    answer = Answer(code, message)
    status = Status.FromString(answer_body(answer, PROTOBUF))
    assert (status.code, status.message, len(status.details)) == (code, message, 0)
    assert json.loads(answer_body(answer, JSON)) == {"code": code, "message": message}


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_an_error_never_fails_on_its_message(kind: str) -> None:
    body = answer_body(Answer(Code.INVALID_ARGUMENT, "bad \udcff byte"), kind)
    found = json.loads(body)["message"] if kind == JSON else Status.FromString(body).message
    assert found == "bad ? byte"


def test_success_says_nothing_of_partial_success() -> None:
    assert (
        ExportTraceServiceResponse.FromString(answer_body(Answer(), PROTOBUF)) == ExportTraceServiceResponse()
    )
    assert json.loads(answer_body(Answer(), JSON)) == {}


@given(st.integers(1, 100_000), texts)
def test_a_retry_info_tells_when_to_come_again(seconds: int, message: str) -> None:
    status = Status.FromString(status_details(Answer(Code.UNAVAILABLE, message, seconds)))
    assert (status.code, status.message) == (Code.UNAVAILABLE, message)
    assert retry_delay_s(status) == seconds


def test_without_a_time_there_is_no_retry_info() -> None:
    """OTLP takes RESOURCE_EXHAUSTED with one as retryable: a request that is too large never is."""
    status = Status.FromString(status_details(Answer(Code.RESOURCE_EXHAUSTED, "large")))
    assert retry_delay_s(status) is None


def test_only_what_may_come_again_has_a_status_that_otlp_retries() -> None:
    """OTLP specification, "Retryable Response Codes": 429, 502, 503, 504."""
    retried = [code for code, status in HTTP_STATUS.items() if status in (429, 502, 503, 504)]
    assert retried == [Code.UNAVAILABLE]
    assert set(HTTP_STATUS) == set(Code)


@pytest.mark.parametrize(
    ("content_type", "accept", "expected"),
    [
        (PROTOBUF, "", PROTOBUF),
        (JSON, "", JSON),
        ("Application/JSON; charset=utf-8", PROTOBUF, JSON),
        (f"{PROTOBUF};v=1", JSON, PROTOBUF),
        ("text/plain", "", PROTOBUF),
        ("", "*/*", PROTOBUF),
        ("", "text/html, application/json;q=0.9", JSON),
        ("", f"{JSON}, {PROTOBUF}", PROTOBUF),
        ("text/json", JSON, JSON),
    ],
)
def test_an_answer_is_in_the_encoding_of_its_request(content_type: str, accept: str, expected: str) -> None:
    assert media_type_of_answer(content_type, accept) == expected

"""A span as the rest of the program sees it: identity, times, and what its attributes mean."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

NANOSECONDS = 1_000_000_000


class Kind(StrEnum):
    """What a span measures, in the words of MLflow and OpenInference."""

    AGENT = "AGENT"
    LLM = "LLM"
    TOOL = "TOOL"
    CHAIN = "CHAIN"
    OTHER = "OTHER"


class Role(StrEnum):
    """The part a span plays in a Hermes run; finer than `Kind`, and what the tree is drawn by."""

    TURN = "turn"
    AGENT = "agent"  # an agent that is a turn only when no other agent stands above it
    WRAPPER = "wrapper"  # repeats its parent (`llm.*` below `agent`)
    MODEL_CALL = "model_call"
    TOOL = "tool"
    APPROVAL = "approval"
    SUBAGENT = "subagent"
    SKILL = "skill"
    SESSION = "session"
    OTHER = "other"


class Status(IntEnum):
    """`Status.code` of OTLP's trace.proto."""

    UNSET = 0
    OK = 1
    ERROR = 2


class Delivery(IntEnum):
    """How far a span is on its way to the destination; each span is in just one of these."""

    LOCAL = 0
    QUEUED = 1
    ACCEPTED = 2
    CONFIRMED = 3
    HELD = 4
    QUARANTINED = 5


UNDELIVERED = (Delivery.QUEUED, Delivery.HELD, Delivery.QUARANTINED)
"""Without the user's doing or a destination's they get nowhere, and no destination has them."""


class Outcome(StrEnum):
    """How a command ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"
    BACKGROUND = "background"
    UNKNOWN = "unknown"


FAILURES = frozenset({Outcome.FAILED, Outcome.TIMEOUT, Outcome.INTERRUPTED, Outcome.BLOCKED})


class Facts(msgspec.Struct, kw_only=True, gc=False):
    """What a span's attributes say, in this program's words; None and "" mean: not said.

    Texts are shortened for rows (`conventions.ROW_TEXT` characters); the request has the whole.
    `call_id` is the model's own id of a tool call. A model call may say which tools it asked for (`calls`:
    id, name, arguments) and what the ones before answered (`results`: id, shortened result).
    """

    session: str | None = None
    model: str | None = None
    provider: str | None = None
    platform: str | None = None
    prompt: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    tool: str | None = None
    target: str | None = None
    command: str | None = None
    cwd: str | None = None
    exit_code: int | None = None
    outcome: str | None = None
    truncated: bool = False
    tool_calls: int | None = None
    finish_reason: str | None = None
    final_status: str | None = None
    error: str | None = None
    decision: str | None = None
    review: bool = False
    call_id: str | None = None
    calls: list[list[str]] | None = None
    results: list[list[str]] | None = None


class Span(Facts, kw_only=True, gc=False):
    """One span. Times are nanoseconds since the epoch; `end_ns` 0 means it is still running.

    `trace_id` has 16 bytes, `span_id` 8, `parent_id` 8 or none. `request` and `position` say where
    in the journal its original bytes are, `revision` when its row last changed there.
    """

    trace_id: bytes = b""
    span_id: bytes = b""
    parent_id: bytes = b""
    name: str = ""
    kind: Kind = Kind.OTHER
    role: Role = Role.OTHER
    start_ns: int = 0
    end_ns: int = 0
    status: Status = Status.UNSET
    delivery: Delivery = Delivery.LOCAL
    request: int = 0
    position: int = 0
    revision: int = 0

    @property
    def running(self) -> bool:
        return self.end_ns == 0

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while running, never negative (clocks leap)."""
        return None if self.end_ns == 0 else max(0, self.end_ns - self.start_ns) / NANOSECONDS

    @property
    def failed(self) -> bool:
        return self.status is Status.ERROR or self.outcome in FAILURES

    def outranks(self, other: Span) -> bool:
        """Whether this version of a span replaces `other`: the later end, then any fixed order.

        A total order on content makes the result independent of the order of arrival. Rows of one
        journal say by their revision which is newer.
        """
        if self.revision and other.revision:
            return self.revision > other.revision
        return self._rank() > other._rank()

    def _rank(self) -> tuple[int, int, str]:
        return self.end_ns, self.start_ns, repr([getattr(self, name) for name in _CONTENT])


_CONTENT = tuple(
    name
    for name in Span.__struct_fields__
    if name not in {"delivery", "request", "position", "revision", "start_ns", "end_ns"}
)

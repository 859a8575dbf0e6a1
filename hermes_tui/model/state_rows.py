"""Hermes' own records as plain data: what is read out of a `state.db`, before it means anything.

Every row carries `home`, the name of the Hermes home or profile it was read from, and `revision`, the
number of that reading: of two versions of one row the higher revision is the newer. With that, rows may
come in any order, in any portions and any number of times. Times are nanoseconds since the epoch, 0 for
unknown. Texts are bounded (`hermes.state_db`).
"""

from __future__ import annotations

import msgspec

Told = tuple[str, str, str]
"""What makes a message or a call and its copy the same (`model.copies`)."""


class CallRow(msgspec.Struct, frozen=True):
    """A tool call as the model asked for it; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class MessageRow(msgspec.Struct, frozen=True):
    """A row of `messages`.

    `text` of a tool's result is shortened so that JSON stays JSON (`model.shorten`); the whole has `size`
    bytes. `summary` marks what begins no turn: what Hermes wrote itself when it compacted the conversation,
    overheard in a group, or was told in the middle of a turn. A row that is not `active` was taken back by
    the user; one that is `archived` was, when Hermes compacted the conversation, replaced by a summary or by
    a copy.
    """

    home: str
    revision: int
    id: int
    session: str
    role: str
    text: str = ""
    size: int = 0
    tool_call_id: str | None = None
    tool_name: str | None = None
    calls: tuple[CallRow, ...] = ()
    at_ns: int = 0
    finish_reason: str | None = None
    active: bool = True
    archived: bool = False
    summary: bool = False


class SessionRow(msgspec.Struct, frozen=True):
    """A row of `sessions`: what spans do not say of a session. Tokens and cost (US dollars) are sums;
    input tokens include what was read from and written to a cache, as in spans.

    `heard_ns` is when its Hermes last said it was there, which newer versions note every minute.
    """

    home: str
    revision: int
    id: str
    source: str | None = None
    model: str | None = None
    parent: str | None = None
    title: str | None = None
    cwd: str | None = None
    profile: str | None = None
    started_ns: int = 0
    ended_ns: int = 0
    end_reason: str | None = None
    heard_ns: int = 0
    messages: int = 0
    api_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None


class BeforeRow(msgspec.Struct, frozen=True):
    """What the session that this one goes on from had in its records by then, in their order: when, and what.

    Hermes copies some or all of it into the new session.
    """

    home: str
    revision: int
    session: str
    told: tuple[tuple[int, Told], ...]


class HolderRow(msgspec.Struct, frozen=True):
    """A process that says it has a session open; `alive` None: nobody can tell from here.

    `until_ns` is how long it holds the session's turn unless it says so again; 0: it holds no turn.
    """

    home: str
    revision: int
    session: str
    pid: int
    alive: bool | None
    until_ns: int = 0


class JobRow(msgspec.Struct, frozen=True):
    """A background job in `processes.json`, where Hermes lists those that run.

    `alive` False: it was listed and is no longer, or its process is gone.
    """

    home: str
    revision: int
    id: str
    session: str | None = None
    command: str | None = None
    pid: int = 0
    started_ns: int = 0
    alive: bool | None = None


class HomeRow(msgspec.Struct, frozen=True):
    """Whether no program has a home's database open: then nothing runs there."""

    home: str
    revision: int
    closed: bool


class Forgotten(msgspec.Struct, frozen=True):
    """Rows of a home read before `revision` are gone from it: those of one session, or all (None)."""

    home: str
    revision: int
    session: str | None = None


StateRow = MessageRow | SessionRow | BeforeRow | HolderRow | JobRow | HomeRow | Forgotten

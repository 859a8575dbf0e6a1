"""Background jobs of a session: commands that Hermes started and did not wait for.

Known from the `terminal` call that started them, from what the `process` tool said later, from the
notice that Hermes puts into the conversation when one ends, and from `processes.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from hermes_tui.model.live_turns import CallKey, LiveCall
from hermes_tui.model.results import read_object
from hermes_tui.model.span import NANOSECONDS, Outcome
from hermes_tui.model.state_rows import JobRow

LIMIT_NS = 24 * 3600 * NANOSECONDS
"""A job of which nobody said anything for so long no longer counts as running."""

_ENDED = frozenset({"exited", "killed", "finished", "completed", "not_found", "lost", "already_exited"})
_NOTICE = re.compile(
    r"[Bb]ackground process (proc_\w+)\s+(?:\S+\s+){0,6}?"
    r"(?:completed|exited|finished|terminated|killed|failed)"
    r"(?:[^\n]{0,80}?exit code:? (-?\d{1,10}))?"
)


class Job(msgspec.Struct, frozen=True):
    """A background job. `ended` without `ended_ns`: it is over, nobody knows since when.

    `heard_ns` is when somebody last said that it runs; `alive` what the system says of its process. `call`
    is the one that started it, `cwd` where it runs as Hermes told when it was asked.
    """

    id: str
    session: str
    command: str | None = None
    call: CallKey | None = None
    pid: int = 0
    started_ns: int = 0
    heard_ns: int = 0
    ended: bool = False
    ended_ns: int = 0
    exit_code: int | None = None
    alive: bool | None = None
    cwd: str | None = None

    def running(self, now_ns: int) -> bool:
        """Whether it runs as far as anybody knows."""
        if self.ended or self.alive is False:
            return False
        return bool(self.alive) or now_ns - max(self.heard_ns, self.started_ns) < LIMIT_NS


class JobBook:
    """The jobs of one session; told of calls and prompts in their order."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._jobs: dict[str, Job] = {}

    def answered(self, call: LiveCall) -> None:
        """A call has its result."""
        if call.tool == "terminal" and call.outcome is Outcome.BACKGROUND:
            found, _ = read_object(call.result or "")
            if isinstance(name := found.get("session_id"), str) and name:
                self._jobs[name] = Job(
                    name,
                    self._session,
                    call.command,
                    call.key,
                    _whole(found.get("pid")) or 0,
                    started_ns=call.ended_ns,
                    heard_ns=call.ended_ns,
                )
        elif call.tool == "process":
            found, _ = read_object(call.result or "")
            given, _ = read_object(call.arguments)
            listed = found.get("processes")
            for each in listed if isinstance(listed, list) else [{**given, **found}]:
                if isinstance(each, dict):
                    self._said(each, call.ended_ns)

    def told(self, prompt: str, at_ns: int) -> None:
        """Something was put to the model: perhaps Hermes' notice that a job ended."""
        for notice in _NOTICE.finditer(prompt):
            if (job := self._jobs.get(notice[1])) is not None:
                code = None if notice[2] is None else int(notice[2])
                self._jobs[job.id] = replace(job, ended=True, ended_ns=at_ns, exit_code=code)

    def jobs(self, listed: Iterable[JobRow], *, closed: bool = False) -> list[Job]:
        """All jobs, the oldest first. `listed` is what `processes.json` says of this session's.

        When Hermes is `closed`, a job whose process cannot be seen is over: the file stays as it was.
        """
        found = dict(self._jobs)
        for row in listed:
            job = found.get(row.id) or Job(row.id, self._session)
            found[row.id] = replace(
                job,
                command=job.command or row.command,
                pid=job.pid or row.pid,
                started_ns=job.started_ns or row.started_ns,
                alive=row.alive,
            )
        told = [replace(job, alive=bool(job.alive)) if closed else job for job in found.values()]
        return sorted(told, key=lambda job: (job.started_ns, job.id))

    def knows(self, job: str) -> bool:
        return job in self._jobs

    def _said(self, said: dict[str, Any], at_ns: int) -> None:
        job = self._jobs.get(str(said.get("session_id")))
        if job is None:
            return
        if isinstance(cwd := said.get("cwd"), str) and cwd:
            job = replace(job, cwd=cwd)
        if said.get("status") in _ENDED:
            code = _whole(said.get("exit_code"))
            self._jobs[job.id] = replace(job, ended=True, ended_ns=job.ended_ns or at_ns, exit_code=code)
        elif said.get("status") == "running":
            self._jobs[job.id] = replace(job, heard_ns=at_ns)


def read_job(session: str, start: LiveCall, later: Iterable[LiveCall]) -> Job | None:
    """The background job that a call started, with what calls `later` on said of it."""
    book = JobBook(session)
    for call in (start, *later):
        book.answered(call)
    return next(iter(book.jobs(())), None)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else None

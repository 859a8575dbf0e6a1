"""What the doctor says: a finding, its proof, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Verdict(StrEnum):
    """`unknown` when it could not be found out: something else must be put right first."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


class Group(StrEnum):
    """The headings of the troubleshooting section in MLflow's page on Hermes Agent, and one more."""

    NO_TRACES = "No traces appear in MLflow"
    NO_TOOLS = "Hermes runs but tool spans are missing"
    GATEWAY = "You only see gateway logs, not full agent traces"
    NOT_WHOLE = "Traces appear, but they are not whole"


@dataclass(frozen=True, slots=True)
class Fix:
    """The way out: what it is in a sentence, then shell commands, or `lines` that belong into `file`.

    In a command, words in CAPITALS are the user's to fill in.
    """

    says: str
    commands: tuple[str, ...] = ()
    file: str | None = None
    lines: str = ""

    def record(self) -> dict[str, Any]:
        return {"says": self.says, "commands": list(self.commands), "file": self.file, "lines": self.lines}

    def first(self) -> str:
        """In one line, for a place that has no room for more."""
        if self.commands:
            return " && ".join(self.commands)
        if self.lines and self.file and self.lines.count("\n") == 1:
            return f"write `{self.lines.strip()}` into {self.file}"
        return self.says


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `proof` is what was read or asked, and what came back.

    `fixable`: `doctor --fix` does it.
    """

    name: str
    group: Group
    verdict: Verdict
    finding: str
    proof: str = ""
    fix: Fix | None = None
    fixable: bool = False

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "group": str(self.group),
            "verdict": str(self.verdict),
            "finding": self.finding,
            "proof": self.proof,
            "fix": None if self.fix is None else self.fix.record(),
            "fixable": self.fixable,
        }


class Say(Protocol):
    """Makes the finding of one check."""

    def __call__(
        self,
        verdict: Verdict,
        finding: str,
        proof: str = "",
        fix: Fix | None = None,
        *,
        fixable: bool = False,
    ) -> Finding: ...


def about(name: str, group: Group) -> Say:
    """What a check makes its findings with."""

    def say(
        verdict: Verdict, finding: str, proof: str = "", fix: Fix | None = None, *, fixable: bool = False
    ) -> Finding:
        return Finding(name, group, verdict, finding, proof, fix, fixable)

    return say


def count(findings: Iterable[Finding], verdict: Verdict) -> int:
    return sum(each.verdict is verdict for each in findings)


def first_fix(findings: Iterable[Finding]) -> str:
    """What to do first, in one line: findings are in the order in which one causes the next."""
    troubles = [each for each in findings if each.fix is not None]
    for wanted in (Verdict.BAD, Verdict.WARN):
        for each in troubles:
            if each.verdict is wanted and each.fix is not None:
                return each.fix.first()
    return ""

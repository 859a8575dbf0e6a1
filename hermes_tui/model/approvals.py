"""Which commands Hermes asks a person about before it runs them: a guess, for the time before it says so.

Hermes writes down that it asks only once it has the answer. What it asks about is in its
`tools/approval_detection.py`; here are those of its rules that can hardly mean anything else.
"""

from __future__ import annotations

import re

_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (r"\brm\s+(?:-\S+\s+)*-{1,2}(?:\w*r|recursive)", "recursive delete"),
        (r"\brm\s+(?:-\S+\s+)*/", "delete in root path"),
        (r"\bfind\b.*\s-(?:delete\b|exec(?:dir)?\s+rm\b)|\bxargs\b.*\brm\b", "delete what is found"),
        (r"\bchmod\s+(?:-\S+\s+)*0?(?:777|666)\b", "world-writable permissions"),
        (r"\bchown\s+(?:-\S+\s+)*-\S*r\S*\s+root\b", "recursive change of owner"),
        (r"\bmkfs\b|\bdd\s[^|;&]*\bof=/dev/|>\s*/dev/(?:sd|nvme|disk)", "write to a disk"),
        (r">>?\s*/etc/|\btee\s+(?:-\S+\s+)*/etc/", "write to system configuration"),
        (r"\bdrop\s+(?:table|database)\b|\btruncate\s+table\b", "drop or empty a table"),
        (r"\bdelete\s+from\b(?!.*\bwhere\b)", "delete from a table without a condition"),
        (r"\bsystemctl\s+(?:-\S+\s+)*(?:stop|disable|mask|restart)\b", "stop a service"),
        (r"\bpkill\s+-9\b|\bkill\s+-9\s+-1\b|\bkillall\b", "kill processes"),
        (r"\b(?:curl|wget)\b[^;&]*\|\s*(?:sudo\s+)?(?:ba|z|k|da)?sh\b", "run what is downloaded"),
        (r"\bgit\s+reset\s+--hard\b|\bgit\s+clean\s+-\S*f", "discard changes"),
        (r"\bgit\s+push\b.*\s(?:--force\b|-f\b)", "force push"),
    )
)
_LOOKED_AT = 10_000  # characters of a command

ASKING_TOOLS = frozenset({"clarify"})
"""Tools that are a question to the user: while one runs, Hermes waits for a person."""


def may_ask(command: str) -> str | None:
    """What Hermes would ask about before it runs this command; None: hardly anything."""
    text = command[:_LOOKED_AT]
    return next((what for rule, what in _RULES if rule.search(text)), None)

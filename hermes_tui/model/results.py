"""Read the JSON that tools are called with and answer with, also when it was cut in the middle.

hermes-otel shortens values to 1,200 characters and ends them with `...`, which leaves invalid JSON
(hermes-otel `_preview`; seen in the recordings `truncated` and `shell_corners`).
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from hermes_tui.model.span import Outcome

_DECODER = json.JSONDecoder(strict=False)
_KEY = re.compile(r'\s*,?\s*"((?:[^"\\]|\\.)*)"\s*:\s*', re.DOTALL)
_NUMBER_ENDS = re.compile(r"[\s,}]")
_BROKEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?$")
COMMAND_TOOLS = frozenset({"terminal", "execute_code"})
CUT = "..."


def read_object(text: str) -> tuple[dict[str, Any], bool]:
    """The JSON object in `text` and whether it was whole; of a cut one, the pairs before the cut."""
    text = text.strip()
    if not text.startswith("{"):
        return {}, False
    try:
        document, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return _read_cut_object(text), False
    return (document, True) if end == len(text) else (_read_cut_object(text), False)


def _read_cut_object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = 1
    while (key := _KEY.match(text, at)) is not None:
        at = key.end()
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            if text.startswith('"', at):
                found[key[1]] = _cut_string(text[at + 1 :])
            break
        if _is_number(value) and _NUMBER_ENDS.match(text, at) is None:
            break  # `13` may be the beginning of `130`
        found[key[1]] = value
    return found


def _cut_string(rest: str) -> str:
    rest = rest.removesuffix(CUT)
    for candidate in (rest, _BROKEN_ESCAPE.sub("", rest)):
        try:
            return str(_DECODER.decode(f'"{candidate}"'))
        except ValueError:
            continue
    return rest


class Call(NamedTuple):
    """A tool call as its span tells it: what ran, how it ended, what it printed, and what went wrong.

    `truncated`: the end of what ran (`cut`) or of its result is not known.
    """

    command: str | None
    cwd: str | None
    exit_code: int | None
    outcome: Outcome
    output: str | None
    truncated: bool
    error: str | None = None
    cut: bool = False


def read_call(
    tool: str,
    arguments: str | None,
    result: str | None,
    *,
    command: str | None = None,
    said: str | None = None,
    error: bool = False,
    running: bool = False,
) -> Call:
    """Judge a command's span. `command` and `said` are the emitter's own short command and outcome."""
    given, given_whole = read_object(arguments or "")
    got, got_whole = read_object(result or "")
    text, text_cut = _command_text(given, given_whole, command)
    exit_code = _integer(got.get("exit_code"))
    output = got.get("output") if got else result
    outcome = Outcome.UNKNOWN if running else _outcome(tool, given, got, exit_code, said, error)
    result_cut = bool(result) and not got_whole and (bool(got) or str(result).endswith(CUT))
    cwd, trouble = given.get("workdir"), got.get("error")
    return Call(
        command=text,
        cwd=cwd if isinstance(cwd, str) and cwd else None,
        exit_code=None if outcome is Outcome.BACKGROUND else exit_code,
        outcome=outcome,
        output=output if isinstance(output, str) else (None if output is None else json.dumps(output)),
        truncated=text_cut or result_cut,
        error=trouble if isinstance(trouble, str) and trouble else None,
        cut=text_cut,
    )


def decision(outcome: str | None, error: str | None) -> str:
    """What a person said to a command, as far as its result tells: denied, timed out, or ""."""
    said = (error or "").lower() if outcome == Outcome.BLOCKED else ""
    return "timed out" if "timed out" in said else "denied" if "denied" in said else ""


def _command_text(given: dict[str, Any], whole: bool, short: str | None) -> tuple[str | None, bool]:
    """The fullest known text of the command, and whether it is cut.

    The plugin's own short form keeps white space but ends at 500 characters; the arguments go on to
    1,200 with runs of white space collapsed.
    """
    full = None
    for key in ("command", "cmd", "code"):
        if isinstance(given.get(key), str):
            full = given[key]
            break
    if short and not (short.endswith(CUT) or len(short) >= 500):
        return short, False
    if full is None or len(full) < len(short or ""):
        return short, bool(short)
    return full, not whole


def _outcome(
    tool: str,
    given: dict[str, Any],
    got: dict[str, Any],
    exit_code: int | None,
    said: str | None,
    error: bool,
) -> Outcome:
    """Field-guide section 1, "Terminal tools": the exit code judges, not the span's status."""
    output = got.get("output")
    output = output.rstrip() if isinstance(output, str) else ""
    status = got.get("status")
    if status == "blocked" or said == "blocked":
        return Outcome.BLOCKED
    if status == "timeout" or said == "timeout" or (exit_code == 124 and "[Command timed out" in output):
        return Outcome.TIMEOUT
    if status == "yielded_to_background":  # the user wrote while it ran (Hermes 0.22)
        return Outcome.BACKGROUND
    if status == "interrupted" or said == "cancelled":
        return Outcome.INTERRUPTED
    if exit_code == 130 and output.endswith("[Command interrupted]"):
        return Outcome.INTERRUPTED
    if exit_code is not None:
        if exit_code != 0:
            return Outcome.FAILED
        return Outcome.BACKGROUND if given.get("background") is True else Outcome.COMPLETED
    if error or status == "error" or said == "error":
        return Outcome.FAILED
    if tool == "execute_code" and status in ("success", "completed"):
        return Outcome.COMPLETED
    return Outcome.UNKNOWN


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integer(value: object) -> int | None:
    """An exit code; JSON allows numbers that no process returns and no database holds."""
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**32:
        return value
    return None


_TARGETS = ("path", "file_path", "filename", "url", "query", "pattern", "goal", "name", "action", "question")


def read_target(arguments: str | None) -> str | None:
    """What a tool other than a command was pointed at: the one argument that names it."""
    given, _ = read_object(arguments or "")
    for key in _TARGETS:
        if isinstance(given.get(key), str) and given[key]:
            return str(given[key])
    if isinstance(tasks := given.get("tasks"), list):
        return f"{len(tasks)} tasks"
    return next((value for value in given.values() if isinstance(value, str) and value), None)

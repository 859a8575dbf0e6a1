"""A transcript's records as text for people: Markdown, and plain. Text from outside is neutralised here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hermes_tui import neutral
from hermes_tui.figures import short_time
from hermes_tui.output import exit_mark, fenced

Record = dict[str, Any]

_NO_PROMPT = "(prompt not seen)"
_PLAIN_LINES = 40  # of an output that plain text shows
_REASON = 200  # characters of why a call failed
_INDENT = "  "


def markdown(session: str, records: Iterable[Record]) -> Iterator[str]:
    """Lines of a Markdown document, without their ends; headings in what was said stay below its own."""
    yield f"# Session {neutral.line(session)}"
    for record in records:
        yield ""
        quote = "> " * record["depth"]
        for line in _MARKDOWN[record["kind"]](record):
            yield f"{quote}{line}" if line else quote.rstrip()  # blanks may be a command's own


def _md_prompt(record: Record) -> Iterator[str]:
    yield f"## {record['turn']} · {_clock(record)}"
    yield ""
    yield from (f"> {line}".rstrip() for line in _lines(record["text"] or _NO_PROMPT))


def _md_answer(record: Record) -> Iterator[str]:
    fence = ""
    for line in _lines(record["text"]):
        mark = line.lstrip()[:3]
        if mark in ("```", "~~~"):
            fence = "" if fence == mark else fence or mark
        yield f"##{line}" if line.startswith("#") and not fence else line
    if fence:
        yield fence


def _md_command(record: Record) -> Iterator[str]:
    cut = ", cut" if record["truncated"] else ""
    yield f"`{record['tool']}` {exit_mark(record)}{_took(record)}{cut}"
    language = "python" if record["tool"] == "execute_code" else "sh"
    yield ""
    yield from fenced(neutral.copied(record["text"] or ""), language).split("\n")
    for text in filter(None, (record["output"], record["error"])):
        yield ""
        yield from fenced(neutral.copied(text), "text").split("\n")


def _md_change(record: Record) -> Iterator[str]:
    yield f"{_code(record['tool'])} {_code(record['text'])} {_size(record)}{_took(record)}{_trouble(record)}"
    if record["output"]:
        yield ""
        yield from fenced(neutral.copied(record["output"]), "diff").split("\n")


def _md_tool(record: Record) -> Iterator[str]:
    yield f"- {_code(record['tool'])} {_code(record['text'])}".rstrip() + _took(record) + _trouble(record)


def _md_aside(record: Record) -> Iterator[str]:
    yield f"*{_aside(record)}*"


_MARKDOWN: dict[str, Callable[[Record], Iterator[str]]] = {
    "prompt": _md_prompt, "answer": _md_answer, "command": _md_command, "change": _md_change,
    "tool": _md_tool, "approval": _md_aside, "subagent": _md_aside, "skill": _md_aside,
    "failure": _md_aside, "end": _md_aside,
}  # fmt: skip


def plain(session: str, records: Iterable[Record]) -> Iterator[str]:
    """Lines of plain text, without their ends; of long outputs the beginning."""
    yield f"Session {neutral.line(session)}"
    for record in records:
        indent = _INDENT * record["depth"]
        if record["kind"] == "prompt":
            yield ""
        yield from (f"{indent}{line}".rstrip() for line in _plain(record))


def _plain(record: Record) -> Iterator[str]:
    kind = record["kind"]
    if kind in ("prompt", "answer"):
        head = f"{_clock(record)} {record['turn']} > " if kind == "prompt" else "  < "
        for line in _lines(record["text"] or _NO_PROMPT):
            yield head + line
            head = " " * len(head)
    elif kind in ("command", "change"):
        command = kind == "command"
        first, *rest = _lines(record["text"])
        ended = exit_mark(record) if command else _size(record)
        yield f"  {'$' if command else record['tool']} {first}"
        yield from (f"    {line}" for line in rest)
        yield f"    [{ended}{_took(record)}{'' if command else _trouble(record)}]"
        output = _lines(record["output"]) if record["output"] else []
        yield from (f"    | {line}" for line in output[:_PLAIN_LINES])
        if len(output) > _PLAIN_LINES:
            yield f"    | ({len(output) - _PLAIN_LINES} more lines)"
        if command and record["error"]:
            yield f"    ! {neutral.line(record['error'])}"
    elif kind == "tool":
        target = neutral.line(record["text"] or "")
        yield f"  - {neutral.line(record['tool'])} {target}".rstrip() + _took(record) + _trouble(record)
    else:
        yield f"  ! {_aside(record)}"


def _aside(record: Record) -> str:
    text = neutral.line(record["text"] or "")
    kind = record["kind"]
    if kind == "approval":
        who = "nobody decided" if text == "timed out" else f"{text} by a person" if text else "waits"
        return f"approval: {who}{_took(record)}"
    if kind == "subagent":
        return f"subagent: {text or '(task not seen)'}"
    if kind == "failure":
        return f"the model failed: {text}"
    return f"turn {text}" if kind == "end" else f"skill: {text}"


def _lines(text: str | None) -> list[str]:
    return neutral.block(text or "").rstrip("\n").split("\n")


def _code(text: str | None) -> str:
    """A name in a line of Markdown."""
    line = neutral.line(text or "").replace("`", "'")
    return f"`{line}`" if line else ""


def _size(record: Record) -> str:
    return f"+{record['lines_added'] or 0} −{record['lines_removed'] or 0}"


def _trouble(record: Record) -> str:
    """That a call which is no command failed, and why in short."""
    if not record["error"]:
        return ""
    why = neutral.line(record["error"])
    return f" ✗ {why if len(why) <= _REASON else f'{why[:_REASON]}…'}"


def _took(record: Record) -> str:
    took = short_time(record["duration_s"])
    return f" · {took}" if took else ""


def _clock(record: Record) -> str:
    return (record["started"] or "")[:19].replace("T", " ")

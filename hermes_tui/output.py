"""Records as text for people: tables, a shell script, Markdown. Text from spans is neutralised here."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hermes_tui import neutral
from hermes_tui.figures import short_number, short_time
from hermes_tui.model.results import decision

Record = dict[str, Any]

_COLUMNS = (
    "session",
    "title",
    "source",
    "model",
    "started",
    "status",
    "turns",
    "commands",
    "spans",
    "in",
    "out",
)
_NUMBERS = frozenset({"turns", "commands", "spans", "in", "out"})
_GAP = 2  # cells between columns
_MINUTES = 16  # characters of a time without its seconds
_LEAST = (
    {"title": 12, "model": 8, "session": 22, "source": 6},  # Hermes' own ids have 22
    {"title": 8, "model": 8, "session": 12, "source": 6},
)
"""Cells that names keep when they are shortened, in this order; the second where the first does not help."""
_WIDEST = 40  # cells of a session's id where no row fits
_TITLE = 40  # characters of a session's title
_ROWS = 50  # spans named one by one
_MARKS = {"completed": "✓", "background": "&", "unknown": "?"}
_SIMPLE = re.compile(
    r"(?!(?:if|then|elif|else|fi|while|until|for|do|done|case|esac|select|function|time|coproc)\b)"
    r"[\w./@%+:,=-]+(?: +[\w./@%+:,=-]+)*"
)
"""One command on one line without anything that a shell acts on."""
_SOURCES = {"state": "Hermes' records", "model": "model calls"}


def exit_mark(record: Record) -> str:
    """How a command ended in one word: ✓, ✗ 3, ✗ blocked, ? …"""
    outcome, code = record["outcome"], record["exit_code"]
    if outcome in _MARKS:
        return _MARKS[outcome]
    return f"✗ {code}" if outcome == "failed" and code is not None else f"✗ {outcome}"


def _told_by(record: Record) -> str:
    """Who told of a command what its own span does not; "" when that tells all."""
    return _SOURCES.get(record["source"], "")


def print_sessions(records: Sequence[Record]) -> None:
    console = _console()
    if not records:
        console.print("No sessions yet.")
        return
    names = [name for name in _COLUMNS if name != "title" or any(record["title"] for record in records)]
    rows = [names, *([_session_cell(record, name) for name in names] for record in records)]
    gap, short = _GAP, False
    if sys.stdout.isatty() and _width(rows, _GAP) > console.width:
        gap, rows, short = 1, *_fitted(rows, console.width)
    table = _table(*names)
    table.padding, table.collapse_padding = (0, 1), gap == 1
    for column in table.columns:
        column.justify = "right" if column.header in _NUMBERS else "left"
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    # A line that wraps can be read; of a table that is too wide, rich would leave out whole columns.
    console.width = max(console.width, _width(rows, gap))
    _print_table(console, table)
    if short:
        console.print(Text("Long values are shortened; --json has all of them.", "dim"), soft_wrap=True)


def _session_cell(record: Record, name: str) -> str:
    if name in ("in", "out"):
        return short_number(record["input_tokens" if name == "in" else "output_tokens"])
    if name == "title":
        return neutral.line((record["title"] or "")[:_TITLE])
    if name == "started":
        return (record["started"] or "")[:19].replace("T", " ")
    return "" if record[name] is None else neutral.line(str(record[name]))


def _width(rows: Sequence[Sequence[str]], gap: int) -> int:
    """Cells that a table needs."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return sum(widths) + gap * (len(widths) - 1)


def _fitted(rows: list[list[str]], width: int) -> tuple[list[list[str]], bool]:
    """The rows of a table, its head first, shortened so that each takes one line of a terminal, or as far
    as goes while a session's id stays whole; and whether names were shortened.
    """
    started = rows[0].index("started")
    rows = [[*row[:started], row[started][:_MINUTES], *row[started + 1 :]] for row in rows]
    for least in _LEAST:
        found, over = rows, _width(rows, 1) - width
        for name, cells in least.items() if over > 0 else ():
            if over > 0 and name in rows[0]:
                at = rows[0].index(name)
                most = max(cells, max(cell_len(row[at]) for row in rows) - over)
                found = [[*row[:at], _middle(row[at], most), *row[at + 1 :]] for row in found]
                over = _width(found, 1) - width
        if over <= 0:
            return found, found is not rows
    at = rows[0].index("session")  # nothing helps: at least one long name must not widen all rows
    return [[*row[:at], _middle(row[at], _WIDEST), *row[at + 1 :]] for row in rows], True


def _middle(text: str, width: int) -> str:
    """A name that is too long without its middle: names differ at their ends."""
    if cell_len(text) <= width:
        return text
    head, tail = set_cell_size(text, (width - 1) // 2).rstrip(), ""
    for character in reversed(text):
        if cell_len(head) + 1 + cell_len(character + tail) > width:
            break
        tail = character + tail
    return f"{head}…{tail}"


def print_commands(records: Sequence[Record]) -> None:
    completed = any(map(_told_by, records))
    table = _table("started", "exit")
    table.add_column("time", justify="right")
    if completed:
        table.add_column("from", no_wrap=True)
    table.add_column("command", overflow="fold")
    for record in records:
        style = "red" if exit_mark(record).startswith("✗") else ""
        table.add_row(
            _cell((record["started"] or "")[11:19]),
            Text(exit_mark(record), style),
            _cell(short_time(record["duration_s"])),
            *([_cell(_told_by(record))] if completed else []),
            Text(neutral.block(record["command"] or ""), style),
        )
    if records:
        _print_table(_console(), table)
    else:
        _console().print("No commands.")


def shell_script(records: Sequence[Record]) -> str:
    """The commands as a script to read: each below a comment with when, where and how it ended.

    What never ran, what is not known whole, what was not waited for, and what is no shell's stands there
    as comments.
    """
    parts = ["#!/bin/sh", "# Commands that Hermes ran, in order. Read before running any of it again."]
    for record in records:
        where = f" in {neutral.line(record['cwd'])}" if record["cwd"] else ""
        said = decision(record["outcome"], record["error"])
        ended = "denied" if said == "denied" else record["outcome"]
        ended += f", exit {'?' if record['exit_code'] is None else record['exit_code']}"
        cut = "command" if record["command_truncated"] else "output" if record["truncated"] else ""
        cut = cut and f" (the end of the {cut} is not known)"
        told = f" (from {_told_by(record)})" if _told_by(record) else ""
        parts.append(f"\n# {record['started']}{where}: {ended}{cut}{told}")
        parts += _again(record)
    return "\n".join(parts) + "\n"


def _again(record: Record) -> list[str]:
    """A command as lines of a script that does no more than Hermes did."""
    command = neutral.copied(record["command"] or "")
    commented = [f"# {line}" for line in command.split("\n")]
    if record["tool"] != "terminal":
        return [f"# {neutral.line(record['tool'] or 'another tool')}:", *commented]
    if record["outcome"] == "blocked":
        why = [f"# {neutral.line(record['error'])}"] if record["error"] else []
        return [*why, "# It was not allowed and did not run:", *commented]
    if record["outcome"] == "unknown" and record["output"] is None:
        return ["# Nobody knows whether it ran:", *commented]
    if record["command_truncated"]:
        return ["# Its end is missing:", *commented]
    if record["outcome"] == "background":
        if _SIMPLE.fullmatch(command):
            return ["# It ran in the background, as the & says:", f"{command} &"]
        return ["# It ran in the background:", *commented]
    return [command]


def markdown(records: Sequence[Record]) -> str:
    """The commands and their output as Markdown."""
    parts = ["# Commands", ""]
    for record in records:
        took = short_time(record["duration_s"]) or "?"
        told = f" · from {_told_by(record)}" if _told_by(record) else ""
        parts.append(f"## {record['started']} · {exit_mark(record)} · {took}{told}")
        language = "python" if record["tool"] == "execute_code" else "sh"
        parts += ["", fenced(neutral.copied(record["command"] or ""), language), ""]
        for text in filter(None, (record["output"], record["error"])):
            parts += [fenced(neutral.copied(text), "text"), ""]
    return "\n".join(parts)


def print_status(record: Record) -> None:
    """What `status` says, a line a fact."""
    lines = []
    if record["running"]:
        lines.append(f"relay      running, pid {record['pid']}, version {record['version']}")
        lines.append(f"OTLP/HTTP  http://{record['http']}/v1/traces")
        if record["grpc"]:
            lines.append(f"OTLP/gRPC  {record['grpc']}")
    else:
        lines.append("relay      not running; `hermes-trace-tui relay` or the pane starts it")
    lines.append(f"MLflow     {record['destination'] or 'not configured; spans are kept here (local)'}")
    states = ("local", "queued", "accepted", "confirmed", "held", "quarantined")
    counts = ", ".join(f"{record[name]} {name}" for name in states if record[name])
    lines.append(f"spans      {record['spans']}" + (f": {counts}" if counts else ""))
    undelivered = any(record[name] for name in ("queued", "held", "quarantined"))
    if record["last_error"] and undelivered:
        lines.append(f"last error {record['last_error']}")
    console = _console()
    for line in lines:
        console.print(Text(neutral.line(line)), soft_wrap=True)


def print_verified(record: Record, names: Callable[[list[str]], dict[str, str]]) -> None:
    """What `verify` found; `names` gives names of spans by id."""
    console = _console()
    missing, where = record["missing"], record["destination"] or "MLflow"
    said = f"{record['confirmed']} of {_counted(record['spans'], 'span')} confirmed in {where}"
    said += f", {len(missing)} missing" if missing else ""
    console.print(Text(neutral.line(said)), soft_wrap=True)
    if not missing:
        return
    why = _why_missing(record)
    shown = missing[:_ROWS]
    named = {**names(shown), **{each["span"]: each["name"] for each in _refused(record)}}
    table = _table("span", "name")
    table.add_column("why", overflow="fold")
    for span in shown:
        table.add_row(_cell(span), _cell(named.get(span)), _cell(why.get(span)))
    console.print(table)
    if len(missing) > len(shown):
        console.print(f"… and {len(missing) - len(shown)} more; --json lists all", soft_wrap=True)


def _why_missing(record: Record) -> dict[str, str]:
    """Why each span that is missing is so, by id."""
    why = dict.fromkeys(record["accepted"], "accepted, but not read back")
    why.update(dict.fromkeys(record["local"], "arrived without a destination; `retry --local` sends it"))
    why.update(dict.fromkeys(record["queued"], "not delivered yet"))
    why.update(dict.fromkeys(record["not_found"], "accepted, but not there when read back; sent again"))
    why.update({each["span"]: each["reason"] or "refused" for each in _refused(record)})
    return why


def _refused(record: Record) -> list[Record]:
    return [*record["held"], *record["quarantined"]]


def print_retried(record: Record) -> None:
    """What became of the spans that `retry` sent again."""
    console = _console()
    if not record["sent_again"]:
        console.print("Nothing is held or quarantined.")
        return
    names = ("accepted", "queued", "held", "quarantined")
    counts = ", ".join(f"{record[name]} {name}" for name in names if record[name])
    console.print(
        f"Sent {_counted(record['sent_again'], 'span')} again: {counts or 'all forgotten meanwhile'}."
    )
    for reason in record["reasons"]:
        console.print(Text(neutral.line(reason)), soft_wrap=True)


_VERDICTS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "red"), "unknown": ("?", "dim")}
_NAME_CELLS = 16


def print_examined(record: Record, *, verbose: bool) -> None:
    """What `doctor` found, under MLflow's headings; proof and way out of all that is not well."""
    console = _console()
    for group in record["groups"]:
        console.print(Text(group, "bold"))
        for each in record["findings"]:
            if each["group"] == group:
                _print_finding(console, each, verbose=verbose)
        console.print()
    for done in record["fixed"]:
        console.print(Text(f"fixed: {neutral.line(done)}"), soft_wrap=True)
    bad, warn = record["bad"], record["warn"]
    said = (
        "Nothing is wrong." if not bad else f"{_counted(bad, 'thing')} {'is' if bad == 1 else 'are'} wrong."
    )
    said += f" {_counted(warn, 'warning')}." if warn else ""
    said += f" First: {neutral.line(record['first_fix'])}" if record["first_fix"] else ""
    console.print(Text(said, "bold"), soft_wrap=True)


def _print_finding(console: Console, each: Record, *, verbose: bool) -> None:
    mark, style = _VERDICTS[each["verdict"]]
    line = Text.assemble(
        (f"  {mark} ", style), f"{each['name']:<{_NAME_CELLS}} ", neutral.line(each["finding"])
    )
    console.print(line, soft_wrap=True)
    well = each["verdict"] == "ok"
    if each["proof"] and (verbose or not well):
        console.print(Text(f"      proof  {neutral.line(each['proof'])}", "dim"), soft_wrap=True)
    if (fix := each["fix"]) is None or well:
        return
    console.print(Text(f"      fix    {neutral.line(fix['says'])}"), soft_wrap=True)
    for command in fix["commands"]:
        console.print(Text(f"             $ {neutral.line(command)}"), soft_wrap=True)
    if fix["lines"]:
        console.print(Text(f"             in {neutral.line(fix['file'] or '')}:"), soft_wrap=True)
        for text in neutral.block(fix["lines"]).rstrip("\n").split("\n"):
            console.print(Text(f"               {text}"), soft_wrap=True)


def forgetting(record: Record) -> str:
    """What `purge` forgets, in words."""
    parts = [_counted(record["requests"], "request"), _counted(record["spans"], "span")]
    text = " with ".join(parts)
    return text + (f", {record['undelivered']} of them not delivered" if record["undelivered"] else "")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _console() -> Console:
    """Standard output; wide when it is no terminal, so that pipes and files get whole lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def _print_table(console: Console, table: Table) -> None:
    """A table; where it is no terminal's, without the blanks that fill its last column."""
    if sys.stdout.isatty():
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _cell(value: object) -> Text:
    return Text("" if value is None else neutral.line(str(value)))


def fenced(text: str, language: str) -> str:
    """A block of Markdown that the text cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    text = text.rstrip("\n")
    return f"{fence}{language}\n{text}\n{fence}"

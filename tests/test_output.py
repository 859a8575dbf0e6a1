"""Commands and transcripts as files: what they hold is what was run, and no more is run of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from hermes_tui import narrative, neutral, output

Record = dict[str, Any]

MAKEFILE = "cat <<-EOF >Makefile\n\tall:\n\t\techo \\ \t\n\tEOF"
JOINED = "echo \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d💻"
EVIL = "echo a\x1b]52;c;QQ==\x07\x9b2J\u202e\u200b\x85rm -rf /"


def command(text: str, outcome: str = "completed", **said: Any) -> Record:
    record = {
        "session": "s", "trace": None, "span": None, "tool": "terminal", "command": text, "cwd": None,
        "exit_code": {"completed": 0, "blocked": -1}.get(outcome), "outcome": outcome,
        "started": "2026-07-31T20:13:05.000Z", "duration_s": 0.5, "output": None, "error": None,
        "truncated": False, "command_truncated": False, "source": "span",
    }  # fmt: skip
    return {**record, **said}


def told(kind: str, text: str, **said: Any) -> Record:
    return {**command(text, **said), "turn": 1, "kind": kind, "depth": 0, "text": text}


# ---- tables


def session(name: str, **said: Any) -> Record:
    return {
        "session": name, "title": None, "source": "cli", "model": "fake-gpt-1", "status": "completed",
        "started": "2026-11-23T02:30:30.000Z", "turns": 1, "commands": 30, "spans": 58,
        "input_tokens": 428_300, "output_tokens": 1_200, **said,
    }  # fmt: skip


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def terminal(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    return terminal


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


Terminal = Callable[[int], None]
LONG = "agent:main:gateway:" + "x" * 60 + ":end"


@pytest.mark.parametrize("titled", [False, True])
@pytest.mark.parametrize("columns", [100, 120])
def test_one_long_name_wraps_no_row(
    titled: bool, columns: int, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(columns)
    titles = {"title": "Look around in the house"} if titled else {}
    long = session(LONG, model="vendor/" + "m" * 50, source="s" * 30)
    output.print_sessions([session("20261123_023030_24deb4", **titles), long])
    head, ordinary, shortened, note = printed(capsys)
    assert head.split()[-5:] == ["turns", "commands", "spans", "in", "out"]
    assert max(map(len, (head, ordinary, shortened))) <= columns
    assert ordinary.startswith("20261123_023030_24deb4" if not titled or columns > 100 else "20261…24deb4")
    assert ordinary.split()[-5:] == ["1", "30", "58", "428.3k", "1.2k"]
    assert "…" in shortened
    assert ":end" in shortened
    assert "--json" in note


def test_what_fits_stays_as_it_is(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(130)
    output.print_sessions([session("20261123_023030_24deb4")])
    _, row = printed(capsys)
    assert row.startswith("20261123_023030_24deb4  cli     fake-gpt-1  2026-11-23 02:30:30  completed")


def test_a_pipe_gets_all_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_sessions([session(LONG), session("s")])
    _, long, _ = printed(capsys)
    assert long.startswith(f"{LONG}  cli")


def test_wide_characters_are_counted_as_such(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(100)
    output.print_sessions([session("日本語" * 30), session("s")])
    assert all(cell_len(line) <= 100 for line in printed(capsys))


def test_a_pipe_gets_no_blanks_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_commands([command("echo " + "x" * 120), command("ls")])
    lines = printed(capsys)
    assert len(lines) == 3
    assert lines == [line.rstrip() for line in lines]
    assert lines[2].endswith("  ls")


# ---- a script to run again


def live(script: str) -> list[str]:
    """The lines of a script that a shell would run."""
    return [line for line in script.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("record", "lines", "says"),
    [
        (command("make"), ["make"], "completed, exit 0"),
        (command("rm -rf /srv/keep", "blocked"), [], "# It was not allowed and did not run:"),
        (command("rm -rf a\nrm -rf b\r\nrm -rf c\rrm\x0brm\x85rm", "blocked"), [], "blocked, exit -1"),
        (command("rm -rf \\\n/", "blocked"), [], "blocked, exit -1"),
        (command("sleep 3; echo bg-done", "background"), [], "# It ran in the background:"),
        (command("sleep 3\necho done", "background"), [], "# It ran in the background:"),
        (command("serve 'a", "background"), [], "# It ran in the background:"),
        (command("serve \\", "background"), [], "# It ran in the background:"),
        (command("rm -rf /srv/buil", truncated=True, command_truncated=True), [], "# Its end is missing:"),
        (command("seq 99", truncated=True, output="1"), ["seq 99"], "the end of the output is not known"),
        (command("rm -rf /srv", "unknown"), [], "# Nobody knows whether it ran:"),
        (command("rm -rf /srv", "unknown", output=""), ["rm -rf /srv"], "unknown, exit ?"),
        (command("while true", "background"), [], "# It ran in the background:"),
        (command("", "background"), [], "# It ran in the background:"),
        (command("serve --port=80 ./a", "background"), ["serve --port=80 ./a &"], "as the & says"),
        (command("import os\nos.abort()", tool="execute_code"), [], "# execute_code:"),
    ],
)
def test_a_script_runs_what_was_run_and_no_more(record: Record, lines: list[str], says: str) -> None:
    script = output.shell_script([record])
    assert live(script) == lines
    assert says in script
    for line in neutral.copied(record["command"]).split("\n"):
        assert line in script


def test_a_script_says_above_what_it_leaves_out() -> None:
    script = output.shell_script([command("rm -rf a\nrm -rf b", "blocked")])
    assert script.splitlines()[-3:] == ["# It was not allowed and did not run:", "# rm -rf a", "# rm -rf b"]


DENIED = "BLOCKED: User denied this command. Do NOT retry."


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (DENIED, ": denied, exit -1\n# BLOCKED: User"),
        ("BLOCKED: Approval timed out.", ": blocked, exit -1\n# B"),
    ],
)
def test_what_was_not_allowed_says_who_refused(error: str, says: str) -> None:
    records = [command("rm -rf /srv", "blocked", error=error)]
    assert says in output.shell_script(records)
    assert live(output.shell_script(records)) == []
    assert f"```text\n{error}\n```" in output.markdown(records)
    entry = told("command", "rm -rf /srv", outcome="blocked", error=error)
    assert f"```text\n{error}\n```" in "\n".join(narrative.markdown("s", [entry]))
    assert f"    ! {error}" in narrative.plain("s", [entry])


def test_a_failed_tool_is_marked_with_its_reason_in_short() -> None:
    entry = told("tool", "/nope", outcome="unknown", tool="read_file", error="not\nfound " + "x" * 500)
    (line,) = [line for line in narrative.markdown("s", [entry]) if "nope" in line]
    assert line.startswith("- `read_file` `/nope` · 0.5s ✗ not⏎found xxx")
    assert len(line) < 250
    (line,) = [line for line in narrative.plain("s", [entry]) if "nope" in line]
    assert line.startswith("  - read_file /nope · 0.5s ✗ not⏎found xxx")
    well = told("tool", "/nope", tool="read_file")
    assert not any("✗" in line for line in narrative.markdown("s", [well]))


# ---- what a file holds


@pytest.mark.parametrize("text", [MAKEFILE, JOINED, "printf 'a\tb'"])
def test_a_command_in_a_file_is_the_one_that_ran(text: str) -> None:
    record = command(text, output=text)
    script = output.shell_script([record])
    assert f"\n{text}\n" in script
    assert output.markdown([record]).count(f"\n{text}\n") == 2
    written = "\n".join(narrative.markdown("s", [told("command", text, output=text)]))
    assert written.count(f"\n{text}\n") == 2


def test_the_heredoc_in_a_script_still_ends(tmp_path: Path) -> None:
    script = output.shell_script([command(MAKEFILE)])
    done = subprocess.run(["sh"], input=script, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "Makefile").read_text() == "all:\necho \\ \t\n"


@pytest.mark.parametrize("outcome", ["completed", "blocked", "background"])
def test_files_obey_nothing(outcome: str) -> None:
    record = command(EVIL, outcome, output=EVIL, cwd=EVIL, error=EVIL)
    entry = told("command", EVIL, outcome=outcome, output=EVIL, error=EVIL)
    texts = [output.shell_script([record]), output.markdown([record])]
    texts += ["\n".join(write("s", [entry])) for write in (narrative.markdown, narrative.plain)]
    for text in texts:
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u200b", "\x85"} & set(text)
        assert not [line for line in text.splitlines() if line.startswith("rm")]

"""Commands and transcripts as files: what they hold is what was run, and no more is run of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

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
        "truncated": False, "source": "span",
    }  # fmt: skip
    return {**record, **said}


def told(kind: str, text: str, **said: Any) -> Record:
    return {**command(text, **said), "turn": 1, "kind": kind, "depth": 0, "text": text}


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

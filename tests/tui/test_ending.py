"""A pane whose terminal is gone ends, also when nothing tells it so and when it hangs in a write to it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import wait_for

PANE = """
import queue, sys, threading, time
from pathlib import Path
from hermes_tui.journal.files import StateDir
from hermes_tui.tui import ending
from hermes_tui.tui.app import TraceApp

state, there, stuffed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "stuffed"
ending._LAST_S = 1
app = TraceApp(StateDir(state))
main = threading.main_thread().ident

def hangs():
    frame, code = sys._current_frames().get(main), queue.Queue.put.__code__
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None

def look():
    while stuffed and not hangs():
        time.sleep(0.01)
    there.touch()

def ready():
    if stuffed:
        app.set_interval(0.001, lambda: app._driver.write("a long line " * 100))
    threading.Thread(target=look, daemon=True).start()

app.call_later(ready)
app.run()
sys.exit(app.return_code or 0)
"""


@pytest.mark.parametrize("told", [False, True], ids=["no signal", "SIGHUP"])
@pytest.mark.parametrize("state", ["idle", "stuffed"])
def test_a_pane_ends_with_its_terminal(tmp_path: Path, state: str, *, told: bool) -> None:
    there = tmp_path / "there"
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PANE, str(tmp_path / "state"), str(there), state],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    try:
        wait_for(there.exists)
        if told:
            process.send_signal(signal.SIGHUP)
            if state == "stuffed":  # nobody reads, so it cannot say farewell
                assert process.wait(60) == -signal.SIGALRM
                return
        else:
            os.close(master)
            master = -1
        assert process.wait(60) in {128 + signal.SIGHUP, -signal.SIGALRM}
    finally:
        process.kill()
        process.wait()
        if master >= 0:
            os.close(master)

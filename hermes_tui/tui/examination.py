"""The doctor, sent for from the pane: a process of its own, which leaves what it finds on the desk."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hermes_tui.figures import short_age

if TYPE_CHECKING:
    from hermes_tui.journal.checkup import Summary

log = logging.getLogger(__name__)

_WRONG = 1  # the exit status that says: something was found


class Examination:
    """Runs `command` when asked to, one at a time."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._changing = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self.trouble = ""
        """Why the last one failed; what it found is no failure."""

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin, unless one is under way."""
        if not self.running:
            self.trouble = ""
            self._thread = threading.Thread(target=self._run, name="examination", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask it to end. It is not waited for: it takes its probe span back first."""
        with self._changing:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)

    def _run(self) -> None:
        try:
            with self._changing:
                self._process = process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,  # it cannot reach the terminal
                )
            _, said = process.communicate()
        except OSError as error:
            self.trouble = f"the doctor cannot be started: {error.strerror or error}"
            return
        if process.returncode not in (0, _WRONG):
            lines = said.strip().splitlines()
            self.trouble = lines[-1] if lines else f"the doctor ended with {process.returncode}"
            log.info("the doctor ended with %s: %s", process.returncode, self.trouble)


def words(found: Summary | None) -> str:
    """The last examination in a few words, with its age."""
    if found is None:
        return "not asked yet"
    said = _counted(found.bad, "finding") if found.bad else "nothing is wrong"
    said += f", {_counted(found.warn, 'warning')}" if found.warn else ""
    return f"{said}, {short_age(found.age_s)} ago"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")

"""Call the user: the terminal's bell, a notification of the terminal's, a command of the user's own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from textual.driver import Driver

from hermes_tui import neutral
from hermes_tui.figures import short_time
from hermes_tui.model.attention import Event, Kind
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.settings import Attention as Wanted

log = logging.getLogger(__name__)

COMMAND_S = 10.0
"""A command that takes longer is killed, with what it started."""

_LAST_S = 1.0  # what a command may still take when the pane closes
_WAITING = 4  # happenings that wait for the command; of more the oldest are dropped, they are old news
_TITLE, _TEXT = 160, 1_000  # characters, in a command's environment
_TITLE_BYTES, _TEXT_BYTES = 160, 400  # in a notification: GNU screen passes on 768 bytes at most

_BELL = "\a"
_LOOKS_LIKE_SEMICOLON = str.maketrans(";", "\u037e")
_OSC_9 = frozenset({"iTerm.app", "iTerm2", "WezTerm", "ghostty"})
_OSC_9_VARIABLES = ("KITTY_WINDOW_ID", "ITERM_SESSION_ID", "WEZTERM_PANE", "GHOSTTY_RESOURCES_DIR")
_SILENT = ("", "dumb", "linux", "unknown")


# ---- what is said


def headline(event: Event) -> str:
    """What happened, in a few words, and the session's name. Not yet harmless."""
    if event.kind is Kind.APPROVAL:
        what = "Hermes waits for you" if event.certain else "Hermes waits for you, perhaps"
    elif event.status:
        ends = {"completed": "Hermes is done", "interrupted": "Hermes was interrupted"}
        what = ends.get(event.status, "Hermes failed")
    else:
        what = "Hermes' model call failed"
    return f"{what} · {event.title[:_TITLE]}" if event.title else what


def text(event: Event) -> str:
    """What waits, what ended, or what went wrong. Not yet harmless."""
    said = event.subject[:_TEXT]
    if event.kind is Kind.APPROVAL:
        return f"{said} ({event.reason[:_TITLE]})" if event.reason else said
    if event.kind is Kind.TURN:
        return f"{said} ({short_time(event.took_ns / NANOSECONDS)})".lstrip()
    return said


# ---- the terminal


def notification(way: str, title: str, body: str, environment: Mapping[str, str]) -> str:
    """The sequence that makes a terminal notify, "" where it is not known to; `way` as in the settings.

    Inside tmux and GNU screen it is wrapped so that they hand it on.
    """
    way = protocol(environment) if way == "auto" else way
    if way == "none":
        return ""
    fields = [neutral.line(field) for field in (title, body)]
    if way == "osc777":
        fields = [field.translate(_LOOKS_LIKE_SEMICOLON) for field in fields]
    title, body = _bounded(fields[0], _TITLE_BYTES), _bounded(fields[1], _TEXT_BYTES)
    # BEL ends it, not ST: screen would take an ST in it for the end of the wrapping.
    if way == "osc777":
        return _handed_on(f"\x1b]777;notify;{title};{body}\a", environment)
    return _handed_on(f"\x1b]9;{title}: {body}\a" if body else f"\x1b]9;{title}\a", environment)


def protocol(environment: Mapping[str, str]) -> str:
    """osc9, osc777 or none, by what the environment says of the terminal, also of one around tmux."""
    term = environment.get("TERM", "")
    if term in _SILENT:
        return "none"
    named = {environment.get("TERM_PROGRAM", ""), environment.get("LC_TERMINAL", "")}
    if named & _OSC_9 or any(environment.get(name) for name in _OSC_9_VARIABLES):
        return "osc9"
    if term.startswith(("xterm-kitty", "xterm-ghostty", "wezterm")):
        return "osc9"
    return "osc777"  # urxvt, foot, VTE, Konsole, Windows Terminal; others swallow it


def _handed_on(sequence: str, environment: Mapping[str, str]) -> str:
    """`sequence` as the innermost multiplexer wants it, which would keep it to itself else."""
    term = environment.get("TERM", "")
    if environment.get("TMUX") or term.startswith("tmux"):
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    if environment.get("STY"):
        return f"\x1bP{sequence}\x1b\\"
    return sequence


def _bounded(words: str, size: int) -> str:
    encoded = words.encode()
    return words if len(encoded) <= size else encoded[: size - 3].decode(errors="ignore") + "…"


class Voice:
    """Writes to an app's terminal between the app's own writes, while the app has it."""

    def __init__(self) -> None:
        self._write: Callable[[str], None] | None = None

    def driver(self, above: type[Driver]) -> type[Driver]:
        """A driver that does what `above` does and lends its terminal to this voice."""

        def start(driver: Driver) -> None:
            above.start_application_mode(driver)
            self.lend(driver.write)

        def stop(driver: Driver) -> None:
            self.lend(None)
            above.stop_application_mode(driver)

        return type(
            above.__name__, (above,), {"start_application_mode": start, "stop_application_mode": stop}
        )

    def lend(self, write: Callable[[str], None] | None) -> None:
        self._write = write

    def say(self, sequences: str) -> None:
        """Write at once, or not at all: nobody wants to be called later."""
        if self._write is not None and sequences:
            self._write(sequences)


# ---- the user's command


class Runner:
    """Runs a command for each happening, one at a time, in a thread of its own.

    It gets no shell, no terminal, and what happened as environment variables only. `say` is told when it
    fails, once until it works again, and may be called from the thread.
    """

    def __init__(
        self, command: Sequence[str], say: Callable[[str], object], environment: Mapping[str, str]
    ) -> None:
        self._command = [str(Path(command[0]).expanduser()), *command[1:]]
        self._name = neutral.line(Path(command[0]).name or command[0])[:_TITLE]
        self._say = say
        self._environment = dict(environment)
        self._waiting: deque[dict[str, str]] = deque(maxlen=_WAITING)
        self._changed = threading.Condition()
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._failing = False
        self._thread: threading.Thread | None = None

    def run(self, variables: dict[str, str]) -> None:
        """Run the command soon, with these variables added to the environment."""
        with self._changed:
            if self._stopping:
                return
            if len(self._waiting) == _WAITING:
                log.warning("attention: `%s` is too slow; what happened first is not told", self._name)
            self._waiting.append(variables)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="attention", daemon=True)
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """Nothing begins from here on; what runs is killed if it takes longer than a moment."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify()
            thread = self._thread
        if thread is None:
            return
        thread.join(_LAST_S)
        with self._changed:
            if self._process is not None and self._process.poll() is None:
                _kill(self._process)
        thread.join(_LAST_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return
                variables = self._waiting.popleft()
            failure = self._once(variables)
            if failure and not self._stopping:
                log.warning("attention: `%s` %s", self._name, failure)
                if not self._failing:
                    self._say(f"attention: `{self._name}` {failure}")
            self._failing = bool(failure)

    def _once(self, variables: dict[str, str]) -> str:
        """How the command failed; "" when it did not."""
        nothing = subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                self._command,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                env={**self._environment, **variables},
                start_new_session=True,  # it cannot reach the terminal, and is killed with its children
            )
        except (OSError, ValueError) as error:
            return f"cannot be started: {getattr(error, 'strerror', None) or error}"
        with self._changed:
            self._process = process
        try:
            code = process.wait(COMMAND_S)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            return f"took longer than {COMMAND_S:.0f} s and was killed"
        finally:
            with self._changed:
                self._process = None
        if code < 0:
            return f"was killed by signal {-code}"
        return f"ended with exit code {code}" if code else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# ---- all of it


class Attention:
    """Calls the user in the ways that the settings name. `take` never waits.

    `say` shows a line in the pane and may be called from another thread.
    """

    def __init__(
        self, wanted: Wanted, say: Callable[[str], object], *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.voice = Voice()
        self._wanted = wanted
        self._environment = os.environ if environment is None else environment
        self._runner = Runner(wanted.words, say, self._environment) if wanted.words else None

    def take(self, events: Iterable[Event]) -> None:
        """Call the user for each event; the bell rings once for all."""
        said = ""
        for event in events:
            said = said or (_BELL if self._wanted.bell else "")
            said += notification(self._wanted.terminal, headline(event), text(event), self._environment)
            if self._runner is not None:
                self._runner.run(variables(event))
        self.voice.say(said)

    def stop(self) -> None:
        """The pane closes; takes a moment when the command runs."""
        if self._runner is not None:
            self._runner.stop()


def variables(event: Event) -> dict[str, str]:
    """What a command is told, harmless to any terminal, each on one line."""
    return {
        "HERMES_TRACE_EVENT": event.kind.value,
        "HERMES_TRACE_SESSION": neutral.line(event.session)[:_TITLE],
        "HERMES_TRACE_TITLE": neutral.line(headline(event))[:_TITLE],
        "HERMES_TRACE_TEXT": neutral.line(text(event))[:_TEXT],
    }

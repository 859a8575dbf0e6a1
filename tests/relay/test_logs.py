"""The relay's log: private, bounded, one harmless line a record, and no credentials in it."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.relay import logs
from tests.processes import RelayProcess, post
from tests.support import body_of, wire_span

log = logging.getLogger("hermes_tui.test")


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    level, umask = root.level, os.umask(0)
    yield
    root.setLevel(level)
    os.umask(umask)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.log"


def failing(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("it failed")


@pytest.mark.parametrize(
    ("write", "shown", "hidden"),
    [
        (lambda: log.info("plain"), "INFO hermes_tui.test: plain\n", "\x1b"),
        (lambda: log.info("a\x1b[31mb\x07"), "a␛[31mb␇", "\x1b"),
        (lambda: log.info("one\n2026-01-01 ERROR forged"), "one⏎2026-01-01 ERROR forged", "\n2026-01-01 E"),
        (lambda: log.info("right\u202eto left"), "right⁞to left", "\u202e"),
        (lambda: failing("a\x1b]0;x\x07\n2026-01-01 forged"), "    2026-01-01 forged", "\n2026-01-01 f"),
        (lambda: log.info("sent %s", "Authorization: Bearer abcdef123456"), "Authorization: …", "abcdef"),
        (lambda: log.info("%s", {"authorization": "Basic dXNlcjpwYXNz"}), "'authorization': '…", "dXNlcj"),
        (lambda: log.info("with bearer abcdef-123456.x"), "with bearer …", "abcdef"),
        (lambda: log.info("x-hermes-trace-token: abcdef123456"), "x-hermes-trace-token: …", "abcdef"),
        (lambda: log.info("to http://ann:pass@host/x"), "to http://…@host/x", "pass"),
        (lambda: failing("https://ann:pass@host"), "https://…@host", "pass"),
    ],
)
def test_a_record_is_harmless(file: Path, write: Callable[[], None], shown: str, hidden: str) -> None:
    with logs.to_file(file):
        write()
    text = file.read_text(encoding="utf-8")
    assert shown in text
    assert hidden not in text
    assert text.endswith("\n")


def test_half_a_character_is_written_too(file: Path) -> None:
    """In a process of its own: pytest's workers cannot report it."""
    code = (
        "import logging, sys; from pathlib import Path; from hermes_tui.relay import logs\n"
        "with logs.to_file(Path(sys.argv[1])): logging.getLogger('hermes_tui.test').warning('half \\udcff')"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, timeout=60)
    assert "half \ufffd" in file.read_text(encoding="utf-8")


def test_files_are_private_and_few(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 2_000)
    file.write_text("of before\n")
    file.chmod(0o644)
    with logs.to_file(file):
        for number in range(200):
            log.info("record %d", number)
    found = sorted(path.name for path in file.parent.iterdir())
    assert found == ["relay.log", "relay.log.1", "relay.log.2"]
    for path in file.parent.iterdir():
        assert path.stat().st_size <= 2_000
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "record 199" in file.read_text()


def test_a_link_in_the_place_of_the_log_is_not_followed(file: Path) -> None:
    (file.parent / "theirs").write_text("")
    file.symlink_to(file.parent / "theirs")
    with pytest.raises(StateError, match=r"cannot write the log .*relay\.log"), logs.to_file(file):
        pass
    assert (file.parent / "theirs").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_costs_records_only(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logs.to_file(file):
        handler = logging.getLogger().handlers[-1]
        assert isinstance(handler, logs._File)
        handler.stream.close()
        handler.stream = Path("/dev/full").open("a")  # noqa: SIM115 - the handler closes it
        log.error("lost")
        log.error("lost")
    assert capsys.readouterr() == ("", "")


@pytest.mark.process
def test_a_relay_logs_to_its_file_and_in_the_foreground_to_standard_error(
    start_relay: Callable[..., RelayProcess], state: StateDir
) -> None:
    relay = start_relay(state)
    assert post(relay.address, b"\xff\x1b[31m", Authorization="Bearer abcdef123456") == 400
    assert post(relay.address, body_of(wire_span(1)), Authorization="Bearer abcdef123456") == 200
    assert relay.stop() == 0
    for text in (state.log.read_text(), relay.said()):
        assert "INFO hermes_tui.relay.service: listening on" in text
        assert "refused a request of" in text
        assert "INFO hermes_tui.relay.service: stopping" in text
        assert "abcdef" not in text
    # Started by a pane there is only the file; what is printed beside it is kept as the last words.
    relay = start_relay(state, "--started-by", "pane")
    assert relay.stop() == 0
    assert "listening" not in relay.said()
    assert state.log.read_text().count("listening on") == 2

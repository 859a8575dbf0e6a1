"""Proof of delivery and forgetting: verify, retry, purge. The relay does the work; see journal.desk."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import click

from hermes_tui import neutral
from hermes_tui.commands.common import (
    fail,
    open_journal,
    relay_arguments,
    relay_environment,
    relay_flags,
    settings,
    with_destination,
    with_json,
    with_session,
    with_state_dir,
)
from hermes_tui.journal.files import StateDir, StateError

_NOBODY = "there is no session yet; nothing has been received"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NOTHING_SENT: dict[str, Any] = {
    **dict.fromkeys(("sent_again", "accepted", "held", "quarantined", "queued"), 0),
    "reasons": [],
}
_NOTHING_READ: dict[str, Any] = {
    "spans": 0,
    "confirmed": 0,
    "missing": [],
    "not_found": [],
    **{name: [] for name in ("quarantined", "held", "accepted", "queued", "local")},
    "error": None,
}


def _moment(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Nanoseconds since the epoch of an ISO date or time (local without a zone), or of how long ago."""
    if value is None:
        return None
    text = value.strip()
    try:
        if match := re.fullmatch(r"(\d+)\s*([smhdw])", text):
            moment = time.time_ns() - int(match[1]) * _UNITS[match[2]] * 10**9
        else:
            moment = int(datetime.fromisoformat(text).timestamp() * 10**6) * 1000
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is no date or age; write 2026-01-31, 2026-01-31T18:00, 14d or 36h"
        ) from None
    return min(max(moment, 0), 2**63 - 1)  # a database's integers end there


@click.command()
@with_session
@with_json
@with_destination
@with_state_dir
def verify(session: str | None, as_json: bool, state_dir: str | None, **flags: Any) -> None:
    """Read spans back from MLflow and name those that are not there. Exit 1 when any is missing.

    Uses the running relay; when there is none, starts one for as long as it takes.
    """
    from hermes_tui.output import print_verified

    wish = _Wish(state_dir, flags, needs_destination=True)
    found = wish.session(session)
    record = {"destination": wish.destination, **_NOTHING_READ}
    if wish.any_received:
        record = wish.fulfil("verify", {"session": found}, "traces read back")
    if as_json:
        click.echo(neutral.dump_json(record))
    elif record["error"]:
        fail(record["error"], 1)
    else:
        print_verified(record, wish.names)
    sys.exit(1 if record["missing"] or record["error"] else 0)


@click.command()
@with_session
@click.option("--local", is_flag=True, help="Also what arrived while no destination was set.")
@with_json
@with_destination
@with_state_dir
def retry(session: str | None, local: bool, as_json: bool, state_dir: str | None, **flags: Any) -> None:
    """Send held and quarantined spans again, now. Exit 1 when any of them is refused again.

    Uses the running relay; when there is none, starts one for as long as it takes.
    """
    from hermes_tui.output import print_retried

    wish = _Wish(state_dir, flags, needs_destination=True)
    found = wish.session(session)
    record: dict[str, Any] = _NOTHING_SENT
    if wish.any_received:
        record = wish.fulfil("retry", {"session": found, "local": local}, "spans decided")
    if as_json:
        click.echo(neutral.dump_json(record))
    else:
        print_retried(record)
    sys.exit(1 if record["held"] or record["quarantined"] else 0)


@click.command()
@click.option("--session", metavar="ID", help="This session; 'last' is the one with the newest activity.")
@click.option(
    "--before", metavar="DATE", callback=_moment, help="All that arrived before: 2026-01-31, 14d or 36h ago."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_json
@with_destination
@with_state_dir
def purge(
    session: str | None,
    before: int | None,
    yes: bool,
    as_json: bool,
    state_dir: str | None,
    **flags: Any,
) -> None:
    """Forget a session, or all that arrived before a date. What was not delivered is lost.

    MLflow keeps what it has. Uses the running relay; when there is none, starts one for as long as it takes.
    """
    from hermes_tui.output import forgetting

    if (session is None) == (before is None):
        raise click.UsageError("name what to forget: either --session ID or --before DATE")
    wish = _Wish(state_dir, flags, needs_destination=False)
    found = wish.session(session)
    record = {**wish.preview(found, before), "bytes": 0}
    if record["requests"]:
        _ask(f"Forget {forgetting(record)}?", yes)
        argument = {"session": found} if before is None else {"before_ns": before}
        record = wish.fulfil("purge", argument, "requests forgotten")
    if as_json:
        click.echo(neutral.dump_json(record))
    else:
        click.echo(f"Forgot {forgetting(record)}." if record["requests"] else "Nothing to forget.")


def _ask(question: str, yes: bool) -> None:
    """Goes on when the user says so, on a terminal or by --yes."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail(f"{question} Say so with --yes.")
    if not click.confirm(question, err=True):
        fail("nothing was forgotten", 1)


class _Wish:
    """What the three commands do alike: settings, the session that is meant, the relay's answer."""

    def __init__(self, state_dir: str | None, flags: dict[str, Any], *, needs_destination: bool) -> None:
        from hermes_tui.relay.lock import find

        self._state_dir = state_dir
        self._flags = relay_flags(state_dir, **flags)
        chosen = settings(destination=needs_destination, **self._flags)
        self.state = StateDir(chosen.state_path.absolute())
        self.destination = chosen.mlflow.url
        self.any_received = False
        if not needs_destination:
            return
        running = find(self.state)
        if running is None:
            if self.destination is None:
                fail("no destination is configured: set --mlflow URL or MLFLOW_TRACKING_URI")
        elif running.ready and self.destination and _plain(running.destination) != _plain(self.destination):
            theirs = running.destination or "nobody"
            note = f"the running relay sends to {theirs}, not to {self.destination}"
            if flags["mlflow"] is not None:
                fail(f"{note}; `hermes-trace-tui stop` it first, or leave out --mlflow")
            click.echo(f"Note: {neutral.line(note)}.", err=True)

    def session(self, name: str | None) -> str | None:
        """The session that is meant; None for all. Fails when there is none of this name."""
        from hermes_tui.journal import records

        with open_journal(self._state_dir) as reader:
            self.any_received = reader is not None
            if reader is None:
                if name is not None:
                    fail(_NOBODY, 1)
                return None
            try:
                return records.find_session(reader, name)
            except records.UnknownSession as error:
                fail(str(error), 1)

    def preview(self, session: str | None, before_ns: int | None) -> dict[str, int]:
        """How much a purge would forget."""
        from hermes_tui.journal.extent import before, of_session

        with open_journal(self._state_dir) as reader:
            if reader is None:
                return dict.fromkeys(("requests", "spans", "undelivered"), 0)
            return of_session(reader, session) if session is not None else before(reader, before_ns or 0)

    def names(self, spans: list[str]) -> dict[str, str]:
        """Names of spans by id in hex."""
        with open_journal(self._state_dir) as reader:
            found = {} if reader is None else reader.names([bytes.fromhex(span) for span in spans])
        return {span.hex(): name for span, name in found.items()}

    def fulfil(self, kind: str, argument: dict[str, Any], doing: str) -> dict[str, Any]:
        """The relay's answer; fails with its refusal."""
        from hermes_tui.relay.launch import LaunchError, borrowed_relay
        from hermes_tui.relay.wishing import WishError, fulfil

        # A plain kill must take back the wish as Ctrl-C does.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        arguments = relay_arguments({"mlflow.experiment": self._flags.get("mlflow.experiment")})
        relay = partial(borrowed_relay, self.state, arguments, relay_environment(self._flags))
        try:
            with _progress(doing) as progress:
                return fulfil(self.state, kind, argument, lend=relay, progress=progress)
        except (WishError, LaunchError, StateError) as error:
            fail(str(error), 1)


def _plain(url: str | None) -> str:
    return (url or "").rstrip("/")


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A line on standard error, where that is a terminal; it is gone when this ends."""
    shown = False

    def progress(done: int, of: int) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            shown = True
            click.echo(f"\r{done}/{of} {doing}\x1b[K", nl=False, err=True)

    try:
        yield progress
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)

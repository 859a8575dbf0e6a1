"""The commands; the only place that wires the rooms together.

Heavy imports (aiohttp, grpc, Textual) are inside the commands that need them.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hermes_tui import __version__, neutral
from hermes_tui.commands import delivery, doctor, listing, now, transcript
from hermes_tui.commands.beside import goes_on, host_for, open_beside, with_split
from hermes_tui.commands.common import (
    fail,
    open_journal,
    own_token,
    relay_arguments,
    relay_environment,
    relay_flags,
    settings,
    with_json,
    with_relay_flags,
    with_session,
    with_state_dir,
)
from hermes_tui.commands.setup import setup
from hermes_tui.journal.files import StateDir, StateError

if TYPE_CHECKING:
    from hermes_tui.hermes.state_db import Watch
    from hermes_tui.settings import Settings

DEMO = "demo.otlp.jsonl"
DEMO_HOME = "hermes"  # of the Hermes that the demo plays, in its state folder


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@with_relay_flags
@with_state_dir
@with_split
@click.pass_context
def main(context: click.Context, /, state_dir: str | None, split: str | None, **flags: Any) -> None:
    """Watch Hermes Agent work: its traces live, every command it ran, and whether MLflow has them.

    Without a command: opens the pane, and starts the relay when none runs.
    """
    os.umask(0o077)  # whatever is made here holds prompts and commands; SQLite and threads make files too
    given = any(value is not None for value in (state_dir, split, *flags.values()))
    if context.invoked_subcommand is not None and given:
        raise click.UsageError(f"options go behind the command: {context.invoked_subcommand} --state-dir …")
    if context.invoked_subcommand is not None:
        return
    open_pane(relay_flags(state_dir, **flags), split)


def open_pane(flags: dict[str, Any], split: str | None = None) -> None:
    if split is None:
        need_terminal()
    else:
        host_for(flags)  # before anything is started
    from hermes_tui.relay.launch import Launcher, LaunchError

    chosen = settings(destination=True, **flags)
    state = StateDir(chosen.state_path.absolute())
    own = {**flags, "state_dir": str(state.path)}
    launcher = Launcher(state, relay_arguments(own), environment=relay_environment(flags))
    try:
        launcher.ensure()
    except (LaunchError, StateError) as error:
        fail(str(error))
    if split is not None:
        open_beside(split, own)
        if words := goes_on(launcher.find(), flags.get("state_dir")):
            click.echo(words)  # the pane that is left there can say nothing any more
        return
    code = run_pane(launcher.state, supervisor=launcher, chosen=chosen, flags=flags)
    words = goes_on(launcher.find(), flags.get("state_dir"))
    if words and code == 0:
        click.echo(words)
    sys.exit(code)


def run_pane(
    state: StateDir,
    *,
    supervisor: Any,
    chosen: Settings | None = None,
    flags: dict[str, Any] | None = None,
    watch: Watch | None = None,
) -> int:
    """Show the pane until it is left; the exit status. Without settings nobody is called, and Hermes' files
    are left alone but for what `watch` watches. `flags` are what the doctor must know, too.
    """
    from hermes_tui.hermes.state_db import Watch
    from hermes_tui.hermes.windows import known
    from hermes_tui.model.flags import Flags
    from hermes_tui.tui import start
    from hermes_tui.tui.examination import Examination

    if chosen is None:
        return start.run(state, supervisor=supervisor, watch=watch)
    return start.run(
        state,
        supervisor=supervisor,
        wanted=chosen.mlflow.url,
        watch=Watch(chosen.hermes_homes) if chosen.watch_hermes else None,
        attention=chosen.attention,
        windows=lambda: known(chosen),
        flags=Flags([(flag.pattern, flag.why) for flag in chosen.flags]),
        wanted_pane=chosen.pane,
        examination=Examination(*doctor.for_pane({**(flags or {}), "state_dir": str(state.path)})),
    )


def need_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):  # Textual draws on stderr
        fail("the pane needs a terminal; `hermes-trace-tui --help` lists commands that do not")


@main.command()
@click.option("--speed", type=float, default=1.0, show_default=True, help="Play this many times as fast.")
def demo(speed: float) -> None:
    """The pane on a recorded session, played live. Needs neither Hermes nor MLflow, leaves nothing behind."""
    need_terminal()
    from importlib import resources

    from hermes_tui.hermes.home import Home
    from hermes_tui.hermes.state_db import Watch
    from hermes_tui.relay.launch import LaunchError, private_relay

    # Closing the terminal or a plain kill must clean up as leaving the pane does, also before it opens.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        recordings = resources.files("hermes_tui.recordings")
        with (
            resources.as_file(recordings) as folder,
            private_relay(play=folder / DEMO, speed=speed) as state,
        ):
            home = Home("demo", state.path / DEMO_HOME)
            code = run_pane(state, supervisor=None, watch=Watch(find=lambda: [home]))
    except (LaunchError, StateError) as error:
        fail(str(error))
    sys.exit(code)


@main.command()
@with_relay_flags
@with_state_dir
@click.option("--started-by", default="user", hidden=True)
@click.option("--lifeline", type=int, hidden=True)
@click.option("--ephemeral", is_flag=True, hidden=True)
@click.option("--play", type=click.Path(dir_okay=False, path_type=Path), hidden=True)
@click.option("--speed", type=float, default=1.0, hidden=True)
def relay(
    state_dir: str | None,
    started_by: str,
    lifeline: int | None,
    ephemeral: bool,
    play: Path | None,
    speed: float,
    **flags: Any,
) -> None:
    """Receive spans, keep them, tee them to MLflow: the relay in the foreground, for services."""
    import asyncio

    from hermes_tui.relay.lock import AlreadyRunning, Running, find
    from hermes_tui.relay.logs import to_standard_error
    from hermes_tui.relay.rehearsal import beside, rehearse
    from hermes_tui.relay.replay import replay
    from hermes_tui.relay.service import Lifeline, RelayError, serve

    chosen = settings(destination=True, **relay_flags(state_dir, **flags))
    state = StateDir(chosen.state_path.absolute())
    if started_by == "user":
        to_standard_error()

    def say(running: Running) -> None:
        where = f"relay on http://{running.http}, journal in {state.path}"
        click.echo(f"{where}, MLflow {running.destination or 'not configured'}", err=True)

    async def companion(address: str) -> None:
        assert play is not None
        token = own_token(chosen)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(replay([play], f"http://{address}", speed=speed, now=True, token=token))
            if beside(play).exists():
                tasks.create_task(rehearse(beside(play), state.path / DEMO_HOME, speed=speed))

    try:
        asyncio.run(
            serve(
                chosen,
                started_by=started_by,
                lifeline=None if lifeline is None else Lifeline(lifeline, ephemeral),
                companion=companion if play is not None else None,
                on_ready=say,
            )
        )
    except AlreadyRunning:
        other = find(state)
        who = f"pid {other.pid}, http://{other.http}" if other and other.http else "just starting"
        fail(f"a relay already runs for {state.path} ({who}); `hermes-trace-tui stop` ends it", 1)
    except (StateError, RelayError) as error:
        fail(str(error))


@main.command()
@with_json
@with_state_dir
def status(as_json: bool, state_dir: str | None) -> None:
    """Whether the relay runs, where it listens, and how far every span got."""
    from hermes_tui.journal import records
    from hermes_tui.output import print_status
    from hermes_tui.relay.lock import find

    state = StateDir(settings(state_dir=state_dir).state_path)
    running = find(state)
    with open_journal(state_dir) as reader:
        counts = records.status(reader)
        known = reader.document("exporter").get("destination") if reader else None
    record = {
        "running": running is not None,
        "version": running.version or None if running else None,
        "pid": running.pid or None if running else None,
        "http": running.http if running else None,
        "grpc": running.grpc if running else None,
        "destination": running.destination if running else known,
        **counts,
    }
    if as_json:
        click.echo(neutral.dump_json(record))
    else:
        print_status(record)


@main.command()
@with_state_dir
def stop(state_dir: str | None) -> None:
    """End the relay; what is queued is sent after its next start. Exit 1 when none runs."""
    from hermes_tui.relay import launch

    state = StateDir(settings(state_dir=state_dir).state_path)
    try:
        stopped = launch.stop(state)
    except (launch.LaunchError, OSError) as error:
        fail(str(error), 1)
    click.echo("The relay has ended." if stopped else "No relay runs for this state folder.")
    sys.exit(0 if stopped else 1)


@main.command()
@with_session
@click.option(
    "--format",
    type=click.Choice(["otlp-json"]),
    default="otlp-json",
    show_default=True,
    expose_value=False,
    help="One OTLP request a line, as the OpenTelemetry Collector's file exporter writes them.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Into this file, made readable for you only.",
)
@with_state_dir
def export(session: str | None, output: Path | None, state_dir: str | None) -> None:
    """Print stored requests as OTLP JSON lines, for `replay` or a Collector.

    They hold full prompts, commands and outputs: keep them as safe as the journal itself.
    """
    from hermes_tui.journal import records
    from hermes_tui.journal.export import export as lines
    from hermes_tui.journal.export import private

    with open_journal(state_dir) as reader:
        if reader is None and session is not None:
            fail("there is no session yet; nothing has been received", 1)
        try:
            found = iter(()) if reader is None else lines(reader, records.find_session(reader, session))
            with private(output) if output is not None else nullcontext(sys.stdout) as file:
                for line in found:
                    click.echo(line, file=file)
        except records.UnknownSession as error:
            fail(str(error), 1)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read standard output has left; click ends quietly
            fail(f"cannot write {output or 'to standard output'}: {error.strerror or error}", 1)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--to", metavar="URL", help="Where to send it (default: the running relay).")
@click.option("--speed", type=float, default=1.0, show_default=True, help="2 is twice as fast, 0 no waiting.")
@click.option("--now", is_flag=True, help="Move all times to the present.")
@with_state_dir
def replay(files: tuple[Path, ...], to: str | None, speed: float, now: bool, state_dir: str | None) -> None:
    """Send recorded OTLP requests to a receiver again, at their own pace."""
    import asyncio

    from hermes_tui.relay.lock import find
    from hermes_tui.relay.replay import ReplayError
    from hermes_tui.relay.replay import replay as play

    if speed < 0:
        raise click.BadParameter("write 0 or more", param_hint="--speed")
    token = ""  # for our own relay only
    if to is None:
        chosen = settings(state_dir=state_dir)
        running = find(StateDir(chosen.state_path))
        if running is None or running.http is None:
            fail("no relay runs; start one with `hermes-trace-tui relay`, or name a receiver with --to URL")
        to = f"http://{running.http}"
        token = own_token(chosen)

    def progress(sent: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{sent}/{total} requests", nl=sent == total, err=True)

    try:
        playing = play(list(files), to, speed=speed, now=now, token=token, progress=progress)
        sent, refused = asyncio.run(playing)
    except ReplayError as error:
        fail(str(error), 1)
    click.echo(f"Sent {sent} requests, {refused} refused.", err=True)
    sys.exit(1 if refused else 0)


for each in (
    listing.sessions,
    listing.commands,
    transcript.transcript,
    delivery.verify,
    delivery.retry,
    delivery.purge,
    doctor.doctor,
    now.now,
    setup,
):
    main.add_command(each)

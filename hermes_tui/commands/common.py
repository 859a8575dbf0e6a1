"""What the commands share: flags, settings, how they fail."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

from hermes_tui import neutral
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.settings import Settings, SettingsError, load, read_token

Command = TypeVar("Command", bound=Callable[..., Any])


def fail(message: str, code: int = 2) -> NoReturn:
    """One clear line on standard error, and out."""
    for line in message.splitlines():
        click.echo(f"Error: {neutral.line(line)}", err=True)
    sys.exit(code)


def settings(*, destination: bool = False, **flags: Any) -> Settings:
    try:
        return load(flags, destination=destination)
    except SettingsError as error:
        fail(str(error))


def own_token(chosen: Settings) -> str:
    """The token that our own relay wants; "" when it wants none."""
    try:
        return read_token(chosen)
    except SettingsError as error:
        fail(str(error))


def with_state_dir(command: Command) -> Command:
    return click.option(
        "--state-dir",
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Where the journal lies (HERMES_TRACE_STATE_DIR; default: your user state folder).",
    )(command)


def with_json(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def with_session(command: Command) -> Command:
    help_text = "Only this session; 'last' is the one with the newest activity."
    return click.option("--session", metavar="ID", help=help_text)(command)


def with_destination(command: Command) -> Command:
    experiment = click.option(
        "--experiment", metavar="ID", help="MLflow experiment id (MLFLOW_EXPERIMENT_ID)."
    )
    mlflow = click.option("--mlflow", metavar="URL", help="Tee spans to this MLflow (MLFLOW_TRACKING_URI).")
    return mlflow(experiment(command))


def with_relay_flags(command: Command) -> Command:
    options = (
        with_destination,
        click.option(
            "--http-port", type=int, metavar="PORT", help="OTLP/HTTP port (default 4318; 0 picks a free one)."
        ),
        click.option("--grpc-port", type=int, metavar="PORT", help="OTLP/gRPC port (default 4317 if free)."),
        click.option(
            "--max-request-bytes", metavar="SIZE", help="Largest request, such as 64MiB (the default)."
        ),
        click.option("--max-connections", type=int, metavar="N", help="Senders at a time (default 256)."),
        click.option(
            "--allow-anyone",
            is_flag=True,
            default=None,
            help="Let whoever reaches --host write into your journal, without a token.",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.Path(dir_okay=False, resolve_path=True),
            help="Holds the token that senders must show (or HERMES_TRACE_TOKEN is it).",
        ),
        click.option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen on (default 127.0.0.1; others need a token or --allow-anyone).",
        ),
    )
    for option in options:
        command = option(command)
    return command


def relay_flags(state_dir: str | None, **flags: Any) -> dict[str, Any]:
    """The relay's flags as dotted settings names."""
    names = {"mlflow": "mlflow.url", "experiment": "mlflow.experiment"}
    return {"state_dir": state_dir, **{names.get(name, name): value for name, value in flags.items()}}


def relay_arguments(flags: dict[str, Any]) -> list[str]:
    """The given flags as arguments for the `relay` command."""
    arguments: list[str] = []
    for name, value in flags.items():
        if value is not None and name != "mlflow.url":
            flag = name.removeprefix("mlflow.").replace("_", "-")
            arguments += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    return arguments


def relay_environment(flags: dict[str, Any]) -> dict[str, str]:
    """The relay's environment: it has another working folder, and others may read its arguments."""
    environment = dict(os.environ)
    if named := environment.get("HERMES_TRACE_CONFIG"):
        environment["HERMES_TRACE_CONFIG"] = os.path.abspath(named)
    if (url := flags.get("mlflow.url")) is not None:  # an address may hold a password
        environment["MLFLOW_TRACKING_URI"] = url
    return environment


@contextmanager
def open_journal(state_dir: str | None) -> Iterator[Any]:
    """The journal of a state folder for reading, or None when nothing was received yet."""
    from hermes_tui.journal.reader import NoJournal, Reader

    journal = StateDir(settings(state_dir=state_dir).state_path).journal
    try:
        reader = Reader(journal)
    except NoJournal:
        yield None
        return
    except StateError as error:
        fail(str(error))
    with reader:
        try:
            yield reader
        except sqlite3.DatabaseError as error:
            fail(
                f"cannot read the journal {journal}: {error}. If it is damaged, a relay that starts moves it "
                "aside and puts back what can be read."
            )

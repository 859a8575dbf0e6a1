"""Which MLflow experiment: by name or id, out of a list, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hermes_tui.commands.asking import Asking, say
from hermes_tui.commands.common import fail, settings

if TYPE_CHECKING:
    from hermes_tui.hermes.setup_plan import Destination, Target
    from hermes_tui.relay.experiments import Server

NEW = "(the new experiment's id)"
"""Shown in its place before it is created."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An experiment by its id, or one that is still `to_create`; neither: the sender says which."""

    number: str | None
    to_create: str | None = None
    server: Server | None = None

    @property
    def shown(self) -> str | None:
        return NEW if self.to_create is not None else self.number

    def create(self) -> str:
        from hermes_tui.relay.experiments import Unavailable

        assert self.server is not None, "only what a server lacks is created"
        try:
            return self.server.create(self.to_create or "")
        except Unavailable as error:
            fail(f"nothing was changed: {error}", 1)


def choose(wanted: str | None, server: Server, asking: Asking) -> Chosen:
    """The experiment called `wanted`, or the one that the user names. Fails when the server refuses."""
    from hermes_tui.relay.experiments import Unavailable

    try:
        if wanted is None:
            if not asking.possible:
                fail("which MLflow experiment? Say so with --experiment NAME; a new name is created.")
            listed = server.newest()
            say(["Experiments:", *(f"  {each.experiment_id}  {each.name}" for each in listed)])
            first = listed[0].name if listed else "hermes"
            wanted = asking.text(
                "Experiment by name or id; a new name is created", first, "--experiment NAME"
            )
        found = server.find(wanted)
    except Unavailable as error:
        if wanted is not None and wanted.isdigit():
            say([f"Note: the experiment could not be checked: {error}"])
            return Chosen(wanted)
        fail(f"{error}; an experiment's id (a number) would do without asking it", 1)
    if found is None:
        return Chosen(None, to_create=wanted, server=server)
    if not found.active:
        fail(
            f"the experiment {found.name} ({found.experiment_id}) is deleted; restore it, or choose another",
            1,
        )
    return Chosen(found.experiment_id)


def server_of(destination: Destination, found: Target) -> Server:
    """MLflow with whatever credentials are known."""
    import msgspec

    from hermes_tui.relay.experiments import Server

    known = settings(destination=True).mlflow
    mlflow = msgspec.structs.replace(known, url=destination.url)
    if destination.username is not None:
        mlflow = msgspec.structs.replace(mlflow, username=destination.username, password=destination.password)
    headers = found.backend.headers if found.backend is not None else {}
    sent = {name: value for name, value in headers.items() if name == "x-mlflow-workspace"}
    if "authorization" in headers:
        sent["Authorization"] = headers["authorization"]
    return Server(mlflow, sent)

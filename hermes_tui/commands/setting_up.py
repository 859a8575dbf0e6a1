"""What `setup` does: work out every change, show it, make it, have the relay run; and all of it back."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hermes_tui.commands import experiment as experiments
from hermes_tui.commands import service_unit, starting
from hermes_tui.commands.asking import Asking, say
from hermes_tui.commands.common import fail, settings
from hermes_tui.commands.service_unit import Service
from hermes_tui.hermes import plugin_config, rewriting, setup_plan, surgery, undoing
from hermes_tui.hermes.home import Home, homes
from hermes_tui.hermes.plugin_config import Reading, aims_at
from hermes_tui.hermes.pointing import Unclear
from hermes_tui.hermes.rewriting import CannotWrite, Change
from hermes_tui.hermes.setup_plan import Destination, Mode, Refused, Relay, Target
from hermes_tui.hermes.undoing import Kept, Record
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.relay.lock import find
from hermes_tui.settings import Settings, default_file

_LOCAL = "http://localhost:5000"


def set_up(state_dir: str | None, asking: Asking, **options: Any) -> None:
    """The command without --undo; `options` are its flags by name. Fails with a line that says why."""
    with _refusals():
        _Setup(state_dir, asking, **options).run()


def undo(state_dir: str | None, profile: str | None, asking: Asking) -> None:
    """Take back the newest setup (of this profile)."""
    with _refusals():
        _undo(StateDir(settings(state_dir=state_dir).state_path.absolute()), profile, asking)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Refused as refusal:
        if refusal.paste:
            say(["These lines do it by hand:", *(f"    {line}" for line in refusal.paste)])
        fail(str(refusal), 1)
    except (CannotWrite, StateError) as error:
        fail(str(error), 1)


@dataclass(frozen=True, slots=True)
class _Way:
    """From Hermes to MLflow, as it is to be."""

    home: Home
    mode: Mode
    relay: Relay
    found: Target
    destination: Destination
    service: Service | None

    def __str__(self) -> str:
        hermes, mlflow = f"Hermes ({self.home.name}: {self.home.path})", f"MLflow {self.destination.url}"
        if self.mode.value == "side":
            return f"{hermes} → {mlflow}, and → relay {self.relay.url}"
        return f"{hermes} → relay {self.relay.url} → {mlflow}"


@dataclass(slots=True)
class _Setup:
    """One run of `setup`."""

    state_dir: str | None
    asking: Asking
    mode: str
    profile: str | None
    backend: str | None
    mlflow: str | None
    experiment: str | None
    http_port: int | None
    service: bool
    gateway: str | None
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        chosen = settings(destination=False, state_dir=self.state_dir, http_port=self.http_port)
        way = self._way(chosen)
        experiment = self._experiment(way.found, chosen, way.destination)
        changes = self._changes(way, experiment.shown, chosen)
        say([str(way), *(f"Note: {note}" for note in self.notes)])
        _show(changes)
        state = StateDir(chosen.state_path.absolute())
        if changes:
            self.asking.go_on("Make these changes?")
            if experiment.to_create is not None:
                made = experiment.create()
                say([f"Created the experiment {experiment.to_create} ({made})."])
                changes = self._changes(way, made, chosen)
            kind = way.service.kind if way.service is not None else None
            undoing.apply(
                state, changes, what=f"setup --mode {self.mode}", homes=[way.home.name], service=kind
            )
        elif self.asking.dry_run:
            return
        changed = any(change.path == _settings_file() for change in changes)
        say(starting.start(state, way.relay, self.state_dir, way.service, changed=changed))
        say(_last_words(way, changes))

    def _way(self, chosen: Settings) -> _Way:
        mode, relay, home = Mode(self.mode), _relay(chosen), chosen_home(self.profile)
        reading = plugin_config.read(home, os.environ)
        self._about_the_plugin(reading)
        try:
            found = setup_plan.target(reading, relay, self.backend, mode)
        except Unclear as unclear:
            choices = ", ".join(unclear.choices)
            fail(f"{unclear}; name one with --backend: {choices}" if choices else str(unclear))
        destination = self._destination(found, chosen)
        self._about_credentials(found, mode)
        if chosen.token or chosen.token_file:
            self.notes.append(
                "the relay wants a token: give the backend the header "
                'x-hermes-trace-token: "${HERMES_TRACE_TOKEN}", and Hermes that variable in its .env'
            )
        return _Way(home, mode, relay, found, destination, self._service(chosen))

    def _about_the_plugin(self, reading: Reading) -> None:
        if reading.plugin is None:
            self.notes.append(
                "hermes-otel is not installed here: `hermes plugins install briancaffey/hermes-otel --enable`"
            )
        for problem in reading.problems:
            where = f", line {problem.line}" if problem.line else ""
            self.notes.append(f"hermes-otel's configuration{where}: {problem.text}")

    def _about_credentials(self, found: Target, mode: Mode) -> None:
        if mode is Mode.SIDE and found.backend is not None and found.backend.has_credentials:
            place = _settings_file().with_name("relay.env")
            self.notes.append(
                "MLflow wants credentials, and the relay reads back with its own: for a service put "
                f"MLFLOW_TRACKING_TOKEN=… into {place}, else `mlflow: {{token: …}}` into its settings"
            )

    def _destination(self, found: Target, chosen: Settings) -> Destination:
        known, said = found.destination, os.environ.get("MLFLOW_TRACKING_URI")
        if known is not None and self.mlflow is not None and self.mlflow.rstrip("/") != known:
            fail(f"Hermes sends to {plain(known)} already; change it in {found.path}, or leave out --mlflow")
        url = known or self.mlflow or chosen.mlflow.url or said
        if url is None and found.points_at_relay:
            fail("Hermes sends to the relay already, but the relay does not know MLflow: say --mlflow URL")
        url = url or self.asking.text("Where is MLflow", _LOCAL, "--mlflow URL")
        flags: dict[str, Any] = {"mlflow.url": url}
        settings(**flags)  # fails where it is no address
        if said and plain(said) != plain(url):
            self.notes.append("MLFLOW_TRACKING_URI names another server, and is stronger where it is set")
        if aims_at(url, chosen.host, chosen.http_port):
            fail(f"{plain(url)} is the relay itself; --mlflow names MLflow")
        return Destination.of(url)

    def _experiment(self, found: Target, chosen: Settings, destination: Destination) -> experiments.Chosen:
        backend = found.backend
        if backend is not None and backend.experiment is not None:
            if self.experiment not in (None, backend.experiment):
                fail(f"its backend sends to experiment {backend.experiment}; change that in {found.path}")
            return experiments.Chosen(None)
        if found.points_at_relay and self.experiment is None:
            return experiments.Chosen(None)
        wanted = self.experiment or chosen.mlflow.experiment or os.environ.get("MLFLOW_EXPERIMENT_ID")
        return experiments.choose(wanted, experiments.server_of(destination, found), self.asking)

    def _service(self, chosen: Settings) -> Service | None:
        if not self.service:
            return None
        arguments = ["--state-dir", str(chosen.state_path.absolute())] if self.state_dir else []
        try:
            return service_unit.service(arguments, os.environ)
        except service_unit.ServiceError as error:
            fail(str(error), 1)

    def _changes(self, way: _Way, experiment: str | None, chosen: Settings) -> list[Change]:
        found, url, service = way.found, way.destination.url, way.service
        changes = [
            setup_plan.plugin_change(found, way.relay, way.mode, url, experiment),
            setup_plan.settings_change(_settings_file(), self._wanted(way, experiment, chosen)),
        ]
        if self.gateway is not None:
            changes.append(setup_plan.gateway_change(found.reading, url, self.gateway))
        if service is not None and (before := rewriting.read(service.path)) != service.content:
            changes.append(Change(service.path, before, service.content))
        return [change for change in changes if change is not None]

    def _wanted(
        self, way: _Way, experiment: str | None, chosen: Settings
    ) -> dict[tuple[str, ...], surgery.Scalar]:
        """What our settings must say, and do not say yet."""
        known, destination = chosen.mlflow, way.destination
        wanted: dict[tuple[str, ...], surgery.Scalar] = {}
        if (known.url or "").rstrip("/") != destination.url:
            wanted["mlflow", "url"] = destination.url
        if destination.username is not None:
            wanted["mlflow", "username"] = destination.username
            wanted["mlflow", "password"] = destination.password or ""
        if way.found.backend is not None and experiment is not None and known.experiment != experiment:
            wanted["mlflow", "experiment"] = experiment
        if known.forward != (way.mode is Mode.TEE):
            wanted["mlflow", "forward"] = way.mode is Mode.TEE
        if self.http_port is not None and settings(destination=False).http_port != self.http_port:
            wanted["http_port",] = self.http_port
        return wanted


def _show(changes: Sequence[Change]) -> None:
    for change in changes:
        linked = f" (a link to {change.target})" if change.path.is_symlink() else ""
        say(["", f"{'new file: ' if change.before is None else ''}{change.path}{linked}", *change.diff()])
    say([""] if changes else ["All of it is set up already."])


def _last_words(way: _Way, changes: Sequence[Change]) -> list[str]:
    words = []
    theirs = (way.found.path, way.home.path / "config.yaml")
    if any(change.path in theirs for change in changes):
        words.append("Restart Hermes (and its gateway: `hermes gateway restart`): it reads this once.")
    if changes:
        words.append("`hermes-trace-tui setup --undo` puts everything back.")
    return [*words, "`hermes-trace-tui doctor` checks the whole way."]


def _settings_file() -> Path:
    return Path(os.path.abspath(default_file()))


def _relay(chosen: Settings) -> Relay:
    """Where the relay listens, or will. Fails when something else does."""
    if chosen.http_port == 0:
        fail("http_port is 0: Hermes needs to know the relay's port; choose one with --http-port")
    relay = Relay(chosen.host, chosen.http_port)
    running = find(StateDir(chosen.state_path.absolute()))
    if (
        running is not None
        and running.http is not None
        and aims_at(f"http://{running.http}", relay.host, relay.port)
    ):
        return relay
    family = socket.AF_INET6 if ":" in relay.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((relay.host, relay.port))
        except OSError as error:
            why = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
            fail(
                f"the relay cannot listen on port {relay.port} of {relay.host}: {why}; try --http-port 4328",
                1,
            )
    return relay


def _undo(state: StateDir, profile: str | None, asking: Asking) -> None:
    records = undoing.records(state)
    if profile is not None:
        records = [each for each in records if profile in each.document.homes]
    if not records:
        fail("there is nothing to undo", 1)
    ours = (_settings_file(),)  # edited or not, it does no harm: the relay sends where it sent
    record, back, stays = _newest_undoable(records, ours)
    say([f"Undoing: {record.document.what} ({', '.join(record.document.homes)})"])
    for kept, change in back:
        if kept.backup is None:
            say(["", f"{kept.path}: taken away; there was no such file"])
        else:
            say(["", kept.path, *change.diff()])
    say(["", *(f"Stays as it is: {each}" for each in stays)] if stays else [])
    asking.go_on("Put these files back?")
    _end_service(record)
    undone = undoing.undo(record, ours)
    say([*(f"Put back: {path}" for path in undone), "Restart Hermes: it reads its configuration once."])
    if find(state) is not None:
        say(["The relay still runs, with the settings it began with; `hermes-trace-tui stop` ends it."])


def _newest_undoable(
    records: Sequence[Record], may_stay: Sequence[Path]
) -> tuple[Record, list[tuple[Kept, Change]], list[str]]:
    """A record, what it puts back, and what stays; passes over those of which only that is left."""
    why = []
    for record in records:
        found, stays = undoing.changes_back(record, may_stay)
        back = [(kept, change) for kept, change in found if change is not None]
        if back or not stays:
            break
        why += stays
    else:
        fail(f"nothing is left to undo but this: {why[0]}", 1)
    return record, back, stays


def _end_service(record: Record) -> None:
    if record.document.service is None:
        return
    try:
        unit = service_unit.service([], os.environ)
        unit.run(unit.stop)
    except service_unit.ServiceError as error:
        say([f"Note: the service could not be ended: {error}"])


def chosen_home(profile: str | None) -> Home:
    """The home that is meant: of this profile, or the one that Hermes would take. Fails without one."""
    found = homes()
    named = os.environ.get("HERMES_HOME", "").strip()
    if profile is not None:
        chosen = [each for each in found if each.name == profile]
    elif named:
        path = Path(os.path.abspath(Path(named).expanduser()))
        chosen = [each for each in found if each.path == path] or [Home(path.name, path)]
    else:
        chosen = found[:1]
    if not chosen:
        fail(f"there is no profile {profile}; there are: {', '.join(each.name for each in found)}")
    if not chosen[0].path.is_dir():
        fail(f"Hermes' home is not there: {chosen[0].path}. Install Hermes, or set HERMES_HOME.", 1)
    return chosen[0]


def plain(url: str) -> str:
    """An address without credentials."""
    return Destination.of(url).url

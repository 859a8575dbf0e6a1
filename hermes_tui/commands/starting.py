"""Have the relay run after its settings were changed: as a service, or in the background as a pane does."""

from __future__ import annotations

from hermes_tui.commands.common import fail, relay_arguments, relay_environment, relay_flags
from hermes_tui.commands.service_unit import Service, ServiceError
from hermes_tui.hermes.plugin_config import aims_at
from hermes_tui.hermes.setup_plan import Relay
from hermes_tui.journal.files import StateDir, StateError


def start(
    state: StateDir, relay: Relay, state_dir: str | None, service: Service | None, *, changed: bool
) -> list[str]:
    """Start or restart the relay; what to tell the user. Fails when it does not run in the end."""
    from hermes_tui.relay import launch
    from hermes_tui.relay.lock import find

    running = find(state)
    try:
        if service is not None:
            if running is not None and running.started_by == "pane":
                launch.stop(state)  # a service could not start beside it
            service.run(service.start)
            ready = launch.wait(state)
            return [f"The relay runs as a {service.kind} service on http://{ready.http}."]
        moved = running is not None and not aims_at(f"http://{running.http}", relay.host, relay.port)
        if running is not None and (changed or moved):
            if running.started_by != "pane":
                who = f"pid {running.pid}, which you or a service started"
                return [f"Restart the relay ({who}): it reads its settings once."]
            launch.stop(state)
        flags = relay_flags(state_dir)
        arguments = relay_arguments({**flags, "state_dir": str(state.path)})
        ready = launch.Launcher(state, arguments, environment=relay_environment(flags)).ensure()
    except (launch.LaunchError, ServiceError, StateError, OSError) as error:
        fail(f"the files are written, but the relay does not run: {error}", 1)
    return [f"The relay runs on http://{ready.http}, and goes on when this terminal is closed."]

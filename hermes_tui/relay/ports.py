"""Who holds a port: for the one error message that must name it."""

from __future__ import annotations

import psutil


def holder(port: int) -> str:
    """The process that listens on a TCP port, as "name (pid 42)"; "" when it cannot be told."""
    return listener(port)[1]


def listener(port: int) -> tuple[int, str]:
    """Its pid too; (0, "") when it cannot be told."""
    try:
        for connection in psutil.net_connections("tcp"):
            here = getattr(connection.laddr, "port", None) == port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                return connection.pid, _describe(psutil.Process(connection.pid))
    except psutil.Error:
        return 0, ""  # other users' processes, or a system that tells only root
    return 0, ""


def _describe(process: psutil.Process) -> str:
    command = process.cmdline()
    if "hermes_tui" in command or any(part.endswith("hermes-trace-tui") for part in command[:3]):
        return f"a hermes-trace-tui relay of another state folder (pid {process.pid})"
    return f"{process.name()} (pid {process.pid})"


def port_taken(host: str, port: int, flag: str) -> str:
    """The error for a port in use, with the way out."""
    who = holder(port)
    by = f" by {who}" if who else ""
    return (
        f"port {port} on {host} is in use{by}. Stop that process, or choose another port with "
        f"{flag} (0 picks a free one) and point hermes-otel at it."
    )

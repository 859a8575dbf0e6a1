"""Where MLflow shows a trace, and a browser that shows it, if there is one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

log = logging.getLogger(__name__)

_opened: list[subprocess.Popen[bytes]] = []


class NoPage(Exception):
    """MLflow has no page of it, or its address cannot be told; the message says why."""


def address(
    trace_id: bytes, destination: str | None, experiment: str | None, workspace: str | None = None
) -> str:
    """The page of a trace. Raises NoPage.

    The route is of MLflow 3's pages (`/experiments/:experimentId/traces`, read in the bundle of 3.17). Its
    older table knows a trace as `selectedEvaluationId`, the newer one as `traceId`; without a time the table
    holds the last seven days only.
    """
    if not destination:
        raise NoPage("the relay sends to no MLflow")
    if not experiment:
        raise NoPage("the experiment is not known: neither the sender nor the relay's settings name one")
    name = f"tr-{trace_id.hex()}"
    query = {"selectedEvaluationId": name, "traceId": name, "startTimeLabel": "ALL"}
    if workspace:
        query["workspace"] = workspace
    return f"{_base(destination)}/#/experiments/{quote(experiment, safe='')}/traces?{urlencode(query)}"


def _base(destination: str) -> str:
    """The address of MLflow's pages, without credentials: it is shown and handed to other programs."""
    try:
        parts = urlsplit(destination)
    except ValueError:
        parts = urlsplit("")
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not host or not destination.isprintable():
        raise NoPage("the relay's destination is not the address of an MLflow server")
    path = quote(parts.path.rstrip("/").removesuffix("/v1/traces").rstrip("/"), safe="/%:@!$&'()*+,;=~")
    return urlunsplit((parts.scheme, host, path, "", ""))


def has_browser(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a page can be shown here: a display, or a browser that the user named."""
    if environment.get("BROWSER"):
        return True
    if platform == "darwin":
        return not environment.get("SSH_CONNECTION")
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def show(page: str, environment: Mapping[str, str] | None = None) -> bool:
    """Have a browser show the page, without waiting for it; False: there is none.

    A process of its own, in a session of its own: a browser that draws in the terminal finds none to draw
    in, and one that stays in the foreground keeps nobody waiting. Isolated (`-I`), so that no module of the
    working folder is run in place of Python's own.
    """
    environment = os.environ if environment is None else environment
    if not has_browser(environment):
        return False
    _opened[:] = [each for each in _opened if each.poll() is None]  # a forgotten child stays a zombie
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-m",
                "webbrowser",
                page,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=dict(environment),
        )
    except OSError as error:
        log.warning("cannot start a browser: %s", error)
        return False
    _opened.append(process)
    return True

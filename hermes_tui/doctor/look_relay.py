"""Gather what there is to know of the relay: its lock, its folder, its port, its documents."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sqlite3
from collections import Counter
from pathlib import Path
from shlex import quote
from typing import Any

from hermes_tui.doctor.relay_checks import Holder, RelayFacts
from hermes_tui.journal.files import StateDir, StateError, check_local
from hermes_tui.journal.reader import NoJournal, Reader
from hermes_tui.otlp.access import TOKEN_HEADER
from hermes_tui.relay.lock import Running, find
from hermes_tui.relay.ports import listener
from hermes_tui.settings import HTTP_PORT, Settings, default_file

_ANSWER_S = 5.0
_ANSWER_BYTES = 4096


def look(chosen: Settings, token: str = "") -> RelayFacts:
    """Reads, connects and asks, with the relay's `token` if it wants one; changes nothing."""
    state = StateDir(chosen.state_path.absolute())
    trouble, remedy = folder_trouble(state.path)
    running = None if trouble else find(state)
    identity, silence = _ask(running, token) if running is not None and running.ready else ({}, "")
    wanted = f"{_bracketed(chosen.host)}:{chosen.http_port or _port(running) or HTTP_PORT}"
    unreadable = ""
    documents: dict[str, dict[str, Any]] = {}
    counts: Counter[Any] = Counter()
    if not trouble:
        try:
            with Reader(state.journal) as reader:
                documents = {name: reader.document(name) for name in ("keeping", "exporter", "proof")}
                counts = reader.counts()
        except NoJournal:
            documents = {}
        except (StateError, sqlite3.Error) as error:
            unreadable = str(error)
    return RelayFacts(
        state.path,
        default_file(),
        wanted,
        running=running,
        holder=_holder(wanted, running),
        identity=identity,
        silence=silence,
        trouble=trouble,
        remedy=remedy,
        unreadable=unreadable,
        counts=counts,
        free=_free(state.path),
        destination=chosen.mlflow.url,
        forward=chosen.mlflow.forward,
        **documents,
    )


def folder_trouble(path: Path) -> tuple[str, str]:
    """Why a state folder cannot be used, and the command that helps; "" twice when it can be."""
    at = quote(str(path))
    try:
        check_local(path)
    except StateError as error:
        return str(error), ""
    if path.exists() and not path.is_dir():
        return f"{path} is in the way: it is no folder", f"mv {at} {quote(f'{path}.before')}"
    there = path
    while not there.exists():
        there = there.parent
    owner, mine = there.stat().st_uid, os.geteuid()
    if there == path and owner != mine:
        return f"{path} belongs to another user (uid {owner})", f"sudo chown -R {mine} {at}"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} is not writable", f"chmod u+rwx {quote(str(there))}"
    journal = StateDir(path).journal
    if journal.exists() and not journal.is_file():
        return (
            f"{journal} is in the way: it is no file",
            f"mv {quote(str(journal))} {quote(f'{journal}.before')}",
        )
    return "", ""


def _ask(running: Running, token: str) -> tuple[dict[str, Any], str]:
    """Who answers at the relay's address, or why nobody does."""
    host, _, port = (running.http or "").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port or 0), timeout=_ANSWER_S)
    try:
        connection.request("GET", "/", headers={TOKEN_HEADER: token} if token else {})
        answer = connection.getresponse()
        document = json.loads(answer.read(_ANSWER_BYTES))
    except (OSError, http.client.HTTPException) as error:
        return {}, str(error) or type(error).__name__
    except ValueError:
        return {}, "it answers, but not as a relay"
    finally:
        connection.close()
    return (document, "") if isinstance(document, dict) else ({}, "it answers, but not as a relay")


def _holder(wanted: str, running: Running | None) -> Holder | None:
    """Who listens where the relay should, if that is not the relay."""
    if running is not None and (not running.ready or _port(running) == _port_of(wanted)):
        return None
    host, port = wanted.rpartition(":")[0].strip("[]"), _port_of(wanted)
    try:
        socket.create_connection((_reachable(host), port), timeout=_ANSWER_S).close()
    except OSError:
        return None
    pid, who = listener(port)
    return Holder(who, pid)


def _reachable(host: str) -> str:
    """Who listens on all addresses is asked on this machine's own."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _port(running: Running | None) -> int:
    return _port_of(running.http or "") if running is not None else 0


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return -1

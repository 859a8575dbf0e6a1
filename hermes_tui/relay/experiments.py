"""MLflow's experiments by name: find, list, create. `mlflow/protos/service.proto`; measured on 3.17."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.outbox import Route
from hermes_tui.relay.policy import explain
from hermes_tui.relay.sender import Sender
from hermes_tui.settings import MLflow

_API = "/api/2.0/mlflow/experiments"
_LISTED = 50
T = TypeVar("T")


class Unavailable(Exception):
    """The server did not answer as MLflow does; the message says what it answered, and what helps."""


class Experiment(msgspec.Struct, frozen=True):
    """An experiment; a deleted one keeps its name until it is purged."""

    experiment_id: str
    name: str = ""
    lifecycle_stage: str = "active"

    @property
    def active(self) -> bool:
        return self.lifecycle_stage == "active"


class _One(msgspec.Struct):
    experiment: Experiment


class _Many(msgspec.Struct):
    experiments: list[Experiment] = []


class _Created(msgspec.Struct):
    experiment_id: str


@dataclass(frozen=True, slots=True)
class Server:
    """An MLflow server, asked with these credentials; `headers` (such as Authorization) win over them.

    Every method may take a minute, and raises Unavailable.
    """

    mlflow: MLflow
    headers: Mapping[str, str]

    def by_name(self, name: str) -> Experiment | None:
        return self._one(f"{_API}/get-by-name?{urlencode({'experiment_name': name})}")

    def by_id(self, number: str) -> Experiment | None:
        return self._one(f"{_API}/get?{urlencode({'experiment_id': number})}")

    def find(self, wanted: str) -> Experiment | None:
        """By its id if that is a number and there is one, else by its name."""
        found = self.by_id(wanted) if wanted.isdigit() else None
        return found or self.by_name(wanted)

    def newest(self) -> list[Experiment]:
        """Active experiments, those used last first, 50 at most."""
        body = {"max_results": _LISTED, "view_type": "ACTIVE_ONLY", "order_by": ["last_update_time DESC"]}
        found = self._ask("POST", f"{_API}/search", _Many, body)
        return found.experiments if found is not None else []

    def create(self, name: str) -> str:
        """The new experiment's id."""
        created = self._ask("POST", f"{_API}/create", _Created, {"name": name})
        if created is None:
            raise Unavailable(f"{_shown(self.mlflow)} has no MLflow API (404)")
        return created.experiment_id

    def _one(self, path: str) -> Experiment | None:
        found = self._ask("GET", path, _One)
        return found.experiment if found is not None else None

    def _ask(
        self, method: str, path: str, kind: type[T], body: Mapping[str, object] | None = None
    ) -> T | None:
        """None: MLflow says that there is no such thing."""

        async def ask(sender: Sender) -> T | None:
            data = None if body is None else json.dumps(body).encode()
            reply = await sender.ask(Route(0, dict(self.headers), ""), method, path, data)
            where = _shown(self.mlflow)
            if reply.error:
                raise Unavailable(f"{where} cannot be reached: {reply.error}")
            if reply.status == 404 and b"RESOURCE_DOES_NOT_EXIST" in reply.body:
                return None
            if reply.status in (401, 403):
                raise Unavailable(f"{where} wants other credentials ({reply.status})")
            if reply.status != 200:
                raise Unavailable(f"{where} answered {reply.status}{explain(reply.body)}")
            try:
                return msgspec.json.decode(reply.body, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Unavailable(f"{where} answers, but not as an MLflow server") from error

        return asyncio.run(_with_sender(self.mlflow, ask))


async def _with_sender(mlflow: MLflow, work: Callable[[Sender], Awaitable[T]]) -> T:
    with tempfile.TemporaryDirectory() as folder:  # no credentials of senders are needed here
        async with Sender(mlflow, Credentials(Path(folder) / "credentials.json")) as sender:
            return await work(sender)


def _shown(mlflow: MLflow) -> str:
    return mlflow.url or "MLflow"

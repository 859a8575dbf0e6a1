"""Ask MLflow, with the credentials, certificates and proxy that the relay would use."""

from __future__ import annotations

import asyncio
import json
import tempfile
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from hermes_tui.doctor.mlflow_checks import Answer, Experiment, MlflowFacts
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.outbox import Route
from hermes_tui.relay.policy import Judgement, Verdict, explain, judge
from hermes_tui.relay.sender import Sender
from hermes_tui.settings import MLflow

_ANSWER_S = 20.0
_DELETE = "/api/2.0/mlflow/traces/delete-traces"
T = TypeVar("T")


class Client:
    """Questions to one MLflow. `headers` are the sender's own, which win over the settings."""

    def __init__(self, mlflow: MLflow, url: str, headers: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        self._mlflow = msgspec.structs.replace(mlflow, url=url)
        kept = {name.lower(): value for name, value in headers.items()}
        self._route = Route(
            0,
            {
                ("Authorization" if name == "authorization" else name): value
                for name, value in kept.items()
                if name == "authorization" or name.startswith("x-mlflow-")
            },
            "",
        )
        self.experiment = kept.get("x-mlflow-experiment-id") or mlflow.experiment
        self._secrets = _secrets(mlflow, kept.get("authorization", ""))
        self.credentials = (
            "those in the plugin's configuration" if kept.get("authorization")
            else "a token in the settings" if mlflow.token
            else "name and password in the settings" if mlflow.username
            else "none"
        )  # fmt: skip

    def facts(self) -> MlflowFacts:
        """Health, version and experiment; at most a minute, usually some milliseconds."""
        return self._run(self._facts)

    def delete(self, trace: str) -> tuple[bool, str]:
        """Remove a trace of the experiment; whether it is gone, and why not."""
        body = json.dumps({"experiment_id": self.experiment or "0", "request_ids": [trace]}).encode()

        async def ask(sender: Sender) -> tuple[bool, str]:
            answer = await self._ask(sender, "POST", _DELETE, body)
            return answer.status == 200, f"{answer.status or ''} {answer.said}".strip()

        return self._run(ask)

    def send(self, request: dict[str, Any]) -> Judgement:
        """POST spans in OTLP/JSON, as a plugin does that sends to MLflow itself."""

        async def ask(sender: Sender) -> Judgement:
            answer, body = await self._answer(sender, "POST", "/v1/traces", json.dumps(request).encode())
            if not answer.status:
                return Judgement(Verdict.RETRY, answer.said)
            found = judge(answer.status, body, experiment=self.experiment, url=self.url)
            return Judgement(found.verdict, self._discreet(found.reason))

        return self._run(ask)

    def _run(self, work: Callable[[Sender], Awaitable[T]]) -> T:
        async def with_sender() -> T:
            with tempfile.TemporaryDirectory() as folder:  # the relay's own file of credentials is its own
                async with Sender(self._mlflow, Credentials(Path(folder) / "none.json")) as sender:
                    return await work(sender)

        return asyncio.run(with_sender())

    async def _facts(self, sender: Sender) -> MlflowFacts:
        health = await self._ask(sender, "GET", "/health")
        facts = MlflowFacts(self.url, health, credentials=self.credentials)
        if health.status != 200:
            return facts
        version = await self._ask(sender, "GET", "/version")
        experiment = None if self.experiment is None else await self._experiment(sender, self.experiment)
        return MlflowFacts(self.url, health, version, experiment, self.credentials)

    async def _experiment(self, sender: Sender, number: str) -> Experiment:
        path = f"/api/2.0/mlflow/experiments/get?experiment_id={quote(number, safe='')}"
        answer, body = await self._answer(sender, "GET", path)
        if answer.status != 200:
            return Experiment(number, answer)
        try:
            document: Any = json.loads(body)["experiment"]
            name, stage = str(document.get("name", "")), str(document.get("lifecycle_stage", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return Experiment(number, Answer(answer.status, "it answers, but not as MLflow"))
        return Experiment(number, Answer(200), name, stage)

    async def _ask(self, sender: Sender, method: str, path: str, body: bytes | None = None) -> Answer:
        answer, said = await self._answer(sender, method, path, body)
        if answer.status == 200 and len(said) < 100:
            return Answer(200, said.decode("utf-8", "replace").strip())
        return answer

    async def _answer(
        self, sender: Sender, method: str, path: str, body: bytes | None = None
    ) -> tuple[Answer, bytes]:
        try:
            async with asyncio.timeout(_ANSWER_S):
                reply = await sender.ask(self._route, method, path, body)
        except TimeoutError:
            return Answer(0, f"no answer within {_ANSWER_S:.0f} s"), b""
        if reply.error:
            return Answer(0, self._discreet(reply.error)), b""
        said = "" if reply.status == 200 else explain(reply.body).removeprefix(": ")
        return Answer(reply.status, self._discreet(said)), reply.body

    def _discreet(self, text: str) -> str:
        """A server may say back what it was sent."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def _secrets(mlflow: MLflow, authorization: str) -> list[str]:
    scheme, _, credential = authorization.partition(" ")
    found = [mlflow.token or "", mlflow.password or "", authorization, credential]
    if scheme.lower() == "basic":
        try:
            found.append(b64decode(credential, validate=True).decode("utf-8", "replace").partition(":")[2])
        except ValueError:
            found.append("")  # no Basic credential after all: the text itself is in the list
    return sorted((each for each in found if len(each) >= 4), key=len, reverse=True)

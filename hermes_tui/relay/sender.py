"""HTTP to the destination: one session with its headers, certificates and proxy."""

from __future__ import annotations

import io
import json
import os
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from hermes_tui import __version__
from hermes_tui.relay.cargo import Cargo
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.outbox import Route
from hermes_tui.relay.policy import Judgement, Verdict, judge
from hermes_tui.settings import MLflow

_TIMEOUT_S = 60.0  # MLflow waits up to 20 s for a locked store, and answers a first request after 7 s
_MAX_RETRY_AFTER_S = 300.0
_ERROR_BYTES = 64 * 1024
_ANSWER_BYTES = 256 * 1024 * 1024
_CA_VARIABLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_TRUE = {"true", "1"}
_UNTRUSTED, _NOBODY, _CUT = -3, -2, -1
_FAILURES = {_UNTRUSTED: Verdict.HOLD, _NOBODY: Verdict.AWAY, _CUT: Verdict.RETRY}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. When nothing did there is an `error`, and `status` is one of those below 0."""

    status: int
    body: bytes = b""
    retry_after_s: float = 0.0
    error: str = ""


class Sender:
    """Talks to one destination. Use as an async context manager."""

    def __init__(self, mlflow: MLflow, credentials: Credentials) -> None:
        self._mlflow = mlflow
        self._credentials = credentials
        self.traces_url = traces_url(mlflow.url or "")
        self.base_url = self.traces_url.removesuffix("/v1/traces")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Sender:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S, connect=10),
            connector=aiohttp.TCPConnector(ssl=_tls()),
            proxy=_proxy(self.traces_url),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def export(self, route: Route, cargo: Cargo) -> tuple[Judgement, float]:
        """POST the spans; the judgement of the answer and its Retry-After in seconds."""
        body, encoding = cargo.body()
        headers = self._headers(route) | {"Content-Type": cargo.content_type}
        if encoding:
            headers["Content-Encoding"] = encoding
        reply = await self._request("POST", self.traces_url, headers, body, most=_ERROR_BYTES)
        if reply.error:
            return Judgement(
                _FAILURES[reply.status], f"the destination cannot be reached: {reply.error}"
            ), 0.0
        said = self._redacted(reply.body.decode("utf-8", "replace")).encode()
        experiment = headers.get("x-mlflow-experiment-id")
        judgement = judge(reply.status, said, experiment=experiment, url=self.traces_url)
        # Again, because JSON may have hidden it; before, because a reason is cut.
        return Judgement(judgement.verdict, self._redacted(judgement.reason)), reply.retry_after_s

    async def ask(self, route: Route, method: str, path: str, body: bytes | None = None) -> Reply:
        """A question to the destination's API below its base address, with a route's credentials."""
        headers = self._headers(route)
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await self._request(method, self.base_url + path, headers, body)

    async def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        most: int = _ANSWER_BYTES,
    ) -> Reply:
        assert self._session is not None, "use it as a context manager"
        try:
            async with self._session.request(
                method,
                url,
                data=None if body is None else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
            ) as response:
                said = bytearray()
                while len(said) < most and (chunk := await response.content.read(most - len(said))):
                    said += chunk
                return Reply(response.status, bytes(said), _seconds(response.headers.get("Retry-After")))
        except aiohttp.ClientConnectorCertificateError as error:
            why = str(error.certificate_error)
            advice = "set SSL_CERT_FILE to its CA bundle"
            return Reply(_UNTRUSTED, error=f"its certificate is not trusted ({why}); {advice}")
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or str(error.os_error)
            return Reply(_NOBODY, error=self._redacted(f"{error.host}:{error.port}: {why}"))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Reply(_CUT, error=self._redacted(str(error) or type(error).__name__))

    def _headers(self, route: Route) -> dict[str, str]:
        """Ours first, then the sender's, which win."""
        mlflow = self._mlflow
        headers = {"User-Agent": f"hermes-trace-tui/{__version__}"}
        if mlflow.experiment:
            headers["x-mlflow-experiment-id"] = mlflow.experiment
        if mlflow.workspace:
            headers["x-mlflow-workspace"] = mlflow.workspace
        if mlflow.token:
            headers["Authorization"] = f"Bearer {mlflow.token}"
        elif mlflow.username:
            pair = f"{mlflow.username}:{mlflow.password or ''}".encode()
            headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
        headers.update(route.headers)
        if route.credential and (value := self._credentials.value(route.credential)):
            headers["Authorization"] = value
        return headers

    def _redacted(self, text: str) -> str:
        """A destination may say back what it was sent; credentials must not end up in a reason."""
        mlflow = self._mlflow
        secrets = [mlflow.token or "", mlflow.password or ""]
        if mlflow.username:
            secrets.append(b64encode(f"{mlflow.username}:{mlflow.password or ''}".encode()).decode())
        for value in self._credentials.values():
            scheme, _, credential = value.partition(" ")
            secrets += [value, credential]
            if scheme.lower() == "basic":
                secrets += _name_and_password(credential)[1:]
        spelled = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1], quote(secret))}
        for secret in sorted(spelled, key=len, reverse=True):
            if len(secret) >= 4:
                text = text.replace(secret, "…")
        return text


def _name_and_password(credential: str) -> list[str]:
    """Of a Basic credential, in plain text; nothing when it is none."""
    try:
        return b64decode(credential, validate=True).decode("utf-8", "replace").split(":", 1)
    except ValueError:
        return []


def traces_url(base: str) -> str:
    """Where OTLP goes below an MLflow address, which may have a path prefix or be complete already."""
    base = base.rstrip("/")
    return base if base.endswith("/v1/traces") else f"{base}/v1/traces"


def _tls() -> ssl.SSLContext | bool:
    """Certificates as MLflow's own client finds them; False: do not check, as the user asked for."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in _TRUE:
        return False
    context = ssl.create_default_context()
    named = next((path for name in _CA_VARIABLES if (path := os.environ.get(name))), None)
    if named is not None and os.path.exists(named):
        context.load_verify_locations(**{"capath" if os.path.isdir(named) else "cafile": named})
    if client := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(client)
    return context


def _proxy(url: str) -> str | None:
    """The environment's proxy for an address. aiohttp's own `trust_env` would add credentials from netrc."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _seconds(retry_after: str | None) -> float:
    """Seconds in a Retry-After, which may be a number or a date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return 0.0
    if retry_after.strip().isdigit():
        seconds = float(retry_after)
    else:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(0.0, seconds), _MAX_RETRY_AFTER_S)

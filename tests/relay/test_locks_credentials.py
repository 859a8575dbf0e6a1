"""Credentials appear in no log, status, error or export, whatever a destination says back."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import psutil
import pytest

from hermes_tui.commands.common import relay_arguments, relay_environment
from hermes_tui.journal.files import StateDir
from tests.processes import (
    DEADLINE_S,
    Destination,
    Post,
    RelayProcess,
    Reply,
    clean_environment,
    document,
    post,
    run_cli,
)
from tests.support import body_of, wait_for, wire_span

pytestmark = pytest.mark.process

RELAY_TOKEN = "relay-token-0123456789abcdef"
BODY = body_of(wire_span(1, session__id="S", name="tool.terminal", tool__name="terminal"))

Start = Callable[..., RelayProcess]


@dataclass(frozen=True, slots=True)
class Case:
    """Where credentials come from, and the texts that must be found nowhere.

    `untold` are such that a destination does not know.
    """

    environment: dict[str, str] = field(default_factory=dict)
    userinfo: str = ""
    authorization: str = ""
    secrets: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


def basic(user: str, password: str) -> str:
    return b64encode(f"{user}:{password}".encode()).decode()


ODD = 'p"\\ä ss/word%41'
CASES = {
    "token": Case({"MLFLOW_TRACKING_TOKEN": "tok-aaaa-1111"}, secrets=("tok-aaaa-1111",)),
    "password": Case(
        {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pass-bbbb-2222"},
        secrets=("pass-bbbb-2222", basic("me", "pass-bbbb-2222")),
    ),
    "odd password": Case(
        {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": ODD},
        secrets=(ODD, basic("me", ODD)),
        untold=(json.dumps(ODD)[1:-1],),
    ),
    "userinfo": Case(
        userinfo="me:pass-cccc-3333@", secrets=("pass-cccc-3333", basic("me", "pass-cccc-3333"))
    ),
    "userinfo, escaped": Case(
        userinfo=f"me:{quote(ODD, safe='')}@",
        secrets=(ODD, basic("me", ODD)),
        untold=(json.dumps(ODD)[1:-1], quote(ODD, safe="")),
    ),
    "sender's bearer": Case(authorization="Bearer sender-dddd-4444", secrets=("sender-dddd-4444",)),
    "sender's basic": Case(
        authorization=f"Basic {basic('me', 'pass-eeee-5555')}",
        secrets=("pass-eeee-5555", basic("me", "pass-eeee-5555")),
    ),
    "sender's without a scheme": Case(authorization="raw-ffff-6666", secrets=("raw-ffff-6666",)),
}


def echoing(status: int, form: str, secrets: tuple[str, ...]) -> Callable[[Post], Reply]:
    """A destination that says back all it was sent, and what it knows."""

    def answer(taken: Post) -> Reply:
        said = f"bad: {' '.join(secrets)} {taken.headers}"
        if form == "json":
            body = json.dumps({"error_code": "X", "message": said, "detail": said}).encode()
        elif form == "validation":
            body = json.dumps({"detail": [{"loc": ["header"], "msg": said, "input": secrets}]}).encode()
        else:
            body = said.encode()
        location = {"Location": f"http://127.0.0.1:1/?{quote(said)}"} if status == 302 else {}
        return Reply(status, body, location)

    return answer


ANSWERS = [(401, "json"), (403, "text"), (500, "json"), (422, "validation"), (302, "text"), (400, "text")]
RUNS = [
    *(("token", *answer) for answer in ANSWERS),
    ("odd password", 401, "json"),
    ("sender's bearer", 401, "json"),
    *((name, 403, "json") for name in CASES if name != "token"),
    ("odd password", 422, "validation"),
    ("sender's bearer", 500, "text"),
]


@pytest.mark.parametrize(("name", "status", "form"), RUNS)
def test_credentials_are_found_nowhere(
    start_relay: Start,
    state: StateDir,
    destination: Callable[..., Destination],
    name: str,
    status: int,
    form: str,
) -> None:
    case = CASES[name]
    echo = destination(answer=echoing(status, form, case.secrets))
    url = f"http://{case.userinfo}127.0.0.1:{echo.port}"
    relay = start_relay(
        state,
        MLFLOW_TRACKING_URI=url,
        MLFLOW_EXPERIMENT_ID="7",
        HERMES_TRACE_TOKEN=RELAY_TOKEN,
        **case.environment,
    )
    more = {"Authorization": case.authorization} if case.authorization else {}
    assert post(relay.address, BODY, x_hermes_trace_token=RELAY_TOKEN, **more) == 200
    assert post(relay.address, BODY, x_hermes_trace_token=RELAY_TOKEN[:-1] + "!", **more) == 401
    wait_for(lambda: echo.posts and document(state, "exporter").get("last_error"), DEADLINE_S)
    shown = echo.posts[0].headers.get("authorization", "")
    assert any(secret in shown for secret in case.secrets)  # it was sent: this test would notice
    assert RELAY_TOKEN not in str([taken.headers for taken in echo.posts])

    places = everything_written(state, relay)
    if status == 401:  # commands show what is in these files, and take a while
        places |= everything_said(state)
    places["process arguments"] = " ".join(psutil.Process(relay.process.pid).cmdline()).encode()
    assert "Traceback" not in relay.said()
    leaks = [
        (place, secret)
        for place, found in places.items()
        for secret in (*case.secrets, *case.untold, RELAY_TOKEN)
        if secret.encode() in found
    ]
    assert leaks == []


def everything_written(state: StateDir, relay: RelayProcess) -> dict[str, bytes]:
    """Every file of the state folder but the one that may hold credentials."""
    files = [file for file in state.path.iterdir() if file != state.credentials]
    found = {file.name: file.read_bytes() for file in files if file.exists()}
    assert state.journal.name in found
    return {**found, "log": relay.log.read_bytes()}


def everything_said(state: StateDir) -> dict[str, bytes]:
    """What every command that can tell something tells."""
    commands = (
        ["status", "--json"],
        ["status"],
        ["sessions", "--json"],
        ["commands", "--json"],
        ["export"],
        ["relay", "--http-port", "0"],  # refused: it names the one that runs
    )
    found = {}
    for command in commands:
        done = run_cli(*command, "--state-dir", str(state.path))
        found[" ".join(command)] = (done.stdout + done.stderr).encode()
    assert json.loads(found["status --json"])["running"] is True
    return found


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HERMES_TRACE_TOKEN": "short-secret"}, "at least 16"),
        ({"HERMES_TRACE_TOKEN": "a secret with blanks in it"}, "at least 16"),
        ({"MLFLOW_TRACKING_URI": "http://me:hunter2-secret@127.0.0.1:99999"}, "MLflow"),
        ({"MLFLOW_TRACKING_URI": "ftp://me:hunter2-secret@host"}, "MLflow"),
    ],
)
def test_no_error_at_the_start_says_them(state: StateDir, environment: dict[str, str], words: str) -> None:
    done = run_cli("relay", "--state-dir", str(state.path), "--http-port", "0", environment=environment)
    assert done.returncode == 2
    assert words in done.stderr
    assert "secret" not in done.stderr


def test_a_pane_gives_them_to_its_relay_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may read a process's arguments."""
    for name, value in clean_environment().items():
        monkeypatch.setenv(name, value)
    flags = {"mlflow.url": "http://me:hunter2@host", "token_file": "/run/secrets/token", "host": "0.0.0.0"}
    assert "hunter2" not in str(relay_arguments(flags))
    assert relay_environment(flags)["MLFLOW_TRACKING_URI"] == flags["mlflow.url"]
    assert relay_arguments({**flags, "allow_anyone": True})[-1] == "--allow-anyone"

"""One turn of a real Hermes Agent, with a scripted model, watched as the pane watches it.

HERMES_TRACE_TEST_HERMES names a `hermes` executable. HERMES_TRACE_TEST_HERMES_PLUGIN may name a folder with
hermes-otel, whose packages that Hermes has: then its spans are received too, and joined with the records.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.model.doing import State, doing
from hermes_tui.model.joined import Item, Joined
from hermes_tui.model.live import Live
from hermes_tui.model.live_turns import LiveCall, LiveTurn
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Outcome
from hermes_tui.model.works import Source
from tests.processes import DEADLINE_S, Destination, Post, RelayProcess, Reply, clean_environment, relays
from tests.support import SECOND, wait_for

HERMES = os.environ.get("HERMES_TRACE_TEST_HERMES", "")
PLUGIN = os.environ.get("HERMES_TRACE_TEST_HERMES_PLUGIN", "")
FAR_S = 2 * DEADLINE_S  # Hermes alone takes seconds to start
PROMPT = "Wait until you may go on"
ANSWER = "It failed, as it should."
CALL = "call_0123456789abcdef0123"
FAR_NS = 10 * SECOND

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not HERMES, reason="HERMES_TRACE_TEST_HERMES names no hermes executable"),
]


class Model(Destination):
    """An OpenAI-compatible server whose model runs one command, then says a word."""

    def __init__(self, command: str) -> None:
        super().__init__(answer=self.reply)
        self.command = command

    def read(self, taken: Post) -> Reply:
        return Reply(body=json.dumps({"object": "list", "data": [{"id": "scripted"}]}).encode())

    def reply(self, taken: Post) -> Reply:
        asked = json.loads(taken.plain())
        message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
        if not asked.get("tools"):
            message["content"] = "A title"
        elif asked["messages"][-1]["role"] != "tool":
            function = {"name": "terminal", "arguments": json.dumps({"command": self.command})}
            message["content"] = None
            message["tool_calls"] = [{"index": 0, "id": CALL, "type": "function", "function": function}]
        finish = "tool_calls" if "tool_calls" in message else "stop"
        usage = {
            "prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109,
            "prompt_tokens_details": {"cached_tokens": 64},
        }  # fmt: skip
        kind = "chat.completion.chunk" if asked.get("stream") else "chat.completion"
        whole = {"id": "c1", "object": kind, "created": 1, "model": "scripted"}
        if not asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return Reply(body=json.dumps({**whole, "choices": [choice], "usage": usage}).encode())
        chunks = [
            {**whole, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {**whole, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {**whole, "choices": [], "usage": usage},
        ]
        lines = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        body = "".join(f"data: {line}\n\n" for line in lines).encode()
        return Reply(body=body, headers={"Content-Type": "text/event-stream"})


class Seen:
    """What the pane would see of a home and of a journal."""

    def __init__(self, home: Path, state: StateDir) -> None:
        self.live = Live()
        self.watch = Watch(find=lambda: [Home("default", home)])
        self._journal = state.journal

    def look(self) -> LiveTurn | None:
        self.live.take(self.watch.poll())
        part = next((self.live.session(name) for name in self.live.sessions()), None)
        return part.turns[-1] if part is not None and part.turns else None

    def calls(self) -> list[LiveCall]:
        turn = self.look()
        return turn.calls if turn is not None else []

    def items(self, session: str) -> list[Item]:
        """The session's calls, from its records and its spans."""
        reader, forest, joined = Reader(self._journal), Forest(session), Joined(session)
        try:
            for spans in reader.spans_of(reader.traces_of(session)):
                forest.add(spans)
        finally:
            reader.close()
        joined.update(self.live, forest, forest.refresh())
        return joined.items()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RelayProcess]]:
    with relays(tmp_path) as start:
        yield start


def settle(home: Path, work: Path, model: Model, relay: RelayProcess) -> None:
    """Make a Hermes home that asks `model` and, when there is a plugin, sends its spans to `relay`."""
    work.mkdir()
    home.mkdir()
    lines = [
        "model: {default: scripted, provider: custom, api_key: sk-none, context_length: 200000, "
        f'base_url: "{model.url}/v1"}}',
        f'terminal: {{backend: local, cwd: "{work}"}}',
    ]
    if PLUGIN:
        lines.append("plugins: {enabled: [hermes_otel]}")
        backend = {
            "type": "otlp",
            "endpoint": f"{relay.url}/v1/traces",
            "headers": {"x-mlflow-experiment-id": "1"},
        }
        for place in (
            home,
            home.parent / ".hermes",
        ):  # 0.11 is loaded from the one and configured in the other
            plugin = place / "plugins" / "hermes_otel"
            shutil.copytree(PLUGIN, plugin, ignore=shutil.ignore_patterns("live.db*", ".git"))
            (plugin / "config.yaml").write_text(json.dumps({"backends": [backend]}), encoding="utf-8")
    (home / "config.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_turn_is_seen_while_it_runs(tmp_path: Path, start: Callable[..., RelayProcess]) -> None:
    # Not `~/.hermes`: in a child of pytest Hermes refuses to keep records there.
    home, work, go = tmp_path / "home", tmp_path / "work", tmp_path / "go"
    state = StateDir(tmp_path / "state")
    waiting = f"for _ in $(seq 2400); do [ -e {shlex.quote(str(go))} ] && break; sleep 0.05; done"
    command = f"{waiting}; echo gone; exit 3"
    seen = Seen(home, state)
    with ExitStack() as stack:
        stack.callback(seen.watch.close)
        model = stack.enter_context(Model(command))
        settle(home, work, model, relay := start(state))
        said = stack.enter_context((tmp_path / "hermes.log").open("wb"))
        hermes = subprocess.Popen(
            [HERMES, "chat", "--yolo", "-q", PROMPT],
            env=clean_environment(HOME=str(tmp_path), HERMES_HOME=str(home)),
            cwd=work, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        stack.callback(hermes.wait)
        stack.callback(hermes.kill)
        stack.callback(go.touch)

        def asked() -> bool:
            assert hermes.poll() is None, (tmp_path / "hermes.log").read_text(errors="replace")
            return bool(seen.calls())

        wait_for(asked, FAR_S)
        turn = seen.look()
        assert turn is not None
        assert turn.prompt == PROMPT
        now = doing(seen.live, turn.session, turn.last_ns + SECOND)
        assert (now.state, now.certain, now.gone) == (State.TOOL, True, False)
        (call,) = turn.calls
        assert (call.tool, call.command, call.open) == ("terminal", command, True)
        begun = call.key

        go.touch()
        wait_for(lambda: not seen.calls()[0].open, FAR_S)
        wait_for(lambda: (turn := seen.look()) is not None and turn.end, FAR_S)
        turn = seen.look()
        assert turn is not None
        assert turn.end == "completed"
        (call,) = turn.calls
        assert (call.key, call.outcome, call.exit_code) == (begun, Outcome.FAILED, 3)
        assert '"gone"' in (call.result or "")
        assert doing(seen.live, turn.session, turn.last_ns + FAR_NS).state is State.IDLE

        assert hermes.wait(FAR_S) == 0
        seen.look()
        part = seen.live.session(turn.session)
        assert part is not None
        assert part.row is not None
        assert part.row.cwd == str(work)
        assert (part.row.input_tokens, part.row.output_tokens) == (200, 18)  # as the model said, twice
        if not PLUGIN:
            return
        wait_for(lambda: any(Source.SPAN in item.sources for item in seen.items(turn.session)), FAR_S)
        (item,) = seen.items(turn.session)
        assert item.key == begun
        assert {Source.STATE, Source.SPAN} <= item.sources
        assert (item.command, item.exit_code, item.open) == (command, 3, False)
        assert relay.process.poll() is None

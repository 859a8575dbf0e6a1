"""Context lengths in Hermes' own files: what the user told it, and what it noted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.windows import known, noted
from hermes_tui.model.windows import Window
from hermes_tui.settings import Settings

CONFIG = """
model:
  default: local/qwen3
  provider: custom
  api_key: sk-very-secret
  context_length: 65536
custom_providers:
  - name: lab
    api_key: sk-very-secret
    models:
      llama-70b: {context_length: 131072}
      llama-8b: {}
"""
CACHE = """
context_lengths:
  gpt-5.5@https://chatgpt.com/backend-api/codex: 272000
  gpt-5.5@https://openrouter.ai/api/v1: 1050000
  local/qwen3@http://localhost:1234/v1: 4096
"""


def home(path: Path, config: str = "", cache: str = "") -> Home:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(config, encoding="utf-8")
    (path / "context_length_cache.yaml").write_text(cache, encoding="utf-8")
    return Home(path.name, path)


def test_what_the_user_told_hermes_goes_before_what_it_found_out(tmp_path: Path) -> None:
    assert noted([home(tmp_path / "one", CONFIG, CACHE)]) == (
        ("gpt-5.5", 272_000),
        ("gpt-5.5", 1_050_000),
        ("llama-70b", 131_072),
        ("local/qwen3", 65_536),
    )


def test_each_home_says_its_own(tmp_path: Path) -> None:
    homes = [home(tmp_path / "one", CONFIG), home(tmp_path / "two", "", CACHE)]
    assert {tokens for name, tokens in noted(homes) if name == "local/qwen3"} == {65_536, 4_096}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "model: gpt-5",
        "model: {default: 7, context_length: 5}",
        "model: {default: m, context_length: 256K}",
        "model: {default: m, context_length: -1}",
        "model: {default: m, context_length: true}",
        "custom_providers: {a: b}",
        "custom_providers: [1, {models: [x]}, {models: {m: 5}}]",
        "context_lengths: [m]",
        "context_lengths: {m@x: many, n: 0}",
        "model: {default: 'unclosed sk-very-secret",
        "!!python/object/apply:os.system ['true']",
        "\x00",
    ],
)
def test_what_is_no_context_length_says_nothing(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert noted([home(tmp_path / "one", text, text)]) == ()
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("watch", "window"), [(True, Window(65_536, "Hermes")), (False, None)])
def test_the_settings_say_whether_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: bool, window: Window | None
) -> None:
    monkeypatch.setenv("HERMES_HOME", str(home(tmp_path / "one", CONFIG).path))
    windows = known(Settings(watch_hermes=watch, windows={"gpt-*": 5}))
    assert windows.of("qwen3") == window
    assert windows.of("gpt-5") == Window(5, "settings")


def test_missing_and_huge_files_say_nothing(tmp_path: Path) -> None:
    huge = home(tmp_path / "huge", CONFIG + "#" * 1024 * 1024)
    assert noted([Home("gone", tmp_path / "gone"), huge]) == ()

"""hermes-otel's configuration, read as the plugin reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_tui.hermes import dotenv, plugin_config
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.plugin_config import Backend, Config, aims_at
from hermes_tui.hermes.plugin_places import Rules, best_place, installed, places

OLD = {"plugin_config.py": "DEFAULT_CONFIG_PATH = Path.home()\n", "plugin.yaml": 'name: x\nversion: "1.0"\n'}
NEW = {
    "plugin_config.py": 'CONFIG_PATH_ENV = "HERMES_OTEL_CONFIG"\ndef expand_env_refs(): ...\n',
    "backends.py": "def _resolve_mlflow(bc): ...\n",
    "plugin.yaml": "name: hermes_otel\nversion: 1.23.0\nmanifest_version: 2\n",
}
SECRET = "hunter2-hunter2"


def plant(home: Path, files: dict[str, str]) -> None:
    folder = home / "plugins" / "hermes_otel"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def config(text: str, **environment: str) -> Config:
    return plugin_config.parse(Path("config.yaml"), text, environment)


def only(found: Config) -> Backend:
    assert len(found.backends) == 1, found.problems
    return found.backends[0]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / ".hermes").mkdir()
    return Home("default", tmp_path / ".hermes")


PAGE = """\
enabled: true
force_flush_on_session_end: true
capture_sender_id: true
capture_conversation_history: true

backends:
  - type: otlp
    name: mlflow
    endpoint: http://localhost:5000/v1/traces
    metrics: false
    logs: false
    headers:
      x-mlflow-experiment-id: "7"
"""


def test_the_configuration_of_mlflows_page() -> None:
    found = config(PAGE)
    backend = only(found)
    assert (backend.type, backend.label, backend.line) == ("otlp", "mlflow", 7)
    assert backend.is_mlflow
    assert backend.experiment == "7"
    assert (backend.endpoint, backend.base) == ("http://localhost:5000/v1/traces", "http://localhost:5000")
    assert found.problems == ()
    assert found.settings["capture_sender_id"].value is True
    assert found.settings["capture_sender_id"].source == "config.yaml"


def test_type_mlflow_takes_what_the_plugin_takes() -> None:
    text = (
        "backends:\n- type: MLflow\n  endpoint: https://m.example/base/\n  api_key_env: KEY\n  workspace: w\n"
    )
    backend = only(config(text, KEY=SECRET))
    assert backend.endpoint == "https://m.example/base/v1/traces"
    assert (backend.experiment, backend.workspace, backend.has_credentials) == ("0", "w", True)
    backend = only(
        config("backends: [{type: mlflow}]", OTEL_MLFLOW_ENDPOINT="http://m:5000", MLFLOW_EXPERIMENT_ID="3")
    )
    assert (backend.base, backend.experiment, backend.written) == ("http://m:5000", "3", None)
    text = "backends: [{type: mlflow, endpoint: 'http://m', experiment_id: 4, experiment_id_env: E}]"
    assert only(config(text, E="5")).experiment == "4"
    text = "backends: [{type: mlflow, endpoint: 'http://m', experiment_id_env: E}]"
    assert only(config(text, E="5")).experiment == "5"


def test_references_are_resolved_and_what_is_not_set_is_named() -> None:
    text = "backends:\n- type: otlp\n  endpoint: ${BASE}/v1/traces\n  headers: {Authorization: '${TOKEN}'}\n"
    found = config(text, BASE="http://m:5000")
    backend = only(found)
    assert backend.endpoint == "http://m:5000/v1/traces"
    assert backend.written == "${BASE}/v1/traces"
    assert backend.headers["authorization"] == "${TOKEN}"
    assert backend.unset == ("TOKEN",)
    assert [problem.text for problem in found.problems] == [
        "backend 1 names the variable TOKEN, which is not set"
    ]


def test_headers_for_all_backends(home: Home) -> None:
    text = "headers: {X-MLflow-Experiment-Id: 1, a: b}\nbackends:\n- type: otlp\n  endpoint: http://m\n"
    assert dict(only(config(text)).headers) == {"x-mlflow-experiment-id": "1", "a": "b"}
    text += "  headers: {x-mlflow-experiment-id: 2}\n"
    assert only(config(text)).experiment == "2"
    plant(home.path, OLD)
    assert only(plugin_config.parse(Path("c"), text, {}, installed(home))).experiment == "1"


def test_the_old_plugin_expands_nothing_and_has_no_type_mlflow(home: Home) -> None:
    plant(home.path, OLD)
    plugin = installed(home)
    assert plugin is not None
    text = "backends:\n- {type: otlp, endpoint: '${BASE}'}\n- {type: mlflow, endpoint: 'http://m'}\n"
    found = plugin_config.parse(Path("c"), text, {"BASE": "http://b"}, plugin)
    assert found.backends[0].endpoint == "${BASE}"
    assert [(problem.line, problem.fatal) for problem in found.problems] == [(3, True)]


def test_nothing_tells_a_credential() -> None:
    text = (
        "headers: {x-api: hunter2-hunter2}\nbackends:\n- type: otlp\n"
        "  endpoint: http://u:hunter2-hunter2@m:5000/v1/traces\n  headers: {authorization: hunter2-hunter2}\n"
        "- type: mlflow\n  endpoint: http://m\n  api_key: ${KEY}\n"
    )
    found = config(text, KEY=SECRET)
    assert [backend.has_credentials for backend in found.backends] == [True, True]
    assert SECRET not in repr(found)
    assert SECRET not in repr(dotenv.Environment({"KEY": SECRET}))


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("backends:\n\t- type: otlp\n", 2, 1, "not valid YAML"),
        ("backends: [\n", 2, 1, "not valid YAML"),
        ("a: 1\nb: hunter2-hunter2: 3\n", 2, 19, "not valid YAML"),
        ("a: *hunter2-hunter2\n", 1, 4, "not valid YAML"),
        ("- one\n- two\n", 1, 1, "expected names and values, found a list"),
        ("\x01: 1", None, None, "a character that YAML does not allow"),
        ("a: 2026-99-99\n", None, None, "a value that cannot be read"),
        ("backends: http://m\n", 1, 11, "`backends` is not a list"),
        ("backends:\n  - otlp\n", 2, 5, "not a set of names and values"),
        ("backends:\n  - name: x\n", 2, 5, "has no `type`"),
        ("backends:\n  - type: otlp\n", 2, 5, "has no `endpoint`"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(
    text: str, line: int | None, column: int | None, says: str
) -> None:
    (problem,) = config(text).problems
    assert (problem.line, problem.column, problem.fatal) == (line, column, True)
    assert says in problem.text
    assert SECRET not in problem.text


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    assert "No such file" in plugin_config.read_file(file, {}).problems[0].text
    file.write_bytes(b"a: \xff\n")
    assert "not UTF-8" in plugin_config.read_file(file, {}).problems[0].text
    file.write_bytes(b" " * 5_000_000)
    assert "larger" in plugin_config.read_file(file, {}).problems[0].text
    file.write_bytes(b"\xef\xbb\xbf" + PAGE.replace("\n", "\r\n").encode())
    assert only(plugin_config.read_file(file, {})).experiment == "7"


def test_empty_and_comments_are_no_mistake() -> None:
    for text in ("", "# nothing\n", "---\n", "backends:\n", "backends: []\n"):
        found = config(text)
        assert found.usable
        assert (found.backends, found.problems) == ((), ())


def test_the_last_of_two_and_merged_values_count() -> None:
    text = (
        "x: &base {type: otlp, endpoint: 'http://one'}\nbackends: []\n"
        "backends:\n- <<: *base\n  name: a\n- &b {<<: *base, endpoint: 'http://two'}\n- *b\n"
    )
    assert [backend.endpoint for backend in config(text).backends] == [
        "http://one",
        "http://two",
        "http://two",
    ]


def which(home: Home, rules: Rules, **environment: str) -> tuple[Path | None, list[Path]]:
    """Who wins, and which of the others exist."""
    found = places(home, {"HOME": str(home.path.parent), **environment}, rules)
    winners = [place.path for place in found if place.wins]
    assert len(winners) <= 1
    assert all(place.why for place in found)
    return (winners or [None])[0], [place.path for place in found if place.exists and not place.wins]


def test_which_file_wins_in_1x(home: Home, tmp_path: Path) -> None:
    durable = home.path / "hermes_otel.yaml"
    folder = home.path / "plugins" / "hermes_otel" / "config.yaml"
    assert which(home, Rules.NEW) == (None, [])
    assert best_place(home, {"HOME": str(tmp_path)}, Rules.NEW) == durable
    plant(home.path, {"config.yaml": ""})
    assert which(home, Rules.NEW) == (folder, [])
    durable.write_text("", encoding="utf-8")
    assert which(home, Rules.NEW) == (durable, [folder])
    missing = tmp_path / "missing.yaml"
    assert which(home, Rules.NEW, HERMES_OTEL_CONFIG=str(missing)) == (missing, [durable, folder])
    assert which(home, Rules.NEW, HERMES_OTEL_CONFIG="  ") == (durable, [folder])


def test_a_profile_does_not_read_its_users_plugin_folder(home: Home, tmp_path: Path) -> None:
    plant(home.path, {"config.yaml": ""})
    profile = Home("work", home.path / "profiles" / "work")
    environment = {"HOME": str(tmp_path)}
    assert not any(place.wins for place in places(profile, environment, Rules.NEW))
    fixed = home.path / "plugins" / "hermes_otel" / "config.yaml"
    assert [place.path for place in places(profile, environment, Rules.OLD) if place.wins] == [fixed]


def test_the_old_plugin_reads_one_place_only(home: Home, tmp_path: Path) -> None:
    (home.path / "hermes_otel.yaml").write_text("", encoding="utf-8")
    named = tmp_path / "named.yaml"
    named.write_text("", encoding="utf-8")
    winner, ignored = which(home, Rules.OLD, HERMES_OTEL_CONFIG=str(named))
    assert winner is None
    assert ignored == [named, home.path / "hermes_otel.yaml"]
    other = Home("default", tmp_path / "elsewhere")
    plant(home.path, {"config.yaml": ""})
    fixed = home.path / "plugins" / "hermes_otel" / "config.yaml"
    assert [place.path for place in places(other, {"HOME": str(tmp_path)}, Rules.OLD) if place.wins] == [
        fixed
    ]
    assert best_place(other, {"HOME": str(tmp_path)}, Rules.OLD) == fixed


def test_the_generation_is_judged_by_the_source(home: Home) -> None:
    assert installed(home) is None
    plant(home.path, {"config.yaml": PAGE})
    assert installed(home) is None  # the page's configuration alone is no plugin
    plant(home.path, OLD)  # it says "1.0" of itself
    plugin = installed(home)
    assert plugin is not None
    assert (plugin.rules, plugin.version, plugin.expands) == (Rules.OLD, "1.0", False)
    plant(home.path, {".release-please-manifest.json": '{".": "0.11.0"}'})
    plugin = installed(home)
    assert plugin is not None
    assert plugin.version == "0.11.0"
    (home.path / "plugins" / "hermes_otel" / ".release-please-manifest.json").unlink()
    plant(home.path, NEW)
    plugin = installed(home)
    assert plugin is not None
    assert (plugin.rules, plugin.version, plugin.knows_mlflow) == (Rules.NEW, "1.23.0", True)


def test_a_home_as_a_whole(home: Home, tmp_path: Path) -> None:
    plant(home.path, {**NEW, "config.yaml": PAGE})
    (home.path / ".env").write_text(
        "export HERMES_OTEL_ENABLED=no\nHERMES_OTEL_SAMPLE_RATE=much\n", encoding="utf-8"
    )
    reading = plugin_config.read(home, {"HOME": str(tmp_path), "HERMES_OTEL_ENABLED": "yes"})
    assert reading.config is not None
    assert reading.winner is not None
    assert reading.winner.path == reading.config.path
    enabled = reading.settings["enabled"]
    assert (enabled.value, enabled.source) == (False, "HERMES_OTEL_ENABLED")  # .env beats the shell
    assert reading.settings["preview_max_chars"].value == 1200
    assert reading.settings["capture_sender_id"].source == str(reading.config.path)
    assert [problem.text for problem in reading.problems] == [
        "HERMES_OTEL_SAMPLE_RATE is not a number; hermes-otel ignores it"
    ]
    (home.path / ".env").write_text("LANGSMITH_TRACING=true\nLANGSMITH_API_KEY=k\n", encoding="utf-8")
    assert plugin_config.read(home, {"HOME": str(tmp_path)}).problems[0].fatal


def test_a_named_file_that_is_missing_wins_all_the_same(home: Home, tmp_path: Path) -> None:
    plant(home.path, {**NEW, "config.yaml": PAGE})
    reading = plugin_config.read(home, {"HOME": str(tmp_path), "HERMES_OTEL_CONFIG": str(tmp_path / "no")})
    assert reading.winner is not None
    assert (reading.winner.exists, reading.config) == (False, None)


def test_settings_are_taken_as_the_plugin_takes_them() -> None:
    found = config("enabled: 'off'\nsample_rate: '0.5'\npreview_max_chars: 2e3\ncontent_capture: off\n")
    assert {name: setting.value for name, setting in found.settings.items()} == {
        "enabled": False,
        "sample_rate": 0.5,
        "preview_max_chars": 2000,
        "content_capture": "off",
    }
    found = config("enabled: maybe\npreview_max_chars: true\nsample_rate: .nan\n")
    assert [problem.line for problem in found.problems] == [1, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A=1\nexport B = two words # note\nC='it\\'s ${A}'\n",
            {"A": "1", "B": "two words", "C": "it's ${A}"},
        ),
        ('A="x\\ny"\r\nB=${A}!${NO:-else}${HOME}\r\n', {"A": "x\ny", "B": "x\ny!else/h"}),
        ('K="many\nlines"\nnonsense\n=3\nL=\n# M=1\nN=a#b', {"K": "many\nlines", "L": "", "N": "a#b"}),
        ("A=1\nA=2", {"A": "2"}),
        ("", {}),
    ],
)
def test_the_home_env_file(text: str, expected: dict[str, str]) -> None:
    assert dotenv.parse(text, {"HOME": "/h"}) == expected


@pytest.mark.parametrize(
    ("url", "host", "port", "same"),
    [
        ("http://localhost:4318/v1/traces", "127.0.0.1", 4318, True),
        ("http://[::1]:4318/v1/traces", "127.0.0.1", 4318, True),
        ("http://127.0.0.1:4318", "0.0.0.0", 4318, True),
        ("http://box:4318", "box", 4318, True),
        ("http://localhost:5000/v1/traces", "127.0.0.1", 4318, False),
        ("https://localhost:4318", "127.0.0.1", 4318, False),
        ("http://localhost:x", "127.0.0.1", 4318, False),
        (None, "127.0.0.1", 4318, False),
    ],
)
def test_whether_an_address_leads_to_the_relay(url: str | None, host: str, port: int, same: bool) -> None:
    assert aims_at(url, host, port) is same

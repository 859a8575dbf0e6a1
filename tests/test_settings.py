"""Settings: which source wins, one line per mistake, and no credentials in any text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hermes_tui.settings import (
    Attention,
    Flag,
    MLflow,
    Settings,
    SettingsError,
    default_file,
    load,
    read_token,
)

SECRET = "hunter2-very-secret"
CREDENTIALS = ("username", "password", "token")
A, B, C = ("token-a-0123456789", "token-b-0123456789", "token-c-0123456789")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def read(file: Path | None = None, flags: dict[str, Any] | None = None, **environment: str) -> Settings:
    named = {} if file is None else {"HERMES_TRACE_CONFIG": str(file)}
    return load(flags, environment={**named, **environment})


def mistakes(file: Path | None = None, flags: dict[str, Any] | None = None, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(file, flags, **environment)
    return str(caught.value).split("\n")


def test_defaults_are_local_and_the_ports_of_otlp() -> None:
    settings = load({}, environment={})
    assert (settings.host, settings.http_port) == ("127.0.0.1", 4318)
    assert settings.grpc_port is None  # 4317 where it is free
    assert (settings.max_request_bytes, settings.max_connections) == (64 * 1024 * 1024, 256)
    assert (settings.token, settings.allow_anyone) == (None, False)
    assert (settings.allowed_hosts, settings.cors_origins) == ((), ())
    assert settings.mlflow == MLflow()
    assert settings.state_path.name == "hermes-trace-tui"


# setting, its YAML, environment and flag, and how it is read: each source says another value
SOURCES: list[tuple[str, str, tuple[str, str], tuple[str, object], tuple[object, object, object]]] = [
    ("host", "host: file.test", ("HERMES_TRACE_HOST", "env.test"), ("host", "flag.test"),
     ("file.test", "env.test", "flag.test")),
    ("http_port", "http_port: 1001", ("HERMES_TRACE_HTTP_PORT", "1002"), ("http_port", 1003),
     (1001, 1002, 1003)),
    ("grpc_port", "grpc_port: 0", ("HERMES_TRACE_GRPC_PORT", "1002"), ("grpc_port", 0), (0, 1002, 0)),
    ("state_dir", "state_dir: /file", ("HERMES_TRACE_STATE_DIR", "/env"), ("state_dir", "/flag"),
     ("/file", "/env", "/flag")),
    ("mlflow.url", "mlflow: {url: 'http://file:1'}", ("MLFLOW_TRACKING_URI", "http://env:2"),
     ("mlflow.url", "https://flag:3"), ("http://file:1", "http://env:2", "https://flag:3")),
    ("mlflow.experiment", "mlflow: {experiment: '1'}", ("MLFLOW_EXPERIMENT_ID", "2"),
     ("mlflow.experiment", "3"), ("1", "2", "3")),
    ("mlflow.token", "mlflow: {token: a}", ("MLFLOW_TRACKING_TOKEN", "b"), ("mlflow.token", "c"),
     ("a", "b", "c")),
    ("token_file", "token_file: /file", ("HERMES_TRACE_TOKEN_FILE", "/env"), ("token_file", "/flag"),
     ("/file", "/env", "/flag")),
    ("token", f"token: {A}", ("HERMES_TRACE_TOKEN", B), ("token", C), (A, B, C)),
    ("allow_anyone", "allow_anyone: true", ("HERMES_TRACE_ALLOW_ANYONE", "false"), ("allow_anyone", True),
     (True, False, True)),
    ("max_request_bytes", "max_request_bytes: 1 MiB", ("HERMES_TRACE_MAX_REQUEST_BYTES", "2097152"),
     ("max_request_bytes", "3MiB"), (2**20, 2 * 2**20, 3 * 2**20)),
    ("max_connections", "max_connections: 10", ("HERMES_TRACE_MAX_CONNECTIONS", "20"),
     ("max_connections", 30), (10, 20, 30)),
    ("allowed_hosts", "allowed_hosts: [a, b]", ("HERMES_TRACE_ALLOWED_HOSTS", "c, d"),
     ("allowed_hosts", ("e",)), (("a", "b"), ("c", "d"), ("e",))),
    ("cors_origins", "cors_origins: ['http://a']", ("HERMES_TRACE_CORS_ORIGINS", "http://b,https://c:1"),
     ("cors_origins", ()), (("http://a",), ("http://b", "https://c:1"), ())),
    ("watch_hermes", "watch_hermes: false", ("HERMES_TRACE_WATCH_HERMES", "true"), ("watch_hermes", False),
     (False, True, False)),
    ("hermes_homes", "hermes_homes: [/a, /b]", ("HERMES_TRACE_HERMES_HOMES", "/c"),
     ("hermes_homes", ("~/d",)), (("/a", "/b"), ("/c",), ("~/d",))),
    ("attention.on", "attention: {on: [turn]}", ("HERMES_TRACE_ATTENTION_ON", "approval, error"),
     ("attention.on", ()), (("turn",), ("approval", "error"), ())),
    ("attention.bell", "attention: {bell: on}", ("HERMES_TRACE_ATTENTION_BELL", "false"),
     ("attention.bell", True), (True, False, True)),
    ("attention.terminal", "attention: {terminal: none}", ("HERMES_TRACE_ATTENTION_TERMINAL", "osc9"),
     ("attention.terminal", "auto"), ("none", "osc9", "auto")),
    ("attention.words", "attention: {command: [say, 'it is']}",
     ("HERMES_TRACE_ATTENTION_COMMAND", "say 'it is' so"), ("attention.command", "say"),
     (("say", "it is"), ("say", "it is", "so"), ("say",))),
    ("attention.min_turn_s", "attention: {min_turn_s: 30}", ("HERMES_TRACE_ATTENTION_MIN_TURN_S", "2.5"),
     ("attention.min_turn_s", 0), (30.0, 2.5, 0.0)),
    ("pane.theme", "pane: {theme: light}", ("HERMES_TRACE_PANE_THEME", "plain"), ("pane.theme", "auto"),
     ("light", "plain", "auto")),
    ("pane.copy", "pane: {copy: file}", ("HERMES_TRACE_PANE_COPY", "terminal"), ("pane.copy", "file"),
     ("file", "terminal", "file")),
    ("pane.beside", "pane: {beside: newest}", ("HERMES_TRACE_PANE_BESIDE", "auto"),
     ("pane.beside", "newest"), ("newest", "auto", "newest")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "yaml", "variable", "flag", "values"), SOURCES, ids=[s[0] for s in SOURCES])
def test_flags_win_over_environment_over_file(
    file: Path,
    name: str,
    yaml: str,
    variable: tuple[str, str],
    flag: tuple[str, object],
    values: tuple[object, object, object],
) -> None:
    file.write_text(yaml)

    def value(settings: Settings) -> object:
        found: Any = settings
        for part in name.split("."):
            found = getattr(found, part)
        return found

    from_file, from_environment, from_flag = values
    assert value(read(file)) == from_file
    assert value(read(file, **dict([variable]))) == from_environment
    assert value(read(file, dict([flag]), **dict([variable]))) == from_flag
    assert value(read(file, {flag[0]: None}, **dict([variable]))) == from_environment
    assert value(read(file, **{variable[0]: ""})) == from_file


def test_one_source_sets_one_value_and_leaves_its_neighbours(file: Path) -> None:
    file.write_text("mlflow: {url: 'http://file:1', experiment: '7', workspace: w}\nhttp_port: 9")
    settings = read(file, {"mlflow.experiment": "8"}, MLFLOW_TRACKING_URI="http://env:2")
    assert settings == Settings(http_port=9, mlflow=MLflow(url="http://env:2", experiment="8", workspace="w"))


def test_an_experiment_id_needs_no_quotes(file: Path) -> None:
    file.write_text("mlflow: {experiment: 12}")
    assert read(file).mlflow.experiment == "12"


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "mlflow:\n", "mlflow: {}\n"])
def test_an_empty_file_says_nothing(file: Path, text: str) -> None:
    file.write_text(text)
    assert read(file) == Settings()


def test_the_file_is_named_by_the_environment_or_in_the_config_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_file({"HERMES_TRACE_CONFIG": "/some/where.yaml"}) == Path("/some/where.yaml")
    monkeypatch.setenv("HERMES_TRACE_CONFIG", str(tmp_path / "mine.yaml"))
    assert default_file() == tmp_path / "mine.yaml"
    assert default_file({}).name == "config.yaml"


def test_a_named_file_must_exist_and_the_default_one_need_not(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "none.yaml") == [
        f"{tmp_path / 'none.yaml'}: no such file; HERMES_TRACE_CONFIG names it"
    ]
    assert read() == Settings()


def test_a_command_that_sends_nothing_ignores_the_destinations_environment() -> None:
    environment = {"MLFLOW_TRACKING_URI": "databricks", "HERMES_TRACE_HOST": "h"}
    assert load({}, environment=environment, destination=False) == Settings(host="h")
    with pytest.raises(SettingsError):
        load({}, environment=environment)


def test_every_mistake_has_a_line_of_its_own(file: Path) -> None:
    file.write_text("http_port: many\ngrpc_prot: 1\nmlflow: {url: 'ftp://x', experiment: [1]}\nhost: 5\n")
    lines = mistakes(file, {"mlflow.url": "nowhere"}, HERMES_TRACE_GRPC_PORT="70000")
    expected = [
        ("config.yaml", "http_port", "`int`"),
        ("config.yaml", "grpc_prot"),
        ("config.yaml", "ftp://x", "http://host:port"),
        ("config.yaml", "mlflow.experiment", "`array`"),
        ("config.yaml", "host", "`str`"),
        ("HERMES_TRACE_GRPC_PORT", "65535"),
        ("--mlflow", "nowhere", "http://host:port"),
    ]
    assert len(lines) == len(expected), lines
    for words in expected:
        assert [line for line in lines if all(word in line for word in words)], (words, lines)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: b: c",
        "\tx: 1",
        "- just\n- a list",
        "just text",
        "5",
        "a: \x01",
        "mlflow: text",
        "mlflow: [1]",
        "mlflow: {url: {deep: 1}}",
        "1: 2",
        "http_port: 2026-01-01",
        "a: !!python/object:os.system {}",
        "a: *nowhere",
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_that_names_it(file: Path, text: str) -> None:
    file.write_text(text)
    (only,) = mistakes(file)
    assert only.startswith(str(file))


def test_a_file_that_is_not_text_is_one_line(file: Path) -> None:
    file.write_bytes(b"host: \xff\xfe")
    (only,) = mistakes(file)
    assert "cannot be read" in only


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:5000/base", "http://127.0.0.1:5000", "http://[::1]:5000"]
)
def test_addresses_of_mlflow(url: str) -> None:
    assert read(flags={"mlflow.url": url}).mlflow.url == url


@pytest.mark.parametrize(
    "url",
    [
        "databricks",
        "sqlite:///mlflow.db",
        "http://",
        "localhost:5000",
        "http://h:0",
        "http://h:99999",
        "http://[::1",
    ],
)
def test_what_is_no_address_of_mlflow_is_refused_with_what_to_write(url: str) -> None:
    (only,) = mistakes(flags={"mlflow.url": url})
    assert only.startswith("--mlflow: ")
    assert only.endswith("write http://host:port")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ("me", "p@ss", None)),
        ({"mlflow.username": "you", "mlflow.password": "other"}, ("you", "other", None)),
        ({"mlflow.token": "t"}, (None, None, "t")),
    ],
)
def test_credentials_in_an_address_become_credentials(
    flags: dict[str, str], expected: tuple[str | None, ...]
) -> None:
    mlflow = read(flags={"mlflow.url": "http://me:p%40ss@host:5000/base", **flags}).mlflow
    assert mlflow.url == "http://host:5000/base"
    assert (mlflow.username, mlflow.password, mlflow.token) == expected


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_in_no_repr(name: str) -> None:
    settings = read(flags={f"mlflow.{name}": SECRET, "mlflow.url": f"http://me:{SECRET}@host:5000"})
    assert getattr(settings.mlflow, name) == SECRET
    for text in (repr(settings), str(settings), repr(settings.mlflow), f"{settings.mlflow}"):
        assert SECRET not in text
        assert "host:5000" in text


@pytest.mark.parametrize(
    "text",
    [
        f"mlflow: {{token: [{SECRET}]}}",
        f"mlflow: {{password: {{x: {SECRET}}}}}",
        f"mlflow: {{url: 'http://me:{SECRET}@host:99999'}}",
        f"mlflow: {{url: 'ftp://me:{SECRET}@host'}}",
        f"mlflow:\n  token: {SECRET}\n   bad: 1",
        f"mlflow: {{token: '{SECRET}}}",
        f'mlflow: {{token: "{SECRET}\\q"}}',
        f"mlflow: {{token: {SECRET}",
        f"mlflow: {{token: *{SECRET}}}",
        f"mlflow: {{token: !{SECRET} x}}",
        f"mlflow: {SECRET}",
    ],
    ids=range(11),
)
def test_credentials_are_in_no_error(file: Path, text: str) -> None:
    file.write_text(text)
    for line in mistakes(file):
        assert SECRET not in line


def test_credentials_of_the_environment_are_in_no_error() -> None:
    lines = mistakes(
        MLFLOW_TRACKING_TOKEN=SECRET,
        MLFLOW_TRACKING_PASSWORD=SECRET,
        MLFLOW_TRACKING_URI=f"nowhere/{SECRET}@x",
        HERMES_TRACE_HTTP_PORT="x",
    )
    assert len(lines) == 2
    assert SECRET not in "".join(lines)


def test_the_state_folder_may_begin_with_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert read(flags={"state_dir": "~/traces"}).state_path == Path("/home/somebody/traces")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("2KiB", 2048),
        ("2 kib", 2048),
        ("3Mi", 3 * 2**20),
        ("64 MiB", 64 * 2**20),
        ("5000B", 5000),
    ],
)
def test_sizes_as_people_write_them(file: Path, text: str, size: int) -> None:
    file.write_text(f"max_request_bytes: {text}")
    assert read(file).max_request_bytes == size


def test_windows_as_people_write_them(file: Path) -> None:
    file.write_text("windows: {claude-*: 200k, gpt-5: 400000, 'x/y': 1 M}")
    assert read(file).windows == {"claude-*": 200_000, "gpt-5": 400_000, "x/y": 1_000_000}


def test_flags_of_the_user(file: Path) -> None:
    file.write_text(
        "flags:\n- {pattern: 'terraform\\s+destroy', why: takes servers down}\n- {pattern: a b, why: c}"
    )
    assert read(file).flags == (Flag(r"terraform\s+destroy", "takes servers down"), Flag("a b", "c"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[{pattern: fine, why: x}, {pattern: '(', why: x}]",
            ("number 2", "not a regular expression", "missing )"),
        ),
        ("[{pattern: '(a+)+$', why: x}]", ("number 1", "too slow")),
        ("[{pattern: '', why: x}]", ("number 1", "fits everything")),
        ("[{pattern: x}]", ("why",)),
        ("[{pattern: x, why: y, when: z}]", ("when",)),
        ("{rm: x}", ("flags",)),
        ("rm", ("flags", "array")),
    ],
)
def test_flags_that_cannot_be_used_are_named(file: Path, text: str, words: tuple[str, ...]) -> None:
    file.write_text(f"flags: {text}")
    (only,) = mistakes(file)
    for word in (str(file), *words):
        assert word in only


@pytest.mark.parametrize("tokens", ["0", "-5", "many", "200K tokens", "[1]", "{a: 1}"])
def test_what_is_no_window_is_named(file: Path, tokens: str) -> None:
    file.write_text(f"windows: {{fine: 5, wrong: {tokens}}}")
    (only,) = mistakes(file)
    assert "windows.wrong" in only


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_request_bytes", "64 MB", ("max_request_bytes", "int")),
        ("max_request_bytes", "1", ("1024",)),
        ("max_request_bytes", "1 GiB", ("268435456",)),
        ("max_connections", "0", ("max_connections", "1")),
        ("token_file", "relative/token", ("absolute path",)),
        ("allowed_hosts", "http://named.test", ("'http://named.test'", "without a port")),
        ("allowed_hosts", "fine.test, named.test:4318", ("'named.test:4318'", "without a port")),
        ("cors_origins", "*", ("'*'", "http://host:port")),
        ("cors_origins", "http://a/path", ("'http://a/path'", "http://host:port")),
        ("cors_origins", "null", ("'null'", "http://host:port")),
        ("allow_anyone", "perhaps", ("allow_anyone", "bool")),
        ("hermes_homes", "/fine, hermes", ("'hermes'", "not an absolute path")),
    ],
)
def test_what_cannot_be_meant_is_a_mistake(name: str, value: str, words: tuple[str, ...]) -> None:
    variable = f"HERMES_TRACE_{name.upper()}"
    (only,) = mistakes(**{variable: value})
    for word in (variable, *words):
        assert word in only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{on: turn, bell: true}", Attention(on=("turn",), bell=True)),
        ("{'on': [turn]}", Attention(on=("turn",))),
        ("{command: ''}", Attention(command="")),
        ("{}", Attention()),
    ],
)
def test_attention_as_people_write_it(file: Path, text: str, expected: Attention) -> None:
    """YAML takes `on` without quotes for true."""
    file.write_text(f"attention: {text}")
    assert read(file).attention == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{theme: mauve}", ("pane.theme", "'mauve'", "auto, dark, light, contrast, plain")),
        ("{copy: true}", ("pane.copy", "terminal, file")),
        ("{colour: x}", ("pane.colour", "unknown")),
    ],
)
def test_a_pane_that_cannot_be_meant_is_a_mistake(file: Path, text: str, words: tuple[str, ...]) -> None:
    file.write_text(f"pane: {text}")
    (only,) = mistakes(file)
    for word in (str(file), *words):
        assert word in only


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{on: [turn, exit]}", ("attention.on", "'exit'", "approval, turn, error")),
        ("{on: {turn: true}}", ("attention.on.turn",)),
        ("{on: true}", ("attention.on", "`bool`", "approval, turn, error")),
        ("{terminal: kitty}", ("attention.terminal", "'kitty'", "none, osc9, osc777, auto")),
        ("{terminal: off}", ("attention.terminal", "`bool`", "none, osc9, osc777, auto")),
        ("{bell: loud}", ("attention.bell", "`bool`")),
        ("{min_turn_s: -1}", ("attention.min_turn_s", ">= 0")),
        (f"{{command: 'say {SECRET} \"'}}", ("attention.command", "No closing quotation")),
        (f"{{command: ['', {SECRET}]}}", ("attention.command", "empty word")),
        (f"{{command: [{SECRET}, 5]}}", ("attention.command", "`int`")),
        ("{sound: x}", ("attention.sound", "unknown")),
        ("on", ("attention", "`object`")),
    ],
)
def test_attention_that_cannot_be_meant_is_a_mistake(file: Path, text: str, words: tuple[str, ...]) -> None:
    file.write_text(f"attention: {text}")
    (only,) = mistakes(file)
    for word in (str(file), *words):
        assert word in only
    assert SECRET not in only


@pytest.mark.parametrize(
    ("attention", "wanted"),
    [
        (Attention(), False),
        (Attention(bell=True), True),
        (Attention(terminal="auto"), True),
        (Attention(command="say"), True),
        (Attention(command=" "), False),
        (Attention(on=(), bell=True), False),
    ],
)
def test_nobody_is_called_unless_it_is_wanted(attention: Attention, wanted: bool) -> None:
    assert bool(attention) is wanted


def test_the_command_is_in_no_repr() -> None:
    settings = read(HERMES_TRACE_ATTENTION_COMMAND=f'curl -H {SECRET} "a b"')
    assert settings.attention.words == ("curl", "-H", SECRET, "a b")
    assert SECRET not in repr(settings) + repr(settings.attention)


@pytest.mark.parametrize("host", ["named.test", "fd00::5", "[fd00::5]", "10.0.0.7", "my-machine", "a_b"])
def test_allowed_hosts(host: str) -> None:
    assert read(HERMES_TRACE_ALLOWED_HOSTS=host).allowed_hosts == (host,)


@pytest.mark.parametrize(
    "token", ["short", "fifteen-letters", "with a blank in it", "with-ümlauts-in-it", "line\nbreak-in-it-1"]
)
def test_a_token_that_cannot_be_used_is_told_without_saying_it(tmp_path: Path, token: str) -> None:
    (only,) = mistakes(HERMES_TRACE_TOKEN=token)
    assert "at least 16" in only
    assert token not in only
    held = tmp_path / "token"
    held.write_text(token, encoding="utf-8")
    with pytest.raises(SettingsError, match="at least 16") as refused:
        read_token(Settings(token_file=str(held)))
    assert str(held) in str(refused.value)
    assert token not in str(refused.value)


def test_a_token_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"\n{A}\n")
    assert read_token(Settings(token_file=str(tmp_path / "token"))) == A
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_token(read(HERMES_TRACE_TOKEN_FILE="~/token")) == A
    assert read_token(Settings(token=B)) == B
    assert read_token(Settings()) == ""
    for unreadable in (tmp_path / "none", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_token(Settings(token_file=str(unreadable)))


def test_the_stronger_source_decides_where_the_token_comes_from(file: Path) -> None:
    file.write_text("token_file: /file")
    assert read(file, HERMES_TRACE_TOKEN=A) == Settings(token=A)
    file.write_text(f"token: {A}")
    assert read(file, {"token_file": "/flag"}) == Settings(token_file="/flag")
    file.write_text(f"token: {A}\ntoken_file: /file")
    (only,) = mistakes(file)
    assert "token and token_file" in only


def test_the_token_is_in_no_repr() -> None:
    settings = read(HERMES_TRACE_TOKEN=A)
    assert settings.token == A
    for text in (repr(settings), str(settings), f"{settings}"):
        assert A not in text
        assert "max_connections=256" in text

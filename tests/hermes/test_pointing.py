"""Pointing hermes-otel at the relay, and back: nothing but the endpoint changes, and all of it returns."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.hermes import plugin_config, pointing, rewriting, surgery, undoing
from hermes_tui.hermes.dotenv import Environment
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.plugin_config import Config, Reading
from hermes_tui.hermes.plugin_places import Rules
from hermes_tui.hermes.pointing import Unclear
from hermes_tui.hermes.rewriting import CannotWrite, Change
from hermes_tui.hermes.surgery import CannotEdit
from hermes_tui.journal.files import StateDir
from tests.hermes.configurations import (
    CASES,
    ENVIRONMENT,
    FANOUT,
    PAGE,
    RELAY,
    SECRET,
    TRACES,
    TWO,
    WRITTEN,
    Case,
)

EDITED = [case for case in CASES if not case.refused]


def reading(config: Config) -> Reading:
    home = Home("default", config.path.parent)
    return Reading(home, None, Rules.NEW, Environment(ENVIRONMENT), (), config, {}, config.problems)


def pointed(case: Case, file: Path) -> bytes:
    """The file's content once it points at the relay."""
    file.write_bytes(case.content)
    config = plugin_config.read_file(file, ENVIRONMENT)
    if not config.usable:
        raise CannotEdit(config.problems[0].text)
    backend = pointing.choose(config, case.backend, "127.0.0.1", 4318)
    assert backend is not None
    assert backend.base == case.base
    return pointing.point(reading(config), config, backend, RELAY).encode()


@pytest.mark.parametrize("case", EDITED, ids=lambda case: case.name)
def test_only_the_endpoint_changes_and_undo_gives_back_the_same_bytes(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    edited = pointed(case, file)
    text = case.content.decode()
    assert text.count(case.old) == 1, "the case must name one place"
    assert edited == text.replace(case.old, case.new).encode()
    again = plugin_config.read_file(file, ENVIRONMENT)
    assert [each.endpoint for each in again.backends].count(TRACES) == 0
    record = undoing.apply(
        StateDir(tmp_path / "state"), [Change(file, case.content, edited)], what="test", homes=["default"]
    )
    after = plugin_config.read_file(file, ENVIRONMENT)
    assert [each.endpoint for each in after.backends].count(TRACES) == 1
    assert undoing.undo(record) == [str(file)]
    assert file.read_bytes() == case.content


@pytest.mark.parametrize("case", EDITED, ids=lambda case: case.name)
def test_the_diff_shows_the_endpoint_and_no_credential(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    diff = Change(file, case.content, pointed(case, file)).diff()
    changed = [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert 1 <= len(changed) <= 3, diff
    assert any(RELAY in line for line in changed)
    assert SECRET not in "\n".join(diff)


@pytest.mark.parametrize("case", [case for case in CASES if case.refused], ids=lambda case: case.name)
def test_what_is_not_understood_is_refused(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    with pytest.raises(CannotEdit, match=case.refused) as refusal:
        pointed(case, file)
    assert SECRET not in str(refusal.value)
    assert file.read_bytes() == case.content


def test_which_backend_is_meant(tmp_path: Path) -> None:
    def chosen(text: str, wanted: str | None = None) -> str | None:
        config = plugin_config.parse(tmp_path / "c", text, ENVIRONMENT)
        backend = pointing.choose(config, wanted, "127.0.0.1", 4318)
        return backend and backend.label

    assert chosen(FANOUT) == "mlflow-prod"
    assert chosen("") is None
    assert chosen("backends: [{type: jaeger, endpoint: 'http://localhost:14318'}]") is None
    # What points at the relay already is meant, whatever else there is.
    assert (
        chosen(TWO + "  - {type: otlp, name: relay, endpoint: 'http://localhost:4318/v1/traces'}\n")
        == "relay"
    )
    assert chosen("backends: [{type: otlp, endpoint: 'http://mlflow.lan/v1/traces'}]") == "otlp"
    assert chosen("backends: [{type: mlflow, endpoint: 'http://m', traces: false}]") is None
    assert chosen(TWO, "home") == "home"
    assert chosen(TWO, "2") == "work"
    for wanted in (None, "mlflow", "3"):
        with pytest.raises(Unclear) as unclear:
            chosen(TWO, wanted)
        assert unclear.value.choices == ("1: home", "2: work")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "backends:\n  - type: otlp\n    name: x\n    metrics: false\n"),
        ("# mine\n", "# mine\nbackends:\n  - type: otlp\n    name: x\n    metrics: false\n"),
        ("a: 1", "a: 1\nbackends:\n  - type: otlp\n    name: x\n    metrics: false"),
        ("backends:\n", "backends:\n  - type: otlp\n    name: x\n    metrics: false\n"),
        (
            "backends: # none\nb: 1\n",
            "backends: # none\n  - type: otlp\n    name: x\n    metrics: false\nb: 1\n",
        ),
        ("backends: []\n", "backends: [{type: otlp, name: x, metrics: false}]\n"),
        ("{a: 1}\n", "{a: 1, backends: [{type: otlp, name: x, metrics: false}]}\n"),
        ("{}", "{backends: [{type: otlp, name: x, metrics: false}]}"),
        (
            "backends:\r\n-   type: jaeger # j\r\n    headers: {}\r\n# end\r\n",
            "backends:\r\n-   type: jaeger # j\r\n    headers: {}\r\n"
            "-   type: otlp\r\n    name: x\r\n    metrics: false\r\n# end\r\n",
        ),
        (
            "backends: &b\n    - {type: jaeger}\n\n\nc: |\n  text\n",
            "backends: &b\n    - {type: jaeger}\n    - type: otlp\n      name: x\n      metrics: false\n"
            "\n\nc: |\n  text\n",
        ),
        (
            "backends: [{type: jaeger},]\n",
            "backends: [{type: jaeger}, {type: otlp, name: x, metrics: false},]\n",
        ),
        (
            "backends:\n  - type: jaeger\n    note: |\n      one\n\nz: 1\n",
            "backends:\n  - type: jaeger\n    note: |\n      one\n\n"
            "  - type: otlp\n    name: x\n    metrics: false\nz: 1\n",
        ),
    ],
)
def test_one_more_backend(before: str, after: str) -> None:
    assert surgery.append(before, ["backends"], {"type": "otlp", "name": "x", "metrics": False}) == after


@pytest.mark.parametrize(
    "text", ["backends: {}\n", "- 1\n", "x: &b []\nbackends: *b\n", "backends: null\n", "a: ["]
)
def test_where_no_backend_can_be_added(text: str) -> None:
    with pytest.raises(CannotEdit):
        surgery.append(text, ["backends"], {"type": "otlp"})


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        ("", ["mlflow", "url"], "http://m", "mlflow:\n  url: http://m\n"),
        ("# c\nhost: h\n", ["mlflow", "url"], "http://m", "# c\nhost: h\nmlflow:\n  url: http://m\n"),
        (
            "mlflow:\n    token: t # x\nhost: h\n",
            ["mlflow", "url"],
            "u",
            "mlflow:\n    token: t # x\n    url: u\nhost: h\n",
        ),
        ("mlflow: {token: t}\n", ["mlflow", "url"], "u", "mlflow: {token: t, url: u}\n"),
        ("mlflow: {}\n", ["mlflow", "url"], "a, b", 'mlflow: {url: "a, b"}\n'),
        ("mlflow: {url: 'a'}\n", ["mlflow", "url"], "it's", "mlflow: {url: 'it''s'}\n"),
        ("mlflow:\n  url:\n", ["mlflow", "url"], "1", 'mlflow:\n  url: "1"\n'),
        ("mlflow:\n  url:   # none\n", ["mlflow", "url"], "u", "mlflow:\n  url: u   # none\n"),
        ('a: "x\n  y"\n', ["a"], "z: #", 'a: "z: #"\n'),
    ],
)
def test_one_value(before: str, path: list[str], value: str, after: str) -> None:
    assert surgery.assign(before, path, value) == after


@pytest.mark.parametrize("text", ["mlflow:\n", "mlflow: x\n", "mlflow: [1]\n", "mlflow: {url: {}}\n", "5\n"])
def test_values_that_have_no_place(text: str) -> None:
    with pytest.raises(CannotEdit):
        surgery.assign(text, ["mlflow", "url"], "http://m")


def test_the_minimal_configuration_is_mlflows_page_with_exit_codes() -> None:
    text = pointing.minimal([pointing.entry("mlflow", "http://localhost:5000", "1")])
    assert text == WRITTEN


# ---- made-up YAML

_words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
_scalars = _words | st.booleans() | st.integers(-9, 10**6) | st.none() | st.floats(allow_nan=False)
_others = st.dictionaries(
    _words.filter(lambda name: name not in ("backends", "headers", "<<", "=")),
    st.recursive(
        _scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
_mlflow = st.sampled_from(
    [
        {"type": "mlflow", "endpoint": "http://m:5000"},
        {"type": "otlp", "endpoint": "https://h/v1/traces", "headers": {"x-mlflow-experiment-id": "7"}},
        {"type": "mlflow"},
    ]
)
_more = st.lists(
    st.sampled_from([{"type": "jaeger", "endpoint": "http://j"}, {"type": "phoenix"}]), max_size=2
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    before, after = draw(_more), draw(_more)
    document: dict[str, Any] = {
        **draw(_others),
        "backends": [*before, draw(_mlflow), *after],
        **draw(_others),
    }
    text: str = yaml.safe_dump(
        document,
        default_flow_style=draw(st.sampled_from([True, False, None])),
        default_style=draw(st.sampled_from([None, None, '"', "'"])),
        indent=draw(st.integers(2, 5)),
        width=draw(st.sampled_from([20, 80, 1000])),
        allow_unicode=draw(st.booleans()),
        line_break=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        explicit_start=draw(st.booleans()),
        sort_keys=draw(st.booleans()),
    )
    for _ in range(draw(st.integers(0, 3))):  # comments where a line begins that is none of a longer value
        text += draw(st.sampled_from(["# end\n", "#\n", ""]))
    return text


def _common(one: str, other: str) -> int:
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


@given(texts())
def test_made_up_yaml(text: str) -> None:
    config = plugin_config.parse(Path("c"), text, ENVIRONMENT)
    backend = pointing.choose(config, None, "127.0.0.1", 4318)
    assert backend is not None
    edited = pointing.point(reading(config), config, backend, RELAY)
    document = yaml.safe_load(text)
    document["backends"][backend.index]["endpoint"] = RELAY if backend.type == "mlflow" else TRACES
    assert yaml.safe_load(edited) == document
    start = _common(text, edited)
    end = _common(text[start:][::-1], edited[start:][::-1])
    removed, added = text[start : len(text) - end], edited[start : len(edited) - end]
    assert len(removed) <= 60 if "endpoint" in text else not removed
    assert len(added) <= 60


@given(texts(), _words)
def test_a_second_backend_in_made_up_yaml(text: str, name: str) -> None:
    config = plugin_config.parse(Path("c"), text, ENVIRONMENT)
    edited = pointing.add(reading(config), config, pointing.entry(name, RELAY, None))
    document = yaml.safe_load(text)
    document["backends"].append(
        {"type": "otlp", "name": name, "endpoint": TRACES, "metrics": False, "logs": False}
    )
    assert yaml.safe_load(edited) == document
    start = _common(text, edited)
    assert text[start:] == edited[len(edited) - len(text) + start :]  # something came in, nothing went


# ---- files


def changed(file: Path) -> Change:
    before = file.read_bytes()
    return Change(file, before, before.replace(b"http://localhost:5000", RELAY.encode()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "home" / "config.yaml"
    file.parent.mkdir()
    file.write_text(PAGE, encoding="utf-8")
    return file


def apply(tmp_path: Path, *changes: Change) -> undoing.Record:
    return undoing.apply(StateDir(tmp_path / "state"), changes, what="test", homes=["default"])


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_stay(file: Path, tmp_path: Path, mode: int) -> None:
    file.chmod(mode)
    record = apply(tmp_path, changed(file))
    assert stat.S_IMODE(file.stat().st_mode) == mode
    undoing.undo(record)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert os.listdir(file.parent) == ["config.yaml"]


def test_a_symbolic_link_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to("home/config.yaml")
    record = apply(tmp_path, changed(link))
    assert link.is_symlink()
    assert RELAY in file.read_text(encoding="utf-8")
    undoing.undo(record)
    assert link.is_symlink()
    assert file.read_text(encoding="utf-8") == PAGE


def test_a_read_only_file_is_left_alone(file: Path, tmp_path: Path) -> None:
    file.chmod(0o444)
    with pytest.raises(CannotWrite, match="is read-only"):
        apply(tmp_path, changed(file))
    assert file.read_text(encoding="utf-8") == PAGE


def test_a_file_of_two_names_is_left_alone(file: Path, tmp_path: Path) -> None:
    change = changed(file)
    os.link(file, tmp_path / "other.yaml")
    with pytest.raises(CannotWrite, match="other names"):
        apply(tmp_path, change)


def test_a_file_that_changed_meanwhile_is_left_alone(file: Path, tmp_path: Path) -> None:
    change = changed(file)
    file.write_text("mine: 1\n", encoding="utf-8")
    with pytest.raises(CannotWrite, match="changed meanwhile"):
        apply(tmp_path, change)
    assert file.read_text(encoding="utf-8") == "mine: 1\n"


def test_a_new_file_is_private_and_goes_with_its_folders(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "hermes_otel.yaml"
    record = apply(tmp_path, Change(file, None, b"x: 1\n"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    undoing.undo(record)
    assert not (tmp_path / "a").exists()


def test_all_or_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("a: 1\n", encoding="utf-8")
    real = os.replace

    def replace(source: str, target: Path) -> None:
        if Path(target).name == "other.yaml":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(CannotWrite, match="No space left"):
        apply(tmp_path, changed(file), Change(other, b"a: 1\n", b"a: 2\n"))
    assert file.read_text(encoding="utf-8") == PAGE
    assert other.read_text(encoding="utf-8") == "a: 1\n"
    assert undoing.records(StateDir(tmp_path / "state")) == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "other.yaml", "state"]


def test_what_was_edited_since_is_not_undone(file: Path, tmp_path: Path) -> None:
    record = apply(tmp_path, changed(file))
    edited = file.read_text(encoding="utf-8") + "mine: 1\n"
    file.write_text(edited, encoding="utf-8")
    with pytest.raises(CannotWrite, match=r"changed since; as it was, it is kept in .*/setup/1/0"):
        undoing.undo(record)
    assert file.read_text(encoding="utf-8") == edited
    assert (record.folder / "0").read_text(encoding="utf-8") == PAGE


def test_what_was_edited_since_may_stay_and_its_copy_with_it(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("a: 1\n", encoding="utf-8")
    record = apply(tmp_path, changed(file), Change(other, b"a: 1\n", b"a: 2\n"))
    other.write_text("a: 3\n", encoding="utf-8")
    with pytest.raises(CannotWrite, match=r"other\.yaml has been changed since"):
        undoing.undo(record)
    assert undoing.undo(record, [other]) == [str(file)]
    assert file.read_text(encoding="utf-8") == PAGE
    assert other.read_text(encoding="utf-8") == "a: 3\n"
    assert (record.folder / "1").read_text(encoding="utf-8") == "a: 1\n"
    other.write_text("a: 2\n", encoding="utf-8")
    assert undoing.undo(record) == [str(other)]
    assert undoing.records(StateDir(tmp_path / "state")) == []


def test_undone_by_hand_already(file: Path, tmp_path: Path) -> None:
    record = apply(tmp_path, changed(file))
    file.write_text(PAGE, encoding="utf-8")
    assert undoing.undo(record) == []
    assert undoing.records(StateDir(tmp_path / "state")) == []


def test_the_newest_record_comes_first(file: Path, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    for number in range(11):
        undoing.apply(state, [Change(tmp_path / f"{number}", None, b"")], what=str(number), homes=["default"])
    assert [each.document.what for each in undoing.records(state)] == [str(n) for n in range(10, -1, -1)]
    (undoing.records(state)[0].folder / "record.json").write_text("{", encoding="utf-8")
    assert undoing.records(state)[0].document.what == "9"


def hidden() -> Iterator[tuple[str, str]]:
    yield f"api_key: {SECRET}\n", "api_key: •••\n"
    yield "api_key_env: NAME\n", "api_key_env: NAME\n"
    yield (
        f"headers:\n  X-Any: |\n    {SECRET}\n    {SECRET}\n  x-mlflow-experiment-id: 7\n",
        ("headers:\n  X-Any: •••  x-mlflow-experiment-id: 7\n"),
    )
    yield f"x: &k {SECRET}\nheaders: {{a: *k}}\n", "x: &k •••\nheaders: {a: *k}\n"
    yield f"# token: {SECRET}\na: 1 # password = {SECRET}\n", "# token: •••\na: 1 # password = •••\n"
    yield f"endpoint: http://u:{SECRET}@h/x\n", "endpoint: http://•••@h/x\n"
    yield f"a: [ {SECRET}\n", "•••"


@pytest.mark.parametrize(("text", "expected"), list(hidden()))
def test_what_may_be_secret_is_not_shown(text: str, expected: str) -> None:
    assert rewriting.shown(text.encode()) == expected

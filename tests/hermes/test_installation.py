"""Where Hermes is, and which Python runs it: launchers of all kinds, and plugins where Hermes finds them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hermes_tui.hermes import installation
from hermes_tui.hermes.installation import (
    Launcher,
    ask_launcher,
    ask_python,
    find_launcher,
    find_python,
    hermes_config,
    plugins_in,
)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "user" / ".hermes"


def test_the_launcher_is_found_on_path_or_where_installers_put_it(home: Path, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path / "user"), "PATH": str(tmp_path / "bin")}
    assert find_launcher(home, None, environment) is None
    last = script(home / "hermes-agent/venv/bin/hermes", "")
    assert find_launcher(home, None, environment) == last
    user = script(tmp_path / "user/.local/bin/hermes", "")
    assert find_launcher(home, None, environment) == user
    first = script(tmp_path / "bin/hermes", "")
    assert find_launcher(home, None, environment) == first
    assert find_launcher(home, "/somewhere/hermes", environment) == Path("/somewhere/hermes")


@pytest.mark.parametrize(
    ("text", "version", "directory", "error"),
    [
        (
            "echo 'Hermes Agent v0.19.0 (2026.7.20)'\necho 'Install directory: /a b/c '",
            "0.19.0",
            "/a b/c",
            "",
        ),
        ("echo 'Hermes Agent v1.2.3-rc1 · upstream 0a1b'", "1.2.3-rc1", None, ""),
        ("echo warning >&2; echo hermes 0.21", "0.21", None, ""),
        ("echo no such thing", "", None, ""),
        ("echo 'cannot import name x'; exit 7", "", None, "ended with 7: cannot import name x"),
    ],
)
def test_what_it_says_of_itself(
    tmp_path: Path, text: str, version: str, directory: str | None, error: str
) -> None:
    found = ask_launcher(script(tmp_path / "hermes", f"#!/bin/sh\n{text}\n"))
    assert (found.version, found.directory) == (version, Path(directory) if directory else None)
    assert error in found.error
    assert bool(found.error) is bool(error)


def test_a_launcher_that_cannot_be_run_or_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot be run" in ask_launcher(tmp_path / "gone").error
    monkeypatch.setattr(installation, "_ANSWER_S", 0.2)
    assert "did not answer" in ask_launcher(script(tmp_path / "hermes", "#!/bin/sh\nexec sleep 30\n")).error


def test_its_python_by_what_it_says_its_first_line_and_its_usual_place(home: Path, tmp_path: Path) -> None:
    def python(folder: str) -> Path:
        return script(tmp_path / folder / "bin/python", "")

    launcher = script(tmp_path / "bin/hermes", "#!/bin/sh\n")
    assert find_python(Launcher(launcher), home) is None
    usual = script(home / "hermes-agent/venv/bin/python", "")
    assert find_python(Launcher(launcher), home) == (usual, "it is where Hermes' installer puts it")
    handed = python("handed")
    script(launcher, f'#!/bin/sh\nset -e\nexec "{handed.parent}/hermes" "$@"\n')
    assert find_python(Launcher(launcher), home) == (handed, f"the first line of {launcher} names it")
    first = python("first")
    script(launcher, f"#!{first} -E\n")
    assert (find_python(Launcher(launcher), home) or ("",))[0] == first
    packaged = python("packaged")
    site = tmp_path / "packaged/lib/python3.11/site-packages"
    assert (find_python(Launcher(launcher, directory=site), home) or ("",))[0] == packaged
    checkout = script(tmp_path / "checkout/venv/bin/python", "")
    assert (find_python(Launcher(launcher, directory=tmp_path / "checkout"), home) or ("",))[0] == checkout


def test_a_python_tells_what_it_can_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"json": "not-a-package", "yaml": "PyYAML", "no_such_module": "no-such-package"}
    monkeypatch.setattr(installation, "PACKAGES", modules)
    found = ask_python(Path(sys.executable), "said")
    assert (found.error, found.how) == ("", "said")
    assert found.packages["not-a-package"] == ("", "")
    version, error = found.packages["PyYAML"]
    assert (bool(version), error) == (True, "")
    assert found.packages["no-such-package"][0] is None
    assert "no_such_module" in found.packages["no-such-package"][1]
    assert "cannot be run" in ask_python(tmp_path / "gone", "").error
    assert "ended with 3" in ask_python(script(tmp_path / "python", "#!/bin/sh\nexit 3\n"), "").error


def test_plugins_are_found_as_hermes_finds_them(home: Path) -> None:
    for folder, text in {
        "hermes_otel": "name: hermes_otel\nversion: '1.0'\n",
        "observability/other": "name: some-other\nversion: 2\n",
        "nameless": "version: 1\n",
        "broken": "a: [\n",
        "__pycache__": "name: never\n",
    }.items():
        script(home / "plugins" / folder / "plugin.yaml", text)
    (home / "plugins" / "empty" / "too" / "deep").mkdir(parents=True)
    found = {each.name: each for each in plugins_in(home)}
    assert set(found) == {"hermes_otel", "some-other", "nameless", "broken"}
    assert found["some-other"].names == {"some-other", "observability/other"}
    assert (found["hermes_otel"].version, found["some-other"].version) == ("1.0", "2")
    assert plugins_in(home / "nowhere") == []


@pytest.mark.parametrize(
    ("text", "enabled", "disabled", "error"),
    [
        (None, None, set(), ""),
        ("", None, set(), ""),
        ("plugins:\n  enabled: [a, 1]\n  disabled: [b]\n", {"a", "1"}, {"b"}, ""),
        ("plugins: {enabled: a}\n", None, set(), ""),
        ("plugins: [a]\n", None, set(), ""),
        ("plugins: {enabled: []}\n", set(), set(), ""),
        ("- a\n", None, set(), "expected names and values"),
        ("a: [\n", None, set(), "not valid YAML (line 2)"),
    ],
)
def test_hermes_own_configuration(
    home: Path, text: str | None, enabled: set[str] | None, disabled: set[str], error: str
) -> None:
    if text is not None:
        script(home / "config.yaml", text)
    found = hermes_config(home)
    assert (found.enabled, found.disabled, found.exists) == (enabled, disabled, text is not None)
    assert error in found.error
    assert bool(found.error) is bool(error)


def test_base_url(home: Path) -> None:
    script(home / "config.yaml", "model: {base_url: 'http://localhost:5000/gateway/mlflow/v1'}\n")
    assert hermes_config(home).base_url == "http://localhost:5000/gateway/mlflow/v1"

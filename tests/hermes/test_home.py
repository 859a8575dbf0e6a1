"""Where Hermes' homes are, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_tui.hermes.home import Home, homes, root


def test_the_home_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert root({}) == tmp_path / ".hermes"
    assert root({"HERMES_HOME": " "}) == tmp_path / ".hermes"
    assert root({"HERMES_HOME": "~/other"}) == tmp_path / "other"
    assert root({"HERMES_HOME": "/h/profiles/work"}) == Path("/h")


def test_profiles_are_homes_too(tmp_path: Path) -> None:
    for name in ("work", "lab", ".deleted", "gone"):
        (tmp_path / "profiles" / name).mkdir(parents=True)
    (tmp_path / "profiles" / ".deleted" / "gone").write_text("deleted\n", encoding="utf-8")
    (tmp_path / "profiles" / "notes.txt").write_text("", encoding="utf-8")
    for named in (tmp_path, tmp_path / "profiles" / "work"):
        assert homes(environment={"HERMES_HOME": str(named)}) == [
            Home("default", tmp_path),
            Home("lab", tmp_path / "profiles" / "lab"),
            Home("work", tmp_path / "profiles" / "work"),
        ]


def test_no_two_homes_have_one_name(tmp_path: Path) -> None:
    for base in ("a", "b", "c/b"):
        (tmp_path / base / "profiles" / "work").mkdir(parents=True)
    found = homes(
        [tmp_path / "b", tmp_path / "c" / "b", tmp_path / "a"], {"HERMES_HOME": str(tmp_path / "a")}
    )
    assert [home.name for home in found] == [
        "default",
        "work",
        "b/default",
        "b/work",
        f"{tmp_path / 'c' / 'b'}/default",
        f"{tmp_path / 'c' / 'b'}/work",
    ]


def test_a_home_that_is_not_there_has_no_profiles(tmp_path: Path) -> None:
    (found,) = homes(environment={"HERMES_HOME": str(tmp_path / "none")})
    assert found.state_db == tmp_path / "none" / "state.db"

"""The rooms of the house: what may know what, and what a start must not load."""

from __future__ import annotations

import ast
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hermes_tui.model

ROOT = Path(__file__).parents[1]
HEAVY = {"aiohttp", "google.protobuf", "grpc", "opentelemetry", "textual"}
MODEL = [f"hermes_tui.model.{module.name}" for module in pkgutil.iter_modules(hermes_tui.model.__path__)]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_import_contracts_hold() -> None:
    script = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = run("-c", script, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def loaded_by(*modules: str) -> set[str]:
    """Every module that a fresh interpreter has loaded after importing these."""
    done = run("-c", f"import sys, {', '.join(modules)}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("modules", "never"),
    [
        pytest.param(["hermes_tui.journal.reader", *MODEL], HEAVY | {"yaml"}, id="reading the journal"),
        pytest.param(MODEL, HEAVY | {"yaml", "sqlite3"}, id="the model"),
        pytest.param(["hermes_tui.neutral", "hermes_tui.settings"], HEAVY | {"yaml"}, id="settings"),
        pytest.param(["hermes_tui.cli"], HEAVY | {"yaml"}, id="the commands"),
        pytest.param(
            ["hermes_tui.commands.now", "hermes_tui.hermes.now"],
            HEAVY | {"asyncio", "importlib.resources", "rich.console", "yaml"},
            id="what runs now",
        ),
        pytest.param(["hermes_tui.tui.app"], {"aiohttp", "google.protobuf", "grpc"}, id="the pane"),
        pytest.param(["hermes_tui.relay.service"], {"textual"}, id="the relay"),
    ],
)
def test_a_start_loads_only_what_it_needs(modules: list[str], never: set[str]) -> None:
    assert not loaded_by(*modules) & never


@pytest.mark.parametrize("module", MODEL)
def test_the_model_knows_the_standard_library_and_msgspec(module: str) -> None:
    """import-linter forbids what is named in its contract; this forbids everything else too. Values are
    `msgspec.Struct`: a dataclass takes a millisecond of each start to define, and ten times as long to make.
    """
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
    free = {*sys.stdlib_module_names, "msgspec"}
    foreign = {name for name in found if name.split(".")[0] not in free}
    assert all(name.startswith("hermes_tui.model.") for name in foreign), foreign

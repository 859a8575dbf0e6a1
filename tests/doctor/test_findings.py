"""Each finding provoked for real, and cleared by doing exactly what its fix says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hermes_tui.doctor.finding import Verdict
from tests.doctor.stage import OLD, Stage, is_well

pytestmark = pytest.mark.process

BAD, WARN = Verdict.BAD, Verdict.WARN
SECRET = "hunter2-hunter2"


@dataclass(frozen=True)
class Row:
    """`provoke` makes it wrong; then `finding` has this verdict and these words, and its fix clears it."""

    name: str
    finding: str
    verdict: Verdict
    words: str
    provoke: Callable[[Stage], object]
    clear: bool = True


def no_plugin(stage: Stage) -> None:
    stage.config(plugins={"enabled": []})
    for file in (stage.home / "plugins" / "hermes_otel").iterdir():
        file.unlink()


def other_python(stage: Stage, modules: str) -> Path:
    """A Python of its own in which only some things can be imported, with a pip that gives the rest."""
    folder = stage.folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "pip").mkdir()
    (packages / "pip" / "__main__.py").write_text(
        "import pathlib, sys\n"
        "assert sys.argv[1] == 'install', sys.argv\n"
        f"pathlib.Path({str(packages / 'all.pth')!r}).write_text({chr(10).join(theirs)!r})\n",
        encoding="utf-8",
    )
    (packages / "yaml.py").write_text(modules, encoding="utf-8")
    stage.python = folder / "bin" / "python"
    return packages


def no_packages(stage: Stage) -> None:
    packages = other_python(stage, "")
    (packages / "yaml.py").unlink()
    stage.python = Path(sys.executable)
    stage.install_hermes(str(packages))  # it runs elsewhere, and says where its own Python is


def mismatch(stage: Stage) -> None:
    """An old plugin in a home of its own: it looks into ~/.hermes whatever HERMES_HOME says."""
    other = stage.folder / "elsewhere"
    stage.patch.setenv("HERMES_HOME", str(other))
    stage.home.rename(other)
    stage.home = other
    stage.plugin(OLD)
    (other / "hermes_otel.yaml").unlink()
    stage.otel(path=other / "plugins" / "hermes_otel" / "config.yaml")


ROWS = [
    Row("not found", "hermes", BAD, "is not found", lambda s: (s.bin / "hermes").unlink(), clear=False),
    Row(
        "does not run", "hermes", BAD, "does not run",
        lambda s: s.program("hermes", "#!/bin/sh\nexit 3\n"), clear=False,
    ),
    Row("no home", "hermes", BAD, "has no home", lambda s: s.home.rename(s.folder / "away")),
    Row("no plugin", "plugin", BAD, "No plugin", no_plugin),
    Row("not enabled", "plugin enabled", BAD, "not enabled", lambda s: s.config(plugins={"enabled": []})),
    Row("no list", "plugin enabled", BAD, "not enabled", lambda s: s.config(model={})),
    Row(
        "disabled", "plugin enabled", BAD, "plugins.disabled wins",
        lambda s: s.config(plugins={"enabled": ["hermes_otel"], "disabled": ["hermes_otel"]}),
    ),
    Row("packages", "packages", BAD, "cannot import", no_packages),
    Row("home mismatch", "configuration", BAD, "does not look into", mismatch),
    Row(
        "missing named file", "configuration", BAD, "which is not there",
        lambda s: s.patch.setenv("HERMES_OTEL_CONFIG", str(s.folder / "gone.yaml")),
    ),
    Row(
        "missing file named in .env", "configuration", BAD, "which is not there",
        lambda s: s.write(s.home / ".env", "A=1\nexport HERMES_OTEL_CONFIG=/gone.yaml\nB=2\n"),
    ),
    Row(
        "broken YAML", "configuration", BAD, "line 3",
        lambda s: s.write(s.home / "hermes_otel.yaml", "a: 1\nb: [1\n"),
    ),
    Row(
        "a list", "configuration", BAD, "cannot be used",
        lambda s: s.write(s.home / "hermes_otel.yaml", "- a\n"),
    ),
    Row(
        "two files", "configuration", WARN, "ignored",
        lambda s: s.otel(path=s.home / "plugins" / "hermes_otel" / "config.yaml"),
    ),
    Row(
        "LangSmith", "configuration", BAD, "LangSmith",
        lambda s: (s.patch.setenv("LANGSMITH_TRACING", "true"), s.patch.setenv("LANGSMITH_API_KEY", "x")),
    ),
    Row(
        "nothing", "configuration", BAD, "no configuration",
        lambda s: (s.home / "hermes_otel.yaml").unlink(),
    ),
    Row(
        "no backend", "configuration", BAD, "names no backend",
        lambda s: s.write(s.home / "hermes_otel.yaml", "enabled: true\n"),
    ),
    Row(
        "past the relay", "endpoint", BAD, "does not send to the relay",
        lambda s: s.otel(backend={"endpoint": f"{s.mlflow.url}/v1/traces"}),
    ),
    Row("path", "endpoint", BAD, "lacks /v1/traces", lambda s: s.otel(backend={"endpoint": f"http://localhost:{s.port}"})),
    Row("no traces", "endpoint", BAD, "traces switched off", lambda s: s.otel(backend={"traces": False})),
    Row("no experiment", "experiment set", BAD, "422", lambda s: s.otel(backend={"headers": {}})),
    Row(
        "name of an experiment", "experiment set", BAD, "not the number",
        lambda s: s.otel(backend={"headers": {"x-mlflow-experiment-id": "hermes"}}),
    ),
    Row("off", "switched on", BAD, "switched off", lambda s: s.otel(enabled=False)),
    Row(
        "off by variable", "switched on", BAD, "switched off",
        lambda s: s.patch.setenv("HERMES_OTEL_ENABLED", "no"),
    ),
    Row(
        "off in .env", "switched on", BAD, "switched off",
        lambda s: s.write(s.home / ".env", "HERMES_OTEL_ENABLED=0\n"),
    ),
    Row("proxy", "proxy", BAD, "go to a proxy", lambda s: s.patch.setenv("http_proxy", "http://127.0.0.1:1")),
    Row("sampled", "sampling", WARN, "25%", lambda s: s.otel(sample_rate=0.25)),
    Row("nothing sampled", "sampling", BAD, "sample_rate is 0", lambda s: s.otel(sample_rate=0)),
    Row("previews", "content", WARN, "no commands", lambda s: s.otel(capture_previews=False)),
    Row("content", "content", WARN, "no commands", lambda s: s.otel(content_capture="off")),
    Row("limits", "limits", WARN, "1,200", lambda s: s.otel(tool_output_preview_max_chars=1200)),
    Row("default limit", "limits", WARN, "1,200", lambda s: s.otel(tool_output_preview_max_chars=None)),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_finding_about_hermes_is_cleared_by_its_fix(stage: Stage, row: Row) -> None:
    assert is_well(stage.ask(row.finding)), "it must be well at first"
    row.provoke(stage)
    found = stage.ask(row.finding)
    assert (found.verdict, row.words in found.finding) == (row.verdict, True), found
    assert found.proof
    assert found.fix is not None
    if row.clear:
        stage.follow(found.fix)
        again = stage.ask(row.finding)
        assert is_well(again), again


def test_a_hermes_that_was_started_before_its_configuration_changed(stage: Stage) -> None:
    stage.program(
        "hermes",
        f"#!{sys.executable}\nimport sys, time\n"
        "print('Hermes Agent v0.19.0', flush=True)\n"
        "'--version' in sys.argv or time.sleep(60)\n",
    )
    process = subprocess.Popen([stage.bin / "hermes"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        path = stage.otel()
        future = time.time() + 5
        os.utime(path, (future, future))
        found = stage.ask("restarted")
        assert (found.verdict, f"pid {process.pid}" in found.finding) == (WARN, True), found
        stage.follow(found.fix)
        assert process.wait(20) == -signal.SIGTERM
        assert is_well(stage.ask("restarted"))
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_another_plugin_is_set_by_variables(stage: Stage) -> None:
    stage.plugin({"plugin.yaml": "name: otel_tracing\nversion: 0.1.1\n"}, "otel_tracing")
    stage.config(plugins={"enabled": ["otel_tracing"]})
    found = stage.examine()
    assert is_well(found["plugin"])
    assert "otel_tracing 0.1.1" in found["plugin"].finding
    configured = found["configuration"]
    assert (configured.verdict, "console" in configured.finding) == (BAD, True)
    stage.follow(configured.fix)
    found = stage.examine()
    assert is_well(found["configuration"])
    named = found["experiment set"]
    assert (named.verdict, "422" in named.finding) == (BAD, True)
    stage.follow(named.fix)
    named = stage.ask("experiment set")
    assert (is_well(named), named.finding) == (True, "the relay names experiment 1")


def test_another_plugins_headers_are_its_exporters_and_the_probe_has_them(stage: Stage) -> None:
    stage.plugin({"plugin.yaml": "name: otel_tracing\nversion: 0.1.1\n"}, "otel_tracing")
    stage.config(plugins={"enabled": ["otel_tracing"]})
    said = f"authorization=Basic%20{SECRET}, X-MLflow-Experiment-Id=1,x-other=2"
    stage.write(stage.home / ".env", f"HERMES_OTEL_EXPORTER=otlp\nOTEL_EXPORTER_OTLP_HEADERS={said}\n")
    stage.start()
    found = stage.examine(probe=True)
    assert found["experiment set"].finding == "otel_tracing names experiment 1"
    assert is_well(found["experiment"])
    assert is_well(found["probe span"])
    sent = stage.mlflow.posts[0].headers
    assert (sent["x-mlflow-experiment-id"], sent["authorization"]) == ("1", f"Basic {SECRET}")
    assert "x-other" not in sent
    assert SECRET not in str([each.record() for each in found.values()])


def test_the_older_plugin_says_its_real_version_and_where_it_looks(stage: Stage) -> None:
    stage.plugin({**OLD, ".release-please-manifest.json": '{".": "0.11.0"}'})
    found = stage.ask("plugin")
    assert is_well(found)
    assert "0.11.0" in found.finding
    assert "0.11 and older" in found.proof


def test_the_python_of_a_package_is_found_by_what_hermes_says_of_itself(stage: Stage) -> None:
    packages = other_python(stage, "")
    stage.python = Path(sys.executable)
    stage.install_hermes(str(packages))
    found = stage.ask("python")
    assert is_well(found)
    assert str(packages.parents[2] / "bin" / "python") in found.proof

"""The address of a trace's page, against the pages that a real MLflow serves."""

from __future__ import annotations

import json
import urllib.request
from urllib.parse import parse_qs, urlsplit

import pytest

from hermes_tui.tui import mlflow_page
from tests.processes import MLflowServer
from tests.support import trace_id

pytestmark = [pytest.mark.mlflow, pytest.mark.xdist_group("mlflow"), pytest.mark.timeout(600)]


def fetch(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=60) as answer:
        text: str = answer.read().decode("utf-8", "replace")
        return text


def test_mlflow_knows_the_route_and_its_parameters(mlflow: MLflowServer) -> None:
    """Its pages are scripts that only a browser runs: what they hold must name all that the address does."""
    page = urlsplit(mlflow_page.address(trace_id(1), mlflow.url, "1", "w"))
    assert "<html" in fetch(f"{mlflow.url}{page.path}")
    fragment = urlsplit(page.fragment)
    assert fragment.path == "/experiments/1/traces"
    manifest = json.loads(fetch(f"{mlflow.url}/static-files/asset-manifest.json"))
    scripts = [name for name in manifest["files"].values() if name.endswith(".js")]
    found = set()
    wanted = {f'"{name}"' for name in parse_qs(fragment.query)} | {
        '"/experiments/:experimentId/traces"',
        '"ALL"',
    }
    for name in scripts:
        text = fetch(f"{mlflow.url}/{name.lstrip('./')}")
        found |= {each for each in wanted - found if each in text}
        if found == wanted:
            return
    assert found == wanted

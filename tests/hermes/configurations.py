"""Configurations of hermes-otel as people write them: what setup must do to each, or why it must not."""

from __future__ import annotations

from dataclasses import dataclass

RELAY = "http://127.0.0.1:4318"
TRACES = f"{RELAY}/v1/traces"
SECRET = "hunter2-hunter2"

ENVIRONMENT = {
    "MLFLOW_BASE": "http://mlflow.example:5000",
    "MLFLOW_URL": "http://mlflow.example:5000/v1/traces",
    "ML_TOKEN": SECRET,
    "OTEL_MLFLOW_ENDPOINT": "http://env.example:5000",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A file. `old` becomes `new` and nothing else changes; or it is refused for a reason."""

    name: str
    content: bytes
    old: str = ""
    new: str = ""
    refused: str = ""
    base: str = "http://localhost:5000"
    backend: str | None = None


def _case(name: str, text: str, old: str = "", new: str = "", **more: str) -> Case:
    return Case(name, text.encode(), old, new, **more)


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
      x-mlflow-experiment-id: "1"
"""
WRITTEN = PAGE.replace("_history: true\n", "_history: true\ntool_output_preview_max_chars: 20000\n")
"""What setup writes where there is nothing: the page's, and enough of an output to hold its exit code."""
OLD = "http://localhost:5000/v1/traces"

COMMENTED = """\
# ── my telemetry ──────────────────────────  keep this!
enabled: true            # kill switch

backends:                # one only
  # the team's server; ask Öykü before you change it 🙂
  - type: otlp           # not "mlflow": old plugin
    endpoint:   http://localhost:5000/v1/traces     # http://old:5000/v1/traces
    # token: hunter2-hunter2
    headers: { x-mlflow-experiment-id: '12' }   # hermes
  # - type: jaeger
  #   endpoint: http://localhost:5000/v1/traces
# the end
"""

FANOUT = """\
preview_max_chars: 4000
tool_output_preview_max_chars: 20000
backends:
- type: phoenix
  endpoint: http://localhost:6006/v1/traces
- type: otlp
  name: mlflow-prod
  endpoint: 'https://ml.example/mlflow/v1/traces'
  metrics: off
  headers:
    Authorization: "Bearer ${ML_TOKEN}"
    x-mlflow-experiment-id: "44"
- type: langfuse
  public_key_env: LANGFUSE_PUBLIC_KEY
  secret_key: hunter2-hunter2
  base_url: https://cloud.langfuse.com
"""

ANCHORED = """\
x-quiet: &quiet
  metrics: false
  logs: false
x-mlflow: &mlflow
  <<: *quiet
  type: otlp
  endpoint: &where http://localhost:5000/v1/traces
  headers: &id {x-mlflow-experiment-id: "1"}
backends:
  - *mlflow
  - <<: *quiet
    type: jaeger
    endpoint: http://localhost:14318/v1/traces
"""

MERGED = """\
x-base: &base
  type: otlp
  endpoint: http://localhost:5000/v1/traces
  headers: {x-mlflow-experiment-id: "1"}
backends:
  - <<: *base
    name: mlflow
"""

SHARED = """\
x-url: &url http://localhost:5000/v1/traces
backends:
  - type: otlp
    endpoint: *url   # see above
    headers: {x-mlflow-experiment-id: "1"}
  - type: otlp
    name: spare
    endpoint: *url
"""

ONE_VALUE_TWICE = """\
backends:
  - type: otlp
    endpoint: &url http://localhost:5000/v1/traces
    headers: {x-mlflow-experiment-id: "1"}
  - type: otlp
    name: spare
    endpoint: *url
"""

TWO = """\
backends:
  - {type: mlflow, name: home, endpoint: "http://localhost:5000", experiment_id: 3}
  - {type: mlflow, name: work, endpoint: "https://ml.example", experiment_id: 9}
"""

CASES: tuple[Case, ...] = (
    _case("mlflow's page", PAGE, OLD, TRACES),
    _case("comments everywhere", COMMENTED, f"  {OLD} ", f"  {TRACES} "),
    _case("windows line endings", PAGE.replace("\n", "\r\n"), OLD, TRACES),
    _case("mixed line endings", PAGE.replace("\n", "\r\n", 4), OLD, TRACES),
    _case(
        "no newline at the end",
        "backends: [{type: mlflow, endpoint: http://localhost:5000}]",
        "http://localhost:5000",
        RELAY,
    ),
    _case("byte order mark", "\ufeff" + PAGE, OLD, TRACES),
    _case(
        "flow style",
        '{enabled: yes, backends: [{type: otlp, headers: {x-mlflow-experiment-id: "1"}, '
        'endpoint: "http://localhost:5000/v1/traces", name: m}]}\n',
        OLD,
        TRACES,
    ),
    _case(
        "several backends",
        FANOUT,
        "https://ml.example/mlflow/v1/traces",
        TRACES,
        base="https://ml.example/mlflow",
    ),
    _case("anchored backend", ANCHORED, OLD, TRACES),
    _case("merged backend", MERGED, "    name: mlflow\n", f"    name: mlflow\n    endpoint: {TRACES}\n"),
    _case("an alias as the value", SHARED, "endpoint: *url   #", f"endpoint: {TRACES}   #"),
    _case("one anchor for two", ONE_VALUE_TWICE, refused="more than this value"),
    _case(
        "type mlflow",
        "backends:\n  - type: mlflow\n    endpoint: http://localhost:5000/\n    workspace: team\n",
        "http://localhost:5000/",
        RELAY,
    ),
    _case(
        "type mlflow from the environment",
        "backends:\n  - type: mlflow   # see .env\n    api_key_env: ML_TOKEN\n",
        "# see .env\n",
        f"# see .env\n    endpoint: {RELAY}\n",
        base="http://env.example:5000",
    ),
    _case(
        "type mlflow without anything",
        "backends: [{type: mlflow}]\n",
        "mlflow}",
        f"mlflow, endpoint: '{RELAY}'}}".replace("'", ""),
        base="http://env.example:5000",
    ),
    _case(
        "a reference as the endpoint",
        PAGE.replace(OLD, "${MLFLOW_URL}"),
        "${MLFLOW_URL}",
        TRACES,
        base="http://mlflow.example:5000",
    ),
    _case(
        "a reference within the endpoint",
        PAGE.replace(OLD, "'${MLFLOW_BASE}/v1/traces'"),
        "${MLFLOW_BASE}/v1/traces",
        TRACES,
        base="http://mlflow.example:5000",
    ),
    _case(
        "tabs where PyYAML allows them",
        PAGE.replace("traces\n", "traces  #\there\t\n").replace("name: mlflow", "name: 'ml\tflow'"),
        OLD,
        TRACES,
    ),
    _case("tabs as indentation", PAGE.replace("    endpoint", "\tendpoint"), refused="not valid YAML"),
    _case(
        "a document marker and a tag",
        "%YAML 1.1\n---\n" + PAGE.replace("endpoint: ", "endpoint: !!str ") + "...\n",
        OLD,
        TRACES,
    ),
    _case("a folded value", PAGE.replace(OLD, f">-\n      {OLD}"), f">-\n      {OLD}", TRACES),
    _case(
        "a folded value with a comment",
        PAGE.replace(OLD, f">- # mine\n      {OLD}"),
        refused="a block of text with a comment",
    ),
    _case(
        "credentials in the address",
        PAGE.replace("//", "//me:hunter2-hunter2@"),
        f"http://me:{SECRET}@localhost:5000/v1/traces",
        TRACES,
        base=f"http://me:{SECRET}@localhost:5000",
    ),
    _case(
        "two that could be meant", TWO, "https://ml.example", RELAY, base="https://ml.example", backend="work"
    ),
    _case("`backends` twice", "backends: []\n" + PAGE, OLD, TRACES),
    _case(
        "the endpoint twice",
        PAGE.replace("    metrics", "    endpoint: http://last:5000/v1/traces\n    metrics"),
        "http://last:5000/v1/traces",
        TRACES,
        base="http://last:5000",
    ),
    _case(
        "explicit keys",
        "? backends\n: - type: otlp\n    ? endpoint\n    : http://localhost:5000/v1/traces\n"
        '    headers: {x-mlflow-experiment-id: "1"}\n',
        OLD,
        TRACES,
    ),
    _case("broken", PAGE + "  oops: [\n", refused="not valid YAML"),
    _case("two documents", PAGE + "---\n" + PAGE, refused="not valid YAML"),
    _case("a list", "- type: otlp\n", refused="expected names and values"),
    _case("cyclic", "a: &a [*a]\n" + PAGE, refused="more than this value"),
    Case("not utf-8", PAGE.encode("utf-16"), refused="not UTF-8"),
)

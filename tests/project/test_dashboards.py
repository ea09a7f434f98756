"""The Grafana dashboard and the alert rules name metrics and labels that really exist."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from asynq_ttl.events import FailOpen
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.rewriting.registry import ScriptRegistry, Status
from asynq_ttl.sidecar.cluster_nodes import ClusterNodes
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.upstream.cluster import Member
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from support.in_process import make_sidecar
from support.paths import DEPLOY
from support.recorded import START, activated, adopted, failed_open, outcome, sidecar, swept
from support.small_scripts import ARCHIVE

DASHBOARD = json.loads((DEPLOY / "grafana" / "asynq-ttl.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]

# Labels that Prometheus itself adds to what it scrapes, and those of a histogram.
_SCRAPED = {"job", "instance", "le"}
_METRIC = re.compile(r"\b((?:asynq_ttl|process)_[a-z_]+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_TEMPLATE = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Each metric that a busy sidecar exposes, with its labels."""
    busy = sidecar(pulled=True)
    telemetry = busy.telemetry
    telemetry.decided(outcome())
    telemetry.decided(outcome(b":3", operation="run", task_id="", state="pending"))
    telemetry.failed_open(failed_open(FailOpen.MESSAGE))
    telemetry.swept(swept("a", ghosts=1))
    telemetry.adopted(adopted("a"))
    telemetry.sweep_ended(0.1, "")
    telemetry.sweep_ended(0.1, "x")
    busy.sweeper.failures.refusals["0"] += 1
    busy.background.failures["the sweeper"] += 1
    script = ScriptRegistry().learn(ARCHIVE)
    busy.registry.learn(ARCHIVE).status = Status.ACTIVE
    telemetry.activated(activated(script))
    telemetry.reloaded("abc", "enforce", START, "")
    telemetry.measured(10_000, "command")
    telemetry.measured(10_000, "reply")
    telemetry.loop_late(0.001)
    telemetry.spans.exported["ok"] += 1
    busy.nodes = nodes_of_one(busy.sweeper)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(telemetry.metrics.text("")[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    telemetry.shutdown()
    return found


def nodes_of_one(sweeper: Sweeper) -> ClusterNodes:
    """Return the nodes of a cluster that has one, which is swept."""
    nodes = make_sidecar("redis+cluster://127.0.0.1:1", cluster_ports=range(6400, 6401)).nodes
    assert nodes is not None
    endpoint, registry = Endpoint(parse_upstream("redis://127.0.0.1:1")), ScriptRegistry()
    member = Member("a", endpoint, registry, ControlConnection(endpoint, registry, lambda _told: None))
    nodes.cluster.members["a"] = member
    nodes.table.enlist(member)
    nodes._sweepers[member] = sweeper
    return nodes


def expressions() -> Iterator[tuple[str, str, str]]:
    """Yield where an expression is from, the expression, and the text that names its labels."""
    for rule in RULES:
        yield rule["alert"], rule["expr"], " ".join(rule["annotations"].values())
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], annotation["textFormat"]
    for variable in DASHBOARD["templating"]["list"][1:]:
        yield variable["name"], variable["query"]["query"], ""


def test_every_expression_is_about_what_exists(exposed: dict[str, set[str]]) -> None:
    """Each metric is one of the sidecar's, and so is each label that is matched, grouped by, or shown."""
    checked = 0
    for where, expression, text in expressions():
        metrics = _METRIC.findall(_GROUPED.sub("", expression))
        assert metrics, where
        known = set(_SCRAPED)
        for name, matchers in metrics:
            assert name in exposed, f"{where}: there is no metric {name}"
            known |= exposed[name]
            named = set(re.findall(r"(\w+)\s*=", matchers))
            assert named <= exposed[name] | _SCRAPED, f"{where}: {name} has no such label"
            checked += 1
        grouped = {label.strip() for labels in _GROUPED.findall(expression) for label in labels.split(",")}
        assert grouped | set(_TEMPLATE.findall(text)) <= known, where
    assert checked > 40


def test_each_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    """What is worth counting is worth seeing."""
    declared = sidecar().telemetry.metrics.declared
    shown = " ".join(expression for _, expression, _ in expressions())
    # When a sweep was last is for whoever looks at one sidecar; how long loading takes, for a histogram of one's own.
    missing = {name for name in declared if name.replace(".", "_") not in shown}
    assert missing == {"asynq_ttl.sweep.last", "asynq_ttl.watchers.dropped"}


def test_the_alerts_that_are_asked_for() -> None:
    """Fail-open, sweeper behind, upstream down, reload failed; each says what is the matter and how bad it is."""
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert {"AsynqTtlFailsOpen", "AsynqTtlSweeperBehind", "AsynqTtlUpstreamDown", "AsynqTtlReloadFailed"} <= set(names)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_dashboards_panels_do_not_overlap() -> None:
    """Each has a place, an ID and a title of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

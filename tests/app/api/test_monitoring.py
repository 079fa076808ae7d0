"""Dashboard, alerts and documentation speak of what is exported, and leave nothing out."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.app.api.conftest import Api

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "docker/grafana/secateur.json"
RULES = ROOT / "docker/prometheus/alerts.yml"
OPERATIONS = ROOT / "docs/operations.md"
NAME = re.compile(r"\b((?:secateur|process|python)_[a-z_]+)\b(?:\{([^}]*)\})?")
LABEL = re.compile(r"([a-z_]+)\s*=~?\s*\"([^\"]*)\"")
GROUPED = re.compile(r"by \(([^)]*)\)")
SCRAPED = {"job", "instance", "le"}
"""Labels that Prometheus adds, and a histogram's own."""


@pytest.fixture(scope="module")
def exported(api: Api) -> dict[str, str]:
    """Sample names → the type of their family; also of those without any sample so far."""
    found = {}
    for family in text_string_to_metric_families(api.get("/metrics").text):
        suffixes = {
            "histogram": ("_bucket", "_sum", "_count"),
            "counter": ("_total",),
        }.get(family.type, ("",))
        found |= {family.name + suffix: family.type for suffix in suffixes}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def documented() -> dict[str, tuple[str, set[str]]]:
    """Of the table of metrics: name → type and labels."""
    rows = re.findall(
        r"^\| `(secateur_[a-z_]+)` \| (\w+) \|([^|]*)\|", OPERATIONS.read_text(), re.MULTILINE
    )
    return {name: (kind, set(re.findall(r"`([a-z]+)`", labels))) for name, kind, labels in rows}


def test_every_metric_of_a_query_is_exported(exported: dict[str, str]) -> None:
    for where, expression in expressions():
        names = [name for name, _ in NAME.findall(expression)]
        assert names or expression.startswith("up{"), (where, expression)
        assert set(names) <= exported.keys(), (where, set(names) - exported.keys())


def test_queries_select_and_group_by_labels_that_there_are() -> None:
    labels = {name: known for name, (_, known) in documented().items()}
    for where, expression in expressions():
        for name, selected in NAME.findall(expression):
            if not name.startswith("secateur_"):
                continue
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            known = labels[family] | SCRAPED
            used = {label for label, _ in LABEL.findall(selected)}
            assert used <= known, (where, used - known)
        grouped = {g.strip() for group in GROUPED.findall(expression) for g in group.split(",")}
        families = {re.sub(r"_(bucket|sum|count)$", "", n) for n, _ in NAME.findall(expression)}
        known = SCRAPED.union(*(labels.get(family, set()) for family in families))
        assert grouped <= known, (where, grouped - known)


def test_counters_are_read_as_rates_and_gauges_as_they_are(exported: dict[str, str]) -> None:
    for where, expression in expressions():
        for name, _ in NAME.findall(expression):
            changing = re.search(rf"(rate|increase)\({name}\b", expression) is not None
            assert changing is (exported[name] in ("counter", "histogram")), (where, name)


def test_figures_of_all_jobs_are_never_summed_over_api_processes() -> None:
    """Each API process exports the same: a sum would count them as often as there are processes."""
    shared = re.compile(r"secateur_(jobs|job_|attempts|queue|running|workers|reaper|up\b)")
    for where, expression in expressions():
        if shared.search(expression):
            assert re.search(r"max( by \([^)]*\))? ?\(", expression), where


def test_problems_of_alerts_are_problems() -> None:
    from app.services.tallies import SLUGS

    (rule,) = [rule for rule in rules() if rule["alert"] == "SecateurJobsFailByService"]
    named = re.search(r'problem=~"([^"]*)"', rule["expr"])
    assert named is not None
    assert set(named[1].split("|")) <= SLUGS


def test_the_documentation_lists_exactly_what_is_exported(api: Api) -> None:
    found = {}
    for family in text_string_to_metric_families(api.get("/metrics").text):
        if family.name.startswith("secateur_"):
            suffix = "_total" if family.type == "counter" else ""
            found[family.name + suffix] = family.type
    assert {name: kind for name, (kind, _) in documented().items()} == found


def test_the_documentation_names_the_labels(api: Api) -> None:
    # Some have no sample before something happens.
    api.post("/v1/models", files={"file": ("m.keras", b"no model")})
    for family in text_string_to_metric_families(api.get("/metrics").text):
        suffix = "_total" if family.type == "counter" else ""
        if family.name.startswith("secateur_") and family.samples:
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            assert labels == documented()[family.name + suffix][1], family.name


def test_every_alert_has_its_runbook() -> None:
    headings = re.findall(r"^### (Secateur\w+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_the_dashboard_is_one(exported: dict[str, str]) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    shown = {name for _, expression in expressions() for name, _ in NAME.findall(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert set(documented()) <= families, set(documented()) - families

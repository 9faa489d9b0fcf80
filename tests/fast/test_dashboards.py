"""Dashboards and rules: the committed files are the generated ones, and ask only for what is there."""

from __future__ import annotations

import re

import pytest
import yaml

from controller.metrics import Metrics, names
from tools import dashboards

# A metric's name, with the labels that are asked of it.
SELECTOR = re.compile(r"\b(salvus_\w+)(?:\{([^}]*)\})?")


@pytest.mark.parametrize("name", sorted(dashboards.files()))
def test_the_committed_file_is_the_generated_one(name: str) -> None:
    committed = (dashboards.FOLDER / name).read_text()
    assert committed == dashboards.files()[name], "run: python -m tools.dashboards"


@pytest.mark.parametrize("expression", dashboards.expressions())
def test_an_expression_asks_only_for_metrics_that_there_are(expression: str) -> None:
    asked = {name for name, _ in SELECTOR.findall(expression)}
    assert asked
    assert asked <= set(names(Metrics("1")))
    assert all(expression.count(a) == expression.count(b) for a, b in ("()", "[]", "{}"))


def test_every_metric_is_shown() -> None:
    shown = {name for expression in dashboards.expressions() for name, _ in SELECTOR.findall(expression)}
    assert shown == set(names(Metrics("1")))


def test_alerts_have_a_name_of_their_own_a_time_and_a_hint() -> None:
    (group,) = yaml.safe_load(dashboards.files()["rules.yaml"])["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])
    for rule in group["rules"]:
        assert re.fullmatch(r"Salvus[A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["annotations"].keys() == {"summary", "description"}


def test_panels_do_not_overlap() -> None:
    panels = dashboards.dashboard()["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)

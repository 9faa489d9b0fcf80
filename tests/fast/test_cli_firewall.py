"""firewall show and can-reach: what is written, answered without asking a machine."""

from __future__ import annotations

import pytest

from salvusctl.exits import Code
from salvusctl.firewall_outputs import FilterOutput, Reached
from tests.fast.cli import HOST, OTHER, Cli, cli

__all__ = ["cli"]

SERVICES = """
apiVersion: salv.us/v1
kind: Service
metadata: {name: db}
spec:
  machines: {names: [alpha]}
  ports: [{name: cql, port: 9042}]
  clients: [{machines: {selector: {matchLabels: {role: old}}}}]
---
apiVersion: salv.us/v1
kind: Service
metadata: {name: all}
spec: {machines: {selector: {}}}
"""
WALL = """
apiVersion: salv.us/v1
kind: Firewall
metadata: {name: wall}
spec:
  machines: {names: [alpha]}
  ssh: [{cidr: 198.51.100.7}]
  ingress:
  - {name: ping, protocol: icmp, perMinute: 60, log: true}
  - {name: nobody, ports: [80, 8000-8010], from: [{machines: {selector: {matchLabels: {role: none}}}}]}
"""


@pytest.fixture
def files(cli: Cli) -> tuple[str, str]:
    """Two machines, of which one has a firewall."""
    return ("-f", cli.write(HOST, OTHER, SERVICES, WALL))


def test_every_rule_is_shown_with_its_reason(cli: Cli, files: tuple[str, str]) -> None:
    answer = cli("firewall", "show", "alpha", *files)
    assert answer.lines == [
        "DIRECTION ACTION PROTOCOL PORTS PEERS ADDRESSES WHY",
        "ingress allow tcp 22 198.51.100.7/32 198.51.100.7 Firewall/wall spec.ssh",
        "ingress allow (60 a minute, logged) icmp all everybody all Firewall/wall spec.ingress[ping]",
        "ingress allow tcp 80,8000-8010 machines role=none none Firewall/wall spec.ingress[nobody]",
        "ingress allow tcp 9042 machines role=old 192.0.2.2 Service/db spec.ports[cql]",
        "ingress deny any all everybody all Firewall/wall spec.default.ingress",
        "egress allow any all everybody all Firewall/wall spec.default.egress",
    ]
    assert not cli.store.exists()
    assert not cli.machines.machine("alpha").writes


def test_rules_as_json(cli: Cli, files: tuple[str, str]) -> None:
    found = FilterOutput.model_validate(cli("firewall", "show", "alpha", *files, "-o", "json").data)
    assert found.firewalls == ("Firewall/wall",)
    places = [(rule.direction, rule.resource, rule.field) for rule in found.rules]
    assert places[0] == ("ingress", "Firewall/wall", "spec.ssh")
    assert places[3] == ("ingress", "Service/db", "spec.ports[0]")
    assert places[-1] == ("egress", "Firewall/wall", "spec.default.egress")
    assert [rule.addresses for rule in found.rules[:3]] == [("198.51.100.7/32",), None, ()]


def test_a_machine_without_firewall_and_one_that_is_not_there(cli: Cli, files: tuple[str, str]) -> None:
    assert cli("firewall", "show", "beta", *files).out == "no Firewall selects beta: everything is let through\n"
    found = FilterOutput.model_validate(cli("firewall", "show", "beta", *files, "-o", "json").data)
    assert (found.firewalls, found.rules) == ((), ())
    said = cli("firewall", "show", "alpa", *files, code=Code.DIFFERENT).err
    assert "there is no machine 'alpa'; did you mean 'alpha'?" in said


def test_without_manifests_what_is_in_force_counts(cli: Cli, files: tuple[str, str]) -> None:
    cli("firewall", "show", "alpha", code=Code.TROUBLE)
    cli("apply", "--no-wait", "-f", cli.write(HOST, OTHER, SERVICES, name="some.yaml"))
    assert cli("firewall", "show", "alpha").out.startswith("no Firewall selects alpha")
    wall = ("-f", cli.write(WALL, name="wall.yaml"))
    assert "Service/db spec.ports[cql]" in cli("firewall", "show", "alpha", *wall).out
    assert cli("can-reach", "beta", "alpha:80").out.startswith("yes: ")
    assert cli("can-reach", "beta", "alpha:80", *wall, code=Code.DIFFERENT).out.startswith("no: ")


@pytest.mark.parametrize(
    ("words", "code", "way", "ends"),
    [
        (
            ("beta", "alpha:9042"),
            Code.OK,
            "yes: beta (192.0.2.2) → alpha (192.0.2.1), tcp 9042:",
            "out allow (no Firewall selects beta), in allow (Service/db spec.ports[cql])",
        ),
        (
            ("world", "db:22"),
            Code.DIFFERENT,
            "no: world → alpha (192.0.2.1), tcp 22:",
            "out allow (the world is not ours), in deny (Firewall/wall spec.default.ingress)",
        ),
        (
            ("alpha", "world:53/udp"),
            Code.OK,
            "yes: alpha (192.0.2.1) → world, udp 53:",
            "out allow (Firewall/wall spec.default.egress), in allow (the world is not ours)",
        ),
    ],
)
def test_who_reaches_whom(
    cli: Cli, files: tuple[str, str], words: tuple[str, str], code: Code, way: str, ends: str
) -> None:
    assert cli("can-reach", *words, *files, code=code).out == f"{way} {ends}\n"


def test_of_services_each_pair_is_told_and_all_must_do(cli: Cli, files: tuple[str, str]) -> None:
    answer = cli("can-reach", "all", "all:80", *files, code=Code.DIFFERENT)
    assert [line.partition(",")[0] for line in answer.lines] == [
        "yes: alpha (192.0.2.1) → beta (192.0.2.2)",
        "no: beta (192.0.2.2) → alpha (192.0.2.1)",
    ]


def test_who_reaches_whom_as_json(cli: Cli, files: tuple[str, str]) -> None:
    found = Reached.model_validate(cli("can-reach", "world", "alpha", *files, "-o", "json").data)
    assert found.reached
    (path,) = found.paths
    assert (path.source_address, path.destination_address) == (None, "192.0.2.1")
    assert (path.protocol, path.port) == ("icmp", None)
    assert path.egress is not None
    assert (path.egress.resource, path.egress.field) == (None, None)
    assert path.ingress is not None
    assert (path.ingress.resource, path.ingress.field) == ("Firewall/wall", "spec.ingress[0]")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("beta", "alpha:0"), "'alpha:0' is not SUBJECT[:PORT[/udp]], as in cassandra:9042"),
        (("bet", "alpha"), "there is no machine or Service named 'bet'; did you mean 'beta'?"),
    ],
)
def test_what_cannot_be_told_ends_with_another_code_than_no(
    cli: Cli, files: tuple[str, str], words: tuple[str, str], said: str
) -> None:
    assert said in cli("can-reach", *words, *files, code=Code.INPUT).err

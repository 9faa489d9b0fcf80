"""Who reaches whom, by the rules of both ends; tests in manifests; rules that are of no use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.items.rules import Action, Protocol
from resources.base import AnyResource
from resources.fleet import Fleet
from resources.load import load, warnings
from resources.reach import THE_WORLD, Answer, Site, reach, site_of
from resources.reach_claims import Claim, Target, read_claim, read_target
from resources.world import Known, World
from tests.fast.manifests import KEY, firewall, host, problems, service, vm


def machine(name: str, address: str) -> AnyResource:
    return host(name, address=address, hypervisor=None)


def on(*names: str) -> dict[str, Any]:
    return {"machines": {"names": [*names]}}


DB, WEB, OLD = machine("db", "10.0.0.1"), machine("web", "10.0.0.2"), machine("old", "fd00::3")
CQL = service("cassandra", **on("db"), ports=[{"name": "cql", "port": 9042}], clients=[on("web")])


def asked(source: str, destination: str, port: int | None, *fleet: AnyResource, protocol: str = "tcp") -> Answer:
    at = Fleet.of_resources(fleet)
    world = World(at, Known())
    return reach(_site(source, world), _site(destination, world), port, Protocol(protocol))


def _site(name: str, world: World) -> Site:
    found = world.machine(name)
    return THE_WORLD if found is None else site_of(found, world)


def verdicts(answer: Answer) -> tuple[str, str]:
    """What decides at either end."""
    assert answer.trial is not None
    return answer.trial.egress.why, answer.trial.ingress.why


def test_where_no_firewall_is_everything_gets_there() -> None:
    answer = asked("web", "db", 1, DB, WEB)
    assert answer.reached
    assert verdicts(answer) == ("no Firewall selects web", "no Firewall selects db")


def test_the_deciding_rule_of_either_end_is_told() -> None:
    fleet = [DB, WEB, CQL, firewall(default={"egress": "deny"})]
    answer = asked("web", "db", 9042, *fleet)
    assert answer.reached
    assert verdicts(answer) == ("Service/cassandra spec.ports[cql]",) * 2
    answer = asked("web", "db", 9043, *fleet)
    assert not answer.reached
    assert verdicts(answer) == ("Firewall/wall spec.default.egress", "Firewall/wall spec.default.ingress")
    assert answer.trial is not None
    assert (answer.trial.packet.source, answer.trial.packet.destination) == ("10.0.0.2", "10.0.0.1")


def test_one_end_that_denies_is_enough() -> None:
    open_out = firewall("out", **on("web"), default={"egress": "deny"}, egress=[{"name": "all"}])
    answer = asked("web", "db", 5, DB, WEB, open_out, firewall("into", **on("db")))
    assert answer.trial is not None
    assert (answer.trial.egress.action, answer.trial.ingress.action) == (Action.ALLOW, Action.DENY)
    assert not answer.reached


def test_udp_is_not_tcp() -> None:
    fleet = [DB, WEB, CQL, firewall()]
    assert not asked("web", "db", 9042, *fleet, protocol="udp").reached


def test_machines_without_addresses_of_one_version_do_not_reach_each_other() -> None:
    answer = asked("web", "old", 22, WEB, OLD)
    assert answer == Answer("web", "old", None)
    assert not answer.reached


def test_any_pair_of_addresses_will_do() -> None:
    nics = [{"name": "eth0", "address": "10.0.0.8/24"}, {"name": "eth1", "address": "fd00::8/64"}]
    both = vm("both", interfaces=nics)
    wall = firewall(ingress=[{"name": "six", "from": [{"cidr": "fd00::/64"}]}])
    answer = asked("both", "old", 5, both, OLD, wall)
    assert answer.reached
    assert not asked("both", "db", 5, both, DB, wall).reached


def test_what_a_machine_sends_to_itself_is_not_filtered() -> None:
    assert asked("db", "db", 5, DB, firewall(default={"egress": "deny"})).reached


def test_the_world_is_all_that_no_rule_names() -> None:
    rules = [{"name": "some", "from": [{"cidr": "203.0.113.0/24"}], "ports": [80]}]
    everyone = [{"name": "all", "from": [{"cidr": "0.0.0.0/0"}], "ports": [443]}]
    fleet = [DB, OLD, firewall(ingress=[*rules, *everyone])]
    assert not asked("world", "db", 80, *fleet).reached
    assert asked("world", "db", 443, *fleet).reached
    assert not asked("world", "old", 443, *fleet).reached
    assert asked("db", "world", 25, *fleet).reached
    assert not asked("db", "world", 25, DB, firewall(default={"egress": "deny"})).reached


def test_without_a_port_any_connection_counts() -> None:
    one = firewall(ssh=[{"cidr": "192.0.2.0/24"}], ingress=[{"name": "x", "protocol": "udp", "ports": ["700-705"]}])
    answer = asked("web", "db", None, DB, WEB, one)
    assert answer.reached
    assert answer.trial is not None
    assert (answer.trial.packet.protocol, answer.trial.packet.port) == (Protocol.UDP, 700)
    assert not asked("web", "db", None, DB, WEB, firewall(ssh=[{"cidr": "192.0.2.0/24"}])).reached


# Sentences.


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("web reaches db:9042", Claim("web", False, Target("db", 9042, Protocol.TCP))),
        ("world  never reaches service/db:53/udp", Claim("world", True, Target("service/db", 53, Protocol.UDP))),
        ("never reaches reaches", Claim("never", False, Target("reaches", None, Protocol.TCP))),
        ("machine/never never reaches db", Claim("machine/never", True, Target("db", None, Protocol.TCP))),
    ],
)
def test_sentences_are_read(text: str, claim: Claim) -> None:
    assert read_claim(text) == claim


@pytest.mark.parametrize("text", ["db:", "db:0", "db:70000", "db:5/icmp", "host/db", "DB", "", "a b"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not SUBJECT|is no port"):
        read_target(text)


NOT_SO = "is not so: web (10.0.0.2) → db (10.0.0.1)"
OUT = "Firewall/wall spec.default.egress"
HUB = service("hub", **on("web", "db"))


@pytest.mark.parametrize(
    ("sentence", "failure"),
    [
        ("web reaches cassandra:9042", ""),
        ("hub reaches cassandra:9042", ""),
        ("world never reaches cassandra:9042", ""),
        ("web never reaches db:7000", ""),
        ("machine/web reaches service/cassandra:9042/tcp", ""),
        (
            "web reaches cassandra:7000",
            f"{NOT_SO}, tcp 7000: out allow ({OUT}), in deny (Firewall/wall spec.default.ingress)",
        ),
        (
            "hub never reaches db:9042",
            f"{NOT_SO}, tcp 9042: out allow ({OUT}), in allow (Service/cassandra spec.ports[cql])",
        ),
        (
            "world never reaches db",
            "is not so: world → db (10.0.0.1), tcp 22: out allow (the world is not ours), in allow (Host/db spec.ssh)",
        ),
        ("web reaches old:22", "is not so: web and old have no addresses of the same IP version in one network"),
        ("webb reaches db", "there is no machine or Service named 'webb'; did you mean 'web'?"),
        ("both reaches db", "'both' is a machine and a Service; write machine/both or service/both"),
        ("empty reaches db", "Service/empty is on no machine: nothing can be said of it"),
        ("bare never reaches db", "no IP address of VirtualMachine/bare is known: nothing can be said of it"),
    ],
)
def test_sentences_that_are_not_true_are_errors_at_their_place(sentence: str, failure: str) -> None:
    both = (machine("both", "10.0.0.9"), service("both", **on("db")))
    empty = service("empty", machines={"selector": {"matchLabels": {"role": "none"}}})
    wall = firewall(tests=["web reaches db:22", sentence])
    found = problems(DB, WEB, OLD, CQL, HUB, empty, *both, vm("bare"), wall)
    found = [one for one in found if "there is no Image" not in one]
    assert found == ([f"Firewall/wall spec.tests.1: {failure}"] if failure else [])


# What is of no use.

MACHINE = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: db}}
spec: {{address: 10.0.0.1, ssh: {{hostKeys: ["{KEY}"]}}}}
---"""
WALL = """
apiVersion: salv.us/v1
kind: Firewall
metadata: {name: wall}
spec:
  machines: {selector: {}}
  ingress:
"""


def warned(tmp_path: Path, *rules: str, more: str = "") -> list[str]:
    path = tmp_path / "fleet.yaml"
    path.write_text(MACHINE + WALL + "".join(f"  - {{{rule}}}\n" for rule in rules) + more)
    loaded = load([path])
    assert loaded.ok, loaded.errors
    return [str(warning).removeprefix(str(path)) for warning in warnings(loaded)]


def test_rules_that_never_decide_are_warned_of_with_their_place(tmp_path: Path) -> None:
    rules = ["name: a, ports: [1-9], from: [{cidr: 10.0.0.0/8}]", "name: b, ports: [5], from: [{cidr: 10.1.0.0/16}]"]
    never = "never decides: Firewall/wall spec.ingress[a] is before it, takes all that it matches, and"
    assert warned(tmp_path, *rules) == [f":14:5: spec.ingress[1]: {never} does the same"]
    rules[1] += ", action: deny"
    assert warned(tmp_path, *rules) == [f":14:5: spec.ingress[1]: {never} has the action allow"]
    assert warned(tmp_path, *reversed(rules)) == []


@pytest.mark.parametrize(
    "first",
    ["ports: [1-4]", "ports: [5], protocol: udp", "from: [{cidr: 10.1.0.0/17}]", "perMinute: 5", "protocol: icmp"],
)
def test_who_takes_only_a_part_hides_nothing(tmp_path: Path, first: str) -> None:
    assert warned(tmp_path, f"name: a, {first}", "name: b, ports: [5], from: [{cidr: 10.1.0.0/16}]") == []


def test_a_rule_for_nobody_is_warned_of(tmp_path: Path) -> None:
    nobody = "name: a, from: [{machines: {selector: {matchLabels: {role: web}}}}]"
    message = "matches nobody: machines role=web have no address at the moment"
    assert warned(tmp_path, nobody) == [f":13:5: spec.ingress[0]: {message}"]


def test_a_rule_for_ssh_that_everybody_may_already_is_warned_of(tmp_path: Path) -> None:
    (found,) = warned(tmp_path, "name: a, from: [{cidr: 10.0.0.0/8}], ports: [22]")
    assert found.startswith(":13:5: spec.ingress[0]: never decides: Host/db spec.ssh is before it")


SERVICE = """---
apiVersion: salv.us/v1
kind: Service
metadata: {name: hub}
spec:
  machines: {selector: {}}
  ports: [{name: http, port: 80}]
  clients: [{cidr: 10.0.0.0/8}]
"""


def test_of_what_is_derived_only_what_is_denied_is_warned_of(tmp_path: Path) -> None:
    assert warned(tmp_path, "name: a", more=SERVICE) == []
    (found,) = warned(tmp_path, "name: a, action: deny", more=SERVICE)
    assert ": spec.ports[0]: never decides: Firewall/wall spec.ingress[a] is before it" in found


def test_a_rule_that_decides_on_one_machine_is_of_use(tmp_path: Path) -> None:
    other = MACHINE.replace("db", "web").replace("10.0.0.1", "10.0.0.2")
    more = (
        "---" + WALL.replace("name: wall", "name: a").replace("{selector: {}}", "{names: [db]}") + "  - {name: all}\n"
    )
    rule = "name: a, ports: [80]"
    assert len(warned(tmp_path, rule, more=more)) == 1
    assert warned(tmp_path, rule, more=f"{more}---{other.removesuffix('---')}") == []

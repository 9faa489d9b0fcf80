"""firewall show, firewall test, firewall remove and can-reach: what is written, and what machines say of it."""

from __future__ import annotations

import pytest

from drivers.base import Present, RolledBack, Unknown
from drivers.items.attempts import Attempt, Attempts
from drivers.items.nft_table import NftTable
from drivers.items.rules import Protocol, RuleSet
from drivers.items.ufw_rules import UfwRules
from salvusctl.exits import Code
from salvusctl.firewall_outputs import FilterOutput, FirewallTests, Reached
from tests.fast.cli import HOST, OTHER, Cli, cli

__all__ = ["cli"]
LEFT = (NftTable(RuleSet()), UfwRules(RuleSet()))

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


# Really tried: what simulated machines say of it.

TESTS = """
  tests:
  - beta reaches db:9042
  - beta never reaches alpha:81
  - beta reaches alpha:9042/udp
  - world never reaches db:9042
  - alpha reaches beta
"""
OPEN = "  - {name: datagrams, protocol: udp, ports: [9042]}\n"


@pytest.fixture
def fleet(cli: Cli) -> Cli:
    """As ``files``, in force."""
    cli("apply", "-f", cli.write(HOST, OTHER, SERVICES, WALL + OPEN + TESTS))
    return cli


def tells(cli: Cli, machine: str, *answers: str) -> None:
    cli.machines.machine(machine).faults.lies["Attempts:live"] = Present({"answers": answers})


@pytest.mark.parametrize(
    ("target", "answer", "code", "line", "warning"),
    [
        ("db:9042", "connected", Code.OK, "yes: {way} tcp 9042: connected; written: out allow (", ""),
        (
            "db:9042",
            "ECONNREFUSED",
            Code.OK,
            "yes: {way} tcp 9042: let through, but refused: nothing listens there;",
            "",
        ),
        (
            "db:9042",
            "silent",
            Code.DIFFERENT,
            "no: {way} tcp 9042: no answer;",
            "but does not get there: are both in sync",
        ),
        ("db:9042", "EHOSTUNREACH", Code.DIFFERENT, "no: {way} tcp 9042: unreachable;", "is the address up on alpha,"),
        (
            "db:9",
            "silent",
            Code.DIFFERENT,
            "no: {way} tcp 9: no answer; written: out allow (no Firewall selects beta), in deny",
            "",
        ),
        (
            "db:9",
            "connected",
            Code.OK,
            "yes: {way} tcp 9: connected;",
            "is not let through as it is written, but gets there",
        ),
        ("db:9", "ECONNREFUSED", Code.OK, "yes: {way} tcp 9: let through,", "Or another filter rejects it"),
        ("db:9042/udp", "silent", Code.DIFFERENT, "unknown: {way} udp 9042: no answer, which proves nothing", ""),
        ("db:9042/udp", "ECONNREFUSED", Code.OK, "yes: {way} udp 9042: let through", ""),
        (
            "db:9042",
            "EADDRNOTAVAIL",
            Code.DIFFERENT,
            "unknown: {way} tcp 9042: not tried: the machine does not have",
            "",
        ),
        ("db:9042", "EMFILE", Code.DIFFERENT, "unknown: {way} tcp 9042: not tried: 'EMFILE'", ""),
    ],
)
def test_what_came_of_trying(fleet: Cli, target: str, answer: str, code: Code, line: str, warning: str) -> None:
    tells(fleet, "beta", answer)
    said = fleet("can-reach", "beta", target, "--live", code=code)
    assert said.out.startswith(line.format(way="beta (192.0.2.2) → alpha (192.0.2.1),"))
    assert (warning in said.err) if warning else said.err == ""
    assert fleet.machines.machine("beta").writes == 0


def test_trying_as_json(fleet: Cli) -> None:
    tells(fleet, "beta", "silent")
    found = Reached.model_validate(
        fleet("can-reach", "beta", "db:9042", "--live", "-o", "json", code=Code.DIFFERENT).data
    )
    assert (found.reached, found.live) == (True, False)
    (tried,) = found.paths[0].live or ()
    assert (tried.source_address, tried.destination_address) == ("192.0.2.2", "192.0.2.1")
    assert (tried.outcome, tried.reached, tried.written) == ("silent", False, True)
    assert "does not get there" in tried.message
    found = Reached.model_validate(fleet("can-reach", "beta", "db:9042", "-o", "json").data)
    assert (found.live, found.paths[0].live) == (None, None)


def test_who_cannot_be_asked(fleet: Cli) -> None:
    fleet.machines.machine("beta").faults.unreachable = True
    answer = fleet("can-reach", "beta", "db:9042", "--live", code=Code.DIFFERENT)
    assert answer.out.startswith("unknown: ")
    assert "tcp 9042: not tried: " in answer.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("world", "db:9042"), "the world is no machine of yours: nobody can try from there"),
        (("beta", "world:53"), "the world has no address that could be tried"),
        (("beta", "db"), "a port is needed to try, as in db:443"),
        (("beta", "db:9042", "-f", "."), "--live tries what is in force, and not what is in --file"),
    ],
)
def test_what_nobody_can_try(fleet: Cli, words: tuple[str, ...], said: str) -> None:
    assert said in fleet("can-reach", *words, "--live", code=Code.INPUT).err


def judged(cli: Cli, *words: str, code: Code = Code.OK) -> list[bool | None]:
    found = FirewallTests.model_validate(cli("firewall", "test", *words, "-o", "json", code=code).data)
    assert [one.field for one in found.tests] == [f"spec.tests[{n}]" for n in range(5)]
    return [one.true for one in found.tests]


def test_sentences_are_true_as_they_are_written(fleet: Cli) -> None:
    assert judged(fleet) == [True] * 5
    assert judged(fleet, "wall") == [True] * 5
    assert (
        "there is no Firewall 'wal'; did you mean 'wall'?" in fleet("firewall", "test", "wal", code=Code.DIFFERENT).err
    )


def test_sentences_prove_true_or_false(fleet: Cli) -> None:
    tells(fleet, "beta", "connected", "silent", "answered")
    assert judged(fleet, "--live") == [True, True, True, None, None]
    tells(fleet, "beta", "connected", "silent", "silent")
    assert judged(fleet, "--live") == [True, True, None, None, None]
    tells(fleet, "beta", "silent", "ECONNREFUSED", "EPERM")
    assert judged(fleet, "--live", code=Code.DIFFERENT) == [False, False, False, None, None]


def test_sentences_are_a_table(fleet: Cli) -> None:
    tells(fleet, "beta", "connected", "silent", "silent")
    heading, first, *_, last = fleet("firewall", "test", "--live").lines
    assert heading == "TEST TRUE WHY"
    assert first.startswith("beta reaches db:9042 yes beta (192.0.2.2) → alpha (192.0.2.1), tcp 9042: connected;")
    assert last == "alpha reaches beta unknown a port is needed to try, as in beta:443"


def test_without_sentences(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST))
    assert "no Firewall has tests" in cli("firewall", "test").err


def test_what_a_machine_answers() -> None:
    two = Attempts((Attempt(Protocol.TCP, "10.0.0.1", "10.0.0.2", 5), Attempt(Protocol.UDP, "fd00::1", "fd00::2", 6)))
    text = "A 0 1 silent\nA 0 0 ECONNREFUSED\nA 1 0 x\nD 0\n"
    assert Attempts.read([two], text)[two.key] == Present({"answers": ("ECONNREFUSED", "silent")})
    for line in ("A 0 0 ECONNREFUSED\n", "D 0\n"):
        assert isinstance(Attempts.read([two], text.replace(line, ""))[two.key], Unknown)
    assert "tcp 10.0.0.1 10.0.0.2 5 udp fd00::1 fd00::2 6" in Attempts.probe([two])


@pytest.fixture
def left(cli: Cli) -> Cli:
    """A machine with rules of both kinds that no controller knows of."""
    cli("apply", "-f", cli.write(HOST, OTHER))
    for item in LEFT:
        cli.machines.machine("alpha").put(item)
    return cli


def test_what_no_controller_knows_of_is_removed_under_the_fence(left: Cli) -> None:
    assert "say --yes" in left("firewall", "remove", "alpha", code=Code.INPUT).err
    assert LEFT[0].key in left.machines.machine("alpha").items
    answer = left("firewall", "remove", "alpha", "--yes")
    assert answer.lines == [
        "removed from alpha: table inet salvus of nftables, and the unit that loads it at boot",
        "removed from alpha: the rules of salvus in ufw; its defaults, and whether it is enabled, are as before salvus",
    ]
    machine = left.machines.machine("alpha")
    assert not {item.key for item in LEFT} & machine.items.keys()
    assert [(one.verb, one.key) for one in machine.log] == [("delete", item.key) for item in LEFT]
    assert all(one.epoch for one in machine.log)
    assert "FirewallRemoved" in left("events", "-o", "json").out
    assert left("firewall", "remove", "alpha").out == "salvus filters nothing on alpha\n"


def test_who_is_asked_may_say_no(left: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salvusctl.firewall_remove.agreed", lambda *_, yes: yes)
    assert left("firewall", "remove", "alpha", code=Code.DIFFERENT).err.endswith("nothing was removed\n")
    assert LEFT[0].key in left.machines.machine("alpha").items


def test_nothing_is_removed_that_would_come_again_or_must_not_be_touched(left: Cli) -> None:
    wall = left.write(
        "kind: Firewall\napiVersion: salv.us/v1\nmetadata: {name: wall}\nspec: {machines: {names: [alpha]}}\n"
    )
    left("apply", "--no-wait", "-f", wall)
    said = left("firewall", "remove", "alpha", "--yes", code=Code.TROUBLE).err
    assert "Firewall/wall selects alpha: what is removed would be made again" in said
    assert "take alpha out of spec.machines, or delete Firewall/wall" in said
    left("delete", "--no-wait", "--yes", "Firewall/wall")
    left("pause", "alpha", "--for", "1h", "--reason", "a test")
    assert "nothing was removed: " in left("firewall", "remove", "alpha", "--yes", code=Code.TROUBLE).err
    left("resume", "alpha")
    left.machines.machine("alpha").faults.unreachable = True
    said = left("firewall", "remove", "alpha", "--yes", code=Code.DIFFERENT).err
    assert "alpha does not tell what is there, so nothing was removed" in said
    left.machines.machine("alpha").faults.unreachable = False
    assert all(item.key in left.machines.machine("alpha").items for item in LEFT)
    assert "did you mean 'alpha'?" in left("firewall", "remove", "alpa", "--yes", code=Code.DIFFERENT).err


def test_a_removal_that_was_put_back_is_told(left: Cli) -> None:
    left.machines.machine("alpha").faults.refuses[LEFT[1].key] = RolledBack("nobody could log in anew")
    said = left("firewall", "remove", "alpha", "--yes", code=Code.DIFFERENT).err
    assert "nobody could log in anew" in said

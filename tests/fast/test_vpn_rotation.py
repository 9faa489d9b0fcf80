"""Keys of VPNs are rotated: step by step on simulated machines, wherever it stops; and what a daemon tells of keys."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.present import conditions
from controller.store.base import Conflict
from controller.vpn_keys import keep_young, revoke, rotate
from controller.vpn_state import keys_since, vpn_key_ages, vpn_nodes
from drivers.base import Present
from drivers.items import key_use
from drivers.items.key_pair import KeyPair
from drivers.items.key_use import KeyUse
from resources.base import AnyResource
from resources.vpn_keys import due, generation, key_fact, key_value, known_as, oldest, seen_since, seen_value, tinc_name
from resources.vpn_rotation import unfinished
from resources.world import World
from tests.fast.cli import HOST, LAPTOP, NET, OTHER, Cli, cli
from tests.fast.desk import Desk
from tests.fast.manifests import refused
from tests.fast.test_vpn_fleet import host

__all__ = ["cli"]
NAMES = ("h001", "h002", "h003")
VPN = """
apiVersion: salv.us/v1
kind: VPN
metadata: {{name: net}}
spec: {{driver: {driver}, cidr: 10.0.0.0/16, members: {{selector: {{}}}}, hubs: {{names: [h001]}}}}
"""


@pytest.fixture(params=["tinc", "wireguard"])
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Desk:
    """Three machines that know each other."""
    made = Desk(tmp_path)
    made.put(VPN.format(driver=request.param), *map(host, (1, 2, 3)))
    made.settle()
    for _ in range(3):
        made.visit(*NAMES)
    assert ready(made) == ("True", "")
    return made


def world(desk: Desk) -> World:
    knowledge = desk.session.knowledge()
    return World(knowledge.fleet, knowledge.known)


def net(desk: Desk) -> AnyResource:
    return desk.session.knowledge().fleet.by_kind["VPN"]["net"]


def ready(desk: Desk) -> tuple[str, str]:
    said = conditions(desk.session.knowledge(), "VPN/net")[0]
    return said.status, "" if said.status == "True" else f"{said.reason}: {said.message}"


def begin(desk: Desk, node: str) -> int | None:
    number = rotate(desk.engine._ledger, net(desk), node, world(desk))
    desk.settle()
    return number


def lets_in(desk: Desk, machine: str) -> set[str]:
    """The generations of h002's key that a machine's daemon lets in."""
    facts = desk.session.knowledge().known.facts
    trusted = facts["VPN/net", f"trusted/{machine}"].split()
    driver = net(desk).spec.driver
    keys = {g: facts.get(("VPN/net", key_fact(g, "h002")), "-") for g in (1, 2, 3)}
    return {str(g) for g, key in keys.items() if known_as(driver, "h002", g, key) in trusted}


def used(desk: Desk) -> str:
    return desk.session.knowledge().known.facts["VPN/net", "key_in_use/h002"]


def pairs(desk: Desk, machine: str = "h002") -> set[str]:
    return {key.rpartition("/")[2] for key in desk.fleet.machine(machine).items if key.startswith("KeyPair:")}


def test_the_old_key_goes_when_the_new_one_is_let_in_by_all(desk: Desk) -> None:
    base = pairs(desk).pop()
    assert begin(desk, "h002") == 2
    assert unfinished(net(desk), "h002", world(desk)) == "the next key of h002 is made, and told to the others"
    desk.visit("h002")
    assert pairs(desk) == {base, f"{base}.2"}
    assert (used(desk), lets_in(desk, "h001")) == ("1", {"1"})
    desk.visit("h002")
    assert used(desk) == "1", "nobody lets it in with the new one"
    assert "when h001" in unfinished(net(desk), "h002", world(desk))
    assert ready(desk)[0] == "False"
    desk.visit("h001", "h003")
    assert lets_in(desk, "h001") == {"1", "2"}
    desk.visit("h002")
    assert (used(desk), lets_in(desk, "h001")) == ("2", {"1", "2"})
    desk.visit("h001")
    desk.visit("h003", "h002")
    assert lets_in(desk, "h001") == {"2"}
    assert pairs(desk) == {f"{base}.2"}
    assert unfinished(net(desk), "h002", world(desk)) == ""
    assert ready(desk) == ("True", "")
    before = desk.fleet.writes
    desk.visit(*NAMES)
    assert desk.fleet.writes == before


def test_who_is_away_is_waited_for_and_named(desk: Desk) -> None:
    desk.fleet.machine("h001").faults.unreachable = True
    begin(desk, "h002")
    for _ in range(3):
        desk.visit(*NAMES)
    assert used(desk) == "1"
    assert "when h001" in unfinished(net(desk), "h002", world(desk))
    desk.fleet.machine("h001").faults.unreachable = False
    for _ in range(3):
        desk.visit(*NAMES)
    assert (used(desk), lets_in(desk, "h001")) == ("2", {"2"})


def test_a_machine_that_is_away_keeps_its_key_until_it_is_back(desk: Desk) -> None:
    desk.fleet.machine("h002").faults.unreachable = True
    begin(desk, "h002")
    desk.visit(*NAMES)
    assert lets_in(desk, "h001") == {"1"}
    assert begin(desk, "h002") is None, "it is to turn already"
    desk.fleet.machine("h002").faults.unreachable = False
    for _ in range(4):
        desk.visit(*NAMES)
    assert (used(desk), lets_in(desk, "h001"), unfinished(net(desk), "h002", world(desk))) == ("2", {"2"}, "")


def test_a_key_that_is_known_is_let_in_until_its_node_tells_that_it_uses_another(desk: Desk) -> None:
    desk.engine._ledger.drop_facts("VPN/net", ["key_in_use/h002"])
    desk.fleet.machine("h002").faults.unreachable = True
    assert begin(desk, "h002") == 2
    assert begin(desk, "h002") is None, "it is to turn already"
    desk.visit(*NAMES)
    assert lets_in(desk, "h001") == {"1"}
    desk.fleet.machine("h002").faults.unreachable = False
    for _ in range(4):
        desk.visit(*NAMES)
    assert (used(desk), lets_in(desk, "h001"), unfinished(net(desk), "h002", world(desk))) == ("2", {"2"}, "")


def test_who_never_told_whom_it_lets_in_is_waited_for(desk: Desk) -> None:
    desk.engine._ledger.drop_facts("VPN/net", ["trusted/h001"])
    desk.fleet.machine("h001").faults.unreachable = True
    begin(desk, "h002")
    for _ in range(3):
        desk.visit(*NAMES)
    assert used(desk) == "1"
    assert "when h001" in unfinished(net(desk), "h002", world(desk))
    desk.fleet.machine("h001").faults.unreachable = False
    for _ in range(3):
        desk.visit(*NAMES)
    assert (used(desk), lets_in(desk, "h001")) == ("2", {"2"})


def test_who_never_had_a_key_is_not_waited_for(desk: Desk) -> None:
    desk.put(VPN.format(driver=net(desk).spec.driver), *map(host, (1, 2, 3, 4)))
    desk.settle()
    begin(desk, "h002")
    for _ in range(4):
        desk.visit(*NAMES)
    assert (used(desk), unfinished(net(desk), "h002", world(desk))) == ("2", "")


def test_a_node_whose_key_is_not_known_any_more_turns_to_the_next(desk: Desk) -> None:
    begin(desk, "h002")
    desk.visit("h002")
    desk.engine._ledger.drop_facts("VPN/net", ["public_key/h002"])
    desk.settle()
    assert "h002 turns to its next key" in unfinished(net(desk), "h002", world(desk))


def test_a_hub_and_all_others_rotate_at_the_same_time_and_again(desk: Desk) -> None:
    for round_ in (2, 3):
        for name in NAMES:
            assert begin(desk, name) == round_
        for _ in range(5):
            desk.visit(*NAMES)
        assert [unfinished(net(desk), name, world(desk)) for name in NAMES] == ["", "", ""]
        assert ready(desk) == ("True", "")
    assert ("VPN/net", "public_key/h002") not in desk.session.knowledge().known.facts, "long over"


def test_two_who_rotate_one_key_at_the_same_time_do_it_once(desk: Desk) -> None:
    old = world(desk)
    begin(desk, "h002")
    with pytest.raises(Conflict, match="somebody else decides about the key of h002 in VPN/net"):
        rotate(desk.engine._ledger, net(desk), "h002", old)


@pytest.mark.parametrize("told", ["", "0", "-1", "2 x", "99999999999", "x", "9"])
def test_a_machine_that_tells_nonsense_of_its_key_gets_nowhere(desk: Desk, told: str) -> None:
    desk.engine._ledger.put_facts("VPN/net", {"key_in_use/h002": told})
    assert unfinished(net(desk), "h002", world(desk)) == ""


def test_what_is_decided_of_a_key() -> None:
    assert (generation(None), oldest(None)) == (1, 1)
    assert key_value(2, first=1) == "2 1"
    assert oldest(key_value(5, first=3)) == 3
    assert seen_since(seen_value(1764486000.4, "a\nb"), "ab\n") == 1764486000
    assert seen_since(seen_value(1764486000.4, "a"), "b") is seen_since(None, "") is None
    assert tinc_name("a-b", 12) == "a_bK12"


def test_what_a_daemon_tells() -> None:
    use = KeyUse("vpn-net", "key_in_use/a", "trusted/a")
    pair = KeyPair("/etc/wireguard/net/key.12", "wireguard", "public_key.12/a", use)
    assert "salvus_wireguard 0 vpn-net /etc/wireguard/net/key\n" in KeyPair.probe([pair])
    assert key_use.facts(0, use, "U 0 12\nT 0 B=\nT 0 A=\nT 1 C=\nT 0 end\n") == {
        "key_in_use/a": "12",
        "trusted/a": "A= B=",
    }
    assert key_use.facts(0, use, "U 0 \nT 0 end\n") == {"key_in_use/a": "1", "trusted/a": ""}
    assert key_use.facts(0, use, "U 0 1\nT 0 B=\n") == {}, "half an answer is none"
    assert key_use.facts(0, use, "") == {}


def test_a_pair_tells_nothing_of_a_daemon_where_it_is_not_asked(tmp_path: Path) -> None:
    pair = KeyPair(f"{tmp_path}/key", "wireguard", "public_key/a")
    assert "salvus_wireguard" not in KeyPair.probe([pair])


# By age

DAY = 86400.0


def test_a_key_is_rotated_when_it_is_as_old_as_it_may_become_and_not_all_at_once() -> None:
    times = [due(1000.0, 100 * 86400, f"h{number:03}") for number in range(50)]
    assert all(1000 + 90 * DAY <= at <= 1000 + 100 * DAY for at in times)
    assert len(set(times)) == 50
    assert due(1000.0, 100 * 86400, "h000") == times[0]


def test_since_when_a_key_is_in_use_is_noted_once_and_concerns_no_machine(desk: Desk) -> None:
    before, fact = keys_since(net(desk), world(desk)), ("VPN/net", "public_key/h002")
    assert before.keys() == set(NAMES)
    cursor = desk.store.changed_since(0)[0]
    desk.visit(*NAMES)
    assert desk.store.changed_since(cursor)[1] == frozenset(), "nothing is written where nothing is new"
    key = desk.session.knowledge().known.facts[fact]
    anew = "\n".join(line if line.startswith("-") else line.swapcase() for line in key.splitlines())
    desk.engine._ledger.put_facts(fact[0], {fact[1]: anew})
    assert desk.engine.refresh(), "others let it in"
    assert keys_since(net(desk), world(desk)).keys() == {"h001", "h003"}, "that was of another key"
    assert desk.engine.fleet_pass()
    assert desk.engine.refresh() == frozenset()
    assert keys_since(net(desk), world(desk)).keys() == set(NAMES)


def test_the_fleet_pass_counts_the_age_of_keys_and_has_them_rotated(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = desk.engine._ledger
    assert keep_young(ledger, world(desk), 0.0) == (False, float("inf")), "nobody asked for it"
    text = VPN.format(driver=net(desk).spec.driver).replace("cidr:", "rotateKeysAfter: 90d, cidr:")
    desk.put(text, *map(host, (1, 2, 3)))
    desk.settle()
    began = time.time()
    wrote, at = keep_young(ledger, world(desk), began)
    assert not wrote
    assert began + 81 * DAY - 5 <= at <= began + 90 * DAY + 5
    last = max(due(time.time(), 90 * 86400, name) for name in NAMES)
    monkeypatch.setattr("controller.engine.time", SimpleNamespace(time=lambda: at + 1))
    desk.settle()
    turning_ = {name for name in NAMES if unfinished(net(desk), name, world(desk))}
    assert len(turning_) == 1, "one is older than the others"
    for _ in range(5):
        desk.visit(*NAMES)
    monkeypatch.setattr("controller.engine.time", SimpleNamespace(time=lambda: last + 1))
    desk.settle()
    assert {name for name in NAMES if unfinished(net(desk), name, world(desk))} == {*NAMES} - turning_


def test_what_the_metrics_tell_of_a_network(desk: Desk) -> None:
    desk.put(VPN.format(driver=net(desk).spec.driver), *map(host, (1, 2, 3, 4)))
    desk.settle()
    begin(desk, "h002")
    assert vpn_nodes(world(desk)) == {
        ("net", "known"): 2,
        ("net", "turning"): 1,
        ("net", "unknown"): 1,
        ("net", "revoked"): 0,
    }
    ages = vpn_key_ages(world(desk), time.time() + 600)
    assert ages.keys() == {("net", name) for name in NAMES}, "of those that have one"
    assert all(599 <= age < 660 for age in ages.values())
    revoke(desk.engine._ledger, net(desk), "h003", world(desk), 1000.0)
    desk.settle()
    assert vpn_nodes(world(desk))["net", "revoked"] == 1
    assert vpn_nodes(world(desk))["net", "known"] == 1


def test_nothing_else_has_to_happen_for_a_key_to_be_too_old(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(VPN.format(driver="tinc").replace("cidr:", "rotateKeysAfter: 90d, cidr:"), *map(host, (1, 2, 3)))
    desk.settle()
    for _ in range(3):
        desk.visit(*NAMES)
    later = time.time() + 91 * DAY
    assert not desk.engine.fleet_pass()
    monkeypatch.setattr("controller.engine.time", SimpleNamespace(time=lambda: later))
    assert desk.engine.fleet_pass()
    assert all(unfinished(net(desk), name, world(desk)) for name in NAMES)


def test_who_decides_about_a_key_at_the_same_time_goes_first_and_the_others_come_at_the_next_pass(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.put(VPN.format(driver="tinc").replace("cidr:", "rotateKeysAfter: 90d, cidr:"), *map(host, (1, 2, 3)))
    for _ in range(3):
        desk.settle()
        desk.visit(*NAMES)
    later = time.time() + 91 * DAY
    monkeypatch.setattr("controller.engine.time", SimpleNamespace(time=lambda: later))
    rotate(desk.engine._ledger, net(desk), "h002", world(desk))
    assert not desk.engine.fleet_pass(), "it has not read that yet, and raises nothing"
    desk.settle()
    assert all(unfinished(net(desk), name, world(desk)) for name in NAMES)


def test_keys_are_not_rotated_too_often() -> None:
    spec = {"driver": "tinc", "cidr": "10.1.0.0/24", "members": {"selector": {}}, "hubs": {"names": ["a"]}}
    assert "must be at least 1h" in refused("VPN", spec | {"rotateKeysAfter": "59m"})


# The command


def test_the_command_waits_until_old_keys_are_let_in_nowhere(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST, OTHER, NET, LAPTOP))
    said = cli("vpn", "rotate", "net", "--node", "beta")
    assert said.lines == ["VPN/net: beta is to have another key, its 2nd"]
    assert "1 key rotated" in said.err
    said = cli("vpn", "rotate", "--all")
    assert said.lines == [
        "VPN/net: alpha is to have another key, its 2nd",
        "VPN/net: beta is to have another key, its 3rd",
    ]
    assert "laptop is not in the fleet: give it the new public keys of alpha, beta yourself" in said.err
    facts = cli("get", "vpn", "net", "-o", "json").data["items"][0]["status"]["facts"]
    assert (facts["key_in_use/alpha"], facts["key_in_use/beta"]) == ("2", "3")
    (network,) = cli("vpn", "status", "-o", "json", code=None).data["networks"]
    assert [one["generation"] for one in network["nodes"]] == [2, 3, 1]
    assert all(one["since"] for one in network["nodes"])
    assert cli("diff").lines == ["Plan: 0 to create, 0 to update, 0 to delete."]


def test_the_command_says_what_it_waits_for(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST, OTHER, NET))
    cli.machines.machine("alpha").faults.unreachable = True
    said = cli("vpn", "rotate", "net", "--node", "beta", "--timeout", "3", code=1)
    assert "VPN/net is not rotated: " in said.err
    assert "when alpha" in cli("why", "vpn", "net", code=None).out
    cli.machines.machine("alpha").faults.unreachable = False
    assert cli("vpn", "rotate", "net", "--node", "beta").lines == ["VPN/net: beta makes a key already"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "which keys?"),
        (["net", "--all"], 2, "which keys?"),
        (["--all", "--node", "beta"], 2, "which keys?"),
        (["nte"], 1, "there is no VPN 'nte'; did you mean 'net'?"),
        (["net", "--node", "bet"], 1, "'bet' is no machine in VPN/net; did you mean 'beta'?"),
    ],
)
def test_the_command_is_told_otherwise(cli: Cli, words: list[str], code: int, says: str) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST, OTHER, NET))
    assert says in cli("vpn", "rotate", *words, code=code).err


def test_what_is_observed_of_a_pair_has_what_the_daemon_tells() -> None:
    use = KeyUse("vpn-net", "key_in_use/a", "trusted/a")
    pair = KeyPair("/k", "wireguard", "public_key/a", use)
    text = "@ +\nS:81a4:0:root:0:root:45:1:1.000000000\nN 0 PUB=\nU 0 \nT 0 end\n"
    state = KeyPair.read([pair], text)[pair.key]
    assert isinstance(state, Present)
    assert state.facts == {"public_key/a": "PUB=", "key_in_use/a": "1", "trusted/a": ""}

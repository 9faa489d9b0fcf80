"""Nodes of VPNs are revoked: let in nowhere, proved on each machine, and back only with another key."""

from __future__ import annotations

import json

import pytest

import controller.asking
import salvusctl.vpn_revoke
from controller.vpn_keys import admit, prove, revoke
from drivers.base import Absent, DriverError, Present, Unknown
from resources.vpn_keys import has_key, is_open, is_out, known_as, revoked_as, revoked_since, revoked_value
from tests.fast.cli import HOST, LAPTOP, NET, OTHER, Answer, Cli, cli
from tests.fast.desk import Desk
from tests.fast.test_vpn_rotation import NAMES, desk, lets_in, net, ready, world

__all__ = ["cli", "desk"]
THIRD = HOST.replace("alpha", "gamma").replace("192.0.2.1", "192.0.2.3")
TRIED = "Tunnel:vpn-net"
PEERS = "File:/etc/wireguard/net/peers.conf"


@pytest.fixture
def fleet(cli: Cli) -> Cli:
    """Three hosts in a network, and a laptop."""
    cli("apply", "-f", cli.write(HOST, OTHER, THIRD, NET, LAPTOP))
    return cli


def proof(answer: Answer) -> dict[str, tuple[object, ...]]:
    (found,) = json.loads(answer.out)["items"]
    return {one["node"]: (one["refused"], one["hasKey"], one["answers"]) for one in found["nodes"]}


def has_items(cli: Cli, machine: str) -> bool:
    return PEERS in cli.machines.machine(machine).items


def facts(cli: Cli) -> dict[str, str]:
    told: dict[str, str] = cli("get", "vpn", "net", "-o", "json").data["items"][0]["status"]["facts"]
    return told


def test_it_is_let_in_nowhere_and_its_side_goes_when_that_is_proved(fleet: Cli) -> None:
    key = facts(fleet)["public_key/gamma"]
    answer = fleet("vpn", "revoke", "gamma")
    assert answer.lines == [
        "VPN/net: gamma is revoked",
        "NODE GAMMA WHY",
        "alpha refused its daemon does not have the key; it did not answer when it was tried",
        "beta refused its daemon does not have the key; it did not answer when it was tried",
    ]
    assert key not in facts(fleet)["trusted/alpha"] + facts(fleet)["trusted/beta"]
    fleet("apply", "-f", "fleet.yaml")
    assert not has_items(fleet, "gamma")
    again = fleet("vpn", "revoke", "gamma")
    assert "VPN/net: gamma is revoked already" in again.lines
    assert "it was not tried from gamma: it has nothing of the VPN any more" in again.err


def test_who_cannot_be_asked_is_named_until_it_is_done(fleet: Cli) -> None:
    fleet.machines.machine("beta").faults.unreachable = True
    answer = fleet("vpn", "revoke", "gamma", "-o", "json", "--timeout", "15", code=1)
    assert proof(answer) == {"alpha": (True, False, False), "beta": (False, None, False)}
    assert "beta may let gamma in" in fleet("vpn", "revoke", "gamma", "--timeout", "1", code=1).err
    assert has_items(fleet, "gamma"), "it can still be tried"
    status = fleet("vpn", "status", code=1)
    assert "gamma is revoked, which is not proved; beta let it in still: salvusctl vpn revoke gamma" in status.err
    assert "KeyRevoked" in fleet("get", "vpn", "net", "-o", "json").out
    fleet.machines.machine("beta").faults.unreachable = False
    assert proof(fleet("vpn", "revoke", "gamma", "-o", "json"))["beta"] == (True, False, False)
    (network,) = fleet("vpn", "status", "-o", "json", code=None).data["networks"]
    assert [(one["node"], one["proved"], one["letInBy"]) for one in network["revoked"]] == [("gamma", True, [])]


def test_all_are_asked_with_the_keys_that_they_have_now(fleet: Cli) -> None:
    fleet("vpn", "rotate", "--all")
    for machine in ("alpha", "beta", "gamma"):
        assert "KeyPair:/etc/wireguard/net/key.2" in fleet.machines.machine(machine).items
    answer = fleet("vpn", "revoke", "gamma", "-o", "json")
    assert proof(answer) == {"alpha": (True, False, False), "beta": (True, False, False)}
    assert answer.data["items"][0]["untried"] is None


def test_a_machine_without_a_key_of_its_own_proves_nothing(fleet: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller.asking, "ask", lambda _, items: dict.fromkeys(items, Absent()))
    answer = fleet("vpn", "revoke", "gamma", "-o", "json", code=1)
    assert proof(answer) == {"alpha": (False, None, None), "beta": (False, None, None)}


def test_one_that_answers_is_not_closed(fleet: Cli) -> None:
    fleet.machines.machine("gamma").faults.lies[TRIED] = Present({"reached": ("10.1.0.2 0.4",)})
    answer = fleet("vpn", "revoke", "gamma", "-o", "json", code=1)
    assert proof(answer) == {"alpha": (True, False, False), "beta": (False, False, True)}


def test_a_revoked_machine_that_is_away_is_proved_by_the_others(fleet: Cli) -> None:
    fleet.machines.machine("gamma").faults.unreachable = True
    answer = fleet("vpn", "revoke", "gamma")
    assert "it was not tried from gamma: " in answer.err
    assert answer.lines[2:] == [f"{one} refused its daemon does not have the key" for one in ("alpha", "beta")]


def test_one_that_cannot_try_is_proved_by_the_others(fleet: Cli) -> None:
    fleet.machines.machine("gamma").faults.lies[TRIED] = Unknown("no ping")
    assert "it cannot be tried from there" in fleet("vpn", "revoke", "gamma").err


def test_it_comes_back_with_another_key_and_by_nothing_else(fleet: Cli) -> None:
    fleet("vpn", "revoke", "gamma")
    fleet("apply", "-f", fleet.write(HOST, OTHER, THIRD.replace("kvm", "other"), NET, LAPTOP))
    assert not has_items(fleet, "gamma")
    assert fleet("vpn", "admit", "gamma").lines == ["VPN/net: gamma may come back, with another key"]
    assert has_items(fleet, "gamma")
    told = facts(fleet)
    assert "public_key/gamma" not in told
    assert told["public_key.2/gamma"] in told["trusted/alpha"]
    assert fleet("vpn", "admit", "gamma").lines == ["VPN/net: gamma is not revoked"]


def test_it_is_admitted_while_it_still_has_the_old_key_and_comes_with_a_new_one(fleet: Cli) -> None:
    old = facts(fleet)["public_key/gamma"]
    fleet.machines.machine("beta").faults.unreachable = True
    fleet("vpn", "revoke", "gamma", "--timeout", "1", code=1)
    fleet.machines.machine("beta").faults.unreachable = False
    fleet("vpn", "admit", "gamma")
    told = facts(fleet)
    assert old not in told["trusted/alpha"] + told["trusted/beta"]
    assert told["public_key.2/gamma"] in told["trusted/beta"]


def test_a_node_outside_the_fleet_comes_back_with_another_key(fleet: Cli) -> None:
    assert "xTIBA5" in facts(fleet)["trusted/alpha"]
    fleet("vpn", "revoke", "laptop", "--vpn", "net")
    assert "xTIBA5" not in facts(fleet)["trusted/alpha"]
    refused = fleet("vpn", "admit", "laptop", code=1)
    assert "the publicKey of VPNNode/laptop is the one that was revoked" in refused.err
    other = LAPTOP.replace("xTIBA5", "yTIBA5")
    fleet("apply", "-f", fleet.write(HOST, OTHER, THIRD, NET, other))
    assert "yTIBA5" not in facts(fleet)["trusted/alpha"]
    fleet("vpn", "admit", "laptop")
    assert "yTIBA5" in facts(fleet)["trusted/alpha"]


@pytest.mark.parametrize("written", ["nothing", "another key"])
@pytest.mark.parametrize("driver", ["wireguard", "tinc"])
def test_what_is_written_of_a_revoked_node_later_proves_nothing(cli: Cli, driver: str, written: str) -> None:
    rest = (HOST, OTHER, NET.replace("wireguard", driver))
    first, second = (LAPTOP, LAPTOP.replace("xTIBA5", "yTIBA5")) if driver == "wireguard" else map(pem, "AB")
    cli("apply", "-f", cli.write(*rest, first))
    keeps = PEERS if driver == "wireguard" else "FileSet:/etc/tinc/net/hosts"
    cli.machines.machine("alpha").faults.refuses[keeps] = DriverError("no space is left")
    cli("vpn", "revoke", "laptop", "--timeout", "1", code=1)
    if written == "nothing":
        cli("delete", "vpnnode", "laptop", "--yes", "--timeout", "1", code=None)
    else:
        cli("apply", "--no-wait", "-f", cli.write(*rest, second))
    assert proof(cli("vpn", "revoke", "laptop", "-o", "json", "--timeout", "1", code=1))["alpha"] == (False, True, None)
    assert "alpha let it in still" in cli("vpn", "status", code=1).err
    cli.machines.machine("alpha").faults.refuses.clear()
    assert proof(cli("vpn", "revoke", "laptop", "-o", "json"))["alpha"] == (True, False, None)
    cli("apply", "--no-wait", "-f", cli.write(*rest, first))
    assert "is the one that was revoked" in cli("vpn", "admit", "laptop", code=1).err


def pem(letter: str) -> str:
    """The laptop with a key of tinc."""
    key = f"-----BEGIN RSA PUBLIC KEY-----\n{letter * 8}\n-----END RSA PUBLIC KEY-----\n"
    return LAPTOP.replace("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", json.dumps(key))


def test_a_machine_that_is_gone_is_revoked_by_its_name(fleet: Cli) -> None:
    fleet.machines.machine("beta").faults.unreachable = True
    fleet("delete", "host", "gamma", "--yes", "--timeout", "1", code=None)
    assert proof(fleet("vpn", "revoke", "gamma", "-o", "json", "--timeout", "1", code=1)) == {
        "alpha": (True, False, None),
        "beta": (False, None, None),
    }
    fleet.machines.machine("beta").faults.unreachable = False
    assert proof(fleet("vpn", "revoke", "gamma", "-o", "json"))["beta"] == (True, False, None)


def test_somebody_admits_it_while_it_is_revoked(fleet: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvusctl.vpn_revoke, "_wait", lambda *_: fleet("vpn", "admit", "gamma", "--no-wait"))
    assert "somebody let gamma in again in VPN/net meanwhile" in fleet("vpn", "revoke", "gamma", code=3).err


def test_a_revoked_key_is_let_in_under_no_other_name_and_not_after_its_node_is_back(fleet: Cli) -> None:
    rest = (HOST, OTHER, THIRD, NET)
    fleet("vpn", "revoke", "laptop")
    fleet("apply", "--no-wait", "-f", fleet.write(*rest, LAPTOP.replace("name: laptop", "name: tablet")))
    why = f"apply -f {fleet.folder}/fleet.yaml".split()
    said = fleet(*why, "--timeout", "5", code=1).err
    assert "the public key of tablet was revoked, and is let in nowhere; give a machine another one" in said
    assert "xTIBA5" not in facts(fleet)["trusted/alpha"]
    other = LAPTOP.replace("xTIBA5", "yTIBA5")
    fleet("apply", "--no-wait", "-f", fleet.write(*rest, other))
    fleet("delete", "vpnnode", "tablet", "--yes", "--timeout", "5", code=None)
    fleet("vpn", "admit", "laptop")
    assert "yTIBA5" in facts(fleet)["trusted/alpha"]
    fleet("apply", "--no-wait", "-f", fleet.write(*rest, LAPTOP))
    fleet(*why, "--timeout", "5", code=1)
    assert "TIBA5" not in facts(fleet)["trusted/alpha"]


def trusted(desk: Desk, machine: str) -> list[str]:
    return desk.session.knowledge().known.facts["VPN/net", f"trusted/{machine}"].split()


def test_a_machine_that_is_back_with_the_pair_that_it_had_is_let_in_nowhere(desk: Desk) -> None:
    ledger = desk.engine._ledger
    old = desk.session.knowledge().known.facts["VPN/net", "public_key/h002"]
    revoke(ledger, net(desk), "h002", world(desk), 1000.0)
    prove(ledger, net(desk), "h002", world(desk))
    desk.settle()
    desk.visit(*NAMES)
    assert admit(ledger, net(desk), "h002", world(desk))
    desk.settle()
    ledger.put_facts("VPN/net", {"public_key.2/h002": old})
    desk.settle()
    desk.visit("h001")
    assert lets_in(desk, "h001") == set()
    assert "KeyRevoked: the public key of h002 was revoked" in ready(desk)[1]
    # It makes one itself.
    for _ in range(2):
        desk.visit("h002", "h001")
    assert lets_in(desk, "h001") == {"2"}


def test_who_tells_the_key_of_another_has_only_its_own_shut_out(desk: Desk) -> None:
    ledger = desk.engine._ledger
    key = desk.session.knowledge().known.facts["VPN/net", "public_key/h003"]
    ledger.put_facts("VPN/net", {"public_key/h002": key})
    desk.settle()
    desk.visit("h001")
    them = known_as(net(desk).spec.driver, "h003", 1, key)
    assert them not in trusted(desk, "h001")
    revoke(ledger, net(desk), "h002", world(desk), 1000.0)
    desk.settle()
    desk.visit("h001")
    assert them in trusted(desk, "h001")


def test_who_is_no_node(fleet: Cli) -> None:
    for verb in ("revoke", "admit"):
        said = fleet("vpn", verb, "gama", code=1).err
        assert "there is no node 'gama' in any VPN; did you mean 'gamma'?" in said
    assert "there is no VPN 'nte'" in fleet("vpn", "revoke", "gamma", "--vpn", "nte", code=1).err


def test_what_is_kept_of_a_revocation() -> None:
    kept = revoked_value(12.4, [" KEY\n", "K E\nY2"])
    proved, admitted = revoked_as("proved", kept), revoked_as("admitted", kept)
    assert [(is_open(one), is_out(one)) for one in (kept, proved, admitted)] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    for one in (kept, proved, admitted):
        assert [has_key(one, key) for key in ("KEY", "KEY2", "OTHER")] == [True, True, False]
        assert revoked_since(one) == 12.0
    again = revoked_value(20, ["OTHER"], admitted)
    assert (revoked_since(again), has_key(again, "KEY"), has_key(again, "OTHER")) == (20.0, True, True)
    assert not is_out(None)

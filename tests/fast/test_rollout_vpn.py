"""A VPN's change comes to one machine first, then to all; what others do goes on meanwhile. Simulated, whole passes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.difference import difference
from controller.engine import Engine
from controller.foresight import Foresight
from controller.holder import Holder
from controller.leases import Leases
from controller.session import Session
from controller.store.ledger import Ledger
from controller.store.records import Pause
from controller.vpn_keys import revoke, rotate
from drivers.base import SshTarget
from drivers.items.file import File
from drivers.items.file_set import FileSet
from drivers.items.unit_files import UnitFiles
from resources.load import Loaded, load
from resources.rollouts import IN_FORCE, TURN
from resources.vpn_rotation import unfinished
from resources.vpn_turn import before
from tests.fast.walls import Walls, host, wall

NAMES = ("web1", "web2", "web3", "web4", "web5")
START = {"tinc": "UnitFiles:tinc@net.service", "wireguard": "UnitFiles:salvus-vpn-net.service"}


def net(length: int = 16, driver: str = "wireguard", **more: str) -> str:
    """A VPN of which another length of its prefix is another revision."""
    fields = {"driver": driver, "cidr": f"10.0.0.0/{length}", "members": "{selector: {}}", "hubs": "{names: [web2]}"}
    fields |= more
    spec = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return f"""
apiVersion: salv.us/v1
kind: VPN
metadata: {{name: net}}
spec: {{{spec}}}
"""


def node(name: str, address: str) -> str:
    return f"""
apiVersion: salv.us/v1
kind: VPNNode
metadata: {{name: {name}-net}}
spec: {{vpn: net, machine: {name}, address: {address}}}
"""


class Nets(Walls):
    """Which revision of the VPN is where, and whom a machine lets in."""

    def start(self, name: str, driver: str = "wireguard") -> str:
        item = self.fleet.machine(name)._made.get(START[driver])
        return "".join(file.content for file in item.start_files) if isinstance(item, UnitFiles) else ""

    def with_length(self, length: int, *names: str, driver: str = "wireguard") -> list[str]:
        return [name for name in names or NAMES if f"/{length} dev" in self.start(name, driver)]

    def trusted(self, name: str) -> str:
        made = self.fleet.machine(name)._made
        peers, hosts = made.get("File:/etc/wireguard/net/peers.conf"), made.get("FileSet:/etc/tinc/net/hosts")
        told = hosts.files if isinstance(hosts, FileSet) else ()
        return peers.content if isinstance(peers, File) else " ".join(name for name, _ in told)

    def knows(self, name: str, *others: str) -> bool:
        """Whether a machine's daemon has these as peers (WireGuard)."""
        return all(f"# {other}\n" in self.trusted(name) for other in others)

    def fails(self, name: str, driver: str = "wireguard") -> None:
        self.put_back(name, item=START[driver])

    def reason(self, name: str) -> str:
        return self.said(name, ref="VPN/net")[name].reason


def made_nets(folder: Path, driver: str = "wireguard", controllers: int = 1) -> Nets:
    made = Nets(folder, controllers)
    made.put(*map(host, NAMES), net(driver=driver))
    made.rounds(*NAMES)
    assert made.with_length(16, driver=driver) == list(NAMES)
    return made


@pytest.fixture
def nets(tmp_path: Path) -> Nets:
    """Five machines in a network."""
    return made_nets(tmp_path)


@pytest.mark.parametrize("driver", ["tinc", "wireguard"])
def test_one_machine_changes_first_then_all_others(tmp_path: Path, driver: str) -> None:
    nets = made_nets(tmp_path, driver)
    nets.put(*map(host, NAMES), net(15, driver))
    seen = []
    for _ in range(6):
        nets.settle()
        nets.visit(*NAMES)
        seen.append(len(nets.with_length(15, driver=driver)))
        assert nets.with_length(16, driver=driver) == [n for n in NAMES if n not in nets.with_length(15, driver=driver)]
    assert sorted(set(seen)) == [0, 1, 5]
    nets.rounds(*NAMES)
    assert {nets.reason(name) for name in NAMES} == {"InSync"}
    writes = nets.fleet.writes
    nets.rounds(*NAMES)
    assert nets.fleet.writes == writes


def test_set_back_while_the_canary_tries_it_is_put_back_once(nets: Nets, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next pass may begin before what the last one told is read: what it tells then is not what was there."""
    nets.put(*map(host, NAMES), net(15))
    nets.settle()
    nets.visit(*NAMES)
    nets.settle()
    (engine,), web1 = nets.engines, nets.fleet.machine("web1")
    outcome = engine.recorder.outcome

    def meanwhile(*said: Any) -> None:
        monkeypatch.undo()
        nets.put(*map(host, NAMES), net(16))
        engine.refresh()
        outcome(*said)

    monkeypatch.setattr(engine.recorder, "outcome", meanwhile)
    before = len(web1.log)
    nets.visit("web1")
    assert nets.with_length(15) == ["web1"]
    nets.visit("web1")
    nets.rounds(*NAMES)
    assert nets.with_length(16) == list(NAMES)
    assert [one.key for one in web1.log[before:]].count(START["wireguard"]) == 2


def test_a_few_at_once_where_that_is_written(nets: Nets) -> None:
    nets.put(*map(host, NAMES), net(15, rollout="{maxParallel: 2}"))
    seen = set()
    for _ in range(10):
        nets.settle()
        nets.visit(*NAMES)
        seen.add(len(nets.with_length(15)))
    assert seen == {0, 1, 3, 5}


@pytest.mark.parametrize("driver", ["tinc", "wireguard"])
def test_where_the_canary_puts_it_back_the_others_keep_the_network_until_it_is_corrected(
    tmp_path: Path, driver: str
) -> None:
    nets = made_nets(tmp_path, driver)
    nets.fails("web1", driver)
    before = {name: (nets.start(name, driver), nets.trusted(name), nets.fleet.machine(name).writes) for name in NAMES}
    nets.put(*map(host, NAMES), net(15, driver))
    nets.rounds(*NAMES)
    after = {name: (nets.start(name, driver), nets.trusted(name), nets.fleet.machine(name).writes) for name in NAMES}
    assert after == before
    assert [nets.reason(name) for name in NAMES] == ["RolledBack", *["HeldByRollout"] * 4]
    nets.silent("web1", True)
    nets.rounds(*NAMES)
    nets.silent("web1", False)
    nets.rounds(*NAMES)
    assert [nets.reason(name) for name in NAMES] == ["RolledBack", *["HeldByRollout"] * 4]
    nets.mended("web1")
    nets.put(*map(host, NAMES), net(14, driver))
    nets.rounds(*NAMES)
    assert nets.with_length(14, driver=driver) == list(NAMES)
    assert {nets.reason(name) for name in NAMES} == {"InSync"}


def test_members_keys_and_revocations_pass_by_the_hold(nets: Nets) -> None:
    nets.fails("web1")
    nets.put(*map(host, NAMES), net(15))
    nets.rounds(*NAMES)
    at = nets.session.knowledge()
    vpn = at.fleet.by_kind["VPN"]["net"]
    assert revoke(nets.engines[0]._ledger, vpn, "web5", at.world(), 1000.0)
    rest = NAMES[1:4]
    nets.rounds(*NAMES)
    assert all(nets.knows(name, *(set(rest) - {name})) for name in rest)
    assert not any(nets.knows(name, "web5") for name in rest)
    assert nets.knows("web1", "web5"), "where it was put back nothing of it changes"
    nets.put(*map(host, NAMES), net(15, members="{names: [web1, web2, web3]}"))
    nets.rounds(*NAMES)
    assert nets.knows("web2", "web3")
    assert not nets.knows("web2", "web4")
    assert nets.with_length(16, *NAMES[:3]) == list(NAMES[:3])
    assert nets.reason("web3") == "HeldByRollout"


def test_another_key_waits_for_none_of_those_who_wait(nets: Nets) -> None:
    nets.fails("web1")
    nets.put(*map(host, NAMES), net(15))
    nets.rounds(*NAMES)
    at = nets.session.knowledge()
    vpn = at.fleet.by_kind["VPN"]["net"]
    assert rotate(nets.engines[0]._ledger, vpn, "web4", at.world()) == 2
    nets.rounds(*NAMES)
    assert unfinished(vpn, "web4", nets.session.knowledge().world()).endswith("next key when web1 let it in with that")
    nets.mended("web1")
    nets.rounds(*NAMES)
    assert unfinished(vpn, "web4", nets.session.knowledge().world()) == ""
    assert nets.with_length(15) == list(NAMES)


def test_who_is_set_up_for_the_first_time_needs_no_turn_but_not_with_what_was_put_back(nets: Nets) -> None:
    nets.fails("web1")
    nets.put(*map(host, NAMES), net(15))
    nets.rounds(*NAMES)
    nets.put(*map(host, NAMES), host("web6"), net(15))
    nets.rounds(*NAMES, "web6")
    assert (nets.start("web6"), nets.reason("web6")) == ("", "HeldByRollout")
    assert nets.knows("web2", "web6"), "its key is told all the same"
    nets.mended("web1")
    nets.put(*map(host, NAMES), host("web6"), net(16))
    nets.rounds(*NAMES, "web6")
    assert nets.with_length(16, *NAMES, "web6") == [*NAMES, "web6"]
    nets.put(*map(host, NAMES), host("web6"), host("web7"), net(16))
    nets.settle()
    nets.visit("web7")
    nets.settle()
    nets.visit("web7")
    assert nets.with_length(16, "web7") == ["web7"]


def test_of_another_driver_nothing_of_the_former_one_goes_before_the_turn(nets: Nets) -> None:
    nets.fails("web1", "tinc")
    nets.put(*map(host, NAMES), net(driver="tinc"))
    for _ in range(6):
        nets.settle()
        nets.visit(*NAMES)
    assert nets.with_length(16) == list(NAMES[1:])
    keys = {name: [key for key in nets.fleet.machine(name).items if key.startswith("KeyPair:")] for name in NAMES}
    assert all(keys[name] == ["KeyPair:/etc/wireguard/net/key"] for name in NAMES[1:])
    nets.mended("web1")
    nets.rounds(*NAMES)
    assert all(nets.start(name, "tinc") and not nets.start(name) for name in NAMES)


def test_where_the_network_that_was_has_no_place_for_an_address_all_stays_as_it_is(nets: Nets) -> None:
    nets.fails("web1")
    writes = nets.fleet.writes
    nodes = [node(name, f"192.168.7.{number}") for number, name in enumerate(NAMES, 1)]
    nets.put(*map(host, NAMES), net(cidr="192.168.7.0/24"), *nodes)
    nets.rounds(*NAMES)
    assert nets.fleet.writes == writes
    assert nets.reason("web2") == "HeldByRollout"
    nets.put(*map(host, NAMES), net(16))
    for name in NAMES:
        nets.session.delete([f"VPNNode/{name}-net"])
    nets.rounds(*NAMES)
    assert {nets.reason(name) for name in NAMES} == {"InSync"}


def test_one_that_came_since_and_has_no_place_in_what_was_holds_up_no_revocation(tmp_path: Path) -> None:
    nets = Nets(tmp_path)
    nets.put(*map(host, NAMES), host("web6"), net(29))
    nets.rounds(*NAMES, "web6")
    nets.fails("web1")
    nets.put(*map(host, NAMES), host("web6"), host("web7"), net(28))
    nets.rounds(*NAMES, "web6", "web7")
    assert nets.given()["web7"] == "10.0.0.7", "the address for all of the smaller network"
    at = nets.session.knowledge()
    assert revoke(nets.engines[0]._ledger, at.fleet.by_kind["VPN"]["net"], "web5", at.world(), 1000.0)
    nets.rounds(*NAMES, "web6", "web7")
    assert nets.reason("web2") == "HeldByRollout"
    assert nets.knows("web2", "web3")
    assert not any(nets.knows(name, "web5") for name in ("web2", "web3", "web4", "web6"))


def test_a_rule_lets_in_the_port_that_is_and_the_one_that_is_to_be(tmp_path: Path) -> None:
    nets = made_nets(tmp_path, "tinc")
    nets.put(*map(host, NAMES), net(driver="tinc"), wall(1))
    nets.rounds(*NAMES)
    nets.fails("web1", "tinc")
    nets.put(*map(host, NAMES), net(driver="tinc", port="4000"), wall(1))
    nets.rounds(*NAMES)
    assert nets.reason("web3") == "HeldByRollout"
    assert nets.with_port(655, *NAMES) == nets.with_port(4000, *NAMES) == list(NAMES)
    nets.mended("web1")
    nets.rounds(*NAMES)
    assert (nets.with_port(655, *NAMES), nets.with_port(4000, *NAMES)) == ([], list(NAMES))


def test_rules_about_the_network_are_of_the_one_that_is(nets: Nets) -> None:
    inside = wall(1).replace("ports: [1]", "ports: [1], from: [{vpn: net}]")
    nets.put(*map(host, NAMES), net(), inside)
    nets.rounds(*NAMES)
    nets.fails("web1")
    nodes = [node(name, f"192.168.7.{number}") for number, name in enumerate(NAMES, 1)]
    nets.put(*map(host, NAMES), net(cidr="192.168.7.0/24", interface="other"), inside, *nodes)
    nets.rounds(*NAMES)
    items = nets.fleet.machine("web3").items["NftTable:salvus"]
    assert "10.0.0.0/16" in str(items["members"])
    assert "192.168.7.0/24" in str(items["members"])
    assert "vpn-net" in str(items["rules"])
    assert "other" not in str(items["rules"])


@pytest.mark.parametrize("written", [False, True])
def test_rules_about_machines_have_the_addresses_that_are_and_those_that_are_to_be(nets: Nets, written: bool) -> None:
    inside = wall(1).replace("ports: [1]", "ports: [1], from: [{machines: {names: [web1]}}]")
    nets.put(*map(host, NAMES), net(), inside)
    nets.rounds(*NAMES)
    nets.fails("web1")
    nodes = [node(name, f"192.168.7.{number}") for number, name in enumerate(NAMES, 1)] if written else []
    nets.put(*map(host, NAMES), net(cidr="192.168.7.0/24"), inside, *nodes)
    nets.rounds(*NAMES)
    assert nets.reason("web3") == ("HeldByRollout" if written else "Stalled")
    members = str(nets.fleet.machine("web3").items["NftTable:salvus"]["members"])
    assert "10.0.0.1/32" in members, "the network is the one that was"
    assert ("192.168.7.1/32" in members) == written


def test_the_way_through_a_network_is_the_one_that_is_as_long_as_that_stays(nets: Nets) -> None:
    inside = [host(name).replace("ssh: {", "ssh: {addresses: [vpn/net], ") for name in NAMES]
    nets.put(*inside, net())
    nets.rounds(*NAMES)
    nets.put(*inside, net(cidr="192.168.7.0/24"))
    nets.rounds(*NAMES)
    assert nets.reason("web3") == "Stalled", "it stays in the network"
    assert isinstance(target := nets.engines[0]._view.lowered("web3").target, SshTarget)
    assert target.addresses[0] == "10.0.0.3"


def test_one_that_is_away_is_passed_over_and_follows(nets: Nets) -> None:
    nets.silent("web1", True)
    nets.rounds(*NAMES)
    nets.put(*map(host, NAMES), net(15))
    nets.rounds(*NAMES)
    assert nets.with_length(15) == list(NAMES[1:])
    nets.silent("web1", False)
    nets.rounds(*NAMES)
    assert nets.with_length(15) == list(NAMES)


@pytest.mark.parametrize("what", ["machine/web1", "VPN/net"])
def test_what_is_paused_is_passed_over_and_follows(nets: Nets, what: str) -> None:
    """Before it has said anything, and with its turn."""
    for length, steps in ((15, 0), (14, 2)):
        nets.put(*map(host, NAMES), net(length))
        for _ in range(steps):
            nets.settle()
            nets.visit(*NAMES[1:])
        nets.session.ledger.put_pause(Pause(what, "ann", "disk swap", time.time(), None))
        nets.rounds(*NAMES)
        assert nets.with_length(length) == (list(NAMES[1:]) if what == "machine/web1" else [])
        nets.session.ledger.end_pause(what)
        for engine in nets.engines:
            engine.turned()
        nets.rounds(*NAMES)
        assert nets.with_length(length) == list(NAMES)


def test_a_canary_that_is_revoked_holds_up_nobody(nets: Nets) -> None:
    nets.put(*map(host, NAMES), net(15))
    nets.settle()
    nets.visit(*NAMES)
    nets.settle()
    at = nets.session.knowledge()
    revoke(nets.engines[0]._ledger, at.fleet.by_kind["VPN"]["net"], "web1", at.world(), 1000.0)
    nets.rounds(*NAMES)
    assert nets.with_length(15) == list(NAMES[1:])


def test_members_and_what_is_written_anew_alike_are_no_other_revision(nets: Nets) -> None:
    writes = nets.fleet.writes
    more = {"port": "51820", "interface": "vpn-net", "rotateKeysAfter": "90d", "rollout": "{maxParallel: 1}"}
    nets.put(*map(host, NAMES), net(16, **more))
    nets.rounds(*NAMES)
    assert nets.fleet.writes == writes
    told = nets.session.knowledge().known.facts["Host/web1", "revisions_in_force/VPN/net"]
    fields = {"cidr": "10.0.0.0/16", "driver": "wireguard", "interface": "vpn-net", "keepalive": 25, "port": 51820}
    assert json.loads(told.removeprefix("VPN/net@")) == fields


def test_what_is_kept_of_a_revision_is_what_the_network_was(nets: Nets) -> None:
    was = nets.session.knowledge().fleet.by_kind["VPN"]["net"]
    nets.put(*map(host, NAMES), net(15, "tinc", port="4000", keepalive="5s"))
    at = nets.session.knowledge()
    vpn, web1 = at.fleet.by_kind["VPN"]["net"], at.fleet.by_kind["Host"]["web1"]
    former = before(vpn, web1, at.world())
    assert former is not None
    for name in ("cidr", "driver", "keepalive", "listens_on", "members", "hubs"):
        assert getattr(former.spec, name) == getattr(was.spec, name)
    assert former.spec.device("net") == was.spec.device("net")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["visit", "silent", "heard", "bad", "good"]), st.sampled_from(NAMES)),
        st.tuples(st.sampled_from(["settle", "changed", "killed"]), st.just("")),
    ),
    min_size=20,
    max_size=50,
)


def step(nets: Nets, what: str, name: str, length: int) -> None:
    match what:
        case "visit":
            nets.visit(name)
        case "settle":
            nets.settle()
        case "silent" | "heard":
            nets.silent(name, what == "silent")
        case "bad":
            nets.fails(name)
        case "good":
            nets.mended(name)
        case "changed":
            nets.put(*map(host, NAMES), net(length))
        case "killed":
            nets.engines[0].leases.release_all()
            nets.engines[0] = Engine(Ledger(nets.store), Leases(nets.store, Holder.this_process()), nets.fleet.connect)


def trying(nets: Nets, length: int) -> set[str]:
    """Who has a turn and does not have it in force; one alone until it is in force somewhere."""
    facts = nets.session.knowledge().known.facts
    turn, in_force = (
        {one for one in NAMES if f"/{length}" in facts.get((f"Host/{one}", f"{what}/VPN/net"), "")}
        for what in (TURN, IN_FORCE)
    )
    assert len(turn - in_force) <= 1 or turn & in_force
    return turn - in_force


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_in_any_order_one_tries_first_and_in_the_end_all_have_it(steps: list[tuple[str, str]]) -> None:
    """Whatever is away, refuses it, or is killed, and when: nobody tries it without a turn, and one has the first."""
    with TemporaryDirectory() as folder:
        nets = made_nets(Path(folder))
        length = 16
        for what, name in steps:
            length -= what == "changed" and length > 8
            had, may = nets.with_length(length), trying(nets, length)
            step(nets, what, name, length)
            assert length == 16 or set(nets.with_length(length)) - set(had) <= may
        for name in NAMES:
            nets.mended(name)
            nets.silent(name, False)
        nets.rounds(*NAMES)
        assert nets.with_length(length) == list(NAMES)


def loaded(nets: Nets, *texts: str) -> Loaded:
    (nets.folder / "then.yaml").write_text("---".join(texts))
    return load([nets.folder / "then.yaml"])


def test_what_would_be_done_is_shown_and_counted_for_all_and_not_for_the_canary_alone(nets: Nets) -> None:
    session = Session(nets.store, nets.session.settings, nets.fleet.connect)
    then = loaded(nets, *map(host, NAMES), net(15))
    shown = {one.machine: [change.item.key for change in one.plan.changes] for one in difference(session, then)}
    assert all(START["wireguard"] in shown[name] for name in NAMES)
    foresight = Foresight(session.ledger)
    disturbed = foresight.impact(nets.session.knowledge(), then).of
    assert sorted(one.machine for one in disturbed) == list(NAMES)
    nets.put(*map(host, NAMES), net(15))
    nets.settle()
    nets.visit(*NAMES)
    labelled = loaded(nets, *map(host, NAMES[:4]), host("web5", "other"), net(15))
    assert not foresight.impact(nets.session.knowledge(), labelled).of, "that is under way already"
    now = {one.machine: one.waiting["VPN/net"].reason for one in difference(session)}
    assert now == dict.fromkeys(NAMES, "WaitsForTurn")

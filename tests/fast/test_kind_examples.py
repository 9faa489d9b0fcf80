"""The examples as one fleet: everything is placed, lowered without contradiction, and can be noted in the inventory."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

from controller.allocate import allocate
from controller.lower import Lowered, lower
from drivers.base import SshTarget
from drivers.items import codec
from resources.base import AnyResource
from resources.fleet import Fleet, kinds
from resources.load import load
from resources.world import Known, World
from tests.fast.manifests import KEY

FLEET = load([Path(__file__).parents[2] / "manifests" / "examples"]).fleet


_PEM = "-----BEGIN RSA PUBLIC KEY-----"


def key_of(machine: str, driver: str) -> str:
    """A public key, another one for each machine."""
    key = b64encode(sha256(machine.encode()).digest()).decode()
    return key if driver == "wireguard" else f"{_PEM}\nMII{key}\n{_PEM.replace('BEGIN', 'END')}"


def known(fleet: Fleet) -> Known:
    """All that is decided, told and true once a fleet is up."""
    uids = {resource.ref: str(uuid5(NAMESPACE_URL, resource.ref)) for resource in fleet}
    decisions, waiting = allocate(fleet, Known(uids=uids))
    assert waiting == {}
    facts = {(ref, "domain_type"): "kvm" for ref in uids} | {(ref, "ssh_host_key"): KEY for ref in uids}
    for vpn in fleet.of("VPN"):
        facts |= {(vpn.ref, f"public_key/{m.name}"): key_of(m.name, vpn.spec.driver) for m in fleet.machines()}
    conditions = {(ref, "Ready"): "True" for ref in uids}
    return Known({(d.ref, d.what): d.value for d in decisions}, facts, conditions, uids)


KNOWN = known(FLEET)


def on(machine: AnyResource) -> Lowered:
    """What all resources want on the machine."""
    world = World(FLEET, KNOWN)
    wanting = [r for r in FLEET if machine.name in kinds()[r.kind].machines(r, world)]
    return lower(machine.name, wanting, FLEET, KNOWN)


@pytest.fixture(params=FLEET.machines(), ids=lambda machine: str(machine.ref))
def lowered(request: pytest.FixtureRequest) -> Lowered:
    return on(request.param)


def test_nothing_waits_or_contradicts(lowered: Lowered) -> None:
    assert lowered.waiting == {}
    assert lowered.wanted
    assert isinstance(lowered.target, SshTarget)


def test_what_items_wait_for_is_there_and_comes_first(lowered: Lowered) -> None:
    seen: set[str] = set()
    for wanted in lowered.wanted:
        assert set(wanted.after) <= seen
        seen.add(wanted.key)


def test_the_inventory_can_note_every_item_and_find_it_again(lowered: Lowered) -> None:
    for wanted in lowered.wanted:
        again = codec.restore(wanted.item.type(), codec.dump(wanted.item))
        assert again.key == wanted.key


def test_all_machines_have_names_of_their_own_on_their_hosts() -> None:
    names = [
        wanted.key for machine in FLEET.machines() for wanted in on(machine).wanted if wanted.item.type() == "Domain"
    ]
    assert sorted(names) == ["Domain:cassandra01", "Domain:sage02", "Domain:web03"]

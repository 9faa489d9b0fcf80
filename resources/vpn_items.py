"""A VPN in machine words, for one of its machines: what both drivers have in common. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from drivers.base import Item
from drivers.items.file import File
from drivers.items.file_block import FileBlock
from drivers.items.key_pair import MARK, KeyPair
from drivers.items.key_use import KeyUse
from drivers.items.systemd_unit import Watched
from drivers.items.unit_files import UnitFiles
from resources.base import Gate, Invalid, NotYet, Partly, Placed
from resources.net import Network
from resources.rollouts import in_force
from resources.vpn_keys import IN_USE, TRUSTED, digest, key_fact, key_path, no_key
from resources.vpn_nodes import (
    ADDRESS,
    Node,
    Vpn,
    connected,
    generations,
    holder,
    leaving,
    members,
    nodes,
    resources_of,
    revoked_keys,
    unit,
    with_key,
)
from resources.vpn_rotation import turning
from resources.vpn_spec import PORTS
from resources.vpn_turn import has_just, in_turn, on
from resources.ways import lead_through
from resources.world import World

# How files begin that only salvus writes.
WRITTEN = f"{MARK}: changes in here are undone.\n"
# Routes of ours are marked with this number of a routing protocol (ip-route(8)); the low ones have an owner.
_PROTOCOL = 121
# Behind what the machine has by itself, its own networks and its default route: those are not replaced, and decide.
_METRIC = 4242


def placed(vpn: Vpn, machine: str, world: World) -> Iterator[Placed]:
    """Packages and the key pair; when that is told, configuration with all that is known of others, the unit, names.

    Raises NotYet while the machine has no address, or is leaving; Invalid when it cannot have the address that it
    should; and Partly in the end while it waits for its turn, or keys are to come.
    """
    everybody = nodes(vpn, world)
    me = _member(vpn, machine, everybody, world)
    here = world.machine(machine)
    now, wait = in_turn(vpn, here, world) if here is not None else (vpn, None)
    if wait is not None and now is not vpn:
        everybody = _as_before(now, everybody, wait, world)
        me = with_key(now, _node(machine, everybody), world)
    heard = tuple(_heard(now, me, node, world) for node in everybody if node.address and node.name != machine)
    twice, shut = _twice((me, *heard)), _revoked(now, (me, *heard), world)
    others = tuple(replace(n, public_key=None, next_key=None) if n.name in twice + shut else n for n in heard)
    if now.spec.driver == "tinc":
        from resources.vpn_tinc import beginning, items  # here, because of one driver the other is not needed
    else:
        from resources.vpn_wireguard import beginning, items
    first = beginning(now, me)
    yield from in_order(first)
    if me.public_key is None:
        raise Partly("FactUnknown", f"waits for the public key of {machine}; it is read when the pair is made")
    if wait is not None and now is vpn:
        raise Partly(wait.reason, wait.message)
    me, rotates = turning(now, me, heard, world)
    # Names lead to where the network is: they stay when that is put back.
    names = FileBlock("/etc/hosts", now.ref, hosts((me, *others)))
    told = in_force(here, [now]) if here is not None else {}
    for one in (*items(now, me, others, first), Placed(names, after=(f"{UnitFiles.type()}:{unit(now)}",))):
        yield replace(one, tells=told)
    if wait is not None:
        raise Partly(wait.reason, wait.message, whole=True)
    if (late := _open(now, me, heard, twice, shut)) is not None:
        raise Partly(*late, whole=True)
    if rotates:
        raise Partly("KeyRotating", rotates, whole=True)


def _member(vpn: Vpn, machine: str, everybody: Iterable[Node], world: World) -> Node:
    """The machine's own node. Raises NotYet and Invalid where it cannot be in the network as it is written."""
    if machine in leaving(vpn, world):
        what = f"{machine} is revoked; what it has is left until it is proved that nobody lets it in"
        raise NotYet("KeyRevoked", f"{what}: salvusctl vpn revoke {machine}")
    me = with_key(vpn, _node(machine, everybody), world)
    if not me.address:
        raise _no_address(vpn, machine, world)
    if why := _cuts_off(vpn, me, world):
        raise Invalid(why)
    return me


def _node(name: str, among: Iterable[Node]) -> Node:
    return next(node for node in among if node.name == name)


def _as_before(former: Vpn, everybody: tuple[Node, ...], wait: Gate, world: World) -> tuple[Node, ...]:
    """The nodes in the network as it was. Raises NotYet where that has no place for one that is in it: then all stays
    as it is. Who came since, or has changed, is not in it.
    """
    found = nodes(former, world)
    placed_then = {node.name for node in found if node.address}
    without = (node for node in everybody if node.address and node.name not in placed_then)
    if any(not node.machine or has_just(former, node.name, world) for node in without):
        raise NotYet(wait.reason, wait.message)
    return found


def _open(
    vpn: Vpn, me: Node, heard: tuple[Node, ...], twice: tuple[str, ...], shut: tuple[str, ...]
) -> tuple[str, str] | None:
    """Reason and sentence why others are not in it yet."""
    late = [node.name for node in heard if node.awaited and not node.public_key and connected(vpn, me, node)]
    if late:
        more = f" and {len(late) - 5} more" if len(late) > 5 else ""
        return "FactUnknown", f"waits for the public keys of {', '.join(late[:5])}{more}; others are in it"
    if shut:
        what = f"the public key of {', '.join(shut)} was revoked, and is let in nowhere; give a machine another one"
        how = f"(salvusctl vpn rotate {vpn.name} --node NAME), a VPNNode another publicKey"
        return "KeyRevoked", f"{what} {how}"
    if strangers := [name for name in twice if name != me.name]:
        return "KeyTwice", f"{', '.join(strangers)} tell a public key that another node has, too: none is let in"
    return None


def _cuts_off(vpn: Vpn, me: Node, world: World) -> str:
    """Why the machine stays in the network of its former driver; empty when it may leave it, or is in none.

    Two drivers are two networks: whoever is in the one reaches nobody in the other.
    """
    told = world.known_fact(vpn.ref, key_fact(me.generation, me.name))
    former = next((one for one in PORTS if one != vpn.spec.driver and told and not no_key(one, told)), None)
    inside = [one.name for one in members(vpn, world) if lead_through(vpn, one)] if former is not None else []
    if not inside:
        return ""
    return (
        f"it was made with {former}, and salvus reaches {inside[0]} through it, so its driver stays; write another VPN "
        "beside it, put that first in spec.ssh.addresses, and delete this one when all are in both"
    )


def _heard(vpn: Vpn, me: Node, other: Node, world: World) -> Node:
    return with_key(vpn, other, world) if connected(vpn, me, other) else other


def _twice(everybody: tuple[Node, ...]) -> tuple[str, ...]:
    """Who has a key that another one has, too: nobody knows whose it is, and it may be taken once."""
    count = Counter(key for node in everybody for key in _keys(node))
    return tuple(node.name for node in everybody if any(count[key] > 1 for key in _keys(node)))


def _revoked(vpn: Vpn, everybody: tuple[Node, ...], world: World) -> tuple[str, ...]:
    """Who comes with a key that was revoked, of whomever."""
    kept = revoked_keys(vpn, world)
    return tuple(node.name for node in everybody if kept and not kept.isdisjoint(map(digest, _keys(node))))


def _keys(node: Node) -> set[str]:
    return {key for key in (node.public_key, node.next_key) if key}


def _no_address(vpn: Vpn, machine: str, world: World) -> Exception:
    given = world.pool(vpn.ref, ADDRESS)
    for node in resources_of(vpn, world):
        if node.spec.machine == machine and node.spec.address is not None:
            other = holder(node.spec.address, machine, given)
            return Invalid(f"its address {node.spec.address} is that of {other} for ever; write another in {node.ref}")
    if kept := given.get(machine, ""):
        return Invalid(
            f"its address stays {kept}, which is not in {vpn.spec.cidr}; write a cidr in which all addresses stay, "
            "or another VPN beside this one, and delete this one when all are in both"
        )
    return NotYet("NotAllocated", f"waits for an address of {machine} in {vpn.ref} to be decided")


def telling(vpn: Vpn, name: str, world: World) -> KeyPair:
    """An item with which a machine tells what its daemon has read: the pair in use. It is only to be asked."""
    vpn = on(vpn, name, world)
    if vpn.spec.driver == "tinc":
        from resources.vpn_tinc import beginning
    else:
        from resources.vpn_wireguard import beginning
    used = generations(vpn, name, world)[1]
    me = Node(name, True, "", None, (), False, 1, None, generation=used, wanted=used)
    return next(item for item in beginning(vpn, me) if isinstance(item, KeyPair))


def in_order(items: Iterable[Item]) -> Iterator[Placed]:
    """Each after all before it."""
    before: tuple[str, ...] = ()
    for item in items:
        yield Placed(item, after=before)
        before = (*before, item.key)


def network(vpn: Vpn) -> Network:
    """Its network."""
    return ipaddress.ip_network(vpn.spec.cidr)


def key_pairs(base: str, made_by: Literal["tinc", "wireguard"], daemon: str, me: Node) -> tuple[KeyPair, ...]:
    """The pair in use, and beside it the one that the node turns to. One of them tells what ``daemon`` has read."""
    use = KeyUse(daemon, f"{IN_USE}/{me.name}", f"{TRUSTED}/{me.name}")
    both = sorted({me.generation, me.wanted})
    return tuple(
        KeyPair(key_path(base, one), made_by, key_fact(one, me.name), use if one == both[0] else None) for one in both
    )


def with_prefix(vpn: Vpn, node: Node) -> str:
    """A node's address with the prefix length of the network."""
    return f"{node.address}/{network(vpn).prefixlen}"


def hosts(known: Iterable[Node]) -> str:
    """The lines of hosts(5): address, name, then further names, unless a node has one of them for its name."""
    everybody = sorted(known, key=lambda node: node.name)
    names = {node.name for node in everybody}
    lines = ([node.address, node.name, *(a for a in node.aliases if a not in names)] for node in everybody)
    return "".join(" ".join(line) + "\n" for line in lines)


def routes(path: str, vpn: Vpn, others: Iterable[Node]) -> File:
    """A script that makes the routes to what is behind other nodes, and takes away those that are no more."""
    # As ip(8) prints them: without the prefix length where it is that of one address.
    wanted = " ".join(sorted(_bare(subnet) for node in others for subnet in node.subnets))
    device = vpn.spec.device(vpn.name)
    text = _ROUTES.format(ref=vpn.ref, wanted=wanted, device=device, number=_PROTOCOL, metric=_METRIC)
    return File(path, text, "0755")


def _bare(subnet: str) -> str:
    one = ipaddress.ip_network(subnet)
    return str(one.network_address) if one.prefixlen == one.max_prefixlen else subnet


_ROUTES = """\
#!/bin/sh
# Routes to what is behind other nodes of {ref}. Written by salvus: changes in here are undone.
set -eu
wanted="{wanted}"
for family in -4 -6; do
    ip $family route show dev {device} proto {number} | while read -r network rest; do
        case " $wanted " in
            *" $network "*) ;;
            *) ip $family route del "$network" dev {device} proto {number} ;;
        esac
    done
done
for network in $wanted; do
    ip route replace "$network" dev {device} proto {number} metric {metric}
done
"""


def watched(*files: File) -> tuple[Watched, ...]:
    """The files as a unit watches them."""
    return tuple(Watched(file.path, hashlib.sha256(file.content.encode()).hexdigest()) for file in files)

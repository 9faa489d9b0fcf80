"""A VPN with tinc 1.0 (tinc.conf(5), tincd(8)). Pure.

What tincd reads again on SIGHUP stands in files of its own: ``conf.d`` with the hubs to connect to, and ``hosts``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from drivers.base import Item
from drivers.items.directory import Directory
from drivers.items.file import File
from drivers.items.file_set import FileSet
from drivers.items.key_pair import KeyPair
from drivers.items.key_use import GENERATION
from drivers.items.package import Package
from drivers.items.systemd_unit import SystemdUnit
from drivers.items.unit_files import UnitFiles
from resources.base import Placed
from resources.vpn_items import WRITTEN, key_pairs, routes, watched, with_prefix
from resources.vpn_keys import generation_of, key_path, tinc_name
from resources.vpn_nodes import Node, Vpn, connected, unit


def _key_base(vpn: Vpn) -> str:
    return f"{_folder(vpn)}/rsa_key.priv"


def _folder(vpn: Vpn) -> str:
    return f"/etc/tinc/{vpn.name}"


def beginning(vpn: Vpn, me: Node) -> tuple[Item, ...]:
    """What comes first, each after the one before: the package, directories, the key pair, and the next one."""
    directories = (_folder(vpn), f"{_folder(vpn)}/conf.d", _drop_ins(vpn))
    return (Package("tinc"), *map(Directory, directories), *key_pairs(_key_base(vpn), "tinc", vpn.name, me))


def items(vpn: Vpn, me: Node, others: tuple[Node, ...], first: tuple[Item, ...]) -> Iterator[Placed]:
    """All that comes after. No key of anybody else is needed: tincd starts, and hears of the others as they come."""
    folder = _folder(vpn)
    trusted = tuple(node for node in others if node.public_key and connected(vpn, me, node))
    known = tuple(one for node in trusted for one in node.known_by)
    files = ((tinc_name(node.name, node.generation), host_file(node)) for node in known)
    # Its own ones; that of a former key until it has turned to the next.
    own = (tinc_name(me.name, generation_of(item.fact) or 1) for item in first if isinstance(item, KeyPair))
    hosts = FileSet(f"{folder}/hosts", tuple(files), besides=tuple(own))
    ways = routes(f"{folder}/routes", vpn, others)
    connect = File(f"{folder}/conf.d/connect.conf", connect_conf(hosts, known))
    fixed = (
        File(f"{folder}/tinc.conf", tinc_conf(vpn, me)),
        File(f"{folder}/tinc-up", tinc_up(vpn, me, ways), "0755"),
        File(f"{folder}/hosts/{tinc_name(me.name, me.generation)}", host_file(me)),
        File(f"{_drop_ins(vpn)}/salvus.conf", drop_in(ways, me.generation)),
    )
    start = UnitFiles(unit(vpn), fixed, (ways,))
    before = tuple(item.key for item in first)
    # The directory of its own file in it comes with it.
    yield Placed(hosts, after=before)
    yield Placed(start, after=(*before, hosts.key))
    # Before tincd is told of it, the files are to be there.
    yield Placed(connect, after=(*before, hosts.key, start.key))
    daemon = SystemdUnit(unit(vpn), True, True, reload_on=watched(connect))
    yield Placed(daemon, after=(*before, hosts.key, start.key, connect.key))


def _drop_ins(vpn: Vpn) -> str:
    return f"/etc/systemd/system/{unit(vpn)}.d"


def host_file(node: Node) -> str:
    """``hosts/NAME``: how it is reached, what is behind it, and its key if it is known."""
    address = (f"Address = {node.endpoint[0]} {node.endpoint[1]}",) if node.endpoint else ()
    subnets = (f"Subnet = {network}" for network in node.networks)
    key = (node.public_key,) if node.public_key else ()
    return "\n".join((*address, *subnets, *key)) + "\n"


def connect_conf(hosts: FileSet, trusted: Iterable[Node]) -> str:
    """The hubs to connect to. Changes with any of the files in ``hosts``: then tincd is to look at them again."""
    digest = hashlib.sha256(repr(sorted(hosts.files)).encode()).hexdigest()
    hubs = (tinc_name(node.name, node.generation) for node in trusted if node.hub and node.endpoint)
    return f"{WRITTEN}# of hosts {digest}\n" + "".join(f"ConnectTo = {name}\n" for name in hubs)


def tinc_conf(vpn: Vpn, me: Node) -> str:
    """What needs another start, as another key does, or other subnets of its own. A MAC of 16 bytes, as 4 are few."""
    lines = {
        "Name": tinc_name(me.name, me.generation),
        "PrivateKeyFile": key_path(_key_base(vpn), me.generation),
        "Interface": vpn.spec.device(vpn.name),
        "Port": str(vpn.spec.listens_on),
        "PingInterval": str(me.keepalive),
        # A hub that is back, or turned to another key, is found again within that time, too.
        "MaxTimeout": str(me.keepalive),
        "MACLength": "16",
    }
    key = hashlib.sha256((me.public_key or "").encode()).hexdigest()
    own = f"# with key {key}\n# with networks {' '.join(me.networks)}\n"
    return f"{WRITTEN}{own}" + "".join(f"{name} = {value}\n" for name, value in lines.items())


def tinc_up(vpn: Vpn, me: Node, ways: File) -> str:
    """Called by tincd once its device is there."""
    return f"""\
#!/bin/sh
{WRITTEN}set -eu
ip address add {with_prefix(vpn, me)} dev "$INTERFACE"
ip link set dev "$INTERFACE" up
exec {ways.path}
"""


def drop_in(ways: File, generation: int) -> str:
    """tincd goes before what uses its network, and before all else that wants the processor: it carries the rest.

    Where nothing made /dev/net/tun at boot, its module does; in a container there is no module to be loaded. Of its key
    tincd tells nothing: its environment says with which it was started.
    """
    return f"""\
{WRITTEN}[Unit]
Before=network-online.target

[Service]
Nice=-19
Environment={GENERATION}={generation}
Restart=always
ExecStartPre=-modprobe --quiet tun
ExecReload={ways.path}
"""

"""A VPN with WireGuard: of the kernel where it has it, else ``wireguard-go`` (wg(8)). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.base import Item
from drivers.items.directory import Directory
from drivers.items.file import File
from drivers.items.package import Package
from drivers.items.systemd_unit import SystemdUnit
from drivers.items.unit_files import UnitFiles
from resources.base import Placed
from resources.net import is_address
from resources.vpn_items import WRITTEN, key_pairs, network, routes, watched, with_prefix
from resources.vpn_keys import key_path
from resources.vpn_nodes import Node, Vpn, connected, unit
from resources.vpn_spec import shown


def _folder(vpn: Vpn) -> str:
    return f"/etc/wireguard/{vpn.name}"


def beginning(vpn: Vpn, me: Node) -> tuple[Item, ...]:
    """What comes first, each after the one before: packages, the directory, the key pair, and the next one."""
    keys = key_pairs(f"{_folder(vpn)}/key", "wireguard", vpn.spec.device(vpn.name), me)
    return (Package("wireguard-tools"), Package("wireguard-go"), Directory(_folder(vpn), "0700"), *keys)


def items(vpn: Vpn, me: Node, others: tuple[Node, ...], first: tuple[Item, ...]) -> Iterator[Placed]:
    """All that comes after. No key of anybody else is needed: it starts, and hears of the others as they come."""
    folder = _folder(vpn)
    ways = routes(f"{folder}/routes", vpn, others)
    peers = File(f"{folder}/peers.conf", peers_conf(vpn, me, others))
    run = File(f"{folder}/run", script(vpn, me, folder, ways), "0755")
    own = File(f"/etc/systemd/system/{unit(vpn)}", unit_file(vpn, run))
    start = UnitFiles(unit(vpn), (run, own), (ways,))
    before = (*(item.key for item in first), start.key)
    yield Placed(start, after=before[:-1])
    yield Placed(peers, after=before)
    daemon = SystemdUnit(unit(vpn), True, True, reload_on=watched(peers))
    yield Placed(daemon, after=(*before, peers.key))


def peers_conf(vpn: Vpn, me: Node, others: tuple[Node, ...]) -> str:
    """Whom to talk to, of whom the key is known. The own key is named; the port is the script's, as it is on trial.

    Two of which none can be reached talk over the first hub: it has the whole network, and the others what is theirs.
    A network belongs to one key at a time: of a node that turns to another one, the script moves it.
    """
    peers = tuple(node for node in others if node.public_key and connected(vpn, me, node))
    relay = next((node for node in peers if node.hub), None) if me.endpoint is None else None
    apart = tuple(node for node in others if me.endpoint is None and node.endpoint is None)
    # Another key is taken over with a reload, too.
    own = f"# Own key in {key_path(f'{_folder(vpn)}/key', me.generation)}\n# with public half {me.public_key}\n"
    text = f"{WRITTEN}{own}"
    for node in peers:
        more = (vpn.spec.cidr, *(s for one in apart for s in one.subnets)) if node is relay else ()
        theirs, keepalive = (*node.networks, *more), 0 if me.endpoint else me.keepalive
        text += _peer(node, theirs, keepalive)
        for turned in node.known_by[1:]:
            text += f"{_peer(turned, (), keepalive)}# Next key {turned.public_key} {','.join(theirs)}\n"
    return text


def _peer(node: Node, networks: tuple[str, ...], keepalive: int) -> str:
    lines = [f"# {node.name}", "[Peer]", f"PublicKey = {node.public_key}"]
    if networks:
        lines.append(f"AllowedIPs = {', '.join(networks)}")
    if node.endpoint is not None:
        where = shown(*node.endpoint)
        lines.append(f"Endpoint = {where}" if is_address(node.endpoint[0]) else f"# Found at {node.public_key} {where}")
    # Who cannot be reached keeps the way open by which it is answered.
    lines.append(f"PersistentKeepalive = {keepalive if node.endpoint is not None else 0}")
    return "\n" + "\n".join(lines) + "\n"


def script(vpn: Vpn, me: Node, folder: str, ways: File) -> str:
    """What the unit calls: ``device`` makes the interface and stays, ``up`` configures it, ``sync`` takes changes."""
    device = vpn.spec.device(vpn.name)
    forward = _FORWARD.format(version=network(vpn).version, device=device) if me.hub else ""
    return _SCRIPT.format(
        written=WRITTEN,
        ref=vpn.ref,
        device=device,
        folder=folder,
        made=f"/run/{unit(vpn)}.device",
        address=with_prefix(vpn, me),
        port=vpn.spec.listens_on,
        forward=forward,
        routes=ways.path,
    )


# The private key comes from its file and goes through a pipe: it is in no argument and no other file.
# The port is told at the start alone: `wg syncconf` would tell it again, and wireguard-go opens its socket anew then,
# though it is the same, and what is on the way is lost. A keepalive that is gone from the file is told as 0; an
# endpoint that is gone stays the place where the peer was seen last, as of one that has none.
_SCRIPT = """\
#!/bin/sh
{written}set -eu
there() {{ ip link show dev {device} >/dev/null 2>&1; }}
# Another spec.interface is a script that knows the new device alone, and the kernel's outlives its unit.
clear() {{
    made=$(cat {made} 2>/dev/null || :)
    if [ -n "$made" ] && [ "$made" != {device} ] && wg show "$made" >/dev/null 2>&1; then ip link del dev "$made"; fi
    there || return 0
    if wg show {device} >/dev/null 2>&1; then ip link del dev {device}; return; fi
    echo "there is a {device} that is not WireGuard's, and it is left alone; choose another spec.interface of {ref}" >&2
    return 1
}}
# A peers.conf of an older salvus does not name it: there was one key then.
own() {{ sed -n 's/^# Own key in //p' {folder}/peers.conf | grep . || echo {folder}/key; }}
# A node that turns to another key is a peer under both, and the networks go to the new one as it comes with that.
turns() {{
    none=$(printf '\t(none)') never=$(printf '\t0')
    sed -n 's/^# Next key //p' {folder}/peers.conf | while read -r key networks; do
        if wg show {device} allowed-ips | grep -qxF "$key$none" &&
            ! wg show {device} latest-handshakes | grep -qxF "$key$never"; then
            wg set {device} peer "$key" allowed-ips "$networks"
        fi
    done
}}
# A keepalive that is new is sent at once: so all hear of another key now, and not when there is something to say.
turn() {{
    wg set {device} private-key "$1"
    for key in $(wg show {device} peers); do
        wg set {device} peer "$key" persistent-keepalive 0
        wg set {device} peer "$key" persistent-keepalive 1
    done
}}
# DNS names, each by itself: of a whole file wg takes nothing while one of them is not known.
names() {{
    sed -n 's/^# Found at //p' {folder}/peers.conf | while read -r key endpoint; do
        if [ "$1" = all ] || wg show {device} endpoints | grep -qxF "$key$(printf '\\t(none)')"; then
            wg set {device} peer "$key" endpoint "$endpoint" || echo "$endpoint is tried again" >&2
        fi
    done
}}
case $1 in
    device)
        clear
        echo {device} >{made}
        ip link add dev {device} type wireguard 2>/dev/null || wireguard-go -f {device} &
        while for second in 1 2 3 4 5; do
            sleep 1
            turns
        done && there; do names new; done
        echo "{device} is gone" >&2
        exit 1
        ;;
    up)
        tries=0
        until wg show {device} >/dev/null 2>&1; do
            tries=$((tries + 1))
            [ $tries -lt 100 ] || exit 1
            sleep 0.1
        done
        {{
            printf '[Interface]\\nPrivateKey = '
            cat "$(own)" {folder}/peers.conf
        }} | wg setconf {device} /dev/stdin
        # Here, since the peers.conf of an older salvus has a port, too.
        wg set {device} listen-port {port}
        ip address add {address} dev {device}
        ip link set dev {device} up
{forward}        {routes}
        ;;
    sync)
        [ "$(wg show {device} public-key)" = "$(cat "$(own).pub")" ] || turn "$(own)"
        for key in $(wg show {device} peers); do
            grep -qxF "PublicKey = $key" {folder}/peers.conf || wg set {device} peer "$key" remove
        done
        sed -n '/^\\[Peer\\]/,$p' {folder}/peers.conf | wg addconf {device} /dev/stdin
        turns
        {routes}
        names all
        ;;
    down)
        clear
        ;;
esac
"""
# Over a hub those talk that cannot reach each other. In a container the switch may be somebody else's.
_FORWARD = """\
        switch=/proc/sys/net/ipv{version}/conf/{device}/forwarding
        if [ "$(cat $switch)" != 1 ] && ! echo 1 2>/dev/null >$switch; then
            echo "$switch cannot be set to 1: nodes that need this hub to reach each other do not" >&2
        fi
"""


def unit_file(vpn: Vpn, run: File) -> str:
    """The unit: it goes before what uses its network."""
    return f"""\
[Unit]
Description={vpn.ref} of salvus (WireGuard)
After=network.target
Before=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
# As tincd: outside the kernel it would carry a fraction of it while others want the processor.
Nice=-19
# Names that cannot be looked up yet are tried again by the script, and hold up no other.
Environment=WG_ENDPOINT_RESOLUTION_RETRIES=0
ExecStart={run.path} device
ExecStartPost={run.path} up
ExecReload={run.path} sync
ExecStopPost={run.path} down
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
"""

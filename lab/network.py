"""The lab's network: one namespace with a bridge, in 198.18.0.0/15 (RFC 2544), with no route and no link to anything
outside.

Every host is a port of the bridge, under the host's name; host.sh plugs it in at each boot. See ip-netns(8).
"""

import json
from pathlib import Path

from lab.model import GATEWAY
from lab.run import run

BRIDGE = "lab0"
_NAMESPACES = Path("/run/netns")


def exists(namespace: str) -> bool:
    """Whether the namespace is there, with its bridge."""
    return (_NAMESPACES / namespace).exists() and BRIDGE in _links(namespace)


def create(namespace: str) -> None:
    """Makes the namespace and its bridge."""
    run(["ip", "netns", "add", namespace])
    commands = (
        f"link set lo up\nlink add {BRIDGE} type bridge\naddress add {GATEWAY} dev {BRIDGE}\nlink set {BRIDGE} up\n"
    )
    run(["ip", "-n", namespace, "-batch", "-"], stdin=commands.encode())


def delete(namespace: str) -> None:
    """Removes the namespace, if it is there."""
    if (_NAMESPACES / namespace).exists():
        run(["ip", "netns", "delete", namespace])


def plug(namespace: str, host: str, on: bool) -> None:
    """Cuts a host off the lab's network, or mends its cable."""
    run(["ip", "-n", namespace, "link", "set", host, "up" if on else "down"])


def _links(namespace: str) -> set[str]:
    return {link["ifname"] for link in json.loads(run(["ip", "-n", namespace, "-json", "link", "show"]) or "[]")}

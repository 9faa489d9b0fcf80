"""VPNs on a simulated machine: what a daemon has read, as the items say with which it was made; and pings. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping

from drivers.base import Item, Present
from drivers.items.file import File
from drivers.items.file_set import FileSet
from drivers.items.key_pair import KeyPair
from drivers.items.key_use import GENERATION, base_of
from drivers.items.tunnel import Tunnel
from drivers.items.unit_files import UnitFiles


def use(item: KeyPair, made: Mapping[str, Item]) -> Mapping[str, str]:
    """The facts that ``item.use`` names; ``made`` are the machine's items by key. None before there is a daemon."""
    if item.use is None:
        return {}
    folder = posixpath.dirname(item.path)
    if item.made_by == "tinc":
        hosts = made.get(f"FileSet:{folder}/hosts")
        start = made.get(f"UnitFiles:tinc@{item.use.daemon}.service")
        started = "".join(file.content for file in start.files) if isinstance(start, UnitFiles) else ""
        used = re.findall(f"{GENERATION}=([0-9]+)", started)
        trusted = [name for name, _ in hosts.files] if isinstance(hosts, FileSet) else []
    else:
        file = made.get(f"File:{folder}/peers.conf")
        peers = file.content if isinstance(file, File) else ""
        paths = re.findall("^# Own key in (.*)", peers, re.MULTILINE)
        used = [path.removeprefix(base_of(path)).removeprefix(".") or "1" for path in paths]
        trusted = re.findall("^PublicKey = (.*)", peers, re.MULTILINE)
    return {item.use.generation: used[0], item.use.trusted: " ".join(sorted(trusted))} if used else {}


def tried(item: Tunnel, hears: Collection[str]) -> Present:
    """How others are reached: those that it ``hears`` of in a millisecond."""
    reached = tuple(f"{address} 1.0" for address in item.others if address in hears)
    return Present({"reached": reached, "handshakes": (), "endpoints": ()})

"""``make demo``: a fleet comes up from YAML on the lab's hosts, is broken in three ways, and mends itself; then it is
locked out by mistake, and lets in again.

Everything is done with salvusctl, as a user would. At the end, and on Ctrl-C, everything is taken down; what a killed
demo left goes with the next one.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import lab
from lab import Lab
from tools.stage import (
    BIN,
    ROOT,
    Controller,
    Missed,
    act,
    console,
    controller,
    in_sync,
    output,
    run,
    shell,
    tell,
    until,
)

LAB = "demo"
PAGE = "127.0.0.1:9465"
RESYNC = 5
CONFIGURATION = """\
contexts:
- name: demo
  store: {{sqlite: store.db}}
  manifests: manifests
  networkNamespace: {namespace}
  identityFiles: [{key}]
  http: {page}
"""
INDEX = "/srv/beacon/index.html"
KEPT = """
The fleet is yours. In another terminal:
  cd {folder}; PATH={bin}:$PATH
  salvusctl get all                           what there is, and how it stands
  salvusctl lab break kill-vm host1 web01     and look on: salvusctl get vm --watch
  $EDITOR manifests/services.yaml             the controller follows these files; its log is controller.log
  salvusctl lab ssh web01                     into a virtual machine
Ctrl-C here takes everything down."""


def prepare(folder: Path) -> Lab:
    """A fresh folder with the manifests, and a configuration for the lab that is up."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "manifests" / "demo", folder / "manifests")
    found = lab.load(LAB)
    text = CONFIGURATION.format(namespace=found.namespace, key=found.key_path, page=PAGE)
    (folder / "salvus.yaml").write_text(text)
    console.print(f"$ cd {folder}", style="bold green")
    shell("salvusctl lab manifests >manifests/lab.yaml", folder)
    return found


def repairs(folder: Path, found: Lab) -> None:
    """Breaks three things, one after the other, and waits until each is as it was."""

    def said(host: str, *command: str) -> str:
        return lab.exec_in(found, found.host(host), command).stdout.decode().strip()

    before = said("host2", "cat", INDEX)
    unit = "salvus-beacon.service"
    for line, healed, what in (
        (
            f"host2 -- sed -i s/after/for/ {INDEX}",
            lambda: said("host2", "cat", INDEX) == before,
            "the file is as it was written",
        ),
        (
            f"host2 -- systemctl stop {unit}",
            lambda: said("host2", "systemctl", "is-active", unit) == "active",
            "the service is active",
        ),
        (
            "host1 -- virsh destroy web01",
            lambda: said("host1", "virsh", "domstate", "web01") == "running",
            "web01 is running",
        ),
    ):
        shell(f"salvusctl lab exec {line}", folder)
        tell(f"{what} again after {until(healed, what):.1f} s")
    seconds = until(lambda: in_sync(folder), "web01 up and in sync", 600, pause=1.0)
    tell(f"booted, and everything as it was written, after {seconds:.0f} s more")


def lockout(folder: Path) -> None:
    """Shows that a firewall which lets nobody in is put back by the machine, and that its correction goes through."""
    firewall = "manifests/firewall.yaml"
    shell(f"sed -i s,198.18.0.0/15,192.0.2.0/24, {firewall}", folder)
    tell(f"put back after {until(lambda: rolled_back(folder), 'the machine putting it back', pause=1.0):.0f} s")
    shell("salvusctl why firewall/host2", folder)
    shell(f"sed -i s,192.0.2.0/24,198.18.0.0/15, {firewall}", folder)
    tell(f"as it was written after {until(lambda: in_sync(folder), 'the correction', pause=1.0):.0f} s")


def rolled_back(folder: Path) -> bool:
    """Whether the controller says so of the firewall."""
    found = json.loads(output("salvusctl get firewall -o json", folder))["items"]
    return any(one["reason"] == "RolledBack" for item in found for one in item["status"]["conditions"])


def nothing_to_do(daemon: Controller) -> None:
    """Shows that passes in sync write nothing."""
    counters = "salvus_pass_seconds_count", "salvus_driver_writes_total"
    passes, writes = map(daemon.metric, counters)
    until(lambda: daemon.metric(counters[0]) >= passes + 8, "more passes", pause=0.5)
    more, written = (daemon.metric(name) - before for name, before in zip(counters, (passes, writes), strict=True))
    tell(f"http://{PAGE}/metrics: {more:.0f} passes more, {written:.0f} writes more")
    if written:
        raise Missed(f"{written:.0f} writes in passes that had nothing to do")


def demo(folder: Path, keep: bool) -> None:
    """All of it."""
    act(1, "A machine room: two hypervisor hosts, made on this machine")
    shell("salvusctl lab up")
    found = prepare(folder)
    act(2, "What is wanted is YAML; `diff` asks the machines, and says what would be done")
    shell(r"salvusctl diff | grep -E '^(\+|Plan)'", folder, allowed=(1,))
    act(3, "`apply` does it: images are pushed, disks made, two Debian guests boot, under emulation")
    shell("salvusctl apply", folder)
    shell("salvusctl get all", folder)
    shell("salvusctl lab exec host2 -- ping -c 2 web01", folder)
    tell("through the private network of manifests/vpn.yaml, by name")
    shell("salvusctl firewall show host2", folder)
    act(
        4,
        f"A controller keeps it so, hears from libvirt, looks at each machine every {RESYNC} s. Three things break",
    )
    with controller(folder, f"--resync {RESYNC}", PAGE) as daemon:
        repairs(folder, found)
        act(5, "A mistake: a firewall by which nobody can log in to host2, its controller included")
        lockout(folder)
        act(6, "Nothing is left to do: passes go on, and write nothing to any machine")
        nothing_to_do(daemon)
        shell("salvusctl diff", folder)
        if keep:
            console.print(KEPT.format(folder=folder, bin=BIN))
            signal.pause()


if __name__ == "__main__":
    sys.exit(run(demo, LAB, "make demo", __doc__))

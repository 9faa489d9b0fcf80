"""What a virtual machine is told at its first boot, as cloud-init's NoCloud data source reads it. Pure.

Sources: cloud-init's documentation, "Module reference" and "Networking config version 2".
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence

import yaml

from resources.vm_spec import CloudInit, Interface

# Hot-plugged CPUs and memory come up offline, and Debian has no rule that brings them online.
_HOTPLUG = """\
SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}=="0", ATTR{online}="1"
SUBSYSTEM=="memory", ACTION=="add", TEST=="state", ATTR{state}=="offline", ATTR{state}="online"
"""
_HOTPLUG_PATH = "/etc/udev/rules.d/99-salvus-hotplug.rules"


def user_data(spec: CloudInit, controller_keys: Sequence[str] = ()) -> str:
    """``user-data``, but for the ssh host key: that is added where it is made, on the hypervisor.

    ``controller_keys`` may log in besides the keys of the manifest.
    """
    root = spec.user == "root"
    data: dict[str, object] = {
        "disable_root": not root,
        # Keys of the image would be the same in every machine made from it.
        "ssh_deletekeys": True,
        "ssh_pwauth": False,
        "users": [_user(spec, controller_keys)],
        "write_files": [{"path": _HOTPLUG_PATH, "content": _HOTPLUG}],
    }
    if spec.packages:
        data |= {"package_update": True, "packages": list(spec.packages)}
    if spec.runcmd:
        data["runcmd"] = list(spec.runcmd)
    return "#cloud-config\n" + yaml.dump(data, Dumper=yaml.CSafeDumper, default_flow_style=False, width=2**16)


def _user(spec: CloudInit, controller_keys: Sequence[str]) -> Mapping[str, object]:
    keys = list(dict.fromkeys((*spec.ssh_authorized_keys, *controller_keys)))
    user = {"name": spec.user, "ssh_authorized_keys": keys}
    if spec.user == "root":
        return user
    return user | {"shell": "/bin/bash", "lock_passwd": True, "sudo": "ALL=(ALL) NOPASSWD:ALL"}


def network_config(interfaces: Sequence[tuple[Interface, str]]) -> str:
    """``network-config`` version 2, for interfaces with their MAC addresses, by which they are told apart."""
    ethernets = {nic.name: _ethernet(nic, mac) for nic, mac in interfaces}
    return json.dumps({"version": 2, "ethernets": ethernets}, sort_keys=True)


def _ethernet(nic: Interface, mac: str) -> Mapping[str, object]:
    config: dict[str, object] = {"match": {"macaddress": mac}, "set-name": nic.name, "dhcp4": nic.dhcp}
    if nic.address is not None:
        config["addresses"] = [nic.address]
    if nic.gateway is not None:
        config |= _way_out(nic.gateway)
    if nic.nameservers:
        config["nameservers"] = {"addresses": list(nic.nameservers)}
    return config


def _way_out(gateway: str) -> Mapping[str, object]:
    """The default route, in the words that every cloud-init understands.

    Those before 22.4 do not know "default" as a destination, and Debian 12's makes ::/64 of ::/0 (its issue 4600).
    """
    if ipaddress.ip_address(gateway).version == 6:
        return {"gateway6": gateway}
    return {"routes": [{"to": "0.0.0.0/0", "via": gateway}]}

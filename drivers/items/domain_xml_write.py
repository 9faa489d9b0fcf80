"""Domain XML written: as a tree, never by formatting text (rule 15).

``create`` makes a whole definition; ``update`` takes the one that is there and changes only what salvus owns, so that
PCI addresses, UUID and whatever an administrator added survive (rule 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from drivers.base import Rejected, Value
from drivers.items.domain import OWNER_NAMESPACE, Definition, Disk, Domain, Interface, machine_family
from drivers.items.domain_xml import (
    ALIAS,
    LOOPBACK,
    Element,
    alias,
    listens,
    mac,
    owner_element,
    parse,
    target,
)

# PCI Express has no slots to plug into but ports made beforehand: for the devices of a usual guest and some later ones.
_ROOT_PORTS = 14
_PCI_EXPRESS = {"q35", "virt"}
# https://www.w3.org/TR/xml/#charsets, without the carriage return, which parsers make a line feed of.
_NOT_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CPU_MODE = {"kvm": "host-passthrough", "qemu": "maximum"}


def create(item: Domain) -> str:
    """The definition of a new domain. Raises Rejected for text that XML cannot carry."""
    root = ElementTree.Element("domain")
    _text(root, "name", item.domain)
    _text(root, "uuid", item.uuid)
    if item.arch in ("x86_64", "i686"):
        _children(_child(root, "features"), "acpi", "apic")
    _child(root, "clock").set("offset", "utc")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "restart")):
        _text(root, event, action)
    _add_devices(_child(root, "devices"))
    return _finish(root, item)


def update(item: Domain, text: str) -> str:
    """The definition ``text`` with what salvus owns made as wanted. Raises Rejected as ``create`` does."""
    return _finish(parse(text), item)


def _finish(root: Element, item: Domain) -> str:
    _refuse_control_characters(item)
    wanted = item.definition()
    _set_owner(root, wanted.owner)
    _set_hardware(root, wanted)
    _set_boot(_child(root, "os"), wanted)
    devices = _child(root, "devices")
    _set_machine(_child(_child(root, "os"), "type"), devices, wanted)
    _set_disks(devices, wanted.disks)
    _set_interfaces(devices, wanted.interfaces)
    _set_vnc(devices, wanted.vnc is True)
    return ElementTree.tostring(root, encoding="unicode")


def _refuse_control_characters(item: Domain) -> None:
    for name, value in {"domain": item.domain, **item.fields()}.items():
        if bad := next((found for text in _texts(value) if (found := _NOT_XML.search(text))), None):
            raise Rejected(
                f"{item.key}: {name} has the character {bad[0]!r}, which XML cannot carry",
                hint="take it out of the manifest",
            )


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _texts(one)


def _add_devices(devices: Element) -> None:
    _add(devices, "serial", type="pty")
    _add(_add(devices, "console", type="pty"), "target", type="serial", port="0")
    _add(_add(devices, "channel", type="unix"), "target", type="virtio", name="org.qemu.guest_agent.0")
    _add(devices, "memballoon", model="virtio")
    _add(_add(devices, "rng", model="virtio"), "backend", model="random").text = "/dev/urandom"


def _set_owner(root: Element, uid: str) -> None:
    mark = owner_element(root)
    if mark is None:
        mark = _add(_child(root, "metadata"), "salvus:owner")
        mark.set("xmlns:salvus", OWNER_NAMESPACE)
    mark.set("uid", uid)


def _set_hardware(root: Element, wanted: Definition) -> None:
    if root.get("type") != wanted.domain_type:
        root.set("type", wanted.domain_type)
        _drop(root, root.findall("cpu"))
        if wanted.domain_type in _CPU_MODE:
            _add(root, "cpu", mode=_CPU_MODE[wanted.domain_type])
    for tag, size in (("memory", wanted.memory_max), ("currentMemory", wanted.memory)):
        _text(root, tag, str(size)).set("unit", "b")
    vcpu = _text(root, "vcpu", str(wanted.vcpus_max))
    vcpu.attrib.pop("current", None)
    # The list of single CPUs, which libvirt writes after a hot-plug, would contradict the numbers.
    _drop(root, root.findall("vcpus"))
    if wanted.vcpus != wanted.vcpus_max:
        vcpu.set("current", str(wanted.vcpus))


def _set_machine(type_: Element, devices: Element, wanted: Definition) -> None:
    """The board, and on another sort of board another bus, on which every device gets another address."""
    type_.text = "hvm"
    type_.set("arch", wanted.arch)
    present = type_.get("machine", "")
    # libvirt makes of "q35" the newest version it has; that version is kept, or the guest would see other hardware.
    if machine_family(present) != wanted.machine:
        type_.set("machine", wanted.machine)
    family = machine_family(wanted.machine)
    if machine_family(present) == family:
        return
    _drop(devices, devices.findall("controller[@type='pci']"))
    for device in devices:
        _drop(device, device.findall("address[@type='pci']"))
    if family in _PCI_EXPRESS:
        _add(devices, "controller", type="pci", index="0", model="pcie-root")
        for _ in range(_ROOT_PORTS):
            _add(devices, "controller", type="pci", model="pcie-root-port")


def _set_boot(os: Element, wanted: Definition) -> None:
    for tag, value in (("kernel", wanted.kernel), ("initrd", wanted.initrd), ("cmdline", wanted.cmdline)):
        if value:
            _text(os, tag, value)
        else:
            _drop(os, os.findall(tag))
    if wanted.firmware == "bios":
        os.attrib.pop("firmware", None)
        _drop(os, [child for child in os if child.tag in ("loader", "nvram", "firmware")])
    elif os.find("loader") is None:
        os.set("firmware", "efi")


def _set_disks(devices: Element, disks: tuple[Disk, ...]) -> None:
    kept = {target(disk): disk for disk in devices.iterfind("disk")}
    targets = {disk.target for disk in disks}
    _drop_ours(devices, (element for name, element in kept.items() if name not in targets))
    for disk in disks:
        element = kept.get(disk.target)
        _set_disk(_add(devices, "disk") if element is None else element, disk)
    scsi = any(_bus(disk) == "scsi" for disk in disks)
    if scsi and not any(one.get("type") == "scsi" for one in devices.iterfind("controller")):
        _add(devices, "controller", type="scsi", index="0", model="virtio-scsi")


def _bus(disk: Disk) -> str:
    return "virtio" if disk.target.startswith("vd") else "scsi"


def _set_disk(element: Element, disk: Disk) -> None:
    element.set("type", "file")
    element.set("device", disk.device)
    driver, source, target_ = (_child(element, tag) for tag in ("driver", "source", "target"))
    driver.set("name", "qemu")
    driver.set("type", disk.format)
    driver.attrib.pop("cache", None)
    if disk.cache:
        driver.set("cache", disk.cache)
    if source.get("file") != disk.source:
        source.attrib = {"file": disk.source}
        _drop(element, element.findall("backingStore"))
    target_.set("dev", disk.target)
    if target_.get("bus") != _bus(disk):
        target_.set("bus", _bus(disk))
        _drop(element, element.findall("address"))
    if disk.readonly:
        _child(element, "readonly")
    else:
        _drop(element, element.findall("readonly"))
    _child(element, "alias").set("name", ALIAS + disk.target)


def _set_interfaces(devices: Element, interfaces: tuple[Interface, ...]) -> None:
    kept = {mac(nic): nic for nic in devices.iterfind("interface")}
    macs = {nic.mac for nic in interfaces}
    _drop_ours(devices, (element for address, element in kept.items() if address not in macs))
    for nic in interfaces:
        element = kept.get(nic.mac)
        _set_interface(_add(devices, "interface") if element is None else element, nic)


def _set_interface(element: Element, nic: Interface) -> None:
    element.set("type", "bridge")
    _child(element, "mac").set("address", nic.mac)
    _child(element, "source").attrib = {"bridge": nic.bridge}
    _child(element, "model").set("type", nic.model)
    _child(element, "alias").set("name", ALIAS + nic.mac.replace(":", ""))


def _set_vnc(devices: Element, wanted: bool) -> None:
    graphics = [one for one in devices.iterfind("graphics") if one.get("type") == "vnc"]
    if not wanted:
        _drop(devices, graphics)
        return
    for one in graphics or [_add(devices, "graphics", type="vnc", port="-1", autoport="yes")]:
        if listens(one) != [LOOPBACK]:
            one.attrib.pop("listen", None)
            _drop(one, one.findall("listen"))
            _add(one, "listen", type="address", address=LOOPBACK)
    if devices.find("video") is None:
        # libvirt 9.0 would choose cirrus, which qemu advises against.
        _add(_add(devices, "video"), "model", type="vga")


def _drop_ours(devices: Element, unwanted: Iterable[Element]) -> None:
    """Takes our devices away; what somebody else attached stays."""
    _drop(devices, [one for one in unwanted if alias(one).startswith(ALIAS)])


def _drop(parent: Element, children: Iterable[Element]) -> None:
    for child in children:
        parent.remove(child)


def _child(parent: Element, tag: str) -> Element:
    found = parent.find(tag)
    return _add(parent, tag) if found is None else found


def _children(parent: Element, *tags: str) -> None:
    for tag in tags:
        _child(parent, tag)


def _text(parent: Element, tag: str, text: str) -> Element:
    element = _child(parent, tag)
    element.text = text
    return element


def _add(parent: Element, tag: str, **attributes: str) -> Element:
    return ElementTree.SubElement(parent, tag, attributes)

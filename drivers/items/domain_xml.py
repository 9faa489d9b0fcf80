"""Domain XML read: https://libvirt.org/formatdomain.html. Only what salvus owns is looked at (rule 4).

Devices of ours carry a user alias (``ua-salvus-…``), which libvirt keeps in the persistent definition: a disk that
somebody attached by hand is not ours, gives no drift and survives every change.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from xml.etree import ElementTree
from xml.parsers import expat

from drivers.base import Failed
from drivers.items.domain import OWNER_NAMESPACE, Definition, Disk, Interface, whole_mebibytes

ALIAS = "ua-salvus-"
LOOPBACK = "127.0.0.1"
_NOT_EXPOSED = {LOOPBACK, "::1", "localhost", "socket", "none"}
_UNITS = {"b": 1, "bytes": 1, "KB": 10**3, "k": 2**10, "KiB": 2**10, "MB": 10**6, "M": 2**20, "MiB": 2**20}
_UNITS |= {"GB": 10**9, "G": 2**30, "GiB": 2**30, "TB": 10**12, "T": 2**40, "TiB": 2**40}

Element = ElementTree.Element


def parse(text: str) -> Element:
    """The root of a document. Name spaces are left as written, so that what is not ours goes back unchanged.

    A document type declaration is refused: without one there are no entities to expand, nor files to fetch.
    Raises Failed for what is not well-formed.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(text, True)
        return builder.close()
    except expat.ExpatError as error:
        raise Failed(
            f"libvirt's answer is not well-formed XML: {error}", hint="look at it with: virsh dumpxml"
        ) from error


def _refuse_doctype(*_: object) -> None:
    raise Failed("libvirt's answer has a document type declaration, which libvirt never sends", hint="is it libvirt?")


@lru_cache(maxsize=4096)
def definition(text: str) -> Definition:
    """What is ours in a domain's XML. Cached by the text: an unchanged definition is parsed once."""
    return read(parse(text))


def read(root: Element) -> Definition:
    """What is ours in a domain's XML."""
    vcpus_max = int(root.findtext("vcpu") or 1)
    memory_max = _bytes(root.find("memory"))
    current = root.find("currentMemory")
    os_type = root.find("os/type")
    return Definition(
        name=root.findtext("name") or "",
        owner=owner(root),
        domain_type=root.get("type", ""),
        arch=_attribute(os_type, "arch"),
        machine=_attribute(os_type, "machine"),
        vcpus=int(_attribute(root.find("vcpu"), "current") or vcpus_max),
        vcpus_max=vcpus_max,
        memory=whole_mebibytes(memory_max if current is None else _bytes(current)),
        memory_max=whole_mebibytes(memory_max),
        disks=tuple(_disk(disk) for disk in ours(root, "disk")),
        interfaces=tuple(_interface(nic) for nic in ours(root, "interface")),
        kernel=root.findtext("os/kernel") or "",
        initrd=root.findtext("os/initrd") or "",
        cmdline=root.findtext("os/cmdline") or "",
        firmware=_firmware(root),
        vnc=_vnc(root),
        others=tuple(_disk(disk) for disk in root.iterfind("devices/disk") if not alias(disk).startswith(ALIAS)),
    )


def owner_element(root: Element) -> Element | None:
    """Our mark in the domain's metadata, by whatever prefix."""
    for child in root.iterfind("metadata/*"):
        prefix, colon, local = child.tag.rpartition(":")
        if local == "owner" and child.get(f"xmlns:{prefix}" if colon else "xmlns") == OWNER_NAMESPACE:
            return child
    return None


def owner(root: Element) -> str:
    """The uid in our mark; empty when there is none."""
    return _attribute(owner_element(root), "uid")


def ours(root: Element, tag: str) -> Iterator[Element]:
    """Our devices of one sort."""
    return (device for device in root.iterfind(f"devices/{tag}") if alias(device).startswith(ALIAS))


def alias(device: Element) -> str:
    """The device's alias, or empty."""
    return _attribute(device.find("alias"), "name")


def mac(interface: Element) -> str:
    """The interface's MAC in lower case, or empty."""
    return _attribute(interface.find("mac"), "address").lower()


def target(disk: Element) -> str:
    """The disk's name in the guest: ``vda``."""
    return _attribute(disk.find("target"), "dev")


def _disk(disk: Element) -> Disk:
    source = disk.find("source")
    return Disk(
        source=_attribute(source, "file") or _attribute(source, "dev"),
        target=target(disk),
        device="cdrom" if disk.get("device") == "cdrom" else "disk",
        format=_attribute(disk.find("driver"), "type"),
        cache=_attribute(disk.find("driver"), "cache"),
        readonly=disk.find("readonly") is not None,
    )


def _interface(nic: Element) -> Interface:
    return Interface(
        bridge=_attribute(nic.find("source"), "bridge"),
        mac=mac(nic),
        model=_attribute(nic.find("model"), "type"),
    )


def _firmware(root: Element) -> str:
    os = root.find("os")
    efi = _attribute(os, "firmware") == "efi" or _attribute(root.find("os/loader"), "type") == "pflash"
    return "efi" if efi else "bios"


def _vnc(root: Element) -> bool | str:
    graphics = [one for one in root.iterfind("devices/graphics") if one.get("type") == "vnc"]
    if not graphics:
        return False
    exposed = [address for one in graphics for address in listens(one) if address not in _NOT_EXPOSED]
    return f"listens on {', '.join(exposed)}" if exposed else True


def listens(graphics: Element) -> list[str]:
    """Where a graphics device listens: addresses, or another way by its name (``network``).

    Without an address it is where the administrator of the host said (qemu.conf: ``vnc_listen``).
    """
    found = []
    for listen in graphics.iterfind("listen"):
        type_ = listen.get("type", "")
        found.append(listen.get("address", "the host's default") if type_ == "address" else type_)
    return found or [graphics.get("listen", "the host's default")]


def _attribute(element: Element | None, name: str) -> str:
    return "" if element is None else element.get(name, "")


def _bytes(element: Element | None) -> int:
    if element is None:
        return 0
    return int(element.text or 0) * _UNITS[element.get("unit", "KiB")]

"""Resources and worlds for tests of kinds: short to write, validated as a user's would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from drivers.base import Item
from resources.base import AnyResource, Metadata, Placed, Resource
from resources.fleet import Fleet, check, kinds
from resources.world import Known, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIeInEFTmoUWgk1dOxwFhze3zT6i3GERYjlBdjo5w4QE"
DIGEST = "0123456789ab" + "c" * 52
UID = "6f1e3c1e-52f5-4f0b-9f6e-5f8f6f1b7a01"

Spec = Mapping[str, Any]


def resource(kind: str, name: str, spec: Spec, labels: Mapping[str, str] | None = None) -> AnyResource:
    """A resource, as ``load`` would make it of a manifest. Raises pydantic's ValidationError."""
    metadata = Metadata.model_validate({"name": name, "labels": labels or {}})
    return Resource(kind, metadata, kinds()[kind].spec.model_validate(spec))


def host(name: str = "host1", labels: Mapping[str, str] | None = None, **spec: Any) -> AnyResource:
    """A hypervisor, unless ``hypervisor=None``."""
    last = sum(name.encode()) % 250 + 1
    base = {"address": f"192.0.2.{last}", "ssh": {"hostKeys": [KEY]}, "hypervisor": {}}
    return resource("Host", name, base | spec, labels)


def image(name: str = "debian12", **spec: Any) -> AnyResource:
    """An image with a boot loader."""
    return resource("Image", name, {"source": "/srv/debian12.qcow2", "sha256": DIGEST} | spec)


def vm(name: str = "web01", labels: Mapping[str, str] | None = None, **spec: Any) -> AnyResource:
    """A virtual machine on any host."""
    return resource("VirtualMachine", name, {"image": "debian12", "rootDisk": {"size": "4Gi"}} | spec, labels)


def service(name: str = "hub", **spec: Any) -> AnyResource:
    """A service on all machines."""
    return resource("Service", name, {"machines": {"selector": {}}} | spec)


def firewall(name: str = "wall", **spec: Any) -> AnyResource:
    """A firewall of all machines."""
    return resource("Firewall", name, {"machines": {"selector": {}}} | spec)


def world(*resources: AnyResource, known: Known | None = None) -> World:
    """A world of these resources, in which every machine ``x`` was placed on host1 under its own name."""
    if known is None:
        machines = [r for r in resources if r.kind == "VirtualMachine"]
        known = Known(
            allocations={(r.ref, what): v for r in machines for what, v in (("host", "host1"), ("instance", r.name))},
            facts={("Host/host1", "domain_type"): "qemu"},
            uids={r.ref: UID for r in machines},
        )
    return World(Fleet.of_resources(resources), known)


def lowered(target: AnyResource, machine: str, view: World) -> list[Placed]:
    """What the resource wants on the machine."""
    return list(kinds()[target.kind].items(target, machine, view))


def items(placed: Sequence[Placed]) -> list[Item]:
    """The items alone."""
    return [place.item for place in placed]


def problems(*resources: AnyResource) -> list[str]:
    """Everything wrong between these resources, as ``ref path: message``."""
    return [f"{p.ref} {'.'.join(map(str, p.path))}: {p.message}" for p in check(Fleet.of_resources(resources))]


def refused(kind: str, spec: Spec) -> str:
    """Why a specification is refused, as one text; fails when it is not."""
    try:
        kinds()[kind].spec.model_validate(spec)
    except ValidationError as error:
        return "\n".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    raise AssertionError(f"{kind} takes {spec}")

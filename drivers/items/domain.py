"""A virtual machine as libvirt knows it: its persistent definition, whether it runs, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from drivers.base import Drift, Fields, Grade, Item, Present, Rejected, Transport, Value, Verb

# "test" is libvirt's own test driver.
DomainType = Literal["kvm", "qemu", "test"]
MEBIBYTE = 1024 * 1024
OWNER_NAMESPACE = "https://salv.us/xmlns/1"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a domain. ``target`` says the bus: ``vd…`` is virtio, ``sd…`` is SCSI (virtio-scsi)."""

    source: str
    target: str
    device: Literal["disk", "cdrom"] = "disk"
    format: str = "qcow2"
    cache: str = ""
    readonly: bool = False

    def __str__(self) -> str:
        """One line for people; ``target`` comes first and the path last, so that ``grade`` can compare them."""
        cache = f" cache={self.cache}" if self.cache else ""
        readonly = " readonly" if self.readonly else ""
        return f"{self.target}: {self.device} {self.format}{cache}{readonly} {self.source}"

    def plain(self) -> Disk:
        """As libvirt tells it: a CD is always read-only, the default cache has no name."""
        cache = "" if self.cache == "default" else self.cache
        return replace(self, cache=cache, readonly=self.readonly or self.device == "cdrom")


@dataclass(frozen=True, slots=True)
class Interface:
    """A network card on a bridge of the host; it is told from others by its MAC."""

    bridge: str
    mac: str
    model: str = "virtio"

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.mac}: {self.model} on {self.bridge}"


@dataclass(frozen=True, slots=True)
class Definition:
    """What salvus owns of a domain's definition, wanted or read from XML; all else in the XML is somebody else's.

    Attributes:
        owner: uid of the resource that the domain belongs to; empty when it is not ours.
        memory: bytes that the guest has; ``memory_max`` is what it can be given while it runs. Whole mebibytes, as
            qemu aligns to these when it starts.
        vnc: True on the host's loopback only, False without VNC; else a sentence.
        others: disks that are not ours; compared only where ours would take their place.
    """

    name: str
    owner: str
    domain_type: str
    arch: str
    machine: str
    vcpus: int
    vcpus_max: int
    memory: int
    memory_max: int
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]
    kernel: str
    initrd: str
    cmdline: str
    firmware: str
    vnc: bool | str
    others: tuple[Disk, ...] = ()

    def fields(self) -> dict[str, Value]:
        """The definition as comparable fields."""
        return {
            "name": self.name,
            "owner": self.owner,
            "domain_type": self.domain_type,
            "arch": self.arch,
            "machine": self.machine,
            "vcpus": self.vcpus,
            "vcpus_max": self.vcpus_max,
            "memory": self.memory,
            "memory_max": self.memory_max,
            "disks": tuple(sorted(map(str, self.disks))),
            "interfaces": tuple(sorted(map(str, self.interfaces))),
            "kernel": self.kernel,
            "initrd": self.initrd,
            "cmdline": self.cmdline,
            "firmware": self.firmware,
            "vnc": self.vnc,
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """A domain as libvirt tells of it.

    Attributes:
        definition: the persistent one.
        live: the definition of the instance that runs; None when none does.
        running: True, False, or a word for what is neither (``paused``).
        persistent: it is still there after the host's next start.
    """

    definition: Definition
    live: Definition | None
    running: bool | str
    autostart: bool
    persistent: bool = True


@dataclass(frozen=True, slots=True)
class Domain(Item):
    """A libvirt domain. Memory is in bytes and is rounded up to whole mebibytes; ``running`` None is not managed.

    ``uuid`` is given to it when it is defined; it is not compared, as no change may touch it (rule 5).

    A running domain has ``autostart`` set: it comes up with its host, also when salvus is gone (rule 9).
    A guest has ``grace`` seconds to shut down before its power is cut.
    ``former`` is a name that it may still have on the host: a domain of that name keeps it from being made.
    Field ``fresh`` is False while the instance that runs was started from an older definition: it needs a restart.
    """

    transport: ClassVar[Transport] = Transport.LIBVIRT
    # What was made under its name is deleted under that one only.
    forgets: ClassVar[frozenset[str]] = frozenset({"former"})

    domain: str
    uuid: str
    owner_uid: str
    running: bool | None
    vcpus: int
    vcpus_max: int
    memory: int
    memory_max: int
    domain_type: DomainType
    arch: str = "x86_64"
    machine: str = "q35"
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    firmware: Literal["bios", "efi"] = "bios"
    vnc: bool = True
    grace: int = 60
    former: str = ""

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.domain

    def definition(self) -> Definition:
        """What the domain's definition should say."""
        return Definition(
            name=self.domain,
            owner=self.owner_uid,
            domain_type=self.domain_type,
            arch=self.arch,
            machine=self.machine,
            vcpus=self.vcpus,
            vcpus_max=max(self.vcpus, self.vcpus_max),
            memory=whole_mebibytes(self.memory),
            memory_max=whole_mebibytes(max(self.memory, self.memory_max)),
            disks=tuple(disk.plain() for disk in self.disks),
            interfaces=tuple(replace(nic, mac=nic.mac.lower()) for nic in self.interfaces),
            kernel=self.kernel,
            initrd=self.initrd,
            cmdline=self.cmdline,
            firmware=self.firmware,
            vnc=self.vnc,
        )

    def fields(self) -> Fields:
        """See Item."""
        fields = {**self.definition().fields(), "persistent": True}
        if self.running is not None:
            fields |= {"running": self.running, "autostart": self.running}
        if self.running:
            fields["fresh"] = True
        return fields

    def present(self, seen: Seen) -> Present:
        """What was seen, as this item's fields: words that mean the same as the wanted ones are told as these."""
        wanted = self.definition()
        fields = seen.definition.fields()
        if machine_family(seen.definition.machine) == wanted.machine:
            fields["machine"] = wanted.machine
        live, vcpus = seen.live, wanted.vcpus
        if live is not None and seen.definition.vcpus == vcpus and live.vcpus < min(vcpus, live.vcpus_max):
            fields["vcpus"] = live.vcpus
        fields["disks"] = tuple(sorted(map(str, (*seen.definition.disks, *_in_the_way(wanted, seen.definition)))))
        fields |= {"running": seen.running, "autostart": seen.autostart, "persistent": seen.persistent}
        fields["fresh"] = seen.live is None or fresh(seen.definition, seen.live)
        return Present(fields)

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """See Item. What is off is not disturbed by a new definition; another root disk is another machine.

        A domain that is not ours is not changed at all (``refusal``).
        """
        found = {one.field: one for one in drift}
        off = "running" not in found if not self.running else found.get("running", _NONE).observed is False
        grades = (self._grade(one) for one in drift)
        return max((grade for grade in grades if not (off and grade is Grade.RESTART)), default=Grade.LIVE)

    def refusal(self, observed: Fields) -> Rejected | None:
        """See Item. What counts is our mark; the former name alone is enough not to make a second machine."""
        name, owner = observed.get("name", self.domain), observed.get("owner", self.owner_uid)
        if name != self.domain:
            return Rejected(
                f"there is no domain {self.domain}, but one of its former name, {name}: it is left alone, and nothing "
                "is made beside it",
                hint=f"if it is this machine, put the store back that knows it, or write it as {name} again, without "
                "salv.us/moved-from; if it is another one, take salv.us/moved-from out of the manifest",
            )
        if owner == self.owner_uid:
            return None
        whose = f"belongs to another resource (uid {owner})" if owner else "was not made by salvus"
        mark = f'<owner uid="{self.owner_uid}"/>'
        return Rejected(
            f"there is a domain {self.domain} already, and it {whose}: it is left alone",
            hint=f"rename one of the two (virsh domrename), or give it to salvus, which makes it as the manifest says: "
            f"virsh metadata {self.domain} {OWNER_NAMESPACE} --key salvus --config --set '{mark}'",
        )

    def as_it_was(self, observed: Fields) -> Self | None:
        """What belongs to the image on its disk stays; a machine that was killed meanwhile runs again."""
        if not self.running or observed.get("running") is True:
            return None
        kept = {name: str(observed.get(name, "")) for name in ("kernel", "initrd", "cmdline")}
        return replace(self, kernel=kept["kernel"], initrd=kept["initrd"], cmdline=kept["cmdline"])

    def lasts(self, verb: Verb, grade: Grade) -> bool:
        """Where the guest is given time to shut down."""
        return verb is Verb.DELETE or grade >= Grade.RESTART

    def _grade(self, one: Drift) -> Grade:
        match one.field:
            case "running":
                return Grade.LIVE if one.desired else Grade.RESTART
            case "persistent" | "autostart" | "memory":
                return Grade.LIVE
            case "vcpus":
                return Grade.LIVE if _more(one) else Grade.RESTART
            case "disks":
                return Grade.REPLACE if _other_source(one) else Grade.RESTART
            case _:
                return Grade.RESTART


_NONE = Drift("", None, None)


def _in_the_way(wanted: Definition, seen: Definition) -> tuple[Disk, ...]:
    """Disks of somebody else where ours are to be: the domain was given to salvus with a disk of its own."""
    sources = {disk.target: disk.source for disk in wanted.disks}
    return tuple(disk for disk in seen.others if sources.get(disk.target, disk.source) != disk.source)


def fresh(definition: Definition, live: Definition) -> bool:
    """Whether the running instance is what its definition says, but for what can be changed while it runs.

    The balloon tells how much memory the guest has at the moment, not how much it was told to have: not compared.
    A guest with fewer CPUs than defined is given them live; one with more has to be restarted.
    """
    ignored = {"memory", "vcpus", "owner"}
    ours, theirs = definition.fields(), live.fields()
    same = all(theirs[name] == value for name, value in ours.items() if name not in ignored)
    return same and live.vcpus <= definition.vcpus


def whole_mebibytes(size: int) -> int:
    """``size`` in bytes, rounded up."""
    return -(-size // MEBIBYTE) * MEBIBYTE


def machine_family(machine: str) -> str:
    """``q35`` for ``pc-q35-7.2``, ``pc`` for ``pc-i440fx-7.2``, ``virt`` for ``virt-7.2``: what libvirt's alias was."""
    if machine.startswith("pc-q35-"):
        return "q35"
    return machine.split("-", 1)[0]


def _more(one: Drift) -> bool:
    return isinstance(one.desired, int) and isinstance(one.observed, int) and one.desired > one.observed


def _other_source(one: Drift) -> bool:
    """Whether a disk (not a CD) that stays has another file behind it."""
    wanted, seen = _sources(one.desired), _sources(one.observed)
    return any(seen.get(target, source) != source for target, source in wanted.items())


def _sources(disks: Value) -> dict[str, str]:
    lines = [line for line in disks if isinstance(line, str)] if isinstance(disks, tuple) else []
    return {line.split(":", 1)[0]: line[line.find("/") :] for line in lines if ": disk " in line}

"""Domains for tests: one by hand, and any."""

from __future__ import annotations

from hypothesis import strategies as st

from drivers.items.domain import MEBIBYTE, Disk, Domain, Interface

ROOT = Disk("/srv/web-root.qcow2", "vda", cache="writeback")
SEED = Disk("/srv/web.iso", "sda", device="cdrom", format="raw", readonly=True)

DOMAIN = Domain(
    domain="web",
    uuid="6a1c0a5e-7f0f-4b8e-9b64-0d6a3c6f2b11",
    owner_uid="6a1c0a5e-7f0f-4b8e-9b64-0d6a3c6f2b11",
    running=True,
    vcpus=2,
    vcpus_max=4,
    memory=512 * MEBIBYTE,
    memory_max=1024 * MEBIBYTE,
    domain_type="test",
    arch="i686",
    disks=(ROOT, SEED),
    interfaces=(Interface("br0", "52:54:00:00:00:01"),),
    kernel="/boot/vmlinuz",
    initrd="/boot/initrd",
    cmdline="root=/dev/vda console=ttyS0 quiet",
)

# Everything that XML can carry; controls and surrogates are refused, which has a test of its own.
texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=20)
paths = texts.map(lambda text: f"/srv/{text}")
macs = st.integers(0, 2**24 - 1).map(lambda n: "52:54:00:" + ":".join(f"{n:06x}"[i : i + 2] for i in (0, 2, 4)))


@st.composite
def disks(draw: st.DrawFn) -> tuple[Disk, ...]:
    letters = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4))
    return tuple(
        Disk(
            source=draw(paths),
            target=("sd" if (cdrom := draw(st.booleans())) else "vd") + letter,
            device="cdrom" if cdrom else "disk",
            format=draw(st.sampled_from(["qcow2", "raw"])),
            cache=draw(st.sampled_from(["", "default", "none", "writeback"])),
            readonly=draw(st.booleans()),
        )
        for letter in letters
    )


@st.composite
def domains(draw: st.DrawFn) -> Domain:
    vcpus = draw(st.integers(1, 8))
    memory = draw(st.integers(1, 2**36))
    nics = draw(st.lists(macs, unique=True, max_size=3))
    return Domain(
        domain=draw(texts.map(lambda text: f"d{text}")),
        uuid=str(draw(st.uuids())),
        owner_uid=draw(texts.map(lambda text: f"u{text}")),
        running=draw(st.sampled_from([True, False, None])),
        vcpus=vcpus,
        vcpus_max=draw(st.integers(vcpus, 16)),
        memory=memory,
        memory_max=memory + draw(st.integers(0, 2**36)),
        domain_type=draw(st.sampled_from(["kvm", "qemu"])),
        machine=draw(st.sampled_from(["q35", "pc", "pc-q35-7.2"])),
        disks=draw(disks()),
        interfaces=tuple(Interface(draw(texts), mac, draw(st.sampled_from(["virtio", "e1000"]))) for mac in nics),
        kernel=draw(st.one_of(st.just(""), paths)),
        initrd=draw(st.one_of(st.just(""), paths)),
        cmdline=draw(texts),
        firmware=draw(st.sampled_from(["bios", "efi"])),
        vnc=draw(st.booleans()),
    )

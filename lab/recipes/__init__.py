"""What a host and a guest are made of.

A recipe's digest names its product in the cache: whatever changes the product is in the digest.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
FOLDER = Path(__file__).parent
_BOTH = (
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# To be installed by salvus, without a network.
_OFFLINE = ("hello", "iperf3", "nginx-light", "tinc", "tree", "ufw", "wireguard-go", "wireguard-tools")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Debian root file system: packages in it, packages to be had in it without a network, and the script that
    finishes it. ``disk`` are the options by which mke2fs(8) makes a disk image of it.
    """

    name: str
    packages: tuple[str, ...]
    offline: tuple[str, ...]
    disk: tuple[str, ...] = ()

    @property
    def scripts(self) -> tuple[Path, ...]:
        """Called in this order, each with the root as first argument; the offline repository comes before the
        clean-up.
        """
        return (FOLDER / f"{self.name}.sh", FOLDER / "offline.sh", FOLDER / "common.sh")

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over everything that decides what the product is."""
        parts = [
            SUITE,
            *self.packages,
            "",
            *self.offline,
            "",
            *self.disk,
            *(script.read_text() for script in self.scripts),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


HOST = Recipe(
    "host",
    (*_BOTH, "libvirt-clients", "libvirt-daemon-system", "qemu-system-x86", "qemu-utils", "xorriso"),
    _OFFLINE,
)
GUEST = Recipe(
    "guest",
    (*_BOTH, "busybox-static", "cloud-init", "libnss-myhostname", "udev"),
    _OFFLINE,
    # With a journal: guests are killed here.
    ("-t", "ext4", "-J", "size=16", "-m", "0"),
)

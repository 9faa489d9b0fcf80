"""What the lab wants of the machine it runs on: Linux, root, Debian 12's packages, some programs and kernel modules."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lab.model import LabError
from lab.recipes import SUITE
from lab.run import ENVIRONMENT, run

# program → the Debian package that brings it
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "eatmydata": "eatmydata",
    "dpkg-architecture": "dpkg-dev",
    "systemd-nspawn": "systemd-container",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
}
_TRUST = "/usr/share/keyrings/debian-archive-keyring.gpg"


def require_root() -> None:
    """LabError where the lab cannot work at all."""
    if sys.platform != "linux":
        raise LabError(f"the lab runs on Linux, and this is {sys.platform}: use a Debian 12 machine, or a virtual one")
    if os.geteuid() != 0:
        raise LabError("the lab makes containers and networks and must be root for it: run it with sudo")


def missing_packages(programs: Mapping[str, str] = _PROGRAMS) -> tuple[str, ...]:
    """The Debian packages that bring the programs (with their packages) that are not here."""
    path = ENVIRONMENT["PATH"]  # where `run` looks: the caller's may be without sbin
    packages = {package for program, package in programs.items() if not shutil.which(program, path=path)}
    if not Path(_TRUST).exists():
        packages.add("debian-archive-keyring")
    return tuple(sorted(packages))


def install(packages: tuple[str, ...]) -> None:
    """Installs the packages with apt."""
    if not shutil.which("apt-get"):
        raise LabError(
            f"missing here: {', '.join(packages)}, and there is no apt-get to install them: use a Debian 12 machine"
        )
    run(["apt-get", "update", "-q"], timeout=300)
    run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], timeout=600)


def load_modules() -> None:
    """Loads what may be a module.

    One that is built in, or not there, is no error here: its user says what it misses.
    """
    if shutil.which("modprobe"):
        subprocess.run(
            ["modprobe", "-q", "-a", "tun", "loop", "overlay", "veth", "bridge"], check=False, capture_output=True
        )
    if not Path("/dev/net/tun").exists():
        Path("/dev/net").mkdir(exist_ok=True)
        os.mknod("/dev/net/tun", 0o666 | 0o020000, os.makedev(10, 200))


def sources() -> str:
    """This machine's own apt sources for the suite, as sources.list(5) lines: the lab's packages come from where
    the machine's come from.
    """
    found = _sources()
    if not found:
        run(["apt-get", "update", "-q"], timeout=300)
        found = _sources()
    if not found:
        raise LabError(
            f"apt knows no source for Debian {SUITE} on this machine: add one to /etc/apt/sources.list.d, "
            "then run apt-get update"
        )
    return found


def _sources() -> str:
    fields = "$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(SITE)|$(RELEASE)|$(COMPONENT)"
    lines = run(["apt-get", "indextargets", "--format", fields]).splitlines()
    rows = [line.split("|") for line in lines]
    wanted = [
        f"deb [signed-by={_TRUST}] {site} {release} {component}"
        for creator, origin, codename, site, release, component in rows
        if creator == "Packages" and origin == "Debian" and component == "main" and codename.split("-")[0] == SUITE
    ]
    return "".join(f"{line}\n" for line in dict.fromkeys(wanted))


def apt_options() -> list[str]:
    """How this machine reaches and checks its sources (proxy, dates), as apt.conf(5) lines for a root that does
    not have its apt.conf.
    """
    wanted = (
        "Acquire::http::Proxy ",
        "Acquire::https::Proxy ",
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
        "Acquire::Retries ",
    )
    return [line.rstrip(";") for line in run(["apt-config", "dump"]).splitlines() if line.startswith(wanted)]

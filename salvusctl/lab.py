"""``salvusctl lab``: a real fleet on this machine, to try salvus on. Thin: ``lab`` does the work."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import lab
from lab import Lab, LabError, LabHost, breakage, machine
from lab.progress import on_terminal
from lab.run import ENVIRONMENT
from resources.base import API_VERSION
from salvusctl import out
from salvusctl.exits import UseError
from salvusctl.flags import verb_app


class _LabGroup(TyperGroup):
    """What the lab refuses is an error as all others are."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise UseError(str(error)) from error


class Output(enum.StrEnum):
    """What ``status`` prints."""

    TABLE = "table"
    JSON = "json"


app = verb_app(cls=_LabGroup, no_args_is_help=True, help="A real fleet on this machine, to try salvus on.")
break_app = verb_app(no_args_is_help=True, help="Make something go wrong in the lab, or undo it.")
app.add_typer(break_app, name="break")

LabName = Annotated[str, typer.Option("--name", help="Which lab; several may be up side by side.")]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host of the lab, as in host1.")]
Command = Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="By default a shell.")]


@app.command()
def up(
    hosts: Annotated[int, typer.Option(help="How many hypervisor hosts; a lab grows, it never shrinks.")] = 2,
    name: LabName = "demo",
) -> None:
    """Make the lab, or what is missing of it. The first time it builds images: a minute or two."""
    with on_terminal() as progress:
        lab.up(name, hosts, progress)


@app.command()
def down(name: LabName = "demo") -> None:
    """End all processes of the lab and remove all it had, also after a crash."""
    with on_terminal() as progress:
        lab.down(name, progress)


@app.command()
def status(name: LabName = "demo", output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE) -> None:
    """Look what is there, and change nothing: the lab is up, partial, broken (left by a crash) or down."""
    found = lab.status(name)
    if output is Output.JSON:
        out.write_json(status_document(found))
        return
    out.note(f"lab {name} is {found.state}{_ADVICE.get(found.state, '')}")
    if found.lab is not None:
        rows = [(host.name, host.address, host.state, str(host.pid or "")) for host in found.lab.hosts]
        out.table(("NAME", "ADDRESS", "STATE", "PID"), rows)


_ADVICE = {
    "down": "; make it with: salvusctl lab up",
    "partial": "; start what is stopped with: salvusctl lab up",
    "broken": " (left by a crash); salvusctl lab up makes it anew, salvusctl lab down removes it",
}


def status_document(found: lab.Status) -> dict[str, Any]:
    """What ``status -o json`` prints."""
    document: dict[str, Any] = {"name": found.name, "state": found.state}
    if found.lab is not None:
        document |= {
            "networkNamespace": found.lab.namespace,
            "identityFile": found.lab.key_path,
            "knownHosts": found.lab.known_hosts,
            "hosts": [
                {"name": h.name, "address": h.address, "hostKey": h.host_key, "state": h.state, "pid": h.pid}
                for h in found.lab.hosts
            ],
        }
    return document


@app.command()
def ssh(
    target: Annotated[str, typer.Argument(metavar="NAME", help="A host, or the address of a guest with a pinned key.")],
    command: Command = None,
    user: Annotated[str, typer.Option(help="The user to log in as.")] = "root",
    name: LabName = "demo",
) -> None:
    """Log in over the lab's network, host key checked; ends with the command's exit code."""
    _become([*lab.ssh_argv(_load(name), target, user), *(command or ())])


@app.command("exec")
def exec_(host: HostName, command: Command = None, name: LabName = "demo") -> None:
    """Run a program as root inside a host, past its network and sshd: works when those do not."""
    found = _load(name)
    _become(lab.exec_argv(found, found.host(host), command or ["bash", "-l"]))


@app.command()
def manifests(name: LabName = "demo") -> None:
    """Print the running lab as manifests: a Host for each host, and the Image debian12."""
    out.write_yaml(manifest_documents(_load(name)))


def manifest_documents(found: Lab) -> list[dict[str, Any]]:
    """The lab's hosts and its guest image as salvus resources."""
    image = found.image
    return [
        *(_document("Host", host.name, _host_spec(found, host)) for host in found.hosts),
        _document(
            "Image",
            "debian12",
            {
                "source": image.path,
                "sha256": image.sha256,
                "format": "qcow2",
                "kernel": {"source": image.kernel, "sha256": image.kernel_sha256},
                "initrd": {"source": image.initrd, "sha256": image.initrd_sha256},
                "cmdline": image.cmdline,
            },
        ),
    ]


def _host_spec(found: Lab, host: LabHost) -> dict[str, Any]:
    ssh_spec = {"user": "root", "hostKeys": [host.host_key], "identityFiles": [found.key_path]}
    return {"address": host.address, "ssh": ssh_spec, "hypervisor": {"bridge": "br0"}}


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@break_app.command()
def kill_vm(
    host: HostName,
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="The virtual machine's name for libvirt.")],
    name: LabName = "demo",
) -> None:
    """SIGKILL a virtual machine's qemu: for libvirt it crashed."""
    found = _load(name)
    breakage.kill_vm(found, found.host(host), domain)


def _host_verb(act: Callable[[Lab, LabHost], None], said: str, undo: str = "") -> None:
    def command(host: HostName, name: LabName = "demo") -> None:
        found = _load(name)
        act(found, found.host(host))
        if undo:
            other = "" if name == "demo" else f" --name {name}"
            out.note(f"undo it with: salvusctl lab break {undo} {host}{other}")

    break_app.command(act.__name__.replace("_", "-"), help=said)(command)


_host_verb(breakage.freeze, "Stop every process of a host, as if it hung.", "thaw")
_host_verb(breakage.thaw, "Let a frozen host go on.")
_host_verb(breakage.cut, "Pull a host's network cable; its guests are alone with it.", "mend")
_host_verb(breakage.mend, "Put the cable in again.")
_host_verb(breakage.fill, "Fill a host's disk to the last block.", "free")
_host_verb(breakage.free, "Take away what fill put there.")
_host_verb(breakage.reboot, "Reboot a host in good order.")
_host_verb(breakage.stop_sshd, "Stop a host's sshd, and end its sessions.", "start-sshd")
_host_verb(breakage.start_sshd, "Start a host's sshd again.")


def _load(name: str) -> Lab:
    """The running lab. LabError where there is none, and for who is not root: nothing in it can be reached then."""
    machine.require_root()
    return lab.load(name)


def _become(argv: Sequence[str]) -> NoReturn:
    """Goes on as that program, on the same terminal and with its exit code."""
    environment = ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb")}
    os.execvpe(argv[0], list(argv), environment)  # noqa: S606 - no shell is what is wanted

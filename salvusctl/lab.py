"""``salvusctl lab``: a real fleet on this machine, to try salvus on. Thin: ``lab`` does the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, NoReturn, Self

import typer

import lab
from lab import Lab, LabError, LabHost, Node, breakage, machine
from lab.progress import on_terminal
from lab.run import ENVIRONMENT
from resources.base import API_VERSION
from salvusctl import out
from salvusctl.exits import UseError
from salvusctl.flags import Group, OutputOption, TextOrJson, context_of, verb_app
from salvusctl.outputs import Output


class _LabGroup(Group):
    """What the lab refuses is an error as all others are."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise UseError(str(error)) from error


class LabHostStatus(Output):
    """A host of the lab."""

    name: str
    """What ``ssh``, ``exec`` and ``break`` call it."""
    address: str
    """In the lab's network."""
    host_key: str
    """The public host key that is pinned."""
    state: Literal["running", "frozen", "stopped"]
    """How it is."""
    pid: int
    """Its supervisor's process; 0 when it does not run."""


class LabNodeStatus(Output):
    """A Cassandra node of the lab."""

    name: str
    """What ``break`` calls it."""
    address: str
    """In the lab's network namespace."""
    datacenter: str
    """Its data centre."""
    state: Literal["running", "frozen", "stopped"]
    """How it is."""
    pid: int
    """Its process; 0 when it does not run."""


class LabStatus(Output):
    """``lab status``; with all but the first two fields only when there is a lab that can be worked with."""

    name: str
    """Which lab."""
    state: Literal["up", "partial", "broken", "down"]
    """``partial``: a host or node is stopped; ``broken``: left by a crash."""
    network_namespace: str = ""
    """Its network, under ``/run/netns``."""
    identity_file: str = ""
    """The private key that its hosts accept."""
    known_hosts: str = ""
    """The host keys, for ssh."""
    hosts: tuple[LabHostStatus, ...] = ()
    """Its hosts."""
    cassandra: tuple[LabNodeStatus, ...] = ()
    """Its Cassandra nodes."""

    @classmethod
    def of(cls, found: lab.Status) -> Self:
        """What was found, as data."""
        document: dict[str, Any] = {"name": found.name, "state": found.state}
        if found.lab is not None:
            document |= {
                "network_namespace": found.lab.namespace,
                "identity_file": found.lab.key_path,
                "known_hosts": found.lab.known_hosts,
                "hosts": tuple(LabHostStatus(**asdict(host)) for host in found.lab.hosts),
                "cassandra": tuple(LabNodeStatus(**asdict(node)) for node in found.lab.nodes),
            }
        return cls(**document)


app = verb_app(cls=_LabGroup, no_args_is_help=True, help="A real fleet on this machine, to try salvus on.")
break_app = verb_app(no_args_is_help=True, help="Make something go wrong in the lab, or undo it.")
app.add_typer(break_app, name="break")

LabName = Annotated[str, typer.Option("--name", help="Which lab; several may be up side by side.")]
PartName = Annotated[str, typer.Argument(metavar="HOST|NODE", help="A host or Cassandra node, as in cassandra1.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="A Cassandra node of the lab, as in cassandra1.")]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host of the lab, as in host1.")]
Command = Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="By default a shell.")]


@app.command()
def up(
    hosts: Annotated[int, typer.Option(help="How many hypervisor hosts; a lab grows, it never shrinks.")] = 2,
    cassandra: Annotated[
        int, typer.Option(metavar="N", help="With so many Cassandra nodes; a ring keeps its size.")
    ] = 0,
    name: LabName = "demo",
) -> None:
    """Make the lab, or what is missing of it. The first time it builds images: a minute or two."""
    with on_terminal() as progress:
        lab.up(name, hosts, progress, nodes=cassandra)


@app.command()
def down(name: LabName = "demo") -> None:
    """End all processes of the lab and remove all it had, also after a crash."""
    with on_terminal() as progress:
        lab.down(name, progress)


@app.command()
def status(
    name: LabName = "demo",
    output: OutputOption = TextOrJson.TEXT,
) -> None:
    """Look what is there, and change nothing: the lab is up, partial, broken (left by a crash) or down."""
    found = lab.status(name)
    if output is TextOrJson.JSON:
        out.emit(LabStatus.of(found))
        return
    out.note(f"lab {name} is {found.state}{_ADVICE.get(found.state, '').format(named=_named(name))}")
    if found.lab is not None:
        rows = [(host.name, host.address, host.state, str(host.pid or "")) for host in found.lab.parts]
        out.table(("NAME", "ADDRESS", "STATE", "PID"), rows)


_ADVICE = {
    "down": "; make it with: salvusctl lab up{named}",
    "partial": "; start what is stopped with: salvusctl lab up{named}",
    "broken": " (left by a crash); salvusctl lab up{named} makes it anew, salvusctl lab down{named} removes it",
}


def _named(name: str) -> str:
    """What a command needs to mean this lab."""
    return "" if name == "demo" else f" --name {name}"


@app.command()
def ssh(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="NAME", help="A host of the lab, or a virtual machine.")],
    command: Command = None,
    user: Annotated[str, typer.Option(help="The user to log in as; by default the one that salvus takes.")] = "",
    name: LabName = "demo",
) -> None:
    """Log in over the lab's network, host key checked; ends with the command's exit code."""
    found = _load(name)
    address, usual = (target, "root") if target in {host.name for host in found.hosts} else _guest(ctx, found, target)
    _become([*lab.ssh_argv(found, address, user or usual), *(command or ())])


def _guest(ctx: typer.Context, found: Lab, name: str) -> tuple[str, str]:
    """Address and user of a virtual machine of the store, its host key noted for ssh. Raises SalvusError."""
    from controller.lower import Wait, lower
    from controller.store.base import StoreMissing
    from salvusctl.fleet import reading

    no_host = f"{name!r} is no host of lab {found.name} ({', '.join(host.name for host in found.hosts)})"
    try:
        with reading(context_of(ctx)) as session:
            knowledge = session.knowledge()
    except StoreMissing as error:
        raise UseError(f"{no_host}, and as a virtual machine: {error}", hint=error.hint) from error
    target = lower(name, (), knowledge.fleet, knowledge.known).target
    if isinstance(target, Wait):
        raise UseError(f"{no_host}, and as a virtual machine: {target.message}")
    lab.pin(found, target.addresses[0], target.host_keys[0])
    return target.addresses[0], target.user


@app.command("exec")
def exec_(host: HostName, command: Command = None, name: LabName = "demo") -> None:
    """Run a program as root inside a host, past its network and sshd: works when those do not."""
    found = _load(name)
    _become(lab.exec_argv(found, found.host(host), command or ["bash", "-l"]))


@app.command()
def config(name: LabName = "demo") -> None:
    """Print a configuration that reaches the running lab; with Cassandra in the lab, the store is there."""
    out.write_yaml([{"contexts": [context_document(_load(name))]}])


def context_document(found: Lab) -> dict[str, Any]:
    """A context for the lab. Its store is the lab's ring, which ``store init`` prepares, else a file."""
    store: dict[str, Any] = {"sqlite": "store.db"}
    if found.nodes:
        points = [node.address for node in found.nodes]
        store = {"cassandra": {"contactPoints": points, "datacenter": found.nodes[0].datacenter}}
    return {
        "name": found.name,
        "store": store,
        "manifests": "manifests",
        "networkNamespace": found.namespace,
        "identityFiles": [found.key_path],
    }


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
        _break(name, undo, host, lambda found: act(found, found.host(host)))

    break_app.command(act.__name__.replace("_", "-"), help=said)(command)


def _node_verb(act: Callable[[Lab, Node], None], said: str, undo: str = "") -> None:
    def command(node: NodeName, name: LabName = "demo") -> None:
        _break(name, undo, node, lambda found: act(found, found.node(node)[1]))

    break_app.command(act.__name__.replace("_", "-"), help=said)(command)


def _part_verb(act: Callable[[Lab, LabHost | Node], None], said: str, undo: str = "") -> None:
    def command(part: PartName, name: LabName = "demo") -> None:
        _break(name, undo, part, lambda found: act(found, found.part(part)))

    break_app.command(act.__name__.replace("_", "-"), help=said)(command)


def _break(name: str, undo: str, what: str, act: Callable[[Lab], None]) -> None:
    act(_load(name))
    if undo:
        out.note(f"undo it with: salvusctl lab break {undo} {what}{_named(name)}")


_part_verb(breakage.freeze, "Stop every process of a host or Cassandra node, as if it hung.", "thaw")
_part_verb(breakage.thaw, "Let what is frozen go on.")
_node_verb(breakage.kill_node, "SIGKILL a Cassandra node; what it has written stays.", "start-node")
_node_verb(breakage.start_node, "Start a killed Cassandra node again.")
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

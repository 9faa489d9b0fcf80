"""``salvusctl disk``: what is in the trash of hypervisors, and taking disks back out of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.clock import rfc3339
from controller.store.base import Access
from salvusctl import out
from salvusctl.exits import Code, Missing, UseError
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import kind_of, reaching
from salvusctl.outputs import Output

if TYPE_CHECKING:
    from controller.trash import Found, Look, Trashes

app = verb_app(no_args_is_help=True, help="Disks of deleted virtual machines: see them, and have them back.")
VM = "VirtualMachine"
MEBIBYTE = 2**20


class TrashedOutput(Output):
    """A file in the trash of a host."""

    host: str
    """Where."""
    machine: str
    """Name of the virtual machine whose root disk it is, as it was called on its host; empty for other files."""
    name: str
    """Its name in the trash, as for ``--name``."""
    deleted: str
    """When it was put there (RFC 3339), by the host's clock."""
    until: str
    """When it goes (RFC 3339)."""
    size: int
    """Bytes that it takes on the disk."""


class SilentOutput(Output):
    """A host that could not be asked."""

    host: str
    """Which."""
    reason: str
    """Why."""


class TrashOutput(Output):
    """``disk trash``."""

    items: tuple[TrashedOutput, ...]
    """Oldest first."""
    silent: tuple[SilentOutput, ...]
    """Hosts that could not be asked."""


@app.command()
def trash(
    ctx: typer.Context,
    hosts: Annotated[list[str] | None, typer.Argument(metavar="[HOST…]", help="Only these.")] = None,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Show what is in the trash of hypervisors now, and until when. Ends with 1 when not all could be asked."""
    from controller.trash import opened

    with reaching(context_of(ctx), Access.READ) as session, opened(session) as trashes:
        look = trashes.look(_hosts(trashes, hosts))
    if output is TextOrJson.JSON:
        silent = tuple(SilentOutput(host=host, reason=why) for host, why in sorted(look.silent.items()))
        out.emit(TrashOutput(items=tuple(map(_output, look.found)), silent=silent))
    else:
        _show(look)
    return Code.DIFFERENT if look.silent else Code.OK


def _output(one: Found) -> TrashedOutput:
    return TrashedOutput(
        host=one.host,
        machine=one.instance,
        name=one.kept.name,
        deleted=rfc3339(one.kept.at),
        until=rfc3339(one.until),
        size=one.kept.size,
    )


def _show(look: Look) -> None:
    now = time.time()
    rows = [
        (
            one.host,
            one.instance or "-",
            one.kept.name,
            f"{out.age(max(0.0, now - one.kept.at))} ago",
            f"in {out.age(one.until - now)}" if one.until > now else "now",
            f"{one.kept.size // MEBIBYTE}Mi",
        )
        for one in look.found
    ]
    if rows:
        out.table(("HOST", "MACHINE", "NAME", "DELETED", "GOES", "ON DISK"), rows)
    else:
        out.note("nothing is in the trash")
    _warn(look)


def _warn(look: Look) -> None:
    for host, why in sorted(look.silent.items()):
        out.warn(f"{host} cannot be asked: {why}")


@app.command()
def undelete(
    ctx: typer.Context,
    machine: Annotated[str, typer.Argument(metavar="NAME", help="VirtualMachine/NAME, or NAME alone.")],
    host: Annotated[str | None, typer.Option("--host", help="The host that has it, when several have one.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Which, as disk trash shows it; else the newest.")] = None,
) -> None:
    """Take the root disk of a deleted virtual machine back out of the trash, and its ssh host key with it.

    Then write its manifest again and apply it: it is placed on that host, and boots from this disk. Nothing is put
    in the place of what is there. Controllers may run meanwhile.
    """
    from controller.trash import opened

    ref = _ref(machine)
    with reaching(context_of(ctx), Access.WRITE) as session, opened(session) as trashes:
        look = trashes.look(_hosts(trashes, [host] if host else None))
        _warn(look)
        disk = _meant(look, ref, name)
        for path in trashes.undelete(ref, disk, look.found):
            out.say(f"{path} is back on {disk.host}")
    out.note(f"now apply the manifest of {ref} again: it goes to {disk.host}, and boots from this disk")


def _ref(text: str) -> str:
    kind, slash, name = text.rpartition("/")
    if slash and kind_of(kind).name != VM:
        raise UseError(f"{text} has no disk", hint=f"salvusctl disk undelete {VM}/NAME")
    return f"{VM}/{name}"


def _hosts(trashes: Trashes, hosts: list[str] | None) -> list[str]:
    for host in hosts or ():
        if host not in trashes.hosts:
            raise Missing(f"there is no hypervisor {host}", hint="salvusctl get hosts")
    return list(dict.fromkeys(hosts or trashes.hosts))


def _meant(look: Look, ref: str, name: str | None) -> Found:
    instance = ref.partition("/")[2]
    fits = [one for one in look.found if one.instance == instance and name in (None, one.kept.name)]
    if not fits:
        raise Missing(f"no disk of {ref} is in the trash{f' as {name}' if name else ''}", hint="salvusctl disk trash")
    if len(hosts := {one.host for one in fits}) > 1:
        raise UseError(f"{', '.join(sorted(hosts))} have a disk of {ref}", hint="say which: --host HOST")
    return fits[-1]

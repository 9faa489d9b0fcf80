"""A service in machine words. Pure."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace

from drivers.items.directory import Directory
from drivers.items.file import File, Trial
from drivers.items.package import Package
from drivers.items.systemd_unit import SystemdUnit, Watched
from resources.base import Invalid, Placed, Resource
from resources.openings import gate as opened
from resources.rollouts import gate, in_force
from resources.service_spec import FileSpec, ServiceSpec
from resources.systemd import Command, unit_file
from resources.template_names import names
from resources.vpn_nodes import units_of
from resources.world import STARTED, World


def placed(service: Resource[ServiceSpec], machine: str, world: World) -> Iterator[Placed]:
    """Packages, then directories and files, then the unit, once the machine's VPNs run: it may use their addresses.

    Files come after the packages because these bring users, directories and files of their own.
    Raises Invalid for a template that cannot be rendered, NotYet for one that asks for what is not known yet.
    """
    spec = service.spec
    packages = [Package(name) for name in spec.packages]
    directories = [Directory(d.path, d.mode, d.owner, d.group) for d in spec.directories]
    files = [_file(file, _trial(service, file), machine, world) for file in spec.files]
    unit = _unit_file(service)
    made: list[Directory | File] = [*directories, *files, *([unit] if unit else [])]
    vpns = tuple(units_of(machine, world))
    yield from map(Placed, packages)
    first = tuple(package.key for package in packages)
    folders = {directory.path: directory.key for directory in directories}
    here = world.machine(machine)
    tried = {file.path for file in spec.perilous}
    wait, told = (gate(here, [service], world), in_force(here, [service])) if here and tried else (None, {})
    for item in made:
        one = Placed(item, after=(*first, *_around(item.path, folders)))
        yield replace(one, gate=wait, tells=told) if item.path in tried else one
    name = spec.unit_of(service.name)
    if name is not None:
        restart, reload = _watched(spec, files, "restart"), _watched(spec, files, "reload")
        own = (_seen(unit),) if unit else ()
        running = spec.state == "running"
        after = (*first, *(item.key for item in made), *vpns)
        runs = SystemdUnit(name, running, spec.enabled, (*own, *restart), reload)
        if here is None or not running:
            yield Placed(runs, after)
        else:
            started = {(service.ref, f"{STARTED}/{machine}"): "yes"}
            yield Placed(runs, after, gate=opened(service, here, world), tells=started)


def _file(file: FileSpec, trial: Trial | None, machine: str, world: World) -> File:
    return File(file.path, _content(file, machine, world), file.mode, file.owner, file.group, trial)


def _trial(service: Resource[ServiceSpec], file: FileSpec) -> Trial | None:
    if not file.perilous:
        return None
    unit = service.spec.unit_of(service.name)
    if unit is None or file.on_change == "none" or service.spec.state == "stopped":
        return Trial()
    return Trial(unit, file.on_change)


def _content(file: FileSpec, machine: str, world: World) -> str:
    if file.template is None:
        return file.content or ""
    from resources.templates import render  # here, because most commands render nothing, and Jinja takes its time

    resource = world.machine(machine)
    if resource is None:
        raise Invalid(f"its machine {machine} is not in the manifests any more")
    try:
        return render(file.template, names(resource, world))
    except Invalid as error:
        raise Invalid(f"{file.path}: {error}") from error


def _unit_file(service: Resource[ServiceSpec]) -> File | None:
    """The unit file that the service brings."""
    spec = service.spec
    path = spec.unit_path(service.name)
    if path is None:
        return None
    if spec.command is None:
        return File(path, spec.unit or "")
    command = Command(spec.command, spec.user or "", spec.working_directory or "", spec.environment)
    return File(path, unit_file(f"{service.ref} of salvus", command))


def _around(path: str, folders: dict[str, str]) -> Iterator[str]:
    """The keys of the service's own directories that are around the path."""
    while (path := posixpath.dirname(path)) != "/":
        if path in folders:
            yield folders[path]


def _watched(spec: ServiceSpec, files: Iterable[File], how: str) -> tuple[Watched, ...]:
    return tuple(_seen(file) for file, written in zip(files, spec.files, strict=True) if written.on_change == how)


def _seen(file: File) -> Watched:
    return Watched(file.path, hashlib.sha256(file.content.encode()).hexdigest())

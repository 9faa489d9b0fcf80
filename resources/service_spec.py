"""The fields of a ``Service`` manifest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from resources.base import Disruption, Model, Name
from resources.fields import (
    AbsolutePath,
    DebianPackage,
    Mode,
    PlainPath,
    Shape,
    Text,
    UnitName,
    User,
    VariableName,
    absolute_path,
)
from resources.peers import Peers
from resources.ports import PortName
from resources.rollouts import Rollout
from resources.ssh import Port
from resources.targets import Targets
from resources.template_names import NAMES

_UNITS = "/etc/systemd/system"
# What is in here decides whether salvus can log in: sshd, and the network's configuration in its usual places.
PERILOUS = ("/etc/ssh/", "/etc/network/", "/etc/systemd/network/", "/etc/netplan/")


def split_command(value: object) -> object:
    """A command written as one text, split as a shell would, with nothing expanded. Raises ValueError."""
    if isinstance(value, list):
        # What comes through here is no JSON any more: strict pydantic wants the tuple itself.
        return tuple(value)
    if not isinstance(value, str):
        return value
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {error}; write the words as a list") from None


def absolute_program(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words of which the first is a program's path. Raises ValueError."""
    try:
        absolute_path(words[0])
    except ValueError as error:
        raise ValueError(f"the first word is the program: {error}") from None
    return words


def renderable(source: str) -> str:
    """A template that some fleet can fill. Raises ValueError for one that none can, with all that is wrong."""
    from resources.templates import problems  # here, because Jinja takes its time, and few manifests have templates

    if found := "; ".join(problems(source, NAMES)):
        raise ValueError(found)
    return source


Template = Annotated[Text, AfterValidator(renderable)]
Words = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    AfterValidator(absolute_program),
    BeforeValidator(split_command),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class PathSpec(Model):
    """Something in the file system."""

    path: AbsolutePath
    """Where it is."""
    mode: Mode = "0755"
    """Its permissions: four octal digits, in quotes."""
    owner: User = "root"
    """Its user."""
    group: User = "root"
    """Its group."""


class DirectorySpec(PathSpec):
    """A directory."""


class FileSpec(PathSpec):
    """A file, written whole."""

    mode: Mode = "0644"
    """Its permissions: four octal digits, in quotes."""
    content: Text | None = None
    """What is in it, as it stands."""
    template: Template | None = None
    """What is in it, as a Jinja2 template over the fleet: ``machine``, ``members(…)``, ``service(…)``, ``fact(…)``."""
    on_change: Literal["restart", "reload", "none"] = "restart"
    """What the service's unit does when the file has changed."""

    @property
    def perilous(self) -> bool:
        """Who logs in, and over which addresses, is changed under the dead-man switch (rule 8)."""
        return self.path.startswith(PERILOUS)


class ServicePort(Model):
    """A port at which clients of the service come in."""

    name: PortName
    """Its name, one of its own within the service; rules that it leads to bear it."""
    port: Port
    """Its number."""
    protocol: Literal["tcp", "udp"] = "tcp"
    """What is spoken there."""


_CONDITION = "the name of a condition, as in Ready or Synced"


def _capital(text: str) -> Iterator[str]:
    yield text.strip().capitalize()


class Need(Model):
    """What must hold before this service is put on its machines."""

    service: Name | None = None
    """A Service."""
    virtual_machine: Name | None = None
    """A VirtualMachine."""
    host: Name | None = None
    """A Host."""
    condition: Annotated[str, Shape("[A-Z][A-Za-z]*", _CONDITION, _capital)] = "Ready"
    """The condition that must be True."""

    def named(self) -> tuple[tuple[str, str, str], ...]:
        """What is written: (field, kind, name)."""
        written = (
            ("service", "Service", self.service),
            ("virtualMachine", "VirtualMachine", self.virtual_machine),
            ("host", "Host", self.host),
        )
        return tuple((field, kind, name) for field, kind, name in written if name is not None)


class ServiceSpec(Model):
    """What runs on machines, and the packages and files that it needs."""

    machines: Targets
    """The machines it is on."""
    packages: tuple[DebianPackage, ...] = ()
    """Debian packages that are installed."""
    directories: tuple[DirectorySpec, ...] = ()
    """Directories that are made."""
    files: tuple[FileSpec, ...] = ()
    """Files that are written."""
    unit: Text | None = None
    """The text of a systemd unit of its own, installed as ``NAME.service``."""
    unit_name: UnitName | None = None
    """A systemd unit that a package brings, as in ``nginx.service``."""
    command: Words | None = None
    """A command that is kept running, as a list of words or one text. No shell reads it: variables are plain text."""
    user: User | None = None
    """The user whom the command runs as."""
    working_directory: PlainPath | None = None
    """The directory in which the command runs."""
    environment: Mapping[VariableName, Text] = {}
    """Variables for the command. They can be read by every user of the machine: no secrets."""
    state: Literal["running", "stopped"] = "running"
    """Whether the unit runs."""
    enabled: bool = True
    """Whether the unit is started at boot."""
    needs: tuple[Need, ...] = ()
    """What must hold before anything of this service is done."""
    ports: tuple[ServicePort, ...] = ()
    """The ports at which its clients come in. A Firewall with ``derive`` opens them, to the clients and nobody else."""
    clients: Peers | None = None
    """Who uses the ports. Without it a Firewall lets nobody in by itself. Machines of the service reach each other's
    ports only when the service is named here, too.
    """
    disruption: Disruption = Disruption()
    """How much salvus may disturb to bring changes about."""
    rollout: Rollout = Rollout()
    """In which order machines make a change of its files of sshd and of the network."""

    @property
    def perilous(self) -> tuple[FileSpec, ...]:
        """The files that are changed under the dead-man switch."""
        return tuple(file for file in self.files if file.perilous)

    def unit_of(self, name: str) -> str | None:
        """The unit's name, of the service ``name``; None when it has only packages and files."""
        if self.unit is not None:
            return f"{name}.service"
        return f"salvus-{name}.service" if self.command is not None else self.unit_name

    def unit_path(self, name: str) -> str | None:
        """The unit file that the service writes; None when it writes none."""
        writes = self.unit is not None or self.command is not None
        return f"{_UNITS}/{self.unit_of(name)}" if writes else None

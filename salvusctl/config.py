"""The configuration file: contexts, each with a store and where its manifests are. Errors have file:line:column."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from resources.base import Model
from resources.envelope import nearest
from resources.errors import ManifestError, field_name
from resources.fleet import did_you_mean
from resources.quantity import Seconds, format_duration
from resources.sentences import wrongs
from salvusctl.config_manifests import ManifestsConfig, as_directory, origin_of, resolved
from salvusctl.exits import UseError
from salvusctl.flags import Flags

if TYPE_CHECKING:
    from controller.budget import Budgets
    from controller.sources.opening import Origin
    from controller.store.opening import Where
    from resources.yaml12 import Fault

HTTP = "127.0.0.1:9465"
# Seconds.
PROBE = 60
PROBE_LEAST = 10


class TlsConfig(Model):
    """Files of PEM for encrypted connections."""

    authority: Annotated[str, Field(min_length=1)]
    """The certificate of who certifies the nodes."""
    certificate: str | None = None
    """Ours, for nodes that ask for one."""
    key: str | None = None
    """The private key of ours."""


class VariablesConfig(Model):
    """Names of variables of the environment."""

    user: Annotated[str, Field(min_length=1)]
    """The one with the user's name."""
    password: Annotated[str, Field(min_length=1)]
    """The one with the password."""


class CassandraConfig(Model):
    """A ring of Cassandra 4.1 or newer."""

    contact_points: Annotated[tuple[str, ...], Field(min_length=1)]
    """Addresses of some of its nodes; the others are found through them."""
    datacenter: Annotated[str, Field(min_length=1)]
    """The data centre that is near, whose nodes are asked."""
    keyspace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")] = "salvus"
    """The keyspace of this fleet."""
    port: Annotated[int, Field(ge=1, le=65535)] = 9042
    """The port for clients."""
    credentials_file: str | None = None
    """File of two lines, the user's name and the password; readable by salvus alone."""
    credentials_environment: VariablesConfig | None = None
    """Where they are in the environment, instead of a file."""
    tls: TlsConfig | None = None
    """Encrypted connections; without it they are not."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.credentials_file is not None and self.credentials_environment is not None:
            raise ValueError("credentials are either in credentialsFile or in credentialsEnvironment")
        return self


class StoreConfig(Model):
    """Where salvus keeps what it knows."""

    sqlite: Annotated[str, Field(min_length=1)] | None = None
    """Path of the SQLite file; it is made when it is not there."""
    cassandra: CassandraConfig | None = None
    """A ring of Cassandra, instead of the file; ``salvusctl store init`` makes the tables."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.sqlite is None) == (self.cassandra is None):
            raise ValueError("a store is either sqlite or cassandra")
        return self


class BudgetConfig(Model):
    """What one sync of the manifests may do without being asked about: the larger of number and percentage."""

    max_deletes: Annotated[int, Field(ge=0)] = 5
    """Resources that are deleted, as they are gone from the manifests."""
    max_delete_percent: Annotated[int, Field(ge=0, le=100)] = 25
    """The same, of all that came from there."""
    max_disruption: Annotated[int, Field(ge=0)] = 5
    """Resources that are restarted, rebooted or replaced, each counted on each of its machines."""
    max_disruption_percent: Annotated[int, Field(ge=0, le=100)] = 10
    """The same, of all that run."""

    def budgets(self) -> Budgets:
        """As the controller has them."""
        from controller.budget import Budget, Budgets  # here, because most verbs sync nothing

        return Budgets(
            Budget(self.max_deletes, self.max_delete_percent), Budget(self.max_disruption, self.max_disruption_percent)
        )


def not_often(seconds: int) -> int:
    """How often machines are asked whom they reach, or 0 for never. Raises ValueError."""
    if 0 < seconds < PROBE_LEAST:
        raise ValueError(f"must be at least {format_duration(PROBE_LEAST)}, or 0s for never")
    return seconds


class ContextConfig(Model):
    """One fleet."""

    name: Annotated[str, Field(min_length=1)]
    """What ``--context`` and ``currentContext`` call it."""
    store: StoreConfig | None = None
    """Where its store is; without it, in the XDG state folder under the context's name."""
    manifests: Annotated[ManifestsConfig, BeforeValidator(as_directory)] | None = None
    """Its manifests, a directory or in git: what the controller follows, and what verbs read without ``-f``."""
    network_namespace: str = ""
    """Network namespace, a name under ``/run/netns`` or a path, in which machines are reached."""
    http: str = HTTP
    """``HOST:PORT`` of the controller's page; outside the network namespace."""
    identity_files: tuple[str, ...] = ()
    """Private keys for the machines whose manifests name none."""
    budgets: BudgetConfig = BudgetConfig()
    """How much one sync of the manifests may delete and disturb; more waits for ``salvusctl approve``."""
    vpn_probe_interval: Annotated[Seconds, AfterValidator(not_often)] = PROBE
    """How often each machine is asked whom it reaches in its VPNs, for the metrics; ``0s`` for never."""


class Configuration(Model):
    """The whole file. Relative paths in it start from its folder."""

    current_context: str = ""
    """The context that is used without ``--context``; the first one when it is left out."""
    contexts: Annotated[tuple[ContextConfig, ...], Field(min_length=1)]
    """The fleets."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a command works with, after file and flags."""

    name: str
    store: Where
    manifests: Origin | None = None
    namespace: str = ""
    http: str = HTTP
    identity_files: tuple[str, ...] = ()
    budgets: BudgetConfig = field(default_factory=BudgetConfig)
    vpn_probe_interval: int = PROBE


def resolve(flags: Flags, environment: Mapping[str, str]) -> Context:
    """The context that a command works with.

    The file is ``--config``, else ``$SALVUS_CONFIG``, else ``./salvus.yaml``, else ``salvus/salvus.yaml`` in the XDG
    configuration folder; with none, everything is as by default. Raises ManifestError, UseError.
    """
    file = _file(flags, environment)
    if file is None:
        if flags.context is not None:
            raise UseError(f"there is no configuration, so no context {flags.context!r}", hint=_HINT)
        context = Context("default", _state_folder() / "default.db")
    else:
        context = _chosen(read(file), flags.context, file)
    context = context if flags.store is None else replace(context, store=_absolute(flags.store))
    return context if flags.namespace is None else replace(context, namespace=flags.namespace)


def _absolute(path: Path) -> Path:
    """Raises UseError in a folder that is gone."""
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise UseError(f"{path} is nowhere: the folder that this runs in is gone", hint="cd to another one") from error


_HINT = "write one as ./salvus.yaml, or name it with --config FILE or SALVUS_CONFIG; see docs/salvusctl.md"


def read(file: Path) -> Configuration:
    """The file, checked. Raises ManifestError for the first thing wrong, and UseError when it cannot be read."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UseError(f"the configuration {file} cannot be read: {error.strerror}", hint=_HINT) from error
    from resources.yaml12 import Document, Fault, parse  # without a file nothing is to be read

    parsed = parse(data)
    document = parsed.documents[0] if parsed.documents else Document(None, {})
    for fault in (*parsed.broken, *document.faults):
        raise _error(file, fault)
    if len(parsed.documents) > 1:
        raise ManifestError("a configuration is one document", file=str(file))
    try:
        return Configuration.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as error:
        found = wrongs(error, document.value, Configuration)
        hint = "\n".join(f"also {field_name(wrong.path)}: {wrong.what}" for wrong in found[1:])
        place = nearest(document.positions, found[0].path)
        raise _error(file, Fault(*place, found[0].path, found[0].what), hint) from error


def _error(file: Path, fault: Fault, hint: str = "") -> ManifestError:
    field = field_name(fault.path)
    return ManifestError(fault.what, file=str(file), line=fault.line, column=fault.column, field=field, hint=hint)


def _file(flags: Flags, environment: Mapping[str, str]) -> Path | None:
    if flags.config is not None:
        return flags.config
    if named := environment.get("SALVUS_CONFIG"):
        return Path(named)
    from platformdirs import user_config_path

    return next((p for p in (Path("salvus.yaml"), user_config_path("salvus") / "salvus.yaml") if p.is_file()), None)


def _chosen(configuration: Configuration, wanted: str | None, file: Path) -> Context:
    name = wanted or configuration.current_context or configuration.contexts[0].name
    by_name = {context.name: context for context in configuration.contexts}
    if len(by_name) < len(configuration.contexts):
        raise UseError(f"{file} has two contexts of one name", hint=f"edit {file}")
    if (found := by_name.get(name)) is None:
        raise UseError(f"{file} has no context {name!r}{did_you_mean(name, by_name)}", hint=f"edit {file}")
    folder = file.absolute().parent
    store = _store(found.store, folder) if found.store else _state_folder() / f"{name}.db"
    manifests = origin_of(found.manifests, folder, _state_folder()) if found.manifests else None
    keys = tuple(str(folder / Path(key).expanduser()) for key in found.identity_files)
    return Context(
        name, store, manifests, found.network_namespace, found.http, keys, found.budgets, found.vpn_probe_interval
    )


def _store(store: StoreConfig, folder: Path) -> Where:
    if store.sqlite is not None:
        return folder / Path(store.sqlite).expanduser()
    assert store.cassandra is not None, "one of the two, as it was checked"
    ring = store.cassandra

    from controller.store.cassandra.settings import CassandraSettings, Tls, Variables

    tls = (
        None
        if ring.tls is None
        else Tls(folder / ring.tls.authority, resolved(folder, ring.tls.certificate), resolved(folder, ring.tls.key))
    )
    names = ring.credentials_environment
    credentials = resolved(folder, ring.credentials_file) if names is None else Variables(names.user, names.password)
    return CassandraSettings(ring.contact_points, ring.datacenter, ring.keyspace, ring.port, credentials, tls)


def _state_folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("salvus")


def current(flags: Flags) -> Context:
    """``resolve`` for this process."""
    return resolve(flags, os.environ)

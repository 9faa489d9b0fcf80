"""The connection to the ring: how it is made, how sure each kind of request must be, and what errors mean."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from cassandra import (
    AlreadyExists,
    ConsistencyLevel,
    DriverException,
    OperationTimedOut,
    Timeout,
    UnresolvableContactPoints,
)
from cassandra.cluster import Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    FallthroughRetryPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import ErrorMessage
from cassandra.query import BatchStatement

from controller.store.base import StoreUnavailable, StoreUnusable
from controller.store.cassandra import access
from controller.store.cassandra.settings import CassandraSettings

# Seconds. A node that does not answer for so long is left: the request goes to another, or its outcome is found out.
PATIENCE = 1.0
# Seconds between signs of life that a silent node is asked for, and until it counts as dead: a busy one must not.
HEARTBEAT = 2.0
SILENCE = 5.0
# Seconds that are waited for any node to be there again.
AWAY = 5.0
# Seconds to make a connection: at first, as there are other nodes, and when none answers so soon.
IMPATIENT = 1.0
CONNECT = 5.0
# Seconds after which a dead node is tried again, at most.
RETURN = 10.0
# Seconds after which a read is sent to a second node, too.
SPECULATE = 0.3

READ, MARK, SWAP, SERIAL = "read", "mark", "swap", "serial"
LOCAL, GLOBAL = "local", "global"
# The profile of reads that one replica answers.
ONE = "one"


AWAY_HINT = "are enough of its nodes up? `salvusctl store status` tells; a controller tries again by itself"
T = TypeVar("T")


class NoAnswer(StoreUnavailable):
    """No node gave an answer, or not in time: what was asked may be done."""


def _profiles(datacenter: str) -> dict[str, ExecutionProfile]:
    """How a request is made, by ``use/scope``. What may be done twice is retried, and sent to a second node when
    the first is slow; a swap is neither: whether it happened is found out (see store.py).
    """
    quorum = {LOCAL: ConsistencyLevel.LOCAL_QUORUM, GLOBAL: ConsistencyLevel.QUORUM}
    serial = {LOCAL: ConsistencyLevel.LOCAL_SERIAL, GLOBAL: ConsistencyLevel.SERIAL}

    def profile(use: str, scope: str, level: int) -> ExecutionProfile:
        again = use != SWAP
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(datacenter)),
            retry_policy=RetryPolicy() if again else FallthroughRetryPolicy(),
            speculative_execution_policy=ConstantSpeculativeExecutionPolicy(SPECULATE, 2) if again else None,
            consistency_level=level,
            serial_consistency_level=serial[scope],
            request_timeout=PATIENCE if use == SWAP else 4 * PATIENCE,
        )

    uses = [(use, scope) for use in (READ, MARK, SWAP, SERIAL) for scope in (LOCAL, GLOBAL)]
    levels = {(use, scope): serial[scope] if use == SERIAL else quorum[scope] for use, scope in uses}
    found = {f"{use}/{scope}": profile(use, scope, level) for (use, scope), level in levels.items()}
    return found | {ONE: profile(READ, LOCAL, ConsistencyLevel.ONE)}


@dataclass
class Ring:
    """A connection to the ring. Safe for threads."""

    settings: CassandraSettings
    cluster: Any
    session: Any
    _prepared: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def connect(cls, settings: CassandraSettings) -> Self:
        """Connects. Raises StoreUnavailable where no node answers, StoreUnusable where the settings are wrong."""
        # Whoever wants to hear what the driver says attaches a handler to the root; nobody else is to.
        logging.getLogger("cassandra").addHandler(logging.NullHandler())
        try:
            ring = cls._connected(settings, IMPATIENT)
        except NoAnswer:  # those that could be there are very busy
            ring = cls._connected(settings, CONNECT)
        try:
            ring.check()
        except BaseException:
            ring.close()
            raise
        return ring

    @classmethod
    def _connected(cls, settings: CassandraSettings, timeout: float) -> Self:
        cluster = Cluster(
            list(settings.contact_points),
            port=settings.port,
            protocol_version=5,
            auth_provider=access.credentials(settings),
            ssl_context=access.tls(settings.tls),
            execution_profiles=_profiles(settings.datacenter),
            reconnection_policy=ExponentialReconnectionPolicy(PATIENCE, RETURN),
            connect_timeout=timeout,
            control_connection_timeout=CONNECT,
            idle_heartbeat_interval=HEARTBEAT,
            idle_heartbeat_timeout=SILENCE,
            # A node that hangs would be waited for; one that does not know a statement is told it when it says so.
            prepare_on_all_hosts=False,
        )
        try:
            with errors(settings):
                session = cluster.connect()
        except BaseException:
            cluster.shutdown()
            raise
        cluster.connect_timeout = CONNECT
        # A controller's clock is worth nothing: the nodes say when.
        session.use_client_timestamp = False
        return cls(settings, cluster, session)

    def check(self) -> None:
        """Raises StoreUnusable when the data centre is none of the ring's."""
        here = self.settings.datacenter
        known = sorted({host.datacenter for host in self.cluster.metadata.all_hosts() if host.datacenter})
        if here not in known:
            raise StoreUnusable(
                f"the store {self.settings}: the ring has no data centre {here!r}; it has {', '.join(known)}",
                hint="set store.cassandra.datacenter in the configuration to the one that this controller is in",
            )

    def replication(self) -> Mapping[str, int] | None:
        """Data centre → number of replicas of our keyspace, as the ring says now; None without the keyspace.

        Raises StoreUnusable for a replication that does not say where the replicas are.
        """
        keyspace = self.cluster.metadata.keyspaces.get(self.settings.keyspace)
        if keyspace is None:
            return None
        options = keyspace.replication_strategy.export_for_schema()
        if "NetworkTopologyStrategy" not in options:
            raise StoreUnusable(
                f"the store {self.settings}: the keyspace's replication is {options}, which knows no data centres",
                hint=f"ALTER KEYSPACE {self.settings.keyspace} WITH replication = "
                f"{{'class': 'NetworkTopologyStrategy', '{self.settings.datacenter}': 3}}",
            )
        factors = keyspace.replication_strategy.dc_replication_factors
        return {name: int(str(factor)) for name, factor in factors.items() if int(str(factor))}

    def scope(self) -> str:
        """Whether it is enough to ask one data centre: only where no other has replicas, so that whoever writes
        elsewhere needs the same nodes. Raises StoreUnusable.
        """
        replicas = self.replication() or {}
        if len(replicas) > 1:
            return GLOBAL
        if self.settings.datacenter not in replicas:
            where = ", ".join(replicas) or "none"
            raise StoreUnusable(
                f"the store {self.settings}: no replicas of it are in {self.settings.datacenter}, but in: {where}",
                hint="name another data centre in the configuration, or alter the keyspace's replication",
            )
        return LOCAL

    def nodes(self) -> Mapping[str, bool]:
        """The ring's nodes by address, and whether each is up, as far as the driver has seen: not tried yet is up."""
        return {str(host.address): host.is_up is not False for host in self.cluster.metadata.all_hosts()}

    def members(self, datacenter: str) -> int:
        """How many nodes of a data centre are seen."""
        return sum(host.datacenter == datacenter for host in self.cluster.metadata.all_hosts())

    def look_again(self) -> None:
        """Asks a node which others there are. Raises StoreUnavailable."""
        with errors(self.settings):
            self.cluster.refresh_nodes()

    def ours(self, statement: str) -> str:
        """A statement that is written for a keyspace named salvus, for ours."""
        return statement.replace("salvus.", f'"{self.settings.keyspace}".')

    def prepare(self, query: str) -> Any:
        """The statement, prepared once; ``salvus.`` in it stands for our keyspace."""
        with self._lock:
            if query not in self._prepared:
                statement = self.session.prepare(self.ours(query))
                statement.is_idempotent = True  # only told to profiles that may do it twice
                self._prepared[query] = statement
            return self._prepared[query]

    def execute(self, use: str, query: str, *values: object) -> list[Any]:
        """All rows that a statement gives. Raises StoreUnavailable, StoreUnusable."""

        return self.patiently(lambda: self.ask(f"{use}/{self.scope()}", query, *values))

    def ask(self, profile: str, query: str, *values: object) -> list[Any]:
        """All rows that a statement gives, asked once. Raises what the driver raises."""
        return list(self.session.execute(self.prepare(query).bind(values), execution_profile=profile))

    def patiently(self, ask: Callable[[], T], patience: float = AWAY) -> T:
        """What ``ask`` gives, which may be done twice; it is done again for a while when no node gives an answer.

        Raises StoreUnavailable, StoreUnusable.
        """
        end = time.monotonic() + patience
        while True:
            try:
                with errors(self.settings):
                    return ask()
            except NoAnswer:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def swap(self, batch: BatchStatement) -> bool:
        """Whether a conditional batch was applied. After StoreUnavailable it may be, or not. Raises StoreUnusable."""
        with errors(self.settings):
            return bool(self.session.execute(batch, execution_profile=f"{SWAP}/{self.scope()}").was_applied)

    def close(self) -> None:
        """Ends it."""
        self.cluster.shutdown()


# What is not retried comes as it is met: a connection that ends, a node's own word for being busy or in trouble.
_DRIVERS = (DriverException, ConnectionException, ConnectionBusy, ErrorMessage, OSError)


@contextmanager
def errors(settings: CassandraSettings) -> Iterator[None]:
    """The one table of the driver's errors."""
    try:
        yield
    except AlreadyExists:
        raise
    except UnresolvableContactPoints as error:
        raise StoreUnusable(
            f"the store {settings}: no contact point can be resolved", hint="see store.cassandra.contactPoints"
        ) from error
    except NoHostAvailable as error:
        causes = _causes(error)
        if refused := access.refusal(settings, causes.values()):
            raise refused from error
        hint = access.doubt(settings, causes.values()) + AWAY_HINT
        said = _of_each(causes) or str(error)
        raise NoAnswer(f"the store {settings} cannot be used now: {said}", hint=hint) from error
    except _DRIVERS as error:
        if refused := access.refusal(settings, [error]):
            raise refused from error
        answered = isinstance(error, DriverException | OSError) and not isinstance(error, Timeout | OperationTimedOut)
        kind = StoreUnavailable if answered else NoAnswer
        raise kind(f"the store {settings} cannot be used now: {_said(error)}", hint=AWAY_HINT) from error


def _causes(error: NoHostAvailable) -> Mapping[object, BaseException]:
    """What became of each node. A session that gets no connection at all has a list of the nodes there, without why."""
    return error.errors if isinstance(error.errors, dict) else {}


def _of_each(causes: Mapping[object, BaseException]) -> str:
    """What became of each node, those of which the same is to be said together."""
    nodes: dict[str, list[str]] = {}
    for host, cause in causes.items():
        nodes.setdefault(_said(cause), []).append(str(host))
    return "; ".join(f"{', '.join(sorted(hosts))}: {said}" for said, hosts in sorted(nodes.items()))


def _said(cause: BaseException) -> str:
    """An error of the driver's without its insides."""
    info = cause.info if isinstance(cause, ErrorMessage) and isinstance(cause.info, dict) else vars(cause)
    alive, needed = info.get("alive_replicas"), info.get("required_replicas")
    if alive is not None and needed is not None:
        return f"{alive} of its replicas {'is' if alive == 1 else 'are'} there, and {needed} are needed"
    if isinstance(cause, Timeout | OperationTimedOut):
        return "no answer in time"
    return str(cause).rpartition("Last error: ")[2]

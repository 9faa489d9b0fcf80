"""Machines in memory, with latency and faults on demand: for tests, scale runs and trying things out.

A ``SimulatedMachine`` is the machine: what is on it, the newest epoch it has seen, what goes wrong with it. A
``SimulatedDriver`` is one controller's way to it, so that two controllers can meet on one machine.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from drivers.base import (
    Absent,
    Applied,
    Change,
    Driver,
    DriverError,
    Fenced,
    Fields,
    Item,
    Observation,
    Present,
    SshTarget,
    State,
    Unknown,
    Unreachable,
    Value,
    Verb,
)
from drivers.items.key_pair import KeyPair
from drivers.items.tunnel import Tunnel
from drivers.simulated_vpn import tried, use

SOURCE = "simulated"
QEMU = "/usr/bin/qemu-system-x86_64"


@dataclass
class Faults:
    """What is wrong with a machine. The first four last until they are taken back, the others happen once.

    Attributes:
        unreachable: nothing gets there.
        frozen: every call hangs until its deadline; nothing is done.
        latency: seconds of each round trip.
        refuses: item key → the error with which every change of it ends.
        cut_after: the next batch loses its connection after so many changes: these are made, and nobody is told.
        lies: item key → what its next observation says, whatever is true.
        pretends: keys of items whose next change is said to be made, and is not.
    """

    unreachable: bool = False
    frozen: bool = False
    latency: float = 0.0
    refuses: dict[str, DriverError] = field(default_factory=dict)
    cut_after: int | None = None
    lies: dict[str, State] = field(default_factory=dict)
    pretends: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Made:
    """One change that was really made: when (as the fleet's clock tells), which, and under which epoch."""

    at: float
    verb: Verb
    key: str
    epoch: int


@dataclass
class Timing:
    """The time that simulated machines live in; tests bring their own, so that none of them sleeps."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class SimulatedMachine:
    """What is on a machine, and what happens to it without salvus. Safe for threads.

    ``hears`` are the addresses in VPNs from which its pings come back.
    """

    def __init__(self, name: str, timing: Timing) -> None:
        self.name = name
        self.timing = timing
        self.faults = Faults()
        self.epoch = 0
        self.boots = 1
        self.log: list[Made] = []
        self.round_trips = 0
        self.hears: set[str] = set()
        self._items: dict[str, Fields] = {}
        self._made: dict[str, Item] = {}
        self._watchers: dict[object, Callable[[str], None]] = {}
        self._lock = threading.RLock()

    @property
    def writes(self) -> int:
        """How many changes salvus has made."""
        return len(self.log)

    @property
    def items(self) -> Mapping[str, Fields]:
        """The fields of everything that is there, by item key."""
        with self._lock:
            return dict(self._items)

    def put(self, item: Item) -> None:
        """By hand: the item is there, as it would be after salvus made it."""
        with self._lock:
            self._items[item.key] = item.fields()

    def alter(self, key: str, **fields: Value) -> None:
        """By hand: some fields of what is there are made different."""
        with self._lock:
            self._items[key] = {**self._items[key], **fields}

    def remove(self, key: str) -> None:
        """By hand: it is taken away."""
        with self._lock:
            self._items.pop(key, None)

    def die(self, key: str) -> None:
        """A domain stops by itself; who watches the machine is woken, as by libvirt's event."""
        self.alter(key, running=False)
        for woken in tuple(self._watchers.values()):
            woken(self.name)

    def reboot(self) -> None:
        """The machine starts anew: another boot id, and what is on it stays."""
        with self._lock:
            self.boots += 1

    def watch(self, who: object, woken: Callable[[str], None]) -> None:
        """From now on ``woken`` is called with the machine's name when a domain stops by itself."""
        with self._lock:
            self._watchers[who] = woken

    def unwatch(self, who: object) -> None:
        """Ends ``watch``."""
        with self._lock:
            self._watchers.pop(who, None)

    def fence(self, epoch: int) -> None:
        """Notes the epoch. Raises Fenced when a newer one was seen."""
        with self._lock:
            if epoch < self.epoch:
                raise Fenced(f"epoch {epoch} is over: the machine has seen {self.epoch}", machine=self.name)
            self.epoch = epoch

    def state(self, item: Item, key: str) -> State:
        """What one observation of the item says; ``key`` is its key, which is dear to work out."""
        with self._lock:
            if (lie := self.faults.lies.pop(key, None)) is not None:
                return lie
            if isinstance(item, Tunnel):
                return tried(item, self.hears)
            fields = self._items.get(key)
            if fields is None and item.fields():
                return Absent()
            return Present(fields or {}, facts(self, item, self._made))

    def make(self, change: Change, epoch: int) -> None:
        """Makes one change. Raises what the machine refuses it with, and Fenced."""
        key = change.item.key
        with self._lock:
            self.fence(epoch)
            if (error := self.faults.refuses.get(key)) is not None:
                raise error
            if key in self.faults.pretends:
                self.faults.pretends.remove(key)
                return
            if change.verb is Verb.DELETE:
                self._items.pop(key, None)
                self._made.pop(key, None)
            else:
                self._items[key] = {**self._items.get(key, {}), **change.item.fields()}
                self._made[key] = change.item
            self.log.append(Made(self.timing.now(), change.verb, key, epoch))

    def take_cut(self) -> int | None:
        """After how many changes the batch that begins now loses its connection; None when it does not."""
        with self._lock:
            cut, self.faults.cut_after = self.faults.cut_after, None
            return cut

    def answer(self, deadline: float) -> None:
        """One round trip. Raises Unreachable: at once, or after the deadline where nothing is heard."""
        with self._lock:
            self.round_trips += 1
        faults, sleep = self.faults, self.timing.sleep
        if faults.unreachable:
            raise Unreachable("connection refused", machine=self.name, hint="is it switched on?")
        if faults.frozen or faults.latency > deadline:
            sleep(deadline)
            raise Unreachable(f"no answer within {deadline:g} s", machine=self.name)
        if faults.latency:
            sleep(faults.latency)


def facts(machine: SimulatedMachine, item: Item, made: Mapping[str, Item]) -> Mapping[str, str]:
    """What a machine tells with an item; ``made`` are its items by key, as salvus last wrote them."""
    match item.type():
        case "System":
            boot_id = f"{_digest(machine, item)[:8]}-{machine.boots}"
            return {"boot_id": boot_id, "hostname": machine.name, "architecture": "x86_64"}
        case "Hypervisor":
            return {"domain_type": "qemu", "emulator": QEMU, "arch": "x86_64", "libvirt_version": "9.0.0"}
        case "HostKey":
            return {"ssh_host_key": f"ssh-ed25519 {_digest(machine, item)}"}
        case _ if isinstance(item, KeyPair):
            return {item.fact: _public_key(machine, item), **use(item, made)}
        case _:
            return {}


def _public_key(machine: SimulatedMachine, item: KeyPair) -> str:
    """Of the right form, and nobody has the private half."""
    text = base64.b64encode(bytes.fromhex(_digest(machine, item))).decode()
    pem = f"-----BEGIN RSA PUBLIC KEY-----\n{text}\n-----END RSA PUBLIC KEY-----"
    return pem if item.made_by == "tinc" else text


def _digest(machine: SimulatedMachine, item: Item) -> str:
    """Different for each machine and item, and always the same."""
    return hashlib.sha256(f"{machine.name}\0{item.key}".encode()).hexdigest()


class SimulatedDriver:
    """See Driver. ``deadline`` in seconds is what a frozen machine costs; ``woken`` hears of domains that stop."""

    def __init__(
        self, machine: SimulatedMachine, deadline: float = 60.0, woken: Callable[[str], None] | None = None
    ) -> None:
        self.machine = machine
        self._deadline = deadline
        self._woken = woken

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        """See Driver."""
        now = self.machine.timing.now
        try:
            self.machine.answer(self._deadline)
        except Unreachable as error:
            unknown = Observation(Unknown(str(error)), now(), SOURCE)
            return {item.key: unknown for item in items}
        if self._woken is not None:
            self.machine.watch(self, self._woken)
        at = now()
        keys = {item.key: item for item in items}
        return {key: Observation(self.machine.state(item, key), at, SOURCE) for key, item in keys.items()}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        """See Driver."""
        done: list[Applied] = []
        cut = self.machine.take_cut()
        try:
            self.machine.answer(self._deadline)
            for change in changes[:cut]:
                self.machine.make(change, epoch)
                done.append(Applied(change))
        except Fenced:
            raise
        except DriverError as error:
            return (*done, Applied(changes[len(done)], error))
        if cut is None:
            return tuple(done)
        # The answers were lost with the connection.
        return (Applied(changes[0], Unreachable("the connection broke", machine=self.machine.name)),)

    def fence(self, epoch: int) -> None:
        """Raises Fenced when the machine has seen a newer epoch."""
        self.machine.fence(epoch)

    def close(self) -> None:
        """See Driver."""
        self.machine.unwatch(self)


class SimulatedFleet:
    """Machines by name, made when they are first named; ``connect`` is a ``controller.machines.Connect``."""

    def __init__(self, timing: Timing | None = None) -> None:
        self._timing = timing or Timing()
        self._machines: dict[str, SimulatedMachine] = {}
        self._lock = threading.Lock()

    def machine(self, name: str) -> SimulatedMachine:
        """The machine of that name, the same at every call."""
        with self._lock:
            if name not in self._machines:
                self._machines[name] = SimulatedMachine(name, self._timing)
            return self._machines[name]

    @property
    def writes(self) -> int:
        """How many changes salvus has made on all machines."""
        return sum(machine.writes for machine in tuple(self._machines.values()))

    def connect(
        self, machine: str, target: SshTarget, *, hypervisor: bool, via: Driver | None, woken: Callable[[str], None]
    ) -> SimulatedDriver:
        """A driver whose deadline is the target's ``command_timeout``."""
        return SimulatedDriver(self.machine(machine), target.command_timeout, woken if hypervisor else None)

"""What LibvirtDriver knows, and what it does when libvirt does not answer (rules 1 and 12)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import libvirt
import pytest

from drivers.base import Absent, Change, Failed, Fenced, Grade, Present, Unknown, Unreachable, Verb
from drivers.items.hypervisor import Hypervisor
from drivers.items.system import System
from drivers.libvirt import LibvirtDriver, Patience
from drivers.libvirt.calls import Calls
from drivers.libvirt.session import PROBE, Session
from tests.conformance.libvirt_machine import PATIENCE, URI, Broken, World, unfenced
from tests.fast.domains import DOMAIN

pytestmark = pytest.mark.conformance


# --- what is known (rule 1)


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_RPC])
def test_an_error_is_unknown_never_absent(world: World, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    world.change(DOMAIN)
    real = libvirt.open
    world.driver.close()
    monkeypatch.setattr(libvirt, "open", lambda uri: Broken(real(uri), "getAllDomainStats", code))
    state = world.state(DOMAIN)
    assert isinstance(state, Unknown)
    assert "what libvirt says" in state.reason


def test_a_machine_without_libvirt_is_unknown() -> None:
    driver = LibvirtDriver(
        "host1", lambda _: "qemu+unix:///system?socket=/nowhere", lambda _: None, fence=unfenced, patience=PATIENCE
    )
    found = driver.observe([DOMAIN, Hypervisor()])
    assert {type(one.state) for one in found.values()} == {Unknown}
    (result,) = driver.apply([Change(DOMAIN, Verb.CREATE, (), Grade.LIVE)], 1)
    assert isinstance(result.error, Unreachable)
    assert "libvirtd" in result.error.hint


def test_what_the_tunnel_says_is_passed_on() -> None:
    def uri(_: int | None) -> str:
        raise Unreachable("no route to host1")

    driver = LibvirtDriver("host1", uri, lambda _: None, fence=unfenced)
    state = driver.observe([DOMAIN])[DOMAIN.key].state
    assert state == Unknown("no route to host1")
    (result,) = driver.apply([Change(DOMAIN, Verb.CREATE, (), Grade.LIVE)], 1)
    assert isinstance(result.error, Unreachable)


def test_items_of_others_are_unknown_and_refused(world: World) -> None:
    assert isinstance(world.state(System()), Unknown)
    (result,) = world.driver.apply([Change(System(), Verb.CREATE, (), Grade.LIVE)], 1)
    assert isinstance(result.error, Failed)


def test_the_host_tells_what_it_can_run(world: World) -> None:
    state = world.state(Hypervisor())
    assert isinstance(state, Present)
    version = libvirt.getVersion()
    assert state.facts == {
        "domain_type": "test",
        "emulator": "/usr/bin/test-hv",
        "arch": "i686",
        "libvirt_version": f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}",
    }


# --- connections


def test_events_tell_of_a_domain(world: World, admin: Any) -> None:
    """Several: the test driver may lose one while another connection leaves, as its connections share their events."""
    world.change(DOMAIN)
    domain = admin.lookupByName("web")
    while not world.events.empty():
        world.events.get()
    for happen in (domain.suspend, domain.resume, domain.suspend, domain.resume):
        happen()
    assert world.events.get(timeout=5) == "web"


class Telling:
    """A connection whose events the test makes."""

    def __init__(self) -> None:
        self.lifecycle: Any = None
        self.closed: Any = None

    def registerCloseCallback(self, callback: Any, _: None) -> None:  # noqa: N802 - libvirt's name
        self.closed = callback

    def domainEventRegisterAny(self, _: None, __: int, callback: Any, ___: None) -> int:  # noqa: N802 - libvirt's name
        self.lifecycle = callback
        return 1

    def __getattr__(self, name: str) -> Any:
        return lambda *_: 0


class Named:
    """A domain in an event."""

    def __init__(self, name: str) -> None:
        self.name = lambda: name


def test_only_a_connection_in_use_wakes_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    telling, told = Telling(), list[str]()
    monkeypatch.setattr(libvirt, "open", lambda uri: telling)
    session = Session.open(URI, Calls("host1"), PATIENCE, told.append)

    def happen() -> None:
        for name in ("web", PROBE):
            telling.lifecycle(telling, Named(name), 0, 0, None)
        telling.closed(telling, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None)

    happen()
    assert told == ["web", ""], "a guest that salvus tries is nobody's business"
    session.close()
    happen()
    assert told == ["web", ""]


def test_a_dead_connection_is_opened_once_more_for_reading(world: World, admin: Any, connections: list[Any]) -> None:
    assert world.state(DOMAIN) == Absent()
    connections[0].dead = True
    assert world.state(DOMAIN) == Absent()
    assert len(connections) == 2


def test_a_connection_that_is_dead_from_the_start_is_not_tried_twice(world: World, connections: list[Any]) -> None:
    Mortal.stillborn = True
    assert isinstance(world.state(DOMAIN), Unknown)
    assert len(connections) == 1


def test_a_driver_that_was_closed_connects_anew(world: World, connections: list[Any]) -> None:
    world.change(DOMAIN)
    world.driver.close()
    assert world.in_sync(DOMAIN)
    world.change(replace(DOMAIN, running=False))
    assert len(connections) == 4, "each time one for looking and one for changes"


@pytest.fixture
def fenced(admin: Any, connections: list[Any]) -> Iterator[tuple[LibvirtDriver, list[int | None], list[int]]]:
    """A driver, for which epochs its connections were opened, and the epochs that the machine has seen."""
    opened: list[int | None] = []
    seen = [0]

    def uri(epoch: int | None) -> str:
        opened.append(epoch)
        return URI

    def fence(epoch: int) -> None:
        if seen[-1] > epoch:
            raise Fenced("newer")
        seen.append(epoch)

    driver = LibvirtDriver("host1", uri, lambda _: None, fence=fence, patience=PATIENCE)
    yield driver, opened, seen
    driver.close()


CREATE = [Change(DOMAIN, Verb.CREATE, (), Grade.LIVE)]


def test_changes_go_over_a_connection_of_their_epoch(
    fenced: tuple[LibvirtDriver, list[int | None], list[int]],
) -> None:
    driver, opened, _ = fenced
    for epoch in (3, 3, 4):
        driver.observe([DOMAIN])
        assert [one.error for one in driver.apply(CREATE, epoch)] == [None]
    assert opened == [None, 3, 4]


def test_who_lost_the_connection_to_a_newer_epoch_is_fenced_and_may_look_on(
    fenced: tuple[LibvirtDriver, list[int | None], list[int]], connections: list[Any]
) -> None:
    """A paused controller was told that it may, and finds its connection ended when it wakes up."""
    driver, opened, seen = fenced
    driver.observe([DOMAIN])
    driver.apply(CREATE, 3)
    connections[1].dead = True
    (lost,) = driver.apply(CREATE, 3)
    assert isinstance(lost.error, Unreachable), "nobody has the machine: it is just a lost connection"
    driver.apply(CREATE, 3)
    seen.append(4)
    connections[2].dead = True
    with pytest.raises(Fenced):
        driver.apply(CREATE, 3)
    assert opened == [None, 3, 3]
    assert isinstance(driver.observe([DOMAIN])[DOMAIN.key].state, Present)
    assert opened == [None, 3, 3]


class Mortal(Broken):
    """A connection that answers until it is dead."""

    stillborn = False

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, "", libvirt.VIR_ERR_RPC)
        self.dead = Mortal.stillborn

    def __getattr__(self, name: str) -> Any:
        if self.dead and name in ("getAllDomainStats", "lookupByName"):
            return self._fail
        return super().__getattr__(name)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The connections that were opened, in order."""
    made: list[Any] = []
    real = libvirt.open

    def opened(uri: str) -> Any:
        made.append(Mortal(real(uri)))
        return made[-1]

    monkeypatch.setattr(libvirt, "open", opened)
    yield made
    Mortal.stillborn = False


# --- silence


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A libvirt that answers nothing until the event is set; domains of the test driver cannot freeze."""
    thawed = threading.Event()

    def silent(uri: str) -> Any:
        thawed.wait(60)
        return Broken(None, "", 0)

    monkeypatch.setattr(libvirt, "open", silent)
    yield thawed
    thawed.set()


def test_a_frozen_peer_costs_its_deadline_and_hangs_no_more_than_four_threads(frozen: threading.Event) -> None:
    driver = LibvirtDriver(
        "frosty", lambda _: URI, lambda _: None, fence=unfenced, patience=Patience(answer=0.05, work=0.05)
    )
    reasons = [_reason(driver) for _ in range(6)]
    assert all("connecting" in reason for reason in reasons)
    assert "does not answer" in reasons[0]
    assert "have not come back" in reasons[-1]
    hanging = [thread for thread in threading.enumerate() if thread.name == "libvirt-frosty"]
    assert len(hanging) == 4
    frozen.set()
    for thread in hanging:
        thread.join(5)
        assert not thread.is_alive()


def _reason(driver: LibvirtDriver) -> str:
    state = driver.observe([DOMAIN])[DOMAIN.key].state
    assert isinstance(state, Unknown)
    return state.reason

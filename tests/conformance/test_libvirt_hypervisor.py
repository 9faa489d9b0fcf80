"""What a host can run, and the words for what a domain does: against a libvirt whose answers the test chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import libvirt
import pytest

from drivers.base import Failed, Present, Unknown
from drivers.items.domain_xml import parse
from drivers.libvirt import hypervisor
from drivers.libvirt.calls import Calls
from drivers.libvirt.hypervisor import Busy, Capabilities
from drivers.libvirt.look import Glance, look
from drivers.libvirt.session import PROBE, Session
from tests.conformance.libvirt_machine import PATIENCE, error
from tests.fast.domains import DOMAIN

pytestmark = pytest.mark.conformance

RUNNING = [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED]
STUCK = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED]
CAPABILITIES = """
<capabilities><host><cpu><arch>x86_64</arch></cpu></host>
  <guest><os_type>hvm</os_type><arch name='i686'><emulator>/qemu-i386</emulator><domain type='qemu'/></arch></guest>
  <guest><os_type>xen</os_type><arch name='x86_64'><emulator>/xen</emulator><domain type='xen'/></arch></guest>
  <guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/qemu</emulator><domain type='qemu'/>{kvm}</arch></guest>
</capabilities>
"""


class Guest:
    """A guest that was started."""

    def __init__(self, host: Host, state: list[int]) -> None:
        self._host, self._state = host, state

    def state(self) -> list[int]:
        return self._state

    def destroy(self) -> None:
        self._host.left -= 1


@dataclass(frozen=True)
class Running:
    """A guest of somebody's."""

    domain_type: str
    seconds: int
    ended: bool = False

    def info(self) -> list[int]:
        if self.ended:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        return [libvirt.VIR_DOMAIN_RUNNING, 0, 0, 1, self.seconds * 10**9]

    def XMLDesc(self, _: int) -> str:  # noqa: N802 - libvirt's name
        return f"<domain type='{self.domain_type}'/>"


class Host:
    """Starts guests of the types it is given, as far as it is told; counts those that are left."""

    def __init__(self, types: dict[str, list[int]], *, kvm_listed: bool = True) -> None:
        self.types, self.kvm_listed, self.left = types, kvm_listed, 0
        self.tried: list[str] = []
        self.running: list[Running] = []

    def listAllDomains(self, flags: int) -> list[Running]:  # noqa: N802 - libvirt's name
        assert flags == libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING
        return self.running

    def getCapabilities(self) -> str:  # noqa: N802 - libvirt's name
        return CAPABILITIES.format(kvm="<domain type='kvm'/>" if self.kvm_listed else "")

    def getLibVersion(self) -> int:  # noqa: N802 - libvirt's name
        return 9_003_001

    def createXML(self, xml: str, flags: int) -> Guest:  # noqa: N802 - libvirt's name
        domain_type = parse(xml).get("type", "")
        assert flags & libvirt.VIR_DOMAIN_START_AUTODESTROY
        self.tried.append(domain_type)
        if domain_type not in self.types:
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR)
        self.left += 1
        return Guest(self, self.types[domain_type])


def session(connection: Any) -> Session:
    return Session(connection, Calls("host1"), PATIENCE)


@pytest.mark.parametrize(
    ("host", "expected", "tried"),
    [
        (Host({"kvm": RUNNING, "qemu": RUNNING}), "kvm", ["kvm"]),
        (Host({"qemu": RUNNING}), "qemu", ["kvm", "qemu"]),
        (Host({"kvm": STUCK, "qemu": RUNNING}), "qemu", ["kvm", "qemu"]),
        (Host({"qemu": RUNNING}, kvm_listed=False), "qemu", []),
    ],
    ids=["works", "refused", "stops at once", "not listed"],
)
def test_kvm_is_what_was_seen_to_run(host: Host, expected: str, tried: list[str]) -> None:
    assert hypervisor.look(session(host)) == Present(
        {}, {"domain_type": expected, "emulator": "/qemu", "arch": "x86_64", "libvirt_version": "9.3.1"}
    )
    assert host.tried == tried
    assert host.left == 0


@pytest.mark.parametrize("host", [Host({}), Host({"kvm": STUCK}), Host({"qemu": STUCK})])
def test_a_host_that_runs_no_guest_now_does_not_lose_its_kvm(host: Host) -> None:
    """Else every machine that has KVM would be started again without it, because the host had no memory once."""
    with pytest.raises(Failed):
        hypervisor.look(session(host))
    assert host.left == 0


@pytest.mark.parametrize(
    ("running", "tried"),
    [
        ([Running("qemu", 100), Running("kvm", 1), Running("kvm", 100)], []),
        ([Running("kvm", 1)], ["kvm", "qemu"]),
        ([Running("qemu", 100)], ["kvm", "qemu"]),
        ([Running("kvm", 100, ended=True)], ["kvm", "qemu"]),
    ],
    ids=["for long", "just begun", "without kvm", "ended meanwhile"],
)
def test_no_guest_is_tried_where_one_has_run_with_kvm_for_long(running: list[Running], tried: list[str]) -> None:
    host = Host({"qemu": RUNNING})
    host.running = running
    found = hypervisor.look(session(host)).facts["domain_type"]
    assert (found, host.tried) == ("qemu" if tried else "kvm", tried)


class Shared(Host):
    """Somebody else has a guest of the name there, for so many attempts."""

    def __init__(self, attempts: int) -> None:
        super().__init__({"kvm": RUNNING, "qemu": RUNNING})
        self._attempts = attempts

    def createXML(self, xml: str, flags: int) -> Guest:  # noqa: N802 - libvirt's name
        assert parse(xml).findtext("name") == PROBE
        self._attempts -= 1
        if self._attempts >= 0:
            raise error(libvirt.VIR_ERR_OPERATION_FAILED)
        return super().createXML(xml, flags)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypervisor, "_OTHERS", 0.5)
    monkeypatch.setattr(hypervisor, "_LOOK_AGAIN", 0.01)


@pytest.mark.usefixtures("hurried")
def test_another_salvus_that_tries_a_guest_there_is_waited_for() -> None:
    host = Shared(3)
    assert hypervisor.look(session(host)).facts["domain_type"] == "kvm"
    assert host.left == 0


@pytest.mark.usefixtures("hurried")
def test_another_that_does_not_end_is_no_proof_that_kvm_does_not_work() -> None:
    with pytest.raises(Busy) as caught:
        hypervisor.look(session(Shared(1_000_000)))
    assert PROBE in caught.value.hint


@pytest.mark.parametrize(
    "text", ["<capabilities/>", "<capabilities><host><cpu><arch>ppc64</arch></cpu></host></capabilities>"]
)
def test_a_host_without_guests_of_its_architecture_is_told_what_to_install(text: str) -> None:
    with pytest.raises(Failed) as caught:
        Capabilities.read(text)
    assert "install qemu" in caught.value.hint


def glance(state: int, reason: int = 0) -> Glance:
    return Glance(None, state, reason, autostart=True, persistent=True)


PASSING_REASONS = [
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY,
    libvirt.VIR_DOMAIN_PAUSED_SAVE,
    libvirt.VIR_DOMAIN_PAUSED_DUMP,
    libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT,
    libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        *((libvirt.VIR_DOMAIN_PAUSED, reason) for reason in PASSING_REASONS),
        (libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTDOWN_USER),
        (libvirt.VIR_DOMAIN_NOSTATE, 0),
        (99, 0),
    ],
)
def test_what_passes_by_itself_is_unknown_so_that_nothing_disturbs_it(state: int, reason: int) -> None:
    class Passing:
        def getAllDomainStats(self, *_: int) -> list[tuple[Any, dict[str, int]]]:  # noqa: N802 - libvirt's name
            class Named:
                def name(self) -> str:
                    return DOMAIN.domain

            return [(Named(), {"state.state": state, "state.reason": reason})]

        def listAllDomains(self, *_: int) -> list[Any]:  # noqa: N802 - libvirt's name
            return []

    found = look(session(Passing()), [DOMAIN, replace(DOMAIN, domain="other")])
    assert isinstance(found[DOMAIN.key], Unknown)


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, 1, True),
        (libvirt.VIR_DOMAIN_BLOCKED, 0, True),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, False),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, "paused"),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR, "paused by an I/O error"),
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED, "crashed"),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 0, "suspended by its guest"),
    ],
)
def test_words_for_what_a_domain_does(state: int, reason: int, expected: bool | str) -> None:
    assert glance(state, reason).running == expected
    assert glance(state, reason).passing == ""

"""The item types that need systemd and apt, tried on a host of the lab; those of files are in tests/conformance."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence

import pytest

from drivers.base import Absent, Grade, Present, Unknown, Verb
from drivers.items.file import File
from drivers.items.package import Package
from drivers.items.systemd_unit import SystemdUnit, Watched
from lab import Lab, exec_in
from tests.conformance.items import Done, Example, Machine, create, needed
from tests.lab.fleet import eventually

pytestmark = pytest.mark.lab

FOLDER = "/etc/systemd/system"
SERVICE = "[Service]\nExecStart=/bin/sleep 1000\n"
INSTALL = "[Install]\nWantedBy=multi-user.target\n"
CONFIG = "/etc/salvus-test's $(id).conf"


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    """The lab's first host; what the tests make there is taken away."""

    def run(shell: Sequence[str], text: str, stdin: bytes) -> Done:
        return exec_in(lab, lab.hosts[0], [*shell, "-c", text], stdin, 120)

    machine = Machine(run)
    yield machine
    clean(machine)


@pytest.fixture
def archive(machine: Machine) -> Iterator[Machine]:
    """The same, with a small archive of packages; those that the tests install are taken away."""
    yield machine
    machine.sh("apt-get -qq -y purge --autoremove hello nginx-light nginx-common >/dev/null 2>&1")


def clean(machine: Machine) -> None:
    machine.sh(
        f"""\
        systemctl stop 'salvus-test*' 2>/dev/null || true
        systemctl disable --quiet salvus-test.service 2>/dev/null || true
        systemctl unmask --quiet salvus-test.service 2>/dev/null || true
        rm -f {FOLDER}/salvus-test* /var/lib/salvus/units/salvus-test* {shlex.quote(CONFIG)}
        systemctl daemon-reload
        systemctl reset-failed 'salvus-test*' 2>/dev/null || true
        """
    )


def file(path: str, content: str) -> tuple[File, Watched]:
    return File(path, content), Watched(path, hashlib.sha256(content.encode()).hexdigest())


def example(service: str = "ExecStart=/bin/sleep 1000\nExecReload=/bin/true\n") -> Example:
    unit, unit_content = file(
        f"{FOLDER}/salvus-test.service", f"[Service]\n{service}[Install]\nWantedBy=multi-user.target\n"
    )
    config, config_content = file(CONFIG, "one\n")
    quoted = shlex.quote(CONFIG)
    damages = (
        "systemctl stop salvus-test",
        "systemctl kill --signal=KILL salvus-test",
        "systemctl disable --quiet salvus-test",
        f"echo two >{quoted}; systemctl restart salvus-test; echo one >{quoted}",
        f"touch {FOLDER}/salvus-test.service",
        "rm /var/lib/salvus/units/salvus-test.service",
    )
    item = SystemdUnit("salvus-test.service", True, True, (unit_content,), (config_content,))
    return Example(item, (unit, config), damages)


def made(machine: Machine, one: Example) -> SystemdUnit:
    for item in (*one.before, one.item):
        machine.mended(item)
    assert isinstance(one.item, SystemdUnit)
    return one.item


def fails(machine: Machine, item: SystemdUnit | Package) -> str:
    """What it says when it cannot be made right."""
    change = needed(item, machine.see(item))
    assert change is not None
    done = machine.tell(change)
    assert done.returncode != 0
    return done.stderr.decode()


def invocation(machine: Machine) -> bytes:
    """Another one after each start."""
    return machine.run(["sh"], "systemctl show --value -p InvocationID salvus-test.service", b"").stdout


def test_a_unit_is_made_damaged_and_deleted(machine: Machine) -> None:
    one = example()
    assert isinstance(machine.see(one.item), Absent)
    unit = made(machine, one)
    assert machine.probe(unit) == machine.probe(unit)
    before = invocation(machine)
    machine.mended(unit)
    assert invocation(machine) == before
    machine.every_damage_is_seen_and_mended(one)
    for _ in range(2):
        assert machine.delete(unit).returncode == 0
    machine.delete(one.before[0])
    assert isinstance(machine.see(unit), Absent)


def test_a_unit_whose_making_is_killed_anywhere_converges(machine: Machine) -> None:
    assert machine.killed_anywhere_it_converges(example(), lambda: clean_units(machine), stride=4) > 10


def test_a_unit_that_fails_leaves_no_marker_and_can_be_deleted_and_a_killed_one_is_swept(machine: Machine) -> None:
    for service in ("ExecStart=/bin/false\n", "ExecStart=not-a-program\n", "Type=nonsense\n"):
        one = example(service)
        assert isinstance(one.item, SystemdUnit)
        for item in one.before:
            machine.mended(item)
        fails(machine, one.item)
        assert markers(machine) == set(), service
        deleted = machine.delete(one.item)
        assert deleted.returncode == 0, deleted.stderr.decode()
        clean(machine)
    unit = made(machine, example())
    machine.sh("touch /var/lib/salvus/units/salvus-test.service.new; systemctl stop salvus-test.service")
    machine.mended(unit)
    assert markers(machine) == {"salvus-test.service"}
    machine.sh("touch /var/lib/salvus/units/salvus-test.service.new")
    assert machine.delete(unit).returncode == 0
    assert markers(machine) == set()


def markers(machine: Machine) -> set[str]:
    listed = machine.run(["sh"], "mkdir -p /var/lib/salvus/units; ls /var/lib/salvus/units", b"").stdout.decode()
    return {name for name in listed.split() if name.startswith("salvus-test")}


def test_a_unit_that_fails_anywhere_leaves_no_half_written_marker(machine: Machine) -> None:
    def left() -> list[str]:
        return [name for name in markers(machine) if name.endswith(".new")]

    assert machine.failing_anywhere_it_leaves_nothing(example(), lambda: clean_units(machine), left, stride=4) > 10


def clean_units(machine: Machine) -> None:
    unit = example().item
    machine.delete(unit)
    machine.sh("rm -f /var/lib/salvus/units/salvus-test*")


def test_a_file_edited_by_hand_and_the_restart_for_it_are_in_one_plan(machine: Machine) -> None:
    one = example()
    unit, file_of_it = made(machine, one), one.before[0]
    machine.sh(f"echo '# by hand' >>{FOLDER}/salvus-test.service")
    for item, field in ((file_of_it, "sha256"), (unit, "restart_on")):
        change = needed(item, machine.see(item))
        assert change is not None
        assert [found.field for found in change.drift] == [field]
    change = needed(unit, machine.see(unit))
    assert change is not None
    assert change.grade is Grade.RESTART
    assert b"is not what salvus-test.service should be started with" in machine.tell(change).stderr
    before = invocation(machine)
    machine.mended(file_of_it)
    machine.mended(unit)
    assert invocation(machine) != before


def test_a_reload_does_not_restart(machine: Machine) -> None:
    unit = made(machine, example())
    before = invocation(machine)
    config, content = file(CONFIG, "two\n")
    machine.mended(config)
    changed = SystemdUnit(unit.unit, True, True, unit.restart_on, (content,))
    change = needed(changed, machine.see(changed))
    assert change is not None
    assert change.grade is Grade.RELOAD
    machine.mended(changed)
    assert invocation(machine) == before


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("ExecStart=/bin/sh -c 'echo what is wrong >&2; sleep 0.1; exit 3'\n", "what is wrong"),
        ("ExecStart=/bin/false\nRestart=always\nRestartSec=50ms\n", "result exit-code"),
        (
            "ExecStart=/bin/sh -c 'sleep 0.05'\nRestart=always\nRestartSec=50ms\nStartLimitBurst=1000\n",
            "again and again",
        ),
        ("Type=oneshot\nExecStart=/bin/true\n", "needs RemainAfterExit=yes"),
        ("ExecStart=not-a-program\n", "not-a-program"),
    ],
)
def test_a_unit_that_does_not_keep_running_says_why_and_is_not_seen_running(
    service: str, said: str, machine: Machine
) -> None:
    one = example(service)
    for item in one.before:
        machine.mended(item)
    unit = SystemdUnit("salvus-test.service", True, True)
    assert said in fails(machine, unit)

    def runs() -> bool:
        state = machine.see(unit)
        assert isinstance(state, Present)
        return state.fields["running"] is True

    # One restart may be an accident: only from the second on it is called flapping.
    assert eventually(lambda: not runs())


def test_a_unit_that_is_up_for_moments_only_is_flapping(machine: Machine) -> None:
    one = example("ExecStart=/bin/sleep 1\nRestart=always\nRestartSec=50ms\nStartLimitBurst=1000\n")
    for item in one.before:
        machine.mended(item)
    machine.sh("systemctl daemon-reload; systemctl start salvus-test; sleep 3")
    seen = set()
    for _ in range(20):
        state = machine.see(one.item)
        assert isinstance(state, Present)
        seen.add(state.fields["running"])
        machine.sh("sleep 0.2")
    assert "flapping" in seen


def test_a_unit_with_a_backslash_in_its_name(machine: Machine) -> None:
    name = r"salvus-test\x2done.service"
    made(machine, Example(SystemdUnit(name, True, True), (File(f"{FOLDER}/{name}", f"{SERVICE}{INSTALL}"),)))


def test_a_oneshot_that_remains_is_running(machine: Machine) -> None:
    made(machine, example("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"))


def test_masked_missing_alias_template_and_static_units(machine: Machine) -> None:
    unit = SystemdUnit("salvus-test.service", True, True)
    assert isinstance(machine.see(unit), Absent)
    assert "there is no unit salvus-test.service" in fails(machine, unit)
    machine.sh("systemctl mask --quiet salvus-test.service")
    assert "systemctl unmask" in fails(machine, unit)
    machine.mended(SystemdUnit("salvus-test.service", False, False))
    machine.mended(SystemdUnit("sshd.service", True, True))
    machine.mended(SystemdUnit("systemd-journald.service", True, True))
    template, _ = file(f"{FOLDER}/salvus-test@.service", f"[Service]\nExecStart=/bin/sleep %i\n{INSTALL}")
    machine.mended(template)
    instance = SystemdUnit("salvus-test@1000.service", True, True)
    assert isinstance(machine.see(SystemdUnit("salvus-test@.service", True, True)), Unknown)
    machine.mended(instance)
    machine.mended(SystemdUnit("salvus-test@1000.service", False, False))
    machine.mended(instance)
    assert machine.delete(instance).returncode == 0


def test_a_package_is_made_damaged_and_deleted(archive: Machine) -> None:
    package = Package("hello")
    damages = (
        "dpkg --remove hello >/dev/null",
        "cd /tmp; apt-get -q download hello >/dev/null 2>&1; dpkg --unpack hello_*.deb >/dev/null; rm hello_*.deb",
    )
    one = Example(package, damages=damages)
    archive.making_it_twice_writes_nothing(one)
    archive.every_damage_is_seen_and_mended(one)
    archive.deleting_it_twice_leaves_nothing(one)


def test_a_package_whose_making_is_killed_anywhere_converges(archive: Machine) -> None:
    one = Example(Package("hello"))
    assert archive.killed_anywhere_it_converges(one, lambda: archive.sh("dpkg --purge hello >/dev/null 2>&1")) > 3


def test_a_package_takes_with_it_what_was_installed_for_it_and_nothing_else(archive: Machine) -> None:
    rest, package, other = Package("nginx-common"), Package("nginx-light"), Package("hello")
    archive.mended(other)
    archive.mended(package)
    refused = archive.delete(rest)
    assert refused.returncode != 0
    assert b"would remove nginx-light " in refused.stderr
    assert archive.delete(package).returncode == 0
    assert isinstance(archive.see(package), Absent)
    assert isinstance(archive.see(rest), Absent)
    assert isinstance(archive.see(other), Present)


def test_an_unknown_package_says_so_and_a_broken_database_is_not_an_answer(archive: Machine) -> None:
    unknown = Package("salvus-no-such-package")
    assert "apt knows no package" in fails(archive, unknown)
    archive.sh("mv /var/lib/dpkg/status /var/lib/dpkg/status.away")
    try:
        assert isinstance(Package.read([unknown], archive.probe(unknown))[unknown.key], Unknown)
    finally:
        archive.sh("mv /var/lib/dpkg/status.away /var/lib/dpkg/status")


def test_stopping_is_a_restart_and_starting_disturbs_nothing() -> None:
    stopped = SystemdUnit("a.service", False, False)
    started = create(SystemdUnit("a.service", True, True))
    assert started.verb is Verb.CREATE
    assert started.item.grade(started.drift) is Grade.LIVE
    assert stopped.grade(create(stopped).drift) is Grade.RESTART

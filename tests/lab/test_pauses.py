"""Pauses, and the switch that stops the world, obeyed by two real controllers: measured on the hosts themselves."""

from __future__ import annotations

import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest

from controller.members import shard_of
from lab import Lab
from salvusctl.lab import manifest_documents
from tests.lab.fleet import RESYNC, Fleet, blank_image, blank_vm, eventually, free_port, resource

pytestmark = pytest.mark.lab

# Named so that they are in two shards, which each controller may have one of.
HOSTS = {"alpha": "host1", "beta": "host2"}
CONF = "/etc/said.conf"
WHY = ("--reason", "seen by a test")


def service(text: str) -> dict[str, object]:
    """A file on both hosts."""
    return resource("Service", "said", {"machines": {"names": list(HOSTS)}, "files": [{"path": CONF, "content": text}]})


def idle(**spec: str) -> dict[str, object]:
    """A machine that does not listen when it is told to end."""
    return blank_vm("idle", "alpha", terminationGracePeriod="15s", **spec)


class Second:
    """Another controller beside the fleet's own."""

    def __init__(self, fleet: Fleet) -> None:
        self.page = f"127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] = fleet.start("--http", self.page)

    def shards(self) -> set[str]:
        """Those that it has; none while it does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://{self.page}/metrics", timeout=5) as page:
                text = page.read().decode()
        except OSError:
            return set()
        return set(re.findall(r'^salvus_lease_epoch{lease="(shard/\d+)"}', text, re.MULTILINE))

    def close(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts with a file on each, and a machine that takes long to end."""
    made = Fleet(lab, tmp_path_factory.mktemp("pauses"))
    try:
        documents = manifest_documents(lab)
        names = {there: name for name, there in HOSTS.items()}
        for document in documents:
            document["metadata"]["name"] = names.get(document["metadata"]["name"], document["metadata"]["name"])
        made.write("lab", *documents)
        made.write("blank", blank_image(made.folder))
        made.write("idle", idle())
        made.write("said", service("one"))
        made.start()
        assert eventually(lambda: "VirtualMachine/idle" in made.knowledge().rows), made.log()
        made.settle()
        yield made
    finally:
        made.raze(*HOSTS.values())
        for there in HOSTS.values():
            made.inside(there, f"rm -f {CONF}")


@pytest.fixture
def second(fleet: Fleet) -> Iterator[Second]:
    """One that has the one host, while the first has the other: who gets what is drawn when it comes."""
    ours = {shard_of(name) for name in HOSTS}
    assert len(ours) == 2
    while True:
        with closing(Second(fleet)) as made:
            assert eventually(lambda: made.shards() != set() and fleet.metric("salvus_controllers") == 2), fleet.log()
            if len(made.shards() & ours) == 1:
                yield made
                return


def said(fleet: Fleet) -> dict[str, str]:
    """What is in the file, by host."""
    return {name: fleet.inside(there, f"cat {CONF}") for name, there in HOSTS.items()}


def done(fleet: Fleet, *words: str) -> str:
    """What a command says; it must go well."""
    found = fleet.run(*words)
    assert found.returncode == 0, found.stderr
    return found.stdout + found.stderr


def running(fleet: Fleet) -> bool:
    return "idle" in fleet.domains("host1", "--state-running")


def test_neither_controller_writes_anything_while_the_world_is_stopped(fleet: Fleet, second: Second) -> None:
    assert running(fleet)
    fleet.write("idle", idle(runStrategy="Halted"))
    assert eventually(lambda: bool(fleet.session.jobs("alpha"))), fleet.log()
    assert "the world is stopped" in done(fleet, "stop-the-world", *WHY)
    assert running(fleet), "the job is under way"
    for there in HOSTS.values():
        fleet.inside(there, f"printf drifted > {CONF}; touch -d @1000000000 {CONF}")
    fleet.write("said", service("two"))
    assert eventually(lambda: not running(fleet)), "what has begun comes to its end"
    time.sleep(2 * RESYNC)
    assert said(fleet) == dict.fromkeys(HOSTS, "drifted")
    assert {fleet.inside(there, f"stat -c %Y {CONF}").strip() for there in HOSTS.values()} == {"1000000000"}
    reasons = {
        machine: condition.reason
        for machine, status in fleet.knowledge().statuses["Service/said"].items()
        for condition in status.conditions
        if condition.type == "Synced"
    }
    assert reasons == dict.fromkeys(HOSTS, "WorldStopped"), "both looked, and say why nothing is done"
    assert fleet.manifest("Service/said") == service("one"), "nor are manifests taken over"
    assert "the world goes on" in done(fleet, "stop-the-world", "--end")
    assert eventually(lambda: said(fleet) == dict.fromkeys(HOSTS, "two")), fleet.log()
    fleet.settle()
    assert second.process.poll() is None


def test_a_paused_host_is_left_alone_until_the_time_is_over_and_the_other_one_is_not(
    fleet: Fleet, second: Second
) -> None:
    before = said(fleet)["alpha"]
    began = time.monotonic()
    done(fleet, "pause", "alpha", "--for", "20s", *WHY)
    done(fleet, "pause", "beta", "--for", "2d", *WHY)
    fleet.write("said", service("three"))
    assert eventually(lambda: fleet.ready("Service/said").reason == "Paused"), fleet.log()
    done(fleet, "resume", "beta")
    assert eventually(lambda: said(fleet)["beta"] == "three"), fleet.log()
    assert time.monotonic() - began < 20
    assert said(fleet)["alpha"] == before
    assert eventually(lambda: said(fleet)["alpha"] == "three"), fleet.log()
    assert time.monotonic() - began >= 20, "by itself"
    assert "beta" not in done(fleet, "pause", "--list")
    fleet.settle()
    assert second.process.poll() is None

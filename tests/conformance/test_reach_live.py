"""What a machine says of connections that it tried: real sockets and packet filters between network namespaces."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import permutations

import pytest

from drivers.base import Present
from drivers.items import attempts
from drivers.items.attempts import Attempt, Attempts
from drivers.items.rules import Protocol
from resources.fleet import Fleet
from resources.reach import site_of
from resources.reach_claims import Target
from resources.reach_live import Outcome, attempts_of, outcome_of
from resources.world import Known, World
from tests.conformance.items import Machine, here
from tests.conformance.nft_world import HERE, THERE, Box, entered
from tests.conformance.reach_world import Net, made
from tests.fast.manifests import firewall, host

pytestmark = pytest.mark.conformance

TCP, UDP = Protocol.TCP, Protocol.UDP
ALPHA, BETA, SIX = "10.0.0.1", "10.0.0.2", ("fd00::1", "fd00::2")
LISTENING, CLOSED, DENIED, SHUT_IN = 7001, 7002, 7003, 7004


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """Two machines; on beta somebody listens at one port, of TCP and of UDP."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("needs root: network namespaces and packet filters are made")
    with ExitStack() as stack:
        found = made(("alpha", "beta"), stack)
        with entered(found.pids["beta"]):
            stack.enter_context(socket.create_server(("::", LISTENING), family=socket.AF_INET6, dualstack_ipv6=True))
            echo = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        echo.bind((BETA, LISTENING))
        thread = threading.Thread(target=_answer, args=(echo,))
        thread.start()
        yield found
        # Whoever waits for a datagram hears of it.
        echo.connect((BETA, LISTENING))
        echo.send(b"end")
        thread.join()


def _answer(echo: socket.socket) -> None:
    while (heard := echo.recvfrom(16))[0] != b"end":
        echo.sendto(b"yes", heard[1])


def answers(net: Net, *wanted: Attempt, of: str = "alpha") -> Sequence[str]:
    item = Attempts(wanted)
    into = ["nsenter", f"--target={net.pids[of]}", "--net", "--"]
    state = Machine(lambda shell, text, stdin: here([*into, *shell], text, stdin)).see(item)
    assert isinstance(state, Present), state
    found = state.fields["answers"]
    assert isinstance(found, tuple)
    return tuple(map(str, found))


def fleet() -> World:
    """Beta lets in two of the ports, alpha lets out all but one."""
    into = firewall(
        "into",
        machines={"names": ["beta"]},
        ssh=[{"cidr": "192.0.2.1"}],
        ingress=[
            {"name": "a", "ports": ["7001-7002"]},
            {"name": "b", "protocol": "udp", "ports": ["7001-7002"]},
            {"name": "c", "protocol": "icmp"},
        ],
    )
    shut = [
        {"name": "shut", "action": "deny", "ports": [SHUT_IN]},
        {"name": "udp", "action": "deny", "protocol": "udp", "ports": [SHUT_IN]},
    ]
    outer = firewall("outer", machines={"names": ["alpha"]}, egress=shut)
    machines = [host(name, address=address, hypervisor=None) for name, address in (("alpha", ALPHA), ("beta", BETA))]
    return World(Fleet.of_resources([*machines, into, outer]), Known())


def test_what_comes_back_tells_what_became_of_it(net: Net) -> None:
    world = fleet()
    sites = {machine.name: site_of(machine, world) for machine in world.fleet.machines()}
    net.filter({name: site.filter.rules for name, site in sites.items() if site.filter})
    cases = {
        Attempt(TCP, ALPHA, BETA, LISTENING): Outcome.CONNECTED,
        Attempt(TCP, ALPHA, BETA, CLOSED): Outcome.REFUSED,
        Attempt(TCP, ALPHA, BETA, DENIED): Outcome.SILENT,
        Attempt(TCP, ALPHA, BETA, SHUT_IN): Outcome.SILENT,
        Attempt(UDP, ALPHA, BETA, LISTENING): Outcome.ANSWERED,
        Attempt(UDP, ALPHA, BETA, CLOSED): Outcome.REFUSED,
        Attempt(UDP, ALPHA, BETA, DENIED): Outcome.SILENT,
        Attempt(UDP, ALPHA, BETA, SHUT_IN): Outcome.BLOCKED,
        Attempt(TCP, *SIX, LISTENING): Outcome.CONNECTED,
        Attempt(TCP, *SIX, DENIED): Outcome.SILENT,
        Attempt(TCP, ALPHA, "10.0.0.77", LISTENING): Outcome.UNREACHABLE,
        Attempt(TCP, ALPHA, "192.0.2.1", LISTENING): Outcome.UNREACHABLE,
        Attempt(TCP, "10.0.0.66", BETA, LISTENING): Outcome.NOT_TRIED,
        Attempt(TCP, ALPHA, ALPHA, CLOSED): Outcome.REFUSED,
    }
    assert dict(zip(cases, (outcome_of(one)[0] for one in answers(net, *cases)), strict=True)) == cases


def test_it_is_what_is_written(net: Net) -> None:
    world = fleet()
    sites = {machine.name: site_of(machine, world) for machine in world.fleet.machines()}
    net.filter({name: site.filter.rules for name, site in sites.items() if site.filter})
    for one, other in permutations(sites.values(), 2):
        ports = (LISTENING, CLOSED, DENIED, SHUT_IN, 22)
        wanted = {
            attempt: trial
            for port in ports
            for attempt, trial in attempts_of(one, other, Target("", port, TCP)).items()
        }
        assert {trial.allowed for trial in wanted.values()} == {True, False} or one.name == "beta"
        found = answers(net, *wanted, of=one.name)
        assert [answer in {attempts.CONNECTED, "ECONNREFUSED"} for answer in found] == [
            t.allowed for t in wanted.values()
        ]


def test_more_than_fit_at_once(net: Net) -> None:
    net.filter({})
    wanted = [Attempt(TCP, ALPHA, BETA, port) for port in (LISTENING, *range(20000, 21000))]
    first, *rest = answers(net, *wanted)
    assert first == "connected"
    assert set(rest) == {"ECONNREFUSED"}
    assert len(rest) == 1000


def test_nothing_is_said_to_whoever_listens(net: Net) -> None:
    net.filter({})
    with entered(net.pids["beta"]):
        server = socket.create_server((BETA, 7100))
    with server:
        assert answers(net, Attempt(TCP, ALPHA, BETA, 7100)) == ("connected",)
        caller, whom = server.accept()
        with caller:
            assert whom[0] == ALPHA
            assert caller.recv(10) == b""


def test_a_machine_is_asked_over_ssh(box: Box) -> None:
    item = Attempts((Attempt(TCP, THERE, HERE, CLOSED), Attempt(UDP, THERE, HERE, CLOSED)))
    driver = box.driver(box.sshd())
    assert driver.observe([item])[item.key].state == Present({"answers": ("ECONNREFUSED", "ECONNREFUSED")})

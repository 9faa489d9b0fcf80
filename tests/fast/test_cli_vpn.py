"""vpn status: who reaches whom, as the machines say it; on simulated ones."""

from __future__ import annotations

import re

import pytest

from drivers.base import Present, Unknown
from drivers.items.tunnel import Tunnel
from salvusctl.exits import Code
from salvusctl.vpn_outputs import VpnStatus
from tests.fast.cli import HOST, LAPTOP, NET, OTHER, Cli, cli

__all__ = ["cli"]
TUNNEL = "Tunnel:vpn-net"


@pytest.fixture
def fleet(cli: Cli) -> Cli:
    """Two hosts in a network, and a laptop; all is there."""
    cli("apply", "-f", cli.write(HOST, OTHER, NET, LAPTOP))
    cli("diff")  # apply ends when all have all keys, and not before
    return cli


def tells(cli: Cli, machine: str, **fields: tuple[str, ...]) -> None:
    cli.machines.machine(machine).faults.lies[TUNNEL] = Present(fields)


def facts(cli: Cli) -> dict[str, str]:
    told: dict[str, str] = cli("get", "vpn", "net", "-o", "json").data["items"][0]["status"]["facts"]
    return told


def cells(line: str) -> list[str]:
    """Of a row of the matrix; keys are some seconds old, however long this took."""
    return ["AGE" if re.fullmatch("[0-9]+s", cell) else cell for cell in line.split()]


def network(cli: Cli, code: int) -> VpnStatus:
    return VpnStatus.model_validate_json(cli("vpn", "status", "-o", "json", code=code).out)


def test_a_matrix_of_who_reaches_whom(fleet: Cli) -> None:
    told = facts(fleet)
    handshakes = (f"{told['public_key/beta']} 120", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= 7")
    tells(fleet, "alpha", reached=("10.1.0.2 0.731",), handshakes=handshakes)
    tells(fleet, "beta", reached=("10.1.0.1 12",))
    lines = fleet("vpn", "status").lines
    assert lines[0] == "net (wireguard)"
    assert [cells(line) for line in lines[1:]] == [
        ["FROM", "ADDRESS", "ENDPOINT", "KEY", "HANDSHAKE", "alpha", "beta", "laptop"],
        ["alpha", "10.1.0.1", "192.0.2.1:51820", "AGE", "2m", "0.7", "-"],
        ["beta", "10.1.0.2", "192.0.2.2:51820", "AGE", "-", "12.0", "-"],
    ]


def test_handshakes_and_endpoints_are_those_of_the_keys(fleet: Cli) -> None:
    (before,) = network(fleet, Code.DIFFERENT).networks
    assert [(one.node, one.machine, one.hub, one.key, one.endpoint) for one in before.nodes] == [
        ("alpha", True, True, True, "192.0.2.1:51820"),
        ("beta", True, False, True, "192.0.2.2:51820"),
        ("laptop", False, False, True, None),
    ]
    key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
    tells(fleet, "alpha", reached=("10.1.0.2 1",), handshakes=(f"{key} 42",), endpoints=(f"{key} 198.51.100.9:999",))
    tells(fleet, "beta", reached=("10.1.0.1 1",))
    (now,) = network(fleet, Code.OK).networks
    assert now.complete, "who is outside may be away"
    assert all(one.generation == 1 and one.since for one in now.nodes), "also of the laptop"
    beta, laptop = now.nodes[0].reaches
    assert (beta.node, beta.milliseconds, beta.handshake) == ("beta", 1.0, None)
    assert (laptop.node, laptop.milliseconds, laptop.handshake, laptop.endpoint) == (
        "laptop",
        None,
        42,
        "198.51.100.9:999",
    )


def test_who_cannot_be_asked_is_named_and_the_rest_is_shown(fleet: Cli) -> None:
    tells(fleet, "alpha", reached=())
    fleet.machines.machine("beta").faults.unreachable = True
    answer = fleet("vpn", "status", code=Code.DIFFERENT)
    assert "beta cannot be asked: " in answer.err
    assert cells(answer.lines[-1]) == ["beta", "10.1.0.2", "192.0.2.2:51820", "AGE", "-", "?", "?"]
    (found,) = network(fleet, Code.DIFFERENT).networks
    assert not found.complete
    assert found.nodes[1].silent


def test_only_those_that_are_named(fleet: Cli) -> None:
    answer = fleet("vpn", "status", "nte", code=Code.DIFFERENT)
    assert "there is no VPN 'nte'; did you mean 'net'?" in answer.err


def test_what_a_machine_answers() -> None:
    one, two = Tunnel("vpn-a", ("10.0.0.1",)), Tunnel("vpn-b", ())
    long = "9" * 9999
    text = f"R 0 10.0.0.1 0.45\nR 0 10.0.0.2 soon\nR 0 10.0.0.3 {long}\n"
    text += f"H 1 KEY= 7\nH 1 KEY= -x\nH 1 KEY= {long}\nE 1 KEY= [fd00::1]:5\nD 0\nD 1\n"
    states = Tunnel.read([one, two], text)
    assert states[one.key] == Present({"reached": ("10.0.0.1 0.45",), "handshakes": (), "endpoints": ()})
    assert states[two.key] == Present({"reached": (), "handshakes": ("KEY= 7",), "endpoints": ("KEY= [fd00::1]:5",)})
    assert isinstance(Tunnel.read([one], "R 0 10.0.0.1 1\n")[one.key], Unknown)

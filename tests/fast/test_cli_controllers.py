"""``salvusctl controllers`` as a user meets it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from controller.holder import Holder
from controller.leases import TTL, Leases
from controller.members import ALL, SOURCE, Role
from controller.session import Session, Settings, open_session
from tests.fast.cli import Answer, Cli, cli

__all__ = ["cli"]
HERE = Holder.this_process()
THERE = replace(HERE, host="there", boot="another", pid=7)


@pytest.fixture
def session(cli: Cli) -> Iterator[Session]:
    with open_session(Settings(cli.store)) as opened:
        yield opened


def of(session: Session, who: Holder, role: Role = Role.DAEMON, late: float = 0.0) -> Leases:
    return Leases(session.ledger.store, who, role, clock=lambda: 0.0, wall=lambda: time.time() - late)


def shown(answer: Answer) -> list[str]:
    """The lines, whatever time has passed."""
    return [re.sub(r"\d+s ago", "Ns ago", line) for line in answer.lines]


def test_nobody(cli: Cli, session: Session) -> None:
    answer = cli("controllers")
    assert (answer.out, answer.err) == ("", "no controller works on the fleet: salvusctl controller run\n")
    assert cli("controllers", "-o", "json").data == {"items": [], "free": list(ALL)}


def test_who_holds_what_since_when_and_how_far_it_is_behind(cli: Cli, session: Session) -> None:
    first, second = of(session, HERE), of(session, THERE)
    first.lag = lambda: 90.0
    first.follow([f"{SOURCE}x"])
    for one in (first, second, first, second):
        one.tick()
    of(session, replace(THERE, host="far", boot="a third", pid=8), Role.APPLY).tick()
    answer = cli("controllers")
    assert answer.lines[0] == "CONTROLLER ROLE STATE SINCE SEEN LAG LEASES"
    mine, theirs = len(first.held()), len(second.held())
    assert f"pid {os.getpid()} on {HERE.host} daemon acts Ns ago Ns ago 90s {mine}" in shown(answer)
    assert f"pid 7 on there daemon acts Ns ago Ns ago 0s {theirs}" in shown(answer)
    assert "pid 8 on far apply stands-by Ns ago Ns ago 0s 0" in shown(answer)
    assert mine + theirs == len(ALL) + 1
    assert answer.err == ""
    wide = shown(cli("controllers", "-o", "wide"))
    assert "LEASE EPOCH SINCE CONTROLLER" in wide
    name, epoch = next(iter(second.held().items()))
    assert f"{name} {epoch} Ns ago pid 7 on there" in wide
    items = {item["pid"]: item for item in cli("controllers", "-o", "json").data["items"]}
    assert {one["name"]: one["epoch"] for one in items[7]["leases"]} == second.held()
    assert (items[7]["host"], items[7]["role"], items[7]["state"]) == ("there", "daemon", "acts")
    assert items[HERE.pid]["lag"] == 90.0
    assert "name: shard/00" in cli("controllers", "-o", "yaml").out


def test_one_that_seems_gone_is_shown_as_such(cli: Cli, session: Session) -> None:
    of(session, replace(HERE, pid=HERE.pid, started="0")).tick()
    dead = cli("controllers")
    assert f"pid {HERE.pid} on {HERE.host} daemon gone Ns ago Ns ago 0s {len(ALL)}" in shown(dead)
    far = of(session, THERE, late=TTL + 35)
    far.tick()
    far.tick()
    answer = cli("controllers")
    assert "pid 7 on there daemon silent Ns ago Ns ago 0s 0" in shown(answer)
    assert re.search(r"warning: pid 7 on there was last seen \d+s ago: it is gone, or its clock", answer.err)


def test_one_that_leaves_and_leases_that_nobody_has(cli: Cli, session: Session) -> None:
    one = of(session, THERE)
    one.leave()
    one.tick()
    answer = cli("controllers", "-o", "wide")
    assert "pid 7 on there daemon leaves Ns ago Ns ago 0s 0" in shown(answer)
    assert "shard/00 - - -" in shown(answer)
    assert f"warning: {len(ALL)} leases held by nobody; machines of such shards are not looked at" in answer.err

"""``salvusctl controllers``: who works on the fleet, and who holds what."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from controller.clock import rfc3339
from controller.holder import Holder
from controller.members import Register
from controller.roster import Controller, Standing, roster
from salvusctl import out
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import reading

if TYPE_CHECKING:
    from salvusctl.controller_outputs import ControllerList

HEADINGS = ("CONTROLLER", "ROLE", "STATE", "SINCE", "SEEN", "LAG", "LEASES")
LEASE_HEADINGS = ("LEASE", "EPOCH", "SINCE", "CONTROLLER")
STYLES = {Standing.ACTS: "green", Standing.SILENT: "yellow", Standing.GONE: "red"}
app = verb_app()


class Form(enum.StrEnum):
    """How to print."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@app.command()
def controllers(
    ctx: typer.Context,
    output: Annotated[Form, typer.Option("--output", "-o", help="How to print; wide: with each lease.")] = Form.TABLE,
) -> None:
    """Show who works on the fleet, and which leases each holds.

    Who holds the lease of a shard acts on the machines in it, who holds "fleet" places them. Times are those of the
    controllers' clocks, LAG is how long the longest-waiting machine has waited for its turn.
    """
    with reading(context_of(ctx)) as session:
        register = Register.read(session.ledger.store)
    now = time.time()
    found = tuple(roster(register, Holder.this_process(), now))
    free = register.free()
    if output in (Form.JSON, Form.YAML):
        data = _output(found, free)
        if output is Form.JSON:
            out.emit(data)
        else:
            out.write_yaml([data.model_dump(mode="json", by_alias=True)])
        return
    if not found:
        out.note("no controller works on the fleet: salvusctl controller run")
        return
    out.table(HEADINGS, [_row(one, now) for one in found])
    if output is Form.WIDE:
        out.say()
        out.table(LEASE_HEADINGS, [*_leases(found, now), *((name, "-", "-", "-") for name in free)])
    _warn(found, free, now)


def _row(one: Controller, now: float) -> tuple[str | Text, ...]:
    member = one.member
    return (
        str(member.who),
        member.role,
        Text(one.standing, STYLES.get(one.standing, "")),
        _ago(member.since, now),
        _ago(member.seen, now),
        out.age(member.lag),
        str(len(one.leases)),
    )


def _leases(found: Sequence[Controller], now: float) -> list[tuple[str, ...]]:
    rows = [
        (name, str(grant.epoch), _ago(grant.since, now), str(one.member.who))
        for one in found
        for name, grant in one.leases.items()
    ]
    return sorted(rows)


def _ago(at: float, now: float) -> str:
    return f"{out.age(now - at)} ago"


def _warn(found: Sequence[Controller], free: Sequence[str], now: float) -> None:
    for one in found:
        if one.standing is Standing.SILENT:
            silent = f"{one.member.who} was last seen {_ago(one.member.seen, now)}"
            out.warn(f"{silent}: it is gone, or its clock or ours is wrong; others take over what it has if it is gone")
    if free:
        out.warn(f"{out.counted(len(free), 'lease')} held by nobody; machines of such shards are not looked at")


def _output(found: Sequence[Controller], free: Sequence[str]) -> ControllerList:
    from salvusctl.controller_outputs import ControllerList, ControllerOutput, LeaseOutput

    return ControllerList(
        items=tuple(
            ControllerOutput(
                host=one.member.who.host,
                pid=one.member.who.pid,
                role=one.member.role.value,
                state=one.standing.value,
                since=rfc3339(one.member.since),
                seen=rfc3339(one.member.seen),
                lag=one.member.lag,
                leases=tuple(
                    LeaseOutput(name=name, epoch=grant.epoch, since=rfc3339(grant.since))
                    for name, grant in one.leases.items()
                ),
            )
            for one in found
        ),
        free=tuple(free),
    )

"""``salvusctl firewall``: the rules of a machine, each with the resource and field that it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from drivers.items.rules import Rule
from resources.errors import field_name
from resources.fleet import did_you_mean
from salvusctl import out
from salvusctl.exits import Missing
from salvusctl.firewall_outputs import FilterOutput, RuleOutput
from salvusctl.firewall_remove import remove
from salvusctl.firewall_tests import run_tests
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.world import OverOption, world_of

if TYPE_CHECKING:
    from resources.firewall_rules import Chain, Filter, Line

HEADINGS = ("DIRECTION", "ACTION", "PROTOCOL", "PORTS", "PEERS", "ADDRESSES", "WHY")
app = verb_app(no_args_is_help=True)


@app.callback()
def firewall() -> None:
    """Packet filters of machines: see what is filtered, and why."""


app.command("test")(run_tests)
app.command()(remove)


@app.command()
def show(
    ctx: typer.Context,
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A Host or VirtualMachine.")],
    files: OverOption = None,
    output: OutputOption = TextOrJson.TEXT,
) -> None:
    """Show the rules of a machine as they follow from what is written, in order; no machine is asked.

    The first that matches decides. Each has the resource and field that it is there for, which is its comment on the
    machine, too.
    """
    from resources.firewall_rules import filter_of, firewalls_of

    world = world_of(context_of(ctx), files)
    found = world.machine(machine)
    if found is None:
        near = did_you_mean(machine, (one.name for one in world.fleet.machines()))
        raise Missing(f"there is no machine {machine!r}{near}", hint="salvusctl get hosts,vms")
    made = filter_of(found, world)
    if output is TextOrJson.JSON:
        firewalls = tuple(one.ref for one in firewalls_of(found, world))
        out.emit(FilterOutput(machine=machine, firewalls=firewalls, rules=tuple(_rules(made) if made else ())))
    elif made is None:
        out.say(f"no Firewall selects {machine}: everything is let through")
    else:
        out.table(HEADINGS, [_row(rule) for rule in _rules(made)])


def _rules(made: Filter) -> Iterator[RuleOutput]:
    for direction, chain in (("ingress", made.ingress), ("egress", made.egress)):
        yield from (_line(direction, line) for line in chain.lines)
        yield _default(direction, chain)


def _line(direction: str, line: Line) -> RuleOutput:
    rule: Rule = line.rule
    return RuleOutput(
        direction=direction,
        action=rule.action.value,
        protocol=rule.protocol.value,
        ports=tuple(map(str, rule.ports)),
        peers=line.peers,
        addresses=line.networks if rule.peers else None,
        per_minute=rule.per_minute or None,
        log=rule.log,
        why=rule.why,
        resource=line.ref,
        field=field_name(line.path),
    )


def _default(direction: str, chain: Chain) -> RuleOutput:
    default = chain.default
    return RuleOutput(
        direction=direction,
        action=default.action.value,
        protocol="any",
        ports=(),
        peers="everybody",
        addresses=None,
        per_minute=None,
        log=False,
        why=default.why,
        resource=default.ref,
        field=field_name(default.path),
    )


def _row(rule: RuleOutput) -> tuple[str, ...]:
    more = [f"{rule.per_minute} a minute"] if rule.per_minute else []
    more += ["logged"] if rule.log else []
    action = f"{rule.action} ({', '.join(more)})" if more else rule.action
    # Of one address the length of the prefix says nothing.
    bare = [one.removesuffix("/128" if ":" in one else "/32") for one in rule.addresses or ()]
    addresses = "all" if rule.addresses is None else ",".join(bare) or "none"
    return (rule.direction, action, rule.protocol, ",".join(rule.ports) or "all", rule.peers, addresses, rule.why)

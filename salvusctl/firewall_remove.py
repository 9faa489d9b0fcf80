"""``salvusctl firewall remove``: a machine is as it was before salvus filtered there."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.store.base import Access
from resources.fleet import did_you_mean
from salvusctl import out
from salvusctl.agree import agreed
from salvusctl.exits import Code, Missing
from salvusctl.flags import context_of
from salvusctl.fleet import reaching


def remove(
    ctx: typer.Context,
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A Host or VirtualMachine.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Take away what salvus filters on a machine that no Firewall selects, so that it is as it was before.

    Controllers do that by themselves when a Firewall goes, or selects the machine no more. This is for what they do not
    know of: of a store that was lost, or of another one. What is not of salvus stays. Packages stay, too.
    """
    from controller.filters import WORDS, opened

    with reaching(context_of(ctx), Access.WRITE) as session:
        fleet = session.knowledge().fleet
        found = fleet.machine(machine)
        if found is None:
            near = did_you_mean(machine, (one.name for one in fleet.machines()))
            raise Missing(f"there is no machine {machine!r}{near}", hint="salvusctl get hosts,vms")
        with opened(session, found) as filters:
            if not filters.found:
                out.say(f"salvus filters nothing on {machine}")
                return Code.OK
            words = [WORDS[item.type()] for item in filters.found]
            if not agreed(words, f"Remove this from {machine}?", "nothing was removed", yes=yes):
                out.note("nothing was removed")
                return Code.DIFFERENT
            filters.remove()
    for word in words:
        out.say(f"removed from {machine}: {word}")
    return Code.OK

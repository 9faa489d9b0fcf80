"""``salvusctl firewall test``: the sentences in ``spec.tests`` of Firewalls, as written and as they prove to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from resources.errors import field_name
from resources.fleet import did_you_mean
from salvusctl import out
from salvusctl.can_reach import LiveOption
from salvusctl.exits import Code, Missing
from salvusctl.firewall_outputs import FirewallTests, SentenceOutput
from salvusctl.flags import OutputOption, TextOrJson, context_of
from salvusctl.world import world_of

if TYPE_CHECKING:
    from controller.session import Session
    from resources.reach import Site
    from resources.reach_claims import Claim
    from resources.reach_ends import Ends
    from resources.world import World

# Where a sentence stands, and what it says.
Place = tuple[str, int, str]
# Whether it is true (None: cannot be told), and why.
Judged = tuple[bool | None, str]
HEADINGS = ("TEST", "TRUE", "WHY")
_WORDS = {True: "yes", False: "no", None: "unknown"}


def run_tests(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Only those of these Firewalls.")] = None,
    live: LiveOption = False,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Say of each sentence in spec.tests of Firewalls in force whether it is true.

    As it is written, or, with --live, by connecting from the machines that it names. What cannot be tried is unknown:
    from or to the world, without a port, UDP without an answer. Ends with 1 when one is not true.
    """
    context = context_of(ctx)
    if live:
        from controller.store.base import Access
        from salvusctl.fleet import reaching
        from salvusctl.live import world_in_force

        with reaching(context, Access.READ) as session:
            world = world_in_force(session)
            places = tuple(_places(world, names or ()))
            judged = _tried(session, world, places)
    else:
        world = world_of(context, None)
        places = tuple(_places(world, names or ()))
        judged = _written(world, places)
    found = tuple(_output(place, one) for place, one in zip(places, judged, strict=True))
    if output is TextOrJson.JSON:
        out.emit(FirewallTests(live=live, tests=found))
    elif found:
        out.table(HEADINGS, [(one.test, _WORDS[one.true], one.why) for one in found])
    else:
        out.note("no Firewall has tests")
    return Code.DIFFERENT if any(one.true is False for one in found) else Code.OK


def _places(world: World, names: Sequence[str]) -> Iterator[Place]:
    there = {one.name: one for one in world.fleet.of("Firewall")}
    for name in names:
        if name not in there:
            raise Missing(f"there is no Firewall {name!r}{did_you_mean(name, there)}", hint="salvusctl get firewalls")
    for name in dict.fromkeys(names or there):
        one = there[name]
        yield from ((one.ref, position, text) for position, text in enumerate(one.spec.tests or ()))


def _output(place: Place, judged: Judged) -> SentenceOutput:
    ref, position, text = place
    field = field_name(("spec", "tests", position))
    return SentenceOutput(resource=ref, field=field, test=text, true=judged[0], why=judged[1])


def _written(world: World, places: Sequence[Place]) -> list[Judged]:
    from resources.firewall_together import failure
    from resources.reach_ends import Ends

    ends = Ends(world)
    return [(not why, why or "as it is written") for why in (failure(text, ends) for _, _, text in places)]


def _tried(session: Session, world: World, places: Sequence[Place]) -> list[Judged]:
    from resources.reach_claims import read_claim
    from resources.reach_ends import Ends
    from resources.reach_live import holds
    from salvusctl.live import try_all

    ends, claims = Ends(world), [read_claim(text) for _, _, text in places]
    plans = [_pairs(claim, ends) for claim in claims]
    wanted = [
        (*pair, claim.target)
        for claim, plan in zip(claims, plans, strict=True)
        if not isinstance(plan, str)
        for pair in plan
    ]
    came = iter(try_all(session, wanted))
    return [
        (None, plan) if isinstance(plan, str) else holds(claim, [next(came) for _ in plan])
        for claim, plan in zip(claims, plans, strict=True)
    ]


def _pairs(claim: Claim, ends: Ends) -> Sequence[tuple[Site, Site]] | str:
    """The machines that a sentence is about, or why it cannot be tried."""
    from resources.reach_live import untried

    try:
        return untried(claim.source, claim.target) or tuple(ends.pairs(claim.source, claim.target))
    except ValueError as error:
        return str(error)

"""Plans as data and as text. The data is the plan itself, secrets masked; the text is made from the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.text import Text

from controller.difference import MachineDiff
from controller.knowledge import Knowledge
from controller.plan import Plan
from controller.values import line_difference, masked, multiline, short
from drivers.base import Change
from resources.load import Loaded
from salvusctl import out
from salvusctl.plan_outputs import (
    ChangeOutput,
    Diff,
    DriftOutput,
    HeldOutput,
    HoldOutput,
    MachineDiffOutput,
    ResourceDiff,
    Totals,
    UnknownOutput,
    WaitingOutput,
)

SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}
RESOURCE_VERBS = {"created": "create", "deleted": "delete"}
GRADE_STYLES = {"live": "green", "reload": "cyan", "restart": "yellow"}


def as_output(
    machines: Sequence[MachineDiff],
    knowledge: Knowledge,
    loaded: Loaded | None,
    leaving: Iterable[ResourceDiff] = (),
    budgets: Iterable[HoldOutput] = (),
) -> Diff:
    """The difference as it is printed; ``loaded`` is compared with the store, from which ``leaving`` would go, as far
    as ``budgets`` do not hold it.
    """
    shown = tuple(_machine(one) for one in machines)
    verbs = Counter(change.verb for one in shown for change in one.changes)
    totals = Totals(
        create=verbs["create"],
        update=verbs["update"],
        delete=verbs["delete"],
        held=sum(not held.refused for one in shown for held in one.held),
        refused=len({held.change.owner for one in shown for held in one.held if held.refused}),
        unknown=sum(len(one.unknown) for one in shown if not one.unreachable),
        unreachable=sum(1 for one in shown if one.unreachable),
        waiting=len({wait.resource for one in shown for wait in one.waiting}),
    )
    resources = (*_resources(knowledge, loaded), *leaving) if loaded else ()
    return Diff(resources=resources, machines=shown, totals=totals, budgets=tuple(budgets))


def _resources(knowledge: Knowledge, loaded: Loaded) -> Iterator[ResourceDiff]:
    moved = {resource.ref: f"{resource.kind}/{resource.moved_from}" for resource in loaded.fleet if resource.moved_from}
    for ref, document in sorted(loaded.documents.items()):
        row = knowledge.rows.get(ref)
        if row is not None and row.document == document and row.deleting_since is None:
            continue
        verb: Literal["created", "configured", "moved"] = "created" if row is None else "configured"
        yield ResourceDiff(resource=ref, verb="moved" if moved.get(ref) in knowledge.rows else verb)


def _machine(one: MachineDiff) -> MachineDiffOutput:
    plan = one.plan
    return MachineDiffOutput(
        machine=one.machine,
        unreachable=one.unreachable,
        changes=tuple(_change(change, plan.owners.get(change.item.key, "")) for change in plan.changes),
        held=tuple(
            HeldOutput(change=_change(h.change, h.owner), reason=h.reason, message=h.message) for h in plan.held
        ),
        unknown=tuple(_unknown(plan)),
        waiting=tuple(
            WaitingOutput(resource=ref, reason=wait.reason, message=wait.message, final=wait.final)
            for ref, wait in sorted(one.waiting.items())
        ),
    )


def _unknown(plan: Plan) -> Iterator[UnknownOutput]:
    return (UnknownOutput(item=key, reason=why) for key, why in sorted(plan.unknown.items()))


def _change(change: Change, owner: str) -> ChangeOutput:
    return ChangeOutput.model_validate(
        {
            "item": change.item.key,
            "verb": change.verb.value,
            "owner": owner,
            "grade": change.grade.word,
            "after": change.after,
            "drift": tuple(
                DriftOutput(field=one.field, desired=one.desired, observed=one.observed) for one in masked(change)
            ),
        }
    )


def print_diff(diff: Diff) -> None:
    """The difference on stdout, for people."""
    for resource in diff.resources:
        sign, style = SIGNS[RESOURCE_VERBS.get(resource.verb, "update")]
        out.say(
            Text.assemble((f"{sign} ", style), (out.clean(resource.resource), "bold"), f" would be {resource.verb}")
        )
        if resource.held:
            out.say(Text.assemble(("    held: ", "bold yellow"), out.clean(resource.held)))
    for machine in diff.machines:
        for line in _machine_lines(machine):
            out.say(line)
    for hold in diff.budgets:
        out.say(Text.assemble(("held: ", "bold yellow"), out.clean(hold.message)))
    out.say(_totals(diff.totals))


def _machine_lines(machine: MachineDiffOutput) -> Iterator[Text]:
    waits = [
        Text.assemble(("  … ", "yellow"), f"{out.clean(w.resource)} waits: {w.reason}: {out.clean(w.message)}")
        for w in machine.waiting
    ]
    if machine.unreachable:
        yield Text.assemble((machine.machine, "bold"), (" cannot be asked: ", "red"), out.clean(machine.unreachable))
        yield from waits
        return
    if not (waits or machine.changes or machine.held or machine.unknown):
        return
    yield Text(machine.machine, "bold")
    for change in machine.changes:
        yield from change_lines(change)
    yield from _refusals(machine)
    for held in (held for held in machine.held if not held.refused):
        yield from change_lines(held.change)
        yield Text.assemble(("      held: ", "bold yellow"), f"{held.reason}: {out.clean(held.message)}")
    for unknown in machine.unknown:
        yield Text.assemble(("  ? ", "yellow"), f"{out.clean(unknown.item)} is not known: {out.clean(unknown.reason)}")
    yield from waits


def _refusals(machine: MachineDiffOutput) -> Iterator[Text]:
    """One line a resource: of what is refused, no field would be changed."""
    for owner, why in {held.change.owner: held.message for held in machine.held if held.refused}.items():
        yield Text.assemble(("  ! ", "bold red"), (out.clean(owner), "bold"), f" is refused: {out.clean(why)}")


def change_lines(change: ChangeOutput) -> Iterator[Text]:
    """A change, and each of its fields."""
    sign, style = SIGNS[change.verb]
    line = Text.assemble((f"  {sign} ", style), (out.clean(change.item), "bold"), f"   {change.verb}   ")
    line.append(change.grade, GRADE_STYLES.get(change.grade, "bold red"))
    yield line.append(f"   {out.clean(change.owner)}", "dim")
    for drift in change.drift:
        yield from _drift_lines(drift, created=change.verb == "create")


def _drift_lines(drift: DriftOutput, *, created: bool) -> Iterable[Text]:
    field = out.clean(drift.field)
    if multiline(drift.desired) or multiline(drift.observed):
        colours = {"-": "red", "+": "green"}
        lines = (out.clean(line) for line in line_difference(drift.observed, drift.desired))
        return (Text(f"      {field}:"), *(Text(f"        {line}", colours.get(line[:1], "dim")) for line in lines))
    after = (out.clean(short(drift.desired)), "green")
    if created:
        return (Text.assemble(f"      {field}: ", after),)
    return (Text.assemble(f"      {field}: ", (out.clean(short(drift.observed)), "red"), " → ", after),)


def _totals(totals: Totals) -> str:
    parts = [f"{totals.create} to create, {totals.update} to update, {totals.delete} to delete"]
    if totals.held:
        parts.append(f"{totals.held} held")
    if totals.refused:
        parts.append(f"{out.counted(totals.refused, 'resource')} refused")
    if totals.unknown:
        parts.append(f"{out.counted(totals.unknown, 'item')} not known")
    if totals.unreachable:
        parts.append(f"{out.counted(totals.unreachable, 'machine')} not reached")
    if totals.waiting:
        parts.append(f"{out.counted(totals.waiting, 'resource')} waiting")
    return f"Plan: {'; '.join(parts)}."

"""What budgets hold, as data and as text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from rich.text import Text

from controller.clock import rfc3339
from controller.store.source_records import Disturbed, HeldChange, Hold
from salvusctl import out
from salvusctl.plan_outputs import ChangeOutput, DisturbedOutput, HoldOutput
from salvusctl.plans import change_lines


def as_output(hold: Hold, since: float | None = None, approvals: Collection[Hold] = ()) -> HoldOutput:
    """One as it is printed."""
    return HoldOutput(
        id=hold.id,
        source=hold.source,
        revision=hold.revision,
        what=hold.what,
        since=None if since is None else rfc3339(since),
        message=hold.message,
        approved=any(approval.covers(hold) for approval in approvals),
        total=hold.total,
        of=tuple(_disturbed(one) for one in hold.of),
    )


def _disturbed(one: Disturbed) -> DisturbedOutput:
    changes = tuple(_change(change, one.ref) for change in one.changes)
    return DisturbedOutput(resource=one.ref, machine=one.machine, changes=changes)


def _change(change: HeldChange, owner: str) -> ChangeOutput:
    return ChangeOutput.model_validate(
        {
            "item": change.item,
            "verb": change.verb,
            "owner": owner,
            "grade": change.grade,
            "after": (),
            "drift": tuple({"field": f, "desired": d, "observed": o} for f, d, o in change.drift),
        }
    )


def lines(holds: Iterable[HoldOutput]) -> Iterator[Text]:
    """For people, as ``diff`` shows plans."""
    for hold in holds:
        about = f" {hold.what} of {hold.source}" + (f", since {hold.since}" if hold.since else "")
        yield Text.assemble((hold.id, "bold yellow"), out.clean(about))
        yield Text(f"  {out.clean(hold.message)}")
        if hold.approved:
            yield Text("  approved; the controller that follows the source has not read it yet", "green")
        machine = ""
        for one in hold.of:
            if one.machine != machine:
                machine = one.machine
                yield Text(f"{out.clean(machine)}", "bold")
            if not one.changes:
                yield Text.assemble(("  - ", "red"), (out.clean(one.resource), "bold"), " would be deleted")
            for change in one.changes:
                yield from change_lines(change)

"""All conditions of a resource in one answer, over all its machines. Pure; apart from passes, for who only reads."""

from __future__ import annotations

from collections.abc import Mapping

from controller.store.records import FLEET_PASS, Condition, Status, StoredResource

MACHINES = "machines"
# A deletion does not end by itself: somebody has to do something.
STUCK = frozenset({"InUse", "Stalled", "Paused", "WorldStopped"})


def merged(row: StoredResource, by_machine: Mapping[str, Status]) -> tuple[Condition, ...]:
    """The conditions of a resource: ``Ready`` first, then of each type the worst that any machine says.

    What was said of an older generation does not count.
    """
    said = {m: [c for c in status.conditions if c.generation == row.generation] for m, status in by_machine.items()}
    worst: dict[str, Condition] = {}
    for condition in (condition for conditions in said.values() for condition in conditions):
        kept = worst.get(condition.type)
        if kept is None or _BADNESS[condition.status] > _BADNESS[kept.status]:
            worst[condition.type] = condition
    expected = by_machine[FLEET_PASS].detail.get(MACHINES, "").split() if said.get(FLEET_PASS) else None
    return (_ready(row, worst, expected, said), *(worst[type_] for type_ in sorted(worst)))


_BADNESS = {"True": 0, "Unknown": 1, "False": 2}


def _ready(
    row: StoredResource,
    worst: Mapping[str, Condition],
    expected: list[str] | None,
    said: Mapping[str, list[Condition]],
) -> Condition:
    """True when every condition is True and every machine has told; else the worst says why."""

    def ready(status: str, reason: str, message: str, since: float) -> Condition:
        return Condition("Ready", status, reason, message, since, row.generation)

    bad = max((c for c in worst.values() if c.status != "True"), key=lambda c: _BADNESS[c.status], default=None)
    if row.deleting_since is not None:
        where = ", ".join(sorted(m for m in said if m != FLEET_PASS)) or "nowhere any more"
        why = f"; {bad.message}" if bad is not None else ""
        reason = bad.reason if bad is not None and bad.reason in STUCK else "Deleting"
        return ready("False", reason, f"is being deleted; it has items on: {where}{why}", row.deleting_since)
    if bad is not None:
        return ready(bad.status, bad.reason, bad.message, bad.since)
    if expected is None:
        return ready("Unknown", "NotSeenYet", "no controller has looked at it since it was written", row.written_at)
    if missing := [machine for machine in expected if not said.get(machine)]:
        return ready("Unknown", "NotSeenYet", f"not looked at yet on {', '.join(missing[:5])}", row.written_at)
    since = max((c.since for c in worst.values()), default=row.written_at)
    if not expected and len(said) == 1:
        return ready("True", "NothingToDo", "it has no items on any machine", since)
    return ready("True", "InSync", "everything is as wanted", since)

"""Resources as they are shown: manifest, identity and status in one document, as ``get -o json`` prints it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from controller.clock import rfc3339
from controller.knowledge import Knowledge
from controller.store.records import FLEET_PASS, Condition, Pause, Seen
from controller.summary import MACHINES, merged

# The condition of a resource of which what is newest is not in force: a budget holds it, or it has errors.
CURRENT = "Current"
# Waiting longer does not help: somebody has to do something.
SETTLED = frozenset(
    {
        "Stalled",
        "RolledBack",
        "InUse",
        "HeldByCeiling",
        "HeldByRollout",
        "CrashLooping",
        "Halted",
        "NoAddress",
        "NotPlaced",
        "MachineGone",
        "Paused",
        "WorldStopped",
    }
)


def conditions(knowledge: Knowledge, ref: str) -> tuple[Condition, ...]:
    """All conditions of a resource, ``Ready`` first. Raises KeyError for one that is not there.

    ``Ready`` is about what is in force; that something newer is not in force is a condition of its own.
    """
    row = knowledge.rows[ref]
    found = merged(row, knowledge.statuses.get(ref, {}))
    if (held := knowledge.held.get(ref)) is None:
        return found
    reason, why, since = held
    return (*found, Condition(CURRENT, "False", reason, why, since, row.generation))


def machines(knowledge: Knowledge, ref: str) -> tuple[str, ...]:
    """Names of the machines a resource is on or is to be on."""
    status = knowledge.statuses.get(ref, {}).get(FLEET_PASS)
    return tuple(status.detail.get(MACHINES, "").split()) if status else ()


def pending(knowledge: Knowledge, refs: Collection[str]) -> Mapping[str, Condition]:
    """Those of the resources that are there and not Ready, with why."""
    found = {ref: conditions(knowledge, ref)[0] for ref in refs if ref in knowledge.rows}
    return {ref: ready for ref, ready in found.items() if ready.status != "True"}


def settled(condition: Condition) -> bool:
    """Whether waiting longer is of no use."""
    return condition.reason in SETTLED


def state_word(seen: Seen | None) -> str:
    """How something that can run was seen: ``running``, ``stopped``, ``absent``, ``unknown``, or the machine's own word
    for what is none of these (``failed``, ``paused``)."""
    if seen is None or seen.state != "present":
        return "unknown" if seen is None else seen.state
    running = seen.fields.get("running")
    return running if isinstance(running, str) else "running" if running else "stopped"


def document(
    knowledge: Knowledge, ref: str, states: Mapping[str, str], pauses: Iterable[Pause] = ()
) -> dict[str, object]:
    """One resource; ``states`` as ``Session.states`` gives them, ``pauses`` of the resource or of everything.

    Times are RFC 3339 in UTC. Raises KeyError for one that is not there.
    """
    row = knowledge.rows[ref]
    written = row.document.get("metadata")
    metadata: dict[str, object] = dict(written) if isinstance(written, Mapping) else {}
    metadata |= {
        "uid": row.uid,
        "generation": row.generation,
        "creationTimestamp": rfc3339(row.created_at),
        "source": row.source,
        "revision": row.revision,
        "writtenBy": row.by,
    }
    if row.deleting_since is not None:
        metadata["deletionTimestamp"] = rfc3339(row.deleting_since)
    facts = {what: value for (owner, what), value in knowledge.known.facts.items() if owner == ref}
    allocations = {what: value for (owner, what), value in knowledge.known.allocations.items() if owner == ref}
    status: dict[str, object] = {
        "machines": list(machines(knowledge, ref)),
        "states": dict(states),
        "paused": [pause_document(pause) for pause in pauses],
        "conditions": [condition_document(one) for one in conditions(knowledge, ref)],
        "facts": dict(sorted(facts.items())),
        "allocations": dict(sorted(allocations.items())),
    }
    return {**row.document, "metadata": metadata, "status": status}


def pause_document(pause: Pause) -> dict[str, object]:
    """A pause as the documents have it."""
    until = None if pause.until is None else rfc3339(pause.until)
    since = rfc3339(pause.since)
    return {"what": pause.what, "by": pause.by, "reason": pause.reason, "since": since, "until": until}


def condition_document(condition: Condition) -> dict[str, object]:
    """A condition as the documents have it; ``plan`` only where there is one."""
    document: dict[str, object] = {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": rfc3339(condition.since),
        "observedGeneration": condition.generation,
    }
    return document | {"plan": list(condition.plan)} if condition.plan else document

"""``salvusctl describe``: everything that is known of a resource, for people."""

from __future__ import annotations

import time
from collections.abc import Mapping

import typer
from rich.text import Text

from controller.knowledge import Knowledge
from controller.pauses import explained
from controller.present import conditions, machines
from controller.session import Session
from controller.store.records import Seen
from controller.values import field_lines
from resources.fleet import kinds
from salvusctl import out
from salvusctl.completing import WhatArgument
from salvusctl.exits import UseError
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import jobs_of, on_machines, pauses_of, reading, still_there
from salvusctl.yaml_out import to_yaml

EVENTS = 15
app = verb_app()


@app.command()
def describe(ctx: typer.Context, words: WhatArgument = None) -> None:
    """Show everything that is known of resources: manifest, conditions, items on machines, events."""
    if not words:
        raise UseError("describe what?", hint="salvusctl describe KIND NAME, or salvusctl describe NAME")
    with reading(context_of(ctx)) as session:
        knowledge = session.knowledge()
        for position, ref in enumerate(still_there(session, knowledge, words)):
            if position:
                out.say()
            _describe(session, knowledge, ref)


def _describe(session: Session, knowledge: Knowledge, ref: str) -> None:
    row = knowledge.rows[ref]
    out.say(Text(ref, "bold"))
    pairs = [
        ("UID", row.uid),
        ("Generation", str(row.generation)),
        ("Source", row.source),
        ("Created", _ago(row.created_at)),
        ("Written", f"{_ago(row.written_at)}{f' by {row.by}' if row.by else ''}"),
        ("Machines", ", ".join(machines(knowledge, ref)) or "none"),
    ]
    if row.deleting_since is not None:
        pairs.append(("Deleting", f"since {_ago(row.deleting_since)}"))
    if ref in knowledge.held:
        _, why, since = knowledge.held[ref]
        pairs.append(("Held", f"{why} (since {_ago(since)})"))
    pairs += [("Paused", explained(pause)[1]) for pause in pauses_of(session, knowledge, ref)]
    jobs = jobs_of(session, knowledge, ref)
    pairs += [("Job", f"{job.key} on {job.machine} is being made since {_ago(job.started)}") for job in jobs]
    pairs += [(f"Fact {what}", value) for what, value in _mine(knowledge.known.facts, ref)]
    pairs += [(f"Decided {what}", value) for what, value in _mine(knowledge.known.allocations, ref)]
    width = max(len(name) for name, _ in pairs) + 1
    for name, value in pairs:
        out.say(f"  {name + ':':<{width}} {value}")
    _section("Spec")
    for line in to_yaml(row.document["spec"]).splitlines():
        out.say(f"  {line}")
    _conditions(knowledge, ref)
    if kinds()[ref.partition("/")[0]].is_machine:
        _load(session, ref.partition("/")[2])
    _items(session, ref)
    _events(session, ref)


def _mine(values: Mapping[tuple[str, str], str], ref: str) -> list[tuple[str, str]]:
    return sorted((what, value) for (owner, what), value in values.items() if owner == ref)


def _section(title: str) -> None:
    out.say(Text(f"{title}:", "bold"))


def _conditions(knowledge: Knowledge, ref: str) -> None:
    _section("Conditions")
    told = [("", conditions(knowledge, ref)[0]), *on_machines(knowledge, ref)]
    rows: list[list[str | Text]] = [
        [f"  {c.type}", out.status_text(c.status), c.reason, machine or "-", _ago(c.since), c.message]
        for machine, c in told
    ]
    out.table(["  TYPE", "STATUS", "REASON", "MACHINE", "SINCE", "MESSAGE"], rows)
    for machine, plan in [(machine, c.plan) for machine, c in told if c.plan]:
        _section(f"Put back by {machine}")
        for line in plan:
            out.say(f"  {line}")


def _load(session: Session, machine: str) -> None:
    """What salvus has on a machine, whoever wants it."""
    inventory, seen = session.ledger.inventory(machine), session.ledger.seen(machine)
    if inventory:
        _section("On this machine")
        rows = [[f"  {key}", seen[key].state if key in seen else "-", row.owner] for key, row in inventory.items()]
        out.table(["  ITEM", "LAST SEEN", "OWNER"], rows)


def _items(session: Session, ref: str) -> None:
    for machine, inventory in session.ledger.inventories().items():
        mine = [key for key, row in inventory.items() if row.owner == ref]
        if not mine:
            continue
        _section(f"Its items on {machine}")
        seen = session.ledger.seen(machine)
        for key in sorted(mine):
            _item(key, inventory[key].created, seen.get(key))


def _item(key: str, created: bool, seen: Seen | None) -> None:
    state = "not looked at yet" if seen is None else f"{seen.state}{f': {seen.reason}' if seen.reason else ''}"
    out.say(f"  {key}   {state}{'' if created else '   (was there before salvus)'}")
    for name, value in sorted(seen.fields.items()) if seen else ():
        for line in field_lines(name, value):
            out.say(f"    {line}")


def _events(session: Session, ref: str) -> None:
    found = session.ledger.events(ref)[-EVENTS:]
    if found:
        _section("Events")
        rows = [[f"  {_ago(e.last)}", e.type, e.reason, e.machine, str(e.count), e.message] for e in found]
        out.table(["  LAST", "TYPE", "REASON", "MACHINE", "COUNT", "MESSAGE"], rows)


def _ago(at: float) -> str:
    return f"{out.age(time.time() - at)} ago"

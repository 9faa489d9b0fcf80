"""``salvusctl get``: resources as a table, as data, or as manifests."""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from controller.clock import rfc3339
from controller.knowledge import Knowledge
from controller.pauses import holding
from controller.present import conditions, document
from controller.session import Session
from controller.store.records import SHORT
from resources.base import AnyKind, Column, Selector
from resources.fleet import kinds
from resources.targets import parse_selector
from salvusctl import out
from salvusctl.completing import complete_words
from salvusctl.exits import UseError
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import of_any_kind, reading, select

POLL = 0.5
# The last columns, which only -o wide has.
WIDE = 2
# By ``Kind/name``.
Documents = Mapping[str, dict[str, object]]
app = verb_app()


class Output(enum.StrEnum):
    """How to print."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    MANIFEST = "manifest"
    NAME = "name"


@app.command()
def get(
    ctx: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="WHAT", help="KIND[,…] [NAME…], KIND/NAME…, NAME or all", autocompletion=complete_words),
    ],
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.TABLE,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Labels, as in role=web,tier!=old,ssd.")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Print again what changes.")] = False,
) -> None:
    """List resources: what is written, and how it stands.

    READY is True when everything is as written on all machines, False when it is not, and Unknown while that cannot
    be told, as with a machine that does not answer; REASON says why. What -o manifest prints can be applied again.
    """
    labels = _labels(selector)
    with reading(context_of(ctx)) as session:
        _warn_of_sources(session)
        knowledge = session.knowledge()
        words = list(of_any_kind(knowledge.rows, words)) or words
        refs = _labelled(knowledge, select(knowledge.rows, words), labels)
        _print(knowledge, _documents(session, knowledge, refs), output)
        shown = _signatures(session, knowledge, refs)
        while watch:
            time.sleep(POLL)
            knowledge = session.knowledge()
            refs = _labelled(knowledge, select(knowledge.rows, words, forgiving=True), labels)
            now = _signatures(session, knowledge, refs)
            changed = [ref for ref, signature in now.items() if shown.get(ref) != signature]
            if changed:
                _print(knowledge, _documents(session, knowledge, changed), output)
            for ref in shown.keys() - now.keys():
                out.note(f"{ref} is gone")
            shown = now


def _warn_of_sources(session: Session) -> None:
    """What is listed is not what the manifests say while these have errors, or budgets hold something."""
    for state in session.sources():
        since = f"since {rfc3339(state.at)}"
        # Of what is only pinned every command tells.
        if state.errors and state.trouble:
            more = f"; salvusctl validate {state.directory} shows all" if state.errors[1:] else ""
            out.warn(f"{since}, {state.trouble[1]}{more}")
        for hold in state.holds:
            out.warn(f"HeldByBudget {since}: {hold.message}")


def _labels(text: str) -> Selector:
    try:
        return parse_selector(text)
    except ValueError as error:
        raise UseError(
            f"{text!r} is not a selector", hint="write it as in: -l role=web,tier!=old,ssd,!broken"
        ) from error


def _labelled(knowledge: Knowledge, refs: Sequence[str], labels: Selector) -> tuple[str, ...]:
    return tuple(ref for ref in refs if labels.matches(_labels_of(knowledge, ref)))


def _labels_of(knowledge: Knowledge, ref: str) -> dict[str, str]:
    metadata: dict[str, Any] = knowledge.rows[ref].document["metadata"]
    return dict(metadata.get("labels", {}))


def _signatures(session: Session, knowledge: Knowledge, refs: Sequence[str]) -> Mapping[str, object]:
    """What differs when something is to be printed again."""
    pauses, now = session.ledger.pauses(), time.time()
    return {ref: (knowledge.rows[ref], conditions(knowledge, ref), holding(pauses, now, [ref])) for ref in refs}


def _documents(session: Session, knowledge: Knowledge, refs: Sequence[str]) -> Documents:
    pauses, now = session.ledger.pauses(), time.time()
    return {ref: document(knowledge, ref, session.states(knowledge, ref), holding(pauses, now, [ref])) for ref in refs}


def _print(knowledge: Knowledge, documents: Documents, output: Output) -> None:
    match output:
        case Output.JSON:
            from salvusctl.resource_outputs import ResourceList

            items = list(documents.values())
            out.emit(ResourceList.model_validate({"apiVersion": "salv.us/v1", "kind": "List", "items": items}))
        case Output.YAML:
            out.write_yaml(list(documents.values()))
        case Output.MANIFEST:
            out.write_yaml([knowledge.rows[ref].document for ref in documents])
        case Output.NAME:
            for ref in documents:
                out.say(ref)
        case _:
            _print_tables(knowledge, documents, wide=output is Output.WIDE)


def _print_tables(knowledge: Knowledge, documents: Documents, *, wide: bool) -> None:
    if not documents:
        out.note("there are none")
        return
    by_kind: dict[str, dict[str, dict[str, object]]] = {}
    for ref, shown in documents.items():
        by_kind.setdefault(ref.partition("/")[0], {})[ref] = shown
    for position, (kind, members) in enumerate(by_kind.items()):
        if position:
            out.say()
        _print_table(knowledge, kinds()[kind], members, titled=len(by_kind) > 1, wide=wide)


def _print_table(knowledge: Knowledge, kind: AnyKind, members: Documents, *, titled: bool, wide: bool) -> None:
    columns = [column for column in kind.columns if wide or not column.wide]
    headings = [
        "NAME",
        "READY",
        "REASON",
        *(column.heading for column in columns),
        "AGE",
        "REVISION",
        "MESSAGE",
    ]
    rows = [_row(knowledge, ref, shown, columns) for ref, shown in members.items()]
    if not titled:
        rows = [[str(row[0]).partition("/")[2], *row[1:]] for row in rows]
    cut = len(headings) if wide else -WIDE
    out.table(headings[:cut], [row[:cut] for row in rows])


def _row(knowledge: Knowledge, ref: str, shown: Mapping[str, object], columns: Sequence[Column]) -> list[str | Text]:
    status = shown["status"]
    paused = isinstance(status, Mapping) and bool(status["paused"])
    shown = {**shown, "spec": _spec(knowledge, ref)}
    ready = conditions(knowledge, ref)[0]
    now = time.time()
    reason = ready.reason if ready.status == "True" else f"{ready.reason} ({out.age(now - ready.since)})"
    if paused and ready.reason not in {"Paused", "WorldStopped"}:
        reason += ", paused"
    created = knowledge.rows[ref].created_at
    cells = (_cell(shown, column) for column in columns)
    revision = knowledge.rows[ref].revision[:SHORT]
    return [ref, out.status_text(ready.status), reason, *cells, out.age(now - created), revision, ready.message]


def _spec(knowledge: Knowledge, ref: str) -> object:
    """The specification with its defaults; of a resource that is being deleted as it was written."""
    resource = knowledge.fleet.get(*ref.split("/", 1))
    if resource is None:
        return knowledge.rows[ref].document["spec"]
    spec: object = resource.spec.model_dump(mode="json", by_alias=True)
    return spec


def _states(by_machine: Mapping[str, str]) -> str:
    """``running``, or ``2 running,1 stopped`` where machines differ."""
    counts = Counter(by_machine.values())
    return ",".join(word if len(counts) == 1 else f"{number} {word}" for word, number in sorted(counts.items()))


def _cell(value: Any, column: Column) -> str:
    """The value at the column's path, in one word; ``-`` where there is none."""
    for part in column.path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return _states(value) or "-"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    return "-" if value is None else str(value)

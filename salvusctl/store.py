"""``salvusctl store``: the store itself: make it, bring it up to date, look at it, copy it into a file and back."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from controller.store.base import Access
from controller.store.opening import health, make_store, migrate_store, open_store
from salvusctl import out
from salvusctl.exits import Code, UseError
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import enter_for_store, settings_of
from salvusctl.outputs import Output

if TYPE_CHECKING:
    from salvusctl.config import Context

app = verb_app(
    no_args_is_help=True, help="The store: make it, bring it up to date, look at it, copy it into a file and back."
)

STDIO = "-"


class StoreNode(Output):
    """A node of a ring."""

    address: str
    """Where it is."""
    datacenter: str
    """Its data centre."""
    up: bool
    """Whether it answers."""


class StoreStatus(Output):
    """``store status``."""

    store: str
    """The file, or the ring."""
    nodes: tuple[StoreNode, ...] = ()
    """The ring's nodes; none for a file."""
    replicas: Mapping[str, int] = Field(default_factory=dict)
    """How many nodes keep each row, by data centre."""
    advice: tuple[str, ...] = ()
    """What somebody must do, a sentence each."""


def _entered(ctx: typer.Context) -> Context:
    """The context; its network namespace is entered, in which a ring is reached."""
    context = context_of(ctx)
    enter_for_store(context)
    return context


@app.command()
def init(
    ctx: typer.Context,
    replicas: Annotated[int | None, typer.Option(min=1, help="How many nodes keep each row; by default three.")] = None,
) -> None:
    """Make the store, or what is missing of it. Once more does no harm, nor do two at once.

    A keyspace of Cassandra that is there keeps its replication, whatever --replicas says.
    """
    from controller.session import open_session

    context = _entered(ctx)
    make_store(context.store, replicas)
    with open_session(settings_of(context)) as session:
        identity = session.ledger.identity()
    out.say(f"the store {context.store} is there (fleet {identity})")
    _advise(health(context.store).advice)


@app.command()
def migrate(ctx: typer.Context) -> None:
    """Bring the store to the schema that this version needs. Once more does no harm, nor do two at once.

    It only adds: what runs on it and knows the version before may go on, and be upgraded afterwards.
    """
    context = _entered(ctx)
    before, after = migrate_store(context.store)
    if before == after:
        out.say(f"the store {context.store} has schema {after}; there is nothing to do")
    else:
        out.say(f"the store {context.store} went from schema {before} to {after}")
        out.note(f"what runs on it and knows schema {after - 1} may go on: upgrade one after the other")


@app.command()
def status(ctx: typer.Context, output: OutputOption = TextOrJson.TEXT) -> int:
    """Look at the store, and change nothing. Ends with 1 when somebody must do something, and says what."""
    context = _entered(ctx)
    found = health(context.store)
    if output is TextOrJson.JSON:
        nodes = tuple(StoreNode(address=n.address, datacenter=n.datacenter, up=n.up) for n in found.nodes)
        out.emit(StoreStatus(store=str(context.store), nodes=nodes, replicas=dict(found.replicas), advice=found.advice))
    else:
        out.say(f"the store {context.store} can be {'used' if found.writable else 'read, and not written'}")
        if found.nodes:
            rows = [(node.address, node.datacenter, "up" if node.up else "down") for node in found.nodes]
            out.table(("NODE", "DATACENTER", "STATE"), rows)
            out.say("replicas: " + ", ".join(f"{number} in {name}" for name, number in found.replicas))
        _advise(found.advice)
    return Code.DIFFERENT if found.advice else Code.OK


def _advise(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        out.warn(sentence)


@app.command()
def dump(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new file, or - for standard output.")],
) -> None:
    """Copy all that the store keeps into one file, which fits every kind of store. Controllers may go on meanwhile."""
    from controller.store import copy

    context = _entered(ctx)
    store = open_store(context.store, Access.READ)
    try:
        if file == STDIO:
            sys.stdout.writelines(copy.dump(store))
            return
        number = _write(Path(file), list(copy.dump(store)))
        out.note(f"{file}: {number} lines")
    finally:
        store.close()


def _write(path: Path, lines: list[str]) -> int:
    """A new file, readable by its owner, there whole or not at all. Raises UseError."""
    try:
        # A name that nobody foresees, and a link that replaces nothing: the folder may be anybody's.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as draft:
            draft.writelines(lines)
            draft.flush()
            os.fsync(draft.fileno())
            path.hardlink_to(draft.name)
    except FileExistsError as error:
        raise UseError(f"{path} is there already", hint="give the name of a new file") from error
    except OSError as error:
        raise UseError(
            f"{path} cannot be written: {error.strerror}", hint="check the path, and room on its disk"
        ) from error
    return len(lines)


@app.command()
def restore(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What dump wrote, or - for standard input.")],
) -> None:
    """Put a copy into an empty store; one that is no whole copy is refused, and nothing is written.

    A SQLite file is made; for Cassandra run init first. No controller must run on it yet.
    """
    from controller.store import copy

    context = _entered(ctx)
    try:
        lines = sys.stdin.readlines() if file == STDIO else Path(file).read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UseError(f"{file} cannot be read: {why}", hint="give a file that salvusctl store dump wrote") from error
    try:
        parts = copy.checked(lines)
    except copy.NotACopy as error:
        raise UseError(f"{file}: {error}", hint=error.hint) from error
    store = open_store(context.store, Access.MAKE)
    try:
        out.note(f"{copy.restore(store, parts)} rows are in the store {context.store}")
    finally:
        store.close()

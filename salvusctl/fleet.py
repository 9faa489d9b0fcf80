"""Opening the store of a context, and finding in it the resources that a user means."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from controller.knowledge import Knowledge
from controller.present import machines
from controller.session import Session, Settings, open_session
from controller.store.base import Access, StoreMissing
from controller.store.records import Condition, Job
from resources.base import AnyKind
from resources.fleet import did_you_mean, find_kind, kinds, no_kind
from salvusctl import out
from salvusctl.config import Context
from salvusctl.exits import Missing, UseError

ALL = "all"


def settings_of(context: Context) -> Settings:
    """What the controller must know of a context."""
    return Settings(context.store, context.identity_files)


def reading(context: Context) -> AbstractContextManager[Session]:
    """The store, for reading; machines are not reached. Raises SalvusError, also when there is no store."""
    return open_session(settings_of(context), access=Access.READ)


def reaching(context: Context, access: Access) -> AbstractContextManager[Session]:
    """The store, and the machines from the context's network namespace; to be called before any thread is started."""
    # What drivers and libraries log is for a controller; here every error comes back as a value, and is shown once.
    logging.getLogger().addHandler(logging.NullHandler())
    if context.namespace:
        from salvusctl.netns import enter

        enter(context.namespace)
    return open_session(settings_of(context), access=access)


@contextmanager
def comparing(context: Context) -> Iterator[Session]:
    """As ``reaching``, for reading; a store that is not there yet counts as empty."""
    with ExitStack() as opened:
        try:
            session = opened.enter_context(reaching(context, Access.READ))
        except StoreMissing:
            from controller.store.memory import MemoryStore

            about = "compared with an empty one; UUIDs and MACs are made with it"
            out.note(f"the store {context.store} does not exist yet: {about}")
            session = Session(MemoryStore(), settings_of(context))
        yield session


def kind_of(word: str) -> AnyKind:
    """The kind that a word means. Raises UseError, with what was probably meant."""
    if (kind := find_kind(word)) is not None:
        return kind
    raise UseError(no_kind(word), hint="salvusctl explain lists them with their short names")


def kinds_of(word: str) -> tuple[AnyKind, ...]:
    """``hosts,vms`` or ``all`` as kinds. Raises UseError."""
    if word == ALL:
        return tuple(kinds().values())
    return tuple(dict.fromkeys(kind_of(part) for part in word.split(",") if part))


def select(knowledge: Knowledge, words: Sequence[str], *, forgiving: bool = False) -> tuple[str, ...]:
    """The resources, as ``Kind/name``, that ``KIND``, ``KIND NAME…`` or ``KIND/NAME…`` mean.

    Raises UseError for words that mean nothing, and, unless forgiving, Missing for names that are not there.
    """
    if any("/" in word for word in words):
        refs = [_pair(word) for word in words]
    else:
        chosen = kinds_of(words[0])
        if not words[1:]:
            return tuple(ref for kind in chosen for ref in of_kind(knowledge, kind))
        refs = [_named(knowledge, chosen, name) for name in words[1:]]
    if forgiving:
        return tuple(ref for ref in dict.fromkeys(refs) if ref in knowledge.rows)
    return tuple(_there(knowledge, ref) for ref in dict.fromkeys(refs))


def by_name(knowledge: Knowledge, words: Sequence[str]) -> tuple[str, ...]:
    """As ``select``, but a single word may also be the name of a resource of any kind."""
    if len(words) == 1 and "/" not in words[0] and find_kind(words[0]) is None:
        found = tuple(ref for ref in knowledge.rows if ref.endswith(f"/{words[0]}"))
        if found:
            return tuple(sorted(found))
        names = {ref.partition("/")[2] for ref in knowledge.rows}
        raise Missing(f"there is nothing named {words[0]!r}{did_you_mean(words[0], names)}", hint="salvusctl get all")
    return select(knowledge, words)


def of_kind(knowledge: Knowledge, kind: AnyKind) -> Iterable[str]:
    """All resources of a kind, those being deleted included, by name."""
    return sorted(ref for ref in knowledge.rows if ref.startswith(f"{kind.name}/"))


def _pair(word: str) -> str:
    kind, slash, name = word.partition("/")
    if not slash or not name:
        raise UseError(f"{word!r} is not KIND/NAME", hint="write either KIND NAME… or KIND/NAME…, not both")
    return f"{kind_of(kind).name}/{name}"


def _named(knowledge: Knowledge, chosen: Sequence[AnyKind], name: str) -> str:
    refs = [f"{kind.name}/{name}" for kind in chosen]
    return next((ref for ref in refs if ref in knowledge.rows), refs[0])


def _there(knowledge: Knowledge, ref: str) -> str:
    if ref in knowledge.rows:
        return ref
    kind, _, name = ref.partition("/")
    names = [one.partition("/")[2] for one in knowledge.rows if one.startswith(f"{kind}/")]
    raise Missing(f"there is no {kind} {name!r}{did_you_mean(name, names)}", hint=f"salvusctl get {kind.lower()}")


def jobs_of(session: Session, knowledge: Knowledge, ref: str) -> list[Job]:
    """The long changes under way for a resource; for a machine, all that are made there."""
    from controller.lower import machine_named  # here, because a listing needs nothing of what it brings

    found: list[Job] = []
    for machine in machines(knowledge, ref):
        inventory = session.ledger.inventory(machine)
        mine = {key for key, row in inventory.items() if row.owner == ref or machine == machine_named(ref)}
        found += [job for job in session.jobs(machine) if job.key in mine]
    return found


def on_machines(knowledge: Knowledge, ref: str) -> list[tuple[str, Condition]]:
    """What each machine says of the resource as it is written now; under the empty name what the fleet pass says."""
    generation = knowledge.rows[ref].generation
    by_machine = sorted(knowledge.statuses.get(ref, {}).items())
    return [(m, one) for m, status in by_machine for one in status.conditions if one.generation == generation]

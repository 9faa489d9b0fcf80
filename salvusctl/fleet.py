"""Opening the store of a context, and finding in it the resources that a user means."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from controller.knowledge import Knowledge
from controller.pauses import explained, holding
from controller.present import machines
from controller.revisions import explained as pinned
from controller.session import Session, Settings, open_session
from controller.store.base import Access, StoreMissing
from controller.store.records import GONE, Condition, Job, Pause
from resources.base import AnyKind
from resources.fleet import did_you_mean, find_kind, kinds, machine_named, no_kind
from salvusctl import out
from salvusctl.config import Context
from salvusctl.exits import Missing, UseError

ALL = "all"


def settings_of(context: Context) -> Settings:
    """What the controller must know of a context."""
    return Settings(context.store, context.identity_files, vpn_probe_interval=context.vpn_probe_interval)


def reading(context: Context) -> AbstractContextManager[Session]:
    """The store, for reading; machines are not reached. Raises SalvusError, also when there is no store."""
    enter_for_store(context)
    return _opened(context, Access.READ)


def writing(context: Context) -> AbstractContextManager[Session]:
    """As ``reading``, for writing."""
    enter_for_store(context)
    return _opened(context, Access.WRITE)


def reaching(context: Context, access: Access) -> AbstractContextManager[Session]:
    """The store, and the machines from the context's network namespace; to be called before any thread is started."""
    # What drivers and libraries log is for a controller; here every error comes back as a value, and is shown once.
    logging.getLogger().addHandler(logging.NullHandler())
    _enter(context)
    return _opened(context, access)


@contextmanager
def _opened(context: Context, access: Access) -> Iterator[Session]:
    """Everybody is told what may make them wonder: that the answer may be old; at the end, that nothing is done."""
    with open_session(settings_of(context), access=access, old=out.warn) as session:
        yield session
        for pause in holding(session.ledger.pauses(), time.time()):
            out.warn(explained(pause)[1])
        for pin in session.ledger.sources.pins().values():
            out.warn(pinned(pin))


def enter_for_store(context: Context) -> None:
    """Enters the context's network namespace where the store is a ring, which is reached as the machines are.

    To be called before any thread is started.
    """
    if not isinstance(context.store, Path):
        _enter(context)


def _enter(context: Context) -> None:
    if context.namespace:
        from salvusctl import netns

        netns.enter(context.namespace)


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


def select(rows: Collection[str], words: Sequence[str], *, forgiving: bool = False) -> tuple[str, ...]:
    """Of the ``rows`` the resources, as ``Kind/name``, that ``KIND``, ``KIND NAME…`` or ``KIND/NAME…`` mean.

    Raises UseError for words that mean nothing, and, unless forgiving, Missing for names that are not there.
    """
    if any("/" in word for word in words):
        refs = [_pair(word) for word in words]
    else:
        chosen = kinds_of(words[0])
        if not words[1:]:
            return tuple(ref for kind in chosen for ref in of_kind(rows, kind))
        refs = [_named(rows, chosen, name) for name in words[1:]]
    if forgiving:
        return tuple(ref for ref in dict.fromkeys(refs) if ref in rows)
    return tuple(_there(rows, ref) for ref in dict.fromkeys(refs))


def by_name(rows: Collection[str], words: Sequence[str]) -> tuple[str, ...]:
    """As ``select``, but a single word may also be the name of a resource of any kind."""
    if found := of_any_kind(rows, words):
        return found
    if len(words) == 1 and "/" not in words[0] and find_kind(words[0]) is None:
        names = {ref.partition("/")[2] for ref in rows}
        raise Missing(f"there is nothing named {words[0]!r}{did_you_mean(words[0], names)}", hint="salvusctl get all")
    return select(rows, words)


def of_any_kind(rows: Iterable[str], words: Sequence[str]) -> tuple[str, ...]:
    """The resources whose name a single word is; none when it means a kind."""
    if len(words) != 1 or "/" in words[0] or words[0] == ALL or find_kind(words[0]) is not None:
        return ()
    return tuple(sorted(ref for ref in rows if ref.endswith(f"/{words[0]}")))


def still_there(session: Session, knowledge: Knowledge, words: Sequence[str]) -> tuple[str, ...]:
    """As ``by_name``, for all that is in the store. Of what is gone, Missing says since when."""
    try:
        return by_name(knowledge.rows, words)
    except Missing:
        ends = {event.ref: event.last for event in session.ledger.events() if event.reason == GONE}
        for ref in by_name({*knowledge.rows, *ends}, words):
            if ref not in knowledge.rows:
                text = f"there is no {ref} any more: it was deleted {out.age(time.time() - ends[ref])} ago"
                raise Missing(text, hint=f"salvusctl events {ref}") from None
        raise


def of_kind(rows: Iterable[str], kind: AnyKind) -> Iterable[str]:
    """All resources of a kind, those being deleted included, by name."""
    return sorted(ref for ref in rows if ref.startswith(f"{kind.name}/"))


def _pair(word: str) -> str:
    kind, slash, name = word.partition("/")
    if not slash or not name:
        raise UseError(f"{word!r} is not KIND/NAME", hint="write either KIND NAME… or KIND/NAME…, not both")
    return f"{kind_of(kind).name}/{name}"


def _named(rows: Collection[str], chosen: Sequence[AnyKind], name: str) -> str:
    refs = [f"{kind.name}/{name}" for kind in chosen]
    return next((ref for ref in refs if ref in rows), refs[0])


def _there(rows: Collection[str], ref: str) -> str:
    if ref in rows:
        return ref
    kind, _, name = ref.partition("/")
    names = [one.partition("/")[2] for one in rows if one.startswith(f"{kind}/")]
    raise Missing(f"there is no {kind} {name!r}{did_you_mean(name, names)}", hint=f"salvusctl get {kind.lower()}")


def jobs_of(session: Session, knowledge: Knowledge, ref: str) -> list[Job]:
    """The long changes under way for a resource; for a machine, all that are made there."""
    found: list[Job] = []
    for machine in machines(knowledge, ref):
        inventory = session.ledger.inventory(machine)
        mine = {key for key, row in inventory.items() if row.owner == ref or machine == machine_named(ref)}
        found += [job for job in session.jobs(machine) if job.key in mine]
    return found


def pauses_of(session: Session, knowledge: Knowledge, ref: str) -> list[Pause]:
    """What holds changes of the resource, or on any of its machines."""
    return holding(session.ledger.pauses(), time.time(), [ref], machines(knowledge, ref))


def on_machines(knowledge: Knowledge, ref: str) -> list[tuple[str, Condition]]:
    """What each machine says of the resource as it is written now; under the empty name what the fleet pass says."""
    generation = knowledge.rows[ref].generation
    by_machine = sorted(knowledge.statuses.get(ref, {}).items())
    return [(m, one) for m, status in by_machine for one in status.conditions if one.generation == generation]

"""What became of a source's revisions: in force, held or refused, one line each time that changes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from controller.clock import rfc3339
from controller.store.records import SHORT, StoredResource
from controller.store.source_records import HELD_BY_BUDGET, Pin, SourceState, Turn, place_of

IN_FORCE, HELD, REFUSED = "in force", "held", "refused"


def turns(state: SourceState, about: str, now: float, log: Sequence[Turn]) -> list[Turn]:
    """What a reading adds to the log of its source, which is oldest first."""
    return [turn for turn in _fared(state, about, now) if _news(turn, log)]


def _fared(state: SourceState, about: str, now: float) -> Iterator[Turn]:
    if not state.revision:
        return
    hold = next((hold for hold in state.holds if hold.what == "revision"), None)
    if state.errors:
        yield Turn(state.revision, REFUSED, now, about, state.errors[0])
    elif hold is not None:
        yield Turn(state.revision, HELD, now, about, hold.message)
    else:
        deletions = (hold.message for hold in state.holds if hold.what == "deletions")
        yield Turn(state.revision, IN_FORCE, now, about, "; ".join(deletions))
    if state.pinned:
        yield Turn(state.newest, HELD, now, "", f"pinned to {state.revision[:SHORT]}")


def _news(turn: Turn, log: Sequence[Turn]) -> bool:
    """Whether it is not what is known already; one that comes into force again, after another, is news."""
    before = next((one for one in reversed(log) if one.revision == turn.revision), None)
    return before is None or before.state != turn.state or (turn.state == IN_FORCE and in_force(log) != turn.revision)


def in_force(log: Sequence[Turn]) -> str:
    """The revision that came into force last; empty for none."""
    return next((turn.revision for turn in reversed(log) if turn.state == IN_FORCE), "")


def lasts(turn: Turn, state: SourceState, log: Sequence[Turn]) -> bool:
    """Whether that is how it is now; else it was so."""
    if turn.state == IN_FORCE:
        return turn is next(one for one in reversed(log) if one.state == IN_FORCE)
    latest = next(one for one in reversed(log) if one.revision == turn.revision)
    return turn is latest and turn.revision in (state.revision, state.newest)


def previous(log: Sequence[Turn]) -> str:
    """The one that was in force before it; empty for none."""
    now = in_force(log)
    return next((t.revision for t in reversed(log) if t.state == IN_FORCE and t.revision != now), "")


def explained(pin: Pin) -> str:
    """What is pinned, by whom, why, and the command that ends it."""
    who = f"by {pin.by} since {rfc3339(pin.since)}: {pin.reason}"
    place = place_of(pin.source)
    return f"{place} is pinned to {pin.revision[:SHORT]} {who}; what is newer is held until salvusctl unpin"


def kept_back(
    rows: Mapping[str, StoredResource], sources: Mapping[str, SourceState]
) -> dict[str, tuple[str, str, float]]:
    """By ``Kind/name``, of what something newer may be written that is not in force: reason, sentence, since when."""
    troubled = {name: (*state.trouble, state.at) for name, state in sources.items() if state.trouble}
    held = {ref: troubled[row.source] for ref, row in rows.items() if row.source in troubled} if troubled else {}
    for state in sources.values():
        held |= {ref: (HELD_BY_BUDGET, hold.message, state.at) for hold in state.holds for ref in hold.refs}
    return held

"""Who read what, as ``World.reads`` names it, and who is concerned when something of it changes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from resources.base import AnyResource, Selector
from resources.fleet import Fleet
from resources.world import over, selected


class Readers:
    """Readers by what they read."""

    def __init__(self) -> None:
        self._by_read: defaultdict[str, set[str]] = defaultdict(set)
        self._selectors: defaultdict[str, dict[str, Selector]] = defaultdict(dict)

    def add(self, who: str, reads: Iterable[str]) -> None:
        """Notes what somebody read."""
        for read in reads:
            self._by_read[read].add(who)
            if (found := selected(read)) is not None:
                kind, selector = found
                self._selectors[kind][read] = selector

    def drop(self, who: str, reads: Iterable[str]) -> None:
        """Forgets it."""
        for read in reads:
            self._by_read[read].discard(who)

    def of(self, touched: Collection[str], before: Fleet, after: Fleet) -> set[str]:
        """Who read something of what was touched, when the fleet became another one."""
        found: set[str] = set()
        for read in (*touched, *self._follows(touched, before, after)):
            found.update(self._by_read.get(read, ()))
        return found

    def _follows(self, touched: Iterable[str], before: Fleet, after: Fleet) -> Iterator[str]:
        """Selections in which a resource was, or is; the machines over which it was, or is, reached."""
        for one in _versions(touched, before, after):
            selectors = self._selectors.get(one.kind, {})
            yield from (read for read, selector in selectors.items() if selector.matches(one.metadata.labels))
            if one.kind in after.machine_kinds and one.spec.ssh.via:
                yield over(one.spec.ssh.via)


def _versions(touched: Iterable[str], before: Fleet, after: Fleet) -> Iterator[AnyResource]:
    for read in touched:
        what, _, ref = read.partition("/")
        if what == "resource":
            kind, _, name = ref.partition("/")
            yield from (one for fleet in (before, after) if (one := fleet.get(kind, name)) is not None)

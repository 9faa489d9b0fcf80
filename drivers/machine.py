"""One machine as the controller sees it: each item goes to the driver of its transport, all under one fence."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence

from drivers.base import (
    Applied,
    Change,
    Driver,
    Failed,
    Fencing,
    Item,
    Observation,
    Rejected,
    Transport,
    Unknown,
    Unreachable,
)


def _silence(seen: Iterable[Observation]) -> str:
    """Why nothing at all was answered; empty when something was. A frozen machine is to cost one deadline, not two."""
    states = [observation.state for observation in seen]
    reasons = [state.reason for state in states if isinstance(state, Unknown)]
    return reasons[0] if reasons and len(reasons) == len(states) else ""


class Machine:
    """A Fencing driver made of a shell driver and, on hypervisors, a libvirt driver."""

    def __init__(self, name: str, shell: Fencing, libvirt: Driver | None = None) -> None:
        self._name = name
        self._shell = shell
        self._libvirt = libvirt

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        """See Driver."""
        shell = [item for item in items if item.transport is Transport.SHELL]
        libvirt = [item for item in items if item.transport is Transport.LIBVIRT]
        seen = dict(self._shell.observe(shell)) if shell or not libvirt else {}
        silence = _silence(seen.values())
        if libvirt and self._libvirt is not None and not silence:
            return {**seen, **self._libvirt.observe(libvirt)}
        unknown = Observation(Unknown(silence or "not a hypervisor"), time.time(), "libvirt")
        return seen | {item.key: unknown for item in libvirt}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        """See Driver. The fence is told over ssh before libvirt is touched (rule 10)."""
        done: list[Applied] = []
        for transport, group in itertools.groupby(changes, key=lambda change: change.item.transport):
            batch = tuple(group)
            if transport is Transport.SHELL:
                results = self._shell.apply(batch, epoch)
            elif self._libvirt is None:
                results = (Applied(batch[0], Rejected("it is not a hypervisor", machine=self._name)),)
            else:
                results = self._fenced(self._libvirt, batch, epoch)
            done.extend(results)
            if any(one.error for one in results):
                break
        return tuple(done)

    def fence(self, epoch: int) -> None:
        """See Fencing."""
        self._shell.fence(epoch)

    def _fenced(self, libvirt: Driver, batch: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        try:
            self._shell.fence(epoch)
        except (Unreachable, Failed) as error:
            return (Applied(batch[0], error),)
        return libvirt.apply(batch, epoch)

    def close(self) -> None:
        """See Driver."""
        if self._libvirt is not None:
            self._libvirt.close()
        self._shell.close()

"""One program that makes a batch of changes under the machine's fence, and how it went. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from drivers.base import DriverError, Failed, Fenced, InUse, Unreachable
from drivers.items.paths import IN_USE
from drivers.ssh.fence import fence
from drivers.ssh.frames import PRELUDE, Frame, clean

# While it works it prints a dot now and then, so that silence means a frozen machine, however long apt takes.
_BEAT = Template("""\
(
trap 'kill $$s; exit' TERM
while sleep $beat & s=$$!; wait $$s; do kill -0 $$$$ && printf . || exit; done
) </dev/null 2>/dev/null &
trap "kill $$! 2>/dev/null" EXIT
""")

# What a script says on stderr goes to a file that has no name any more: a pipe would be held open by whatever it
# starts in the background, and nothing is left over. In memory, as the disk may be full. timeout(1) stays a session of
# the epoch when this shell is killed; what the script starts in the background is none.
_CHANGE = Template("""\
newest
f=$$(mktemp -p /run salvus.XXXXXX) && exec 6>"$$f" 5<"$$f" && rm "$$f" || exit
timeout $signal $limit sh -eu /dev/fd/9 $stdin >/dev/null 2>&6 5<&- 6>&- 9<<'$boundary.'
exec 8>&- 9<&-
$trap
$script
$boundary.
r=$$?
[ $$r = 0 ] || newest
say "done $$r" "$$(tail -c 2000 <&5)"
[ $$r = 0 ] || exit 0
""")

# Who is ended says for whom.
_ENTRANCE = """\
trap 'newest; exit' TERM
admit
say begin
"""


@dataclass(frozen=True, slots=True)
class Script:
    """What makes one change. One that is ``uninterruptible`` is not ended for a newer epoch, only at its limit."""

    text: str
    uninterruptible: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Scripts to be run in order; after one that fails, or when a newer epoch comes, the rest is not tried.

    Attributes:
        epoch: under which they are run.
        boundary: of the frames in which it is told how they went.
        state: the folder on the machine that has its fence.
        limit: seconds that one script may take; 0 is no limit (timeout(1)).
        silence: seconds without a sign of life after which we give the machine up. As long it waits for the changes of
            an older epoch to end.
        now: the controller's clock, in seconds since the epoch; scripts have it as ``SALVUS_NOW``.
        window: seconds after which the machine puts a perilous change back; scripts have it as ``SALVUS_WINDOW``.
        payload: the script reads what comes on standard input after the program.
    """

    scripts: Sequence[Script]
    epoch: int
    boundary: str
    state: str
    limit: int
    silence: int
    now: int
    window: int
    payload: bool = False

    def program(self) -> str:
        """Shell text for all of it: one compound command, so that a part of it, if only that arrives, does nothing."""
        prelude = PRELUDE.format(boundary=self.boundary) + _BEAT.substitute(beat=self.silence / 4)
        entrance = fence(self.epoch, self.state, max(1, int(self.silence))) + _ENTRANCE
        clock = f"export SALVUS_NOW={self.now} SALVUS_WINDOW={self.window}\n"
        return "{\n" + prelude + entrance + clock + "".join(map(self._change, self.scripts)) + "say finished\nexit\n}\n"

    def _change(self, script: Script) -> str:
        return _CHANGE.substitute(
            boundary=self.boundary,
            limit=self.limit,
            stdin="" if self.payload else "</dev/null",
            signal="-s KILL" if script.uninterruptible else "-k 10",
            trap="trap '' TERM" if script.uninterruptible else "",
            script=script.text,
        )


def loader(program: bytes, become: str) -> str:
    """The command that reads the program from standard input, and not a byte more, and runs it."""
    read = f"dd bs={len(program)} count=1 iflag=fullblock 2>/dev/null"
    return f"exec {become}sh -c 'eval \"$({read})\"'"


def refused(frame: Frame, machine: str, state: str) -> DriverError:
    """Why nothing was begun."""
    match frame.words:
        case ("fenced", seen):
            said = f"{machine}: it has seen epoch {seen}, which is newer than ours"
            return Fenced(said, machine=machine, hint="another controller holds its lease; this one lets go of it")
        case ("busy",):
            hint = f"it is tried again; to see them: `fuser -v {state}/sessions/*` there"
            return Failed(f"{machine}: changes of an older session still run there", machine=machine, hint=hint)
    hint = f"look at {state}/epoch there; if it is damaged, remove it"
    return Failed(f"{machine}: its epoch can't be read", machine=machine, hint=hint)


def ended(frame: Frame, name: str, machine: str, limit: int) -> DriverError | None:
    """How the change went, of which the frame tells."""
    status = frame.words[1]
    if status == "0":
        return None
    said = clean(frame.text) or f"it ended with status {status}"
    if status in ("124", "137"):
        said = f"it took longer than {limit} s and was ended; {said}"
    kind = InUse if status == str(IN_USE) else Failed
    # All that dash says of its own echo and printf when a disk is full.
    hint = "is a disk full there? `df -h; df -i`" if said.endswith("I/O error") else ""
    return kind(f"{machine}: {name}: {said}", machine=machine, hint=hint)


def unseen(name: str, machine: str) -> DriverError:
    """Of a change whose end was not told."""
    return Unreachable(f"{machine}: {name}: the connection ended before the change did", machine=machine)

"""One program that makes a batch of changes under the machine's fence, and how it went. Pure text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from drivers.base import DriverError, Failed, Fenced, InUse, Unreachable
from drivers.items.paths import IN_USE
from drivers.ssh.frames import PRELUDE, Frame, clean

# While it works it prints a dot now and then, so that silence means a frozen machine, however long apt takes.
_BEAT = Template("""\
( trap 'kill $$s; exit' TERM; while sleep $beat & s=$$!; wait $$s; do printf . || exit; done ) </dev/null 2>/dev/null &
trap "kill $$! 2>/dev/null" EXIT
""")

# The fence (DESIGN rule 10). All batches of one epoch share the lock, so that a long one (an image) holds no pass up;
# to write down a newer epoch it must be held alone, so that no batch of an older one is still under way then. Who waits
# for that looks again every second: another batch of the same epoch may have written it, and go on for long.
_FENCE = Template("""\
fence() {
mine=$epoch how=-s left=$wait
mkdir -p $state || exit
umask 077
exec 8>>$state/lock || exit
umask 022
while :; do
if [ $$how = -s ]; then
flock -w $wait -s 8 || { say busy; exit; }
elif ! flock -w 1 -x 8; then
left=$$((left - 1)) how=-s
[ "$$left" -gt 0 ] || { say busy; exit; }
continue
fi
seen=0
[ ! -e $state/epoch ] || seen=$$(cat $state/epoch)
case $$seen in ''|*[!0-9]*) say broken; exit;; esac
if [ "$$seen" -gt "$$mine" ]; then say "fenced $$seen"; exit; fi
if [ "$$seen" -eq "$$mine" ]; then
[ $$how = -x ] || return 0
how=-s
elif [ $$how = -s ]; then
# The place to end what an older epoch still runs here (issue 4).
how=-x
else
echo "$$mine" >$state/epoch.new && sync $state/epoch.new && mv $state/epoch.new $state/epoch || exit
how=-s
fi
done
}
fence
say begin
""")

# What a script says on stderr goes to a file that has no name any more: a pipe would be held open by whatever it
# starts in the background, and nothing is left over. In memory, as the disk may be full.
_CHANGE = Template("""\
f=$$(mktemp -p /run salvus.XXXXXX) && exec 6>"$$f" 5<"$$f" && rm "$$f" || exit
timeout -k 10 $limit sh -eu /dev/fd/9 $stdin >/dev/null 2>&6 5<&- 6>&- 8>&- 9<<'$boundary.'
exec 9<&-
$script
$boundary.
r=$$?
say "done $$r" "$$(tail -c 2000 <&5)"
[ $$r = 0 ] || exit 0
""")


@dataclass(frozen=True, slots=True)
class Batch:
    """Scripts to be run in order; after one that fails the rest is not tried.

    Attributes:
        epoch: under which they are run.
        boundary: of the frames in which it is told how they went.
        state: the folder on the machine that has the epoch.
        limit: seconds that one script may take; 0 is no limit (timeout(1)).
        silence: seconds without a sign of life after which we give the machine up. As long it waits for the changes of
            an older epoch to end.
        now: the controller's clock, in seconds since the epoch; scripts have it as ``SALVUS_NOW``.
        payload: the script reads what comes on standard input after the program.
    """

    scripts: Sequence[str]
    epoch: int
    boundary: str
    state: str
    limit: int
    silence: int
    now: int
    payload: bool = False

    def program(self) -> str:
        """Shell text for all of it: one compound command, so that a part of it, if only that arrives, does nothing."""
        stdin = "" if self.payload else "</dev/null"
        fence = _FENCE.substitute(epoch=int(self.epoch), state=shlex.quote(self.state), wait=max(1, int(self.silence)))
        changes = (
            _CHANGE.substitute(limit=self.limit, stdin=stdin, boundary=self.boundary, script=script)
            for script in self.scripts
        )
        prelude = PRELUDE.format(boundary=self.boundary) + _BEAT.substitute(beat=self.silence / 4)
        clock = f"export SALVUS_NOW={self.now}\n"
        return "{\n" + prelude + fence + clock + "".join(changes) + "say finished\nexit\n}\n"


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
            hint = f"it is tried again; to see them: `fuser -v {state}/lock` there"
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
    return kind(f"{machine}: {name}: {said}", machine=machine)


def unseen(name: str, machine: str) -> DriverError:
    """Of a change whose end was not told."""
    return Unreachable(f"{machine}: {name}: the connection ended before the change did", machine=machine)

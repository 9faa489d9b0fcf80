"""The machine's fence (DESIGN rule 10): who may change it, and how who may no more is ended. Pure shell text.

In the state folder on the machine are:

- ``epoch``: the highest epoch that was announced there;
- ``lock``: held for the moment in which that is written;
- ``sessions/EPOCH``: each session of that epoch (a batch, each script of it, a libvirt tunnel for changes) has it open
  as descriptor 8, with a shared lock. So the kernel knows who is there; nobody has to sign off, or to be swept.
"""

from __future__ import annotations

import shlex
from string import Template

from drivers.ssh.frames import ENVIRONMENT

# `newest` ends the shell when a newer epoch was announced.
#
# `admit` returns when we are a session of ours, and none of an older epoch is there any more. Who comes announces its
# epoch first and looks for the others then; these took their lock first and looked for a newer epoch then: whatever the
# order, one sees the other. A session gets a second to end by itself, then a SIGTERM, once. It is found by its open
# file, not by a number that was noted: that may be another process by now. Who leaves SIGTERM alone is waited for.
_FENCE = Template("""\
newest() {
seen=
if [ -e $state/epoch ]; then read -r seen <$state/epoch; else seen=0; fi
case $$seen in ''|*[!0-9]*|????????????????*) say broken; exit;; esac
[ "$$seen" -le $epoch ] || { say "fenced $$seen"; exit; }
}
announce() {
umask 077
exec 7>>$state/lock || exit
umask 022
flock -w $wait 7 || { say busy; exit; }
newest
if [ "$$seen" -lt $epoch ]; then
echo $epoch >$state/epoch.new && sync $state/epoch.new && mv $state/epoch.new $state/epoch && sync $state || exit
fi
exec 7>&-
}
terminate() {
for process in /proc/[0-9]*; do
[ "$$process/fd/8" -ef "$$1" ] || continue
case $$told in *" $$process "*) continue;; esac
told="$$told$$process "
kill -TERM "$${process#/proc/}"
done 2>/dev/null
}
admit() {
[ -d $state/sessions ] || mkdir -p $state/sessions || exit
newest
umask 077
exec 8>>$state/sessions/$epoch || exit
umask 022
flock -w $wait -s 8 || { say busy; exit; }
[ "$$seen" -eq $epoch ] || announce
newest
told=' ' left=$wait
for past in $state/sessions/*; do
case $${past##*/} in *[!0-9]*|????????????????*) continue;; esac
[ "$${past##*/}" -lt $epoch ] || continue
until flock -w 1 -x "$$past" rm -f "$$past"; do
newest
left=$$((left - 1))
[ "$$left" -gt 0 ] || { say busy; exit; }
terminate "$$past"
done
done
}
""")


def fence(epoch: int, state: str, wait: int) -> str:
    """Shell functions ``admit`` and ``newest``, see above. They use a function ``say``, which is given one word or two.

    ``say`` is told ``fenced EPOCH``, ``busy`` or ``broken`` before the shell is ended. Sessions of an older epoch are
    waited for ``wait`` seconds.
    """
    return _FENCE.substitute(epoch=int(epoch), state=shlex.quote(state), wait=int(wait))


def session(command: str, epoch: int, state: str, wait: int) -> str:
    """A command that runs ``command`` as a session of the epoch: a newer one ends it.

    When it is not admitted it ends at once, and says why on stderr.
    """
    words = 'say() { echo "$1" >&2; }\n'
    program = f"{ENVIRONMENT}{words}{fence(epoch, state, wait)}admit >&2\nexec {command}\n"
    return f"sh -c {shlex.quote(program)}"

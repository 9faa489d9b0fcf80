"""The dead-man switch by itself, where systemd only notes timers: late, and without a unit that reads the files."""

from __future__ import annotations

import pytest

from drivers.base import Absent
from drivers.items import undo
from drivers.items.file import File, Trial
from drivers.items.rules import RuleSet
from drivers.items.ufw_rules import UfwRules
from tests.conformance.items import Example, create
from tests.conformance.nft_world import Box

pytestmark = pytest.mark.conformance

# As a disk that others keep busy.
SLOW = """\
cat >/usr/local/sbin/sync <<'EOF'
#!/bin/sh
[ "$1" != -d ] || sleep 0.5
exec /bin/sync "$@"
EOF
chmod 755 /usr/local/sbin/sync
"""
ITEM = File("/etc/ufw/a", "a", trial=Trial("x.service", "restart"))
NO_UNIT = """\
cat >/usr/local/sbin/systemctl <<'EOF'
#!/bin/sh
case $* in *is-active* | *is-enabled*) exit 3 ;; *LoadState*) echo not-found ;; esac
EOF
"""


def filtered(box: Box) -> str:
    """What of ufw is in force, and what would be."""
    return box.sh("iptables -S; ip6tables -S; cat /etc/ufw/user.rules /etc/ufw/user6.rules /etc/ufw/ufw.conf")


def test_a_file_comes_before_its_unit_and_goes_after_it(ufw_box: Box) -> None:
    ufw_box.sh(NO_UNIT)
    ufw_box.machine.mended(ITEM)
    ufw_box.machine.deleting_it_twice_leaves_nothing(Example(ITEM))
    assert ufw_box.sh(f"ls {undo.FOLDER}") == ""


def test_what_takes_longer_to_write_than_it_may_is_put_back_whole(ufw_box: Box) -> None:
    item = UfwRules(RuleSet())
    before = filtered(ufw_box)
    ufw_box.sh(SLOW)
    done = ufw_box.machine.tell(create(item), before="export SALVUS_WINDOW=2\n")
    ufw_box.sh("rm /usr/local/sbin/sync")
    assert done.returncode == 1
    assert b"is undone" in done.stderr
    assert filtered(ufw_box) == before
    assert ufw_box.machine.see(item) == Absent()

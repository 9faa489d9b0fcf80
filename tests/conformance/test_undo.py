"""Files on trial, where systemd only notes timers and has no unit."""

from __future__ import annotations

import pytest

from drivers.items.file import File, Trial
from tests.conformance.items import Example
from tests.conformance.nft_world import Box

pytestmark = pytest.mark.conformance

ITEM = File("/etc/ufw/a", "a", trial=Trial("x.service", "restart"))
NO_UNIT = """\
cat >/usr/local/sbin/systemctl <<'EOF'
#!/bin/sh
case $* in *is-active* | *is-enabled*) exit 3 ;; *LoadState*) echo not-found ;; esac
EOF
"""


def test_a_file_comes_before_its_unit_and_goes_after_it(ufw_box: Box) -> None:
    ufw_box.sh(NO_UNIT)
    ufw_box.machine.mended(ITEM)
    ufw_box.machine.deleting_it_twice_leaves_nothing(Example(ITEM))

"""A machine with ufw: the one of ``nft_world``, with files of ufw of its own and a systemd that only notes timers."""

from __future__ import annotations

import pytest

from tests.conformance.nft_world import Box

TIMER = "/run/systemd/timer"
# ufw as its package leaves it, in a mount namespace; then what pretends to be systemd.
SETUP = """\
saved=$(mktemp -d)
cp -a /etc/ufw /etc/default "$saved"
for folder in ufw default; do
    mount -t tmpfs -o mode=755 none "/etc/$folder"
    cp -a "$saved/$folder/." "/etc/$folder/"
done
rm -rf "$saved"
cp /usr/share/ufw/iptables/user.rules /usr/share/ufw/iptables/user6.rules /etc/ufw
cp /usr/share/ufw/ufw.conf /etc/ufw
mkdir -p /run/systemd
mount -t tmpfs none /run/systemd
mkdir /run/systemd/system
mount -t tmpfs -o mode=755 none /usr/local/sbin
cat >/usr/local/sbin/systemd-run <<'EOF'
#!/bin/sh
for word do
    shift
    case $word in
        --on-active=*) seconds=${word#*=} ;;
        --) break ;;
    esac
done
printf '%s ' "$@" >/run/systemd/timer
[ "$seconds" -gt 5 ] || setsid sh -c 'sleep "$0"; exec "$@"' "$seconds" "$@" </dev/null >/dev/null 2>&1 &
EOF
printf '#!/bin/sh\\nexit 0\\n' >/usr/local/sbin/systemctl
chmod 755 /usr/local/sbin/*
"""


@pytest.fixture
def ufw_box(box: Box) -> Box:
    """With ufw as its package leaves it, not enabled. ``sh TIMER`` is the end of a trial longer than 5 s."""
    box.sh(SETUP)
    return box

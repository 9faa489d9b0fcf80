#!/bin/sh
# common.sh ROOT  what hosts and guests have in common: no keys and no identity of their own, no work that nobody asked for.
set -eu
root=$1
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf"
mkdir -p "$root/etc/ssh/sshd_config.d"
printf 'PasswordAuthentication no\nUseDNS no\n' >"$root/etc/ssh/sshd_config.d/lab.conf"
systemctl --quiet --root="$root" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
    e2scrub_reap.service systemd-pstore.service man-db.timer logrotate.timer

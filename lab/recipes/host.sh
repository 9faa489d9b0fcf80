#!/bin/sh
# host.sh ROOT  makes ROOT a hypervisor that runs in a container.
set -eu
root=$1
chroot "$root" useradd --create-home --gid operator --shell /bin/bash --uid 1000 operator
echo 'operator ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/operator"
chmod 0440 "$root/etc/sudoers.d/operator"
# The container may neither make cgroups nor mount nor load a security profile for its guests.
cat >>"$root/etc/libvirt/qemu.conf" <<'CONF'
cgroup_controllers = []
namespaces = []
security_driver = "none"
CONF
# A guest that does not listen does not hold up its host's end for five minutes; who is to run is started by autostart.
printf 'ON_BOOT=ignore\nON_SHUTDOWN=shutdown\nPARALLEL_SHUTDOWN=8\nSHUTDOWN_TIMEOUT=10\n' >"$root/etc/default/libvirt-guests"
rm -f "$root/etc/libvirt/qemu/networks/autostart/default.xml"
systemctl --quiet --root="$root" mask getty.target console-getty.service systemd-timesyncd.service systemd-logind-varlink.socket \
    systemd-udevd.service systemd-udev-trigger.service nftables.service 2>/dev/null
# journald gives room back when the disk is full: a full host would not stay so.
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/lab.conf"

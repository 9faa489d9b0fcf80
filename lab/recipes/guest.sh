#!/bin/sh
# guest.sh ROOT  makes ROOT a virtual machine that boots fast without KVM. Its kernel and initrd are left in ROOT/boot for a direct kernel boot.
set -eu
root=$1
kernel=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')
version=${kernel#linux-image-}
# Only unpacked: as an installed package it would build an initrd of its own at every change, and a direct boot uses neither.
unpacked=$root/tmp/kernel
mkdir -p "$unpacked" "$root/usr/lib/modules"
chroot "$root" sh -c 'cd /tmp/kernel && apt-get download -q "$1"' sh "$kernel"
dpkg-deb --extract "$unpacked"/linux-image-*.deb "$unpacked"
mv "$unpacked/lib/modules/$version" "$root/usr/lib/modules/$version"
mv "$unpacked/boot/vmlinuz-$version" "$root/boot/kernel"
rm -rf "$unpacked"
chroot "$root" depmod "$version"

# The initrd: load what it takes to see the disk, mount it, go.
initrd=$root/tmp/initrd
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/sys" "$initrd/root" "$initrd/lib"
cp "$root/bin/busybox" "$initrd/bin/busybox"
modules=
for name in virtio_pci virtio_blk virtio_scsi; do
    for file in $(chroot "$root" modprobe --show-depends --set-version "$version" "$name" | sed -n 's/^insmod //p'); do
        case " $modules " in *" ${file##*/} "*) continue ;; esac
        cp "$root$file" "$initrd/lib/"
        modules="$modules ${file##*/}"
    done
done
cat >"$initrd/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t proc none /proc
for module in$modules; do /bin/busybox insmod /lib/\$module; done
for word in \$(/bin/busybox cat /proc/cmdline); do case \$word in root=*) device=\${word#root=} ;; esac; done
until /bin/busybox mount -t ext4 -o rw "\$device" /root; do /bin/busybox sleep 0.1; done
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
INIT
chmod 0755 "$initrd/init"
(cd "$initrd" && find . | "$root/bin/busybox" cpio -o -H newc 2>/dev/null) >"$root/boot/initrd"
rm -rf "$initrd"

echo '/dev/vda / ext4 rw,noatime,x-systemd.growfs 0 0' >"$root/etc/fstab"
printf 'virtio_net\nvirtio_rng\nsr_mod\nisofs\n' >"$root/etc/modules-load.d/guest.conf"
printf 'blacklist %s\n' kvm kvm_amd kvm_intel powernow_k8 aesni_intel ghash_clmulni_intel sha512_ssse3 pcspkr >"$root/etc/modprobe.d/guest.conf"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/guest.conf"

# cloud-init: the modules a NoCloud seed can ask for here. Without KVM its Python imports alone take 7 s a start, so the stages share two processes
# (as they do since cloud-init 24.3): local and network before the network is up, which a seed on a disk does not need, config and final after it.
cat >"$root/etc/cloud/cloud.cfg.d/99_lab.cfg" <<'CONF'
datasource_list: [NoCloud]
ssh_genkeytypes: [ed25519]
system_info: {network: {renderers: [networkd], activators: [networkd]}}
cloud_init_modules: [bootcmd, write-files, disk_setup, mounts, set_hostname, users-groups, ssh]
cloud_config_modules: [set-passwords, runcmd]
cloud_final_modules: [write-files-deferred, scripts-per-boot, scripts-per-instance, scripts-user, final-message]
CONF
printf 'policy: enabled\ndatasource: NoCloud\n' >"$root/etc/cloud/ds-identify.cfg"
cat >"$root/usr/local/sbin/cloud-init-stages" <<'PYTHON'
#!/usr/bin/python3
"""Runs the stages given as arguments ("init --local", "init" …) one after the other in this process."""
import sys

from cloudinit.cmd.main import main

sys.exit(max([int(main(["cloud-init", *stage.split()]) or 0) for stage in sys.argv[1:]]))
PYTHON
chmod 0755 "$root/usr/local/sbin/cloud-init-stages"
stage() {
    mkdir -p "$root/etc/systemd/system/$1.service.d"
    printf '[Service]\nExecStart=\nExecStart=%s\nStandardOutput=journal\n' "$2" >"$root/etc/systemd/system/$1.service.d/lab.conf"
}
stage cloud-init-local '/usr/local/sbin/cloud-init-stages "init --local" init'
stage cloud-init /bin/true
stage cloud-config /bin/true
stage cloud-final '/usr/local/sbin/cloud-init-stages "modules --mode=config" "modules --mode=final"'

systemctl --quiet --root="$root" enable systemd-networkd.service
systemctl --quiet --root="$root" mask systemd-networkd-wait-online.service systemd-timesyncd.service getty@tty1.service cloud-init-hotplugd.socket \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-network-generator.service systemd-journal-flush.service \
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@fuse.service modprobe@loop.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    kmod-static-nodes.service systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-pcrphase-initrd.service

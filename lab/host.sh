#!/bin/sh
# host.sh NAME ADDRESS/PREFIX MAC LOWER NAMESPACE GROUP…  one lab host, until it is powered off or killed; started in a mount namespace of its own with the
# host's state folder as current folder. Mounts and the host's network end with the processes: a killed host leaves nothing mounted.
set -eu
name=$1 address=$2 mac=$3 lower=$4 namespace=$5
shift 5
for group; do echo $$ >"$group/cgroup.procs"; done

mkdir -p disk root
mount -o loop,discard,noatime disk.img disk
mkdir -p disk/upper disk/work
mount -t overlay overlay -o "lowerdir=$lower,upperdir=disk/upper,workdir=disk/work" root
if [ -d first ]; then
    cp -a first/. root/
    rm -rf first
fi

# A machine's network is made anew at every boot: nothing that was only in the kernel (rules, tunnels) may survive a reboot.
network() {
    touch network
    unshare --net="$PWD/network" true
    ip -n "$namespace" link delete "$name" 2>/dev/null || true
    nsenter --net="$PWD/network" sh -eu -c '
        ip link set lo up
        ip link add br0 type bridge
        ip link set br0 address "$4"
        ip link add eth0 type veth peer name "$1" netns "$3"
        ip link set eth0 master br0 up
        ip address add "$2" dev br0
        ip link set br0 up' sh "$name" "$address" "$namespace" "$mac"
    ip -n "$namespace" link set "$name" master lab0 up
}

# Hosts have /dev/kvm where this machine has one, also where it cannot run guests: whoever trusts its presence is found out.
kvm=
rm -f root/etc/tmpfiles.d/kvm.conf
if [ -c /dev/kvm ]; then
    kvm=,CAP_MKNOD
    echo 'c /dev/kvm 0660 root kvm - 10:232' >root/etc/tmpfiles.d/kvm.conf
fi
while :; do
    network
    code=0
    systemd-nspawn --quiet --keep-unit --register=no --settings=no --boot --directory=root \
        --machine="${namespace##*/}-$name" --hostname="$name" \
        --network-namespace-path="$PWD/network" --capability="CAP_NET_ADMIN$kvm" --bind=/dev/net/tun \
        --link-journal=no --resolv-conf=off --timezone=off || code=$?
    umount network
    # 133 is systemd-nspawn's way to say that the container wants to be started again, systemd-nspawn(1) --keep-unit.
    [ "$code" = 133 ] || exit "$code"
done

#!/usr/bin/env bash
# Makes the virtual environment in $1 from the lock file; installs with apt what building libvirt-python and the tests need. Idempotent.
set -euo pipefail
venv=$1
python=${PYTHON:-python3.11}
need=()
for package in gcc pkg-config libvirt-dev python3-dev python3-venv openssh-client qemu-utils xorriso openssh-server sudo systemd git gnupg openssl nftables ufw iproute2; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || need+=("$package")
done
if ((${#need[@]})); then
    [ "$(id -u)" = 0 ] || { echo "salvus: missing packages: ${need[*]}; install them, or run this as root" >&2; exit 2; }
    echo "salvus: installing ${need[*]}"
    # Programs are wanted, not services: sshd must not start. invoke-rc.d(8) asks this file.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        install -m 755 /dev/stdin "$policy" <<<$'#!/bin/sh\nexit 101'
    fi
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${need[@]}" >/dev/null
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# --no-deps: the lock is whole, and older pips look for newer versions of what is named with extras.
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps -e .

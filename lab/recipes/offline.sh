#!/bin/sh
# offline.sh ROOT PACKAGE…  puts the packages and what they need beyond ROOT into a local apt repository inside ROOT, its only apt source:
# `apt-get install` works there at once, without a network. mmdebstrap calls this last, while ROOT still has the real sources.
set -eu
root=$1
shift
repository=$root/srv/apt
mkdir -p "$repository/partial"
chroot "$root" apt-get install -q -y --download-only --no-install-recommends -o Dir::Cache::archives=/srv/apt "$@"
rm -rf "$repository/partial" "$repository/lock"
for deb in "$repository"/*.deb; do
    name=${deb##*/}
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$name" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d ' ' -f 1)"
done >"$repository/Packages"
# With a Release file apt asks for the one list that is there, and for no compressed ones.
printf 'Date: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n %s %s Packages\n' "$(sha256sum <"$repository/Packages" | cut -d ' ' -f 1)" "$(stat -c %s "$repository/Packages")" >"$repository/Release"
rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/apt ./' >"$root/etc/apt/sources.list"
chroot "$root" apt-get update -q

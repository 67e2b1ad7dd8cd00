#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Make the container image `applications` out of this host's own Python: no registry is asked.
set -eu
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
python=$(readlink -f /usr/bin/python3)
library=/usr/lib/$(basename "$python")
mkdir -p "$root/usr/bin" "$root/tmp"
for program in "$python" /usr/bin/sh /usr/bin/sleep /usr/bin/cat "$library"/lib-dynload/*.so; do
    ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true
done | sort -u | while read -r needed; do
    mkdir -p "$root$(dirname "$needed")"
    cp -L "$needed" "$root$needed"
done
cp -L "$python" "$root/usr/bin/python3"
cp -L /usr/bin/sh /usr/bin/sleep /usr/bin/cat "$root/usr/bin/"
mkdir -p "$root/bin" "$root$library"
cp -L /usr/bin/sh "$root/bin/sh"
tar -C "$library" --exclude=__pycache__ --exclude=test -cf - . | tar -C "$root$library" -xf -
tar -C "$root" -cf - . | docker import --change 'ENV PATH=/usr/bin:/bin' - applications >/dev/null

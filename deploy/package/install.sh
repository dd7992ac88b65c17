#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the agent from this archive and starts it. What is in /etc/tetragon stays as it is.
set -e
cd "$(dirname "$0")"
if [ "$(id -u)" != 0 ]; then
	echo "install: run it as root" >&2
	exit 1
fi
mkdir -p /usr/local /usr/lib/systemd/system /etc/tetragon/tetragon.conf.d /etc/tetragon/tetragon.tp.d
# A program that runs cannot be written over, but it can be replaced.
cp -r --remove-destination usr/local/. /usr/local/
cp usr/lib/systemd/system/tetragon.service /usr/lib/systemd/system/
for f in usr/local/lib/tetragon/tetragon.conf.d/*; do
	[ -e "/etc/tetragon/tetragon.conf.d/${f##*/}" ] || cp "$f" /etc/tetragon/tetragon.conf.d/
done
systemctl enable tetragon
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl restart tetragon # also where an older one runs: the new one takes over from it
else
	echo "install: systemd does not run here; the agent starts at the next boot"
fi
echo "Tetragon installed successfully!"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Stops the agent and removes what install.sh has put there. Settings, policies and logs stay.
if [ "$(id -u)" != 0 ]; then
	echo "uninstall: run it as root" >&2
	exit 1
fi
set -x
systemctl stop tetragon
systemctl disable tetragon
rm -f /usr/lib/systemd/system/tetragon.service /etc/systemd/system/default.target.wants/tetragon.service
systemctl daemon-reload
rm -f /usr/local/bin/tetragon /usr/local/bin/tetra
rm -rf /usr/local/lib/tetragon

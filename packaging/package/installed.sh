#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After the files are there. dpkg passes "configure" and the old version, rpm how many are installed.
set -e

how="$1:$2"
if [ -e /run/nodeagent.installing ]; then
	rm /run/nodeagent.installing
	how=configure:
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case "$how" in
configure: | 1:*)
	systemctl enable --now nodeagent.service
	;;
*)
	# An update: not for one that somebody stopped.
	systemctl try-restart nodeagent.service
	;;
esac || echo "nodeagent: it is installed but did not start: systemctl status nodeagent says why" >&2

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After the files are there. dpkg passes "configure" and the old version, rpm how many are installed.
set -e

[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case "$1:$2" in
configure: | 1:*)
	systemctl enable --now nodeagent.service ||
		echo "nodeagent: it is installed but did not start: journalctl -u nodeagent says why" >&2
	;;
*)
	# An update: not for one that somebody stopped.
	systemctl try-restart nodeagent.service || true
	;;
esac

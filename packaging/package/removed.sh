#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After the files are gone. dpkg keeps what was configured until it passes "purge", rpm has no such step.
set -e

case "$1" in
purge | 0)
	rm -rf /var/lib/nodeagent /var/log/nodeagent
	;;
esac
if [ "$1" = purge ]; then
	rm -rf /etc/nodeagent
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	case "$1" in
	remove | purge | 0)
		# Otherwise one that failed is remembered.
		systemctl reset-failed nodeagent.service 2>/dev/null || true
		;;
	esac
fi

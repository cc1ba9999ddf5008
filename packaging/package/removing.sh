#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Before the files go. dpkg passes "remove", rpm 0; an update passes something else.
set -e

[ -d /run/systemd/system ] || exit 0
case "$1" in
remove | 0)
	systemctl disable --now nodeagent.service || true
	;;
esac

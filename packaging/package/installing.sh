#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Before the files are there. dpkg passes "install" also for a package that was removed and comes
# back, which looks like an update after that.
set -e

if [ "$1" = install ]; then
	: >/run/nodeagent.installing
fi

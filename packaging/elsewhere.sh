#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `packaging/elsewhere.sh ROOT COMMAND...` runs a command in a root file system of arm64, where this
# checkout has the path that it has here.
#
# The kernel has QEMU run its programs. Where systemd has not told it so, it is told in a user
# namespace, which has a list of such formats of its own since commit 21ca59b365c0 (v6.7):
# nothing is registered on this machine, and all mounts end with the command.
set -euo pipefail

format=/usr/lib/binfmt.d/qemu-aarch64.conf
if ! [[ -e $format ]]; then
	echo "elsewhere: $format is missing: install qemu-user-static" >&2
	exit 1
fi
script='
format=$1 root=$2 checkout=$3
shift 3
known=/proc/sys/fs/binfmt_misc
if ! [[ -e $known/qemu-aarch64 ]]; then
	if ! mount -t binfmt_misc binfmt_misc $known 2>/dev/null; then
		echo "elsewhere: to run programs of arm64 takes Linux 6.7, or a systemd that knows $format" >&2
		exit 1
	fi
	cat "$format" >$known/register
fi
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$checkout"
mount --bind "$checkout" "$root$checkout"
exec chroot "$root" env --chdir="$checkout" "$@"
'
root=$(realpath "$1")
shift
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp
exec unshare --user --map-root-user --mount bash -euc "$script" bash "$format" "$root" "$PWD" "$@"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `packaging/elsewhere.sh ROOT COMMAND...` runs a command in the root file system of another
# architecture, where this checkout has the path that it has here.
#
# The kernel has QEMU run its programs. It is told so in a user namespace, which has a list of
# such formats of its own since commit 21ca59b365c0 (v6.7): nothing is registered on this
# machine, nobody has to be root, and all mounts end with the command.
set -euo pipefail

script='
format=$1 root=$2 checkout=$3
shift 3
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
cat "$format" >/proc/sys/fs/binfmt_misc/register
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
exec unshare --user --map-root-user --mount bash -euc "$script" bash \
	/usr/lib/binfmt.d/qemu-aarch64.conf "$root" "$PWD" "$@"

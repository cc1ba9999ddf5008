# SPDX-License-Identifier: Apache-2.0
"""A Debian 11 for arm64, without systemd, and what happens to the package and the image in it.

`make test-arm64` makes it: what the package needs, and a shell.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from tests.packaging import oldest
from tests.packaging.guest import HOME, System
from tests.vm.arm64 import FOLDER
from tests.vm.debian import make_root, run, told
from tests.vm.kernels import ARM

ARCHIVE: Final = FOLDER / "oldest.cpio"
TOOLS: Final = (
    *("bash", "coreutils", "dash", "diffutils", "dpkg", "findutils", "grep", "gzip"),
    *("libc-bin", "mount", "sed", "tar"),
)

INIT: Final = f"""\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
exec {HOME}/run
"""
SYSTEM: Final = System(ARM, ARCHIVE, INIT, "echo b >/proc/sysrq-trigger")

DEB: Final = Path("/dist/nodeagent.deb")
ONE: Final = Path("/dist/one")
LAYER: Final = Path("/dist/layer.tar.gz")
WORDS: Final = """\
streamed() {
    # What the agent tells of a program that is started as soon as it is ready.
    "$@" run --duration 20 --sink stdout --format json >/tmp/events 2>/tmp/errors \\
        --sink https --set sinks.https.url=http://127.0.0.1:1/ --set sinks.https.batch_seconds=0 \\
        --sink kafka --set sinks.kafka.brokers='["127.0.0.1:1"]' --set sinks.kafka.topic=events \\
        --set shutdown_seconds=1 --set spool.folder=/tmp/spool --set detect.sigma='["/rule.yml"]' &
    while kill -0 $! && ! grep -q ' ready ' /tmp/errors; do sleep 0.2; done
    /tmp/something-new --here
    wait $!
    code=$?
    cat /tmp/errors >&2
    cat /tmp/events
    return $code
}
"""
RULE: Final = """\
title: A rule
logsource: {category: process_creation}
detection: {s: {CommandLine|re: 'hee*re'}, condition: s}
"""
STEPS: Final = {
    "install": f"dpkg --install {DEB}",
    "version": "nodeagent --version",
    "one file": f"{ONE} --version",
    # What `ldd -r` does.
    "symbols": """
        cd /usr/lib/nodeagent
        libraries=$(find _internal -name '*.so*' ! -name libolder.so -printf './%p:')
        export LD_TRACE_LOADED_OBJECTS=1 LD_WARN=1 LD_BIND_NOW=1
        linked() {
            /lib/ld-linux-aarch64.so.1 --preload "$1" --library-path _internal ./nodeagent 2>&1
        }
        linked ./_internal/libolder.so:$libraries
        echo without
        linked $libraries
    """,
    "doctor": "nodeagent doctor",
    "configuration": "nodeagent config check",
    "stream": f"""
        cp /bin/true /tmp/something-new
        echo "{RULE}" >/rule.yml
        streamed nodeagent
    """,
    "image": f"""
        mkdir /image
        tar -xf {LAYER} -C /image
        cp /rule.yml /image
        mount --rbind /proc /image/proc
        mount --rbind /sys /image/sys
        chroot /image /usr/bin/nodeagent --version
    """,
    "stream of the image": "streamed chroot /image /usr/bin/nodeagent",
    "purge": "dpkg --purge nodeagent",
    "purged": "find / -xdev -name '*nodeagent*' | grep -vE '^/(image|dist)/'",
}


def make() -> None:
    """Write the archive; raises FetchError."""
    folder = FOLDER / "oldest"
    shutil.rmtree(folder, ignore_errors=True)
    make_root(oldest.SUITE, ARM, (*oldest.PACKAGES, *TOOLS), folder)
    for part in ("proc", "sys", "dev", "tmp", "run"):
        (folder / part).mkdir(exist_ok=True)
    run("bsdtar", "--format=newc", "-cf", str(ARCHIVE), "-C", str(folder), ".")
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(told("arm64", "making a Debian 11", make))

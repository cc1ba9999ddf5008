# SPDX-License-Identifier: Apache-2.0
"""Processes that call themselves something that they are not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.event import Event, Exec

__all__ = ["Disguise"]

KERNEL_NAMES: Final = (
    *("kworker", "kthreadd", "ksoftirqd", "kswapd", "kauditd", "kdevtmpfs", "khugepaged"),
    *("kcompactd", "khungtaskd", "kintegrityd", "kblockd", "kthrotld", "ksmd", "migration/"),
    *("cpuhp/", "rcu_sched", "rcu_preempt", "rcu_gp", "rcu_par_gp", "rcu_tasks", "oom_reaper"),
    *("idle_inject/", "irq/", "scsi_eh_", "jbd2/", "ext4-rsv-", "xfsaild/", "writeback"),
)
"""How names of threads of the kernel start."""
SHOWN_NAMES: Final = tuple(f"[{name}" for name in KERNEL_NAMES)
"""How `ps` shows them."""
ANY_NAME: Final = KERNEL_NAMES + SHOWN_NAMES
STARTS: Final = frozenset(name[:4] for name in ANY_NAME)
"""One look for the many names that are none of these; none of these is shorter."""


class Disguise:
    """Looks at names where processes start others, talk, and end: nothing tells of a new one."""

    name = "disguise"
    kinds: ClassVar[tuple[str, ...]] = ("exec", "fork", "exit", "connect", "accept", "listen")

    def inspect(self, event: Event) -> Iterable[Signal]:
        """A thread of the kernel has no program."""
        process = event.process
        if process is None or not process.path:
            return ()
        claimed = process.task.comm
        if isinstance(event, Exec) and event.argv and event.argv[0][:1] == "[":
            claimed = event.argv[0]
        if claimed[:4] not in STARTS or not claimed.startswith(ANY_NAME):
            return ()
        return (Signal("kernel_name", event, {"claimedName": claimed}, key=claimed),)

# SPDX-License-Identifier: Apache-2.0
"""Cgroups that nothing is reported of, as they come and go."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Collection
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self

from nodeagent.errors import BpfError
from nodeagent.kernel.cgroup import ids_below, open_hierarchy
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.policy import Policy

__all__ = ["ExcludedCgroups"]

log: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
REMEMBERED_LOOKS: Final = 12


class ExcludedCgroups(AbstractContextManager["ExcludedCgroups"]):
    """Keeps the kernel's table in step with the folders below some paths."""

    def __init__(
        self, libbpf: Libbpf, policy: Policy, paths: Collection[str], controller: str
    ) -> None:
        """Put those that are there in force; raises BpfError without cgroups.

        `controller` as kernel/cgroup.py has it.
        """
        self.ids: set[int] = set()
        """Of all of them, always the same set."""
        self._policy = policy
        self._paths = paths
        self._full = False
        self._recent: deque[set[int]] = deque(maxlen=REMEMBERED_LOOKS)
        self._root = open_hierarchy(libbpf, controller)
        self._look()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the root."""
        os.close(self._root)

    async def follow(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        found = set(ids_below(self._root, self._paths))
        # What is gone stays out until late events of it have come.
        self._recent.append(found)
        self.ids.clear()
        self.ids.update(*self._recent)
        try:
            self._policy.exclude_cgroups(found)
        except BpfError as error:
            # The others are left out by the pipeline, which costs more.
            if not self._full:
                log.warning("excluded_cgroups_full cgroups=%d why=%s", len(found), error)
            self._full = True

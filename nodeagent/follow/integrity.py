# SPDX-License-Identifier: Apache-2.0
"""Looks at the kernel's own pointers: at the start, when a module was loaded, and now and then."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from nodeagent.errors import BpfError
from nodeagent.kernel.integrity import Addresses, KernelCheck
from nodeagent.ledger import Ledger

__all__ = ["IntegrityFollower"]

log: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
"""Between two looks when nothing happens."""


class IntegrityFollower:
    """What is found comes on the rings."""

    def __init__(self, check: KernelCheck, addresses: Addresses, ledger: Ledger) -> None:
        """Where to look is found out by `follow`; the ledger counts modules."""
        self._check = check
        self._addresses = addresses
        self._ledger = ledger
        self._modules = 0
        self._asked = asyncio.Event()
        self._said = ""

    def ask(self) -> None:
        """Look soon when a module was loaded. Never waits."""
        modules = self._ledger.decoded["module"]
        if modules != self._modules:
            self._modules = modules
            self._asked.set()

    async def follow(self) -> None:
        """Look again and again, where the kernel says where its pointers are."""
        try:
            self._check.learn(await asyncio.to_thread(self._addresses.read))
        except BpfError as error:
            log.info("kernel_not_checked why=%r", str(error))
            return
        while True:
            self._asked.clear()
            self._look()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_SECONDS)

    def _look(self) -> None:
        said = ""
        try:
            self._check.look()
        except BpfError as error:
            said = str(error)
        if said and said != self._said:
            log.warning("kernel_not_checked why=%r", said)
        self._said = said

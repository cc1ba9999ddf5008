# SPDX-License-Identifier: Apache-2.0
"""An outlet with a spool in a process that a test can kill.

    python -m tests.delivery.spooling URL CA_FILE FOLDER RUN

Offers numbered events until it is killed; the run `end` only sends what is there.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nodeagent.ledger import Ledger
from nodeagent.outlet import Outlet
from nodeagent.sink import Batch
from nodeagent.spool import Spool
from sinks.https import Https
from tests.events import an_exec

SIZE = 20


async def spool(url: str, ca_file: str, folder: str, run: str) -> None:
    config = Https.Config(
        url=url, ca_file=ca_file, compression="zstd", batch_seconds=0.01, queue_events=1000
    )
    waiting = Spool(Path(folder), 1 << 28)
    ledger = Ledger()
    counts = ledger.sink("https")
    outlet = Outlet("https", Https(config), config, counts, print, spool=waiting)
    await outlet.open()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outlet.run())
        print("ready", flush=True)
        number = 0
        while run != "end":
            if counts.queued < 500:
                argv = [(run, str(each)) for each in range(number, number + SIZE)]
                outlet.offer(Batch([an_exec(each) for each in argv]))
                number += SIZE
            await asyncio.sleep(0.001)
        await outlet.drain(60)
        task.cancel()
    await outlet.close()
    assert ledger.imbalances() == []
    assert not counts.spooled


if __name__ == "__main__":
    asyncio.run(spool(*sys.argv[1:]))

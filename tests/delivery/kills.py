# SPDX-License-Identifier: Apache-2.0
"""An outlet with a spool that is killed again and again, and what its receiver makes of it."""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import trustme

from tests.delivery.receiver import Request, receiving

Keys = dict[str, dict[int, set[str]]]
"""Of each run: the keys under which each of its events came, by its number."""


async def killed(folder: Path, times: int, say: Callable[[str], None] = lambda _: None) -> Keys:
    """Kill it so often under load, at random moments; the last run sends what is left.

    The answers of the server are 503 now and then.
    """
    authority = trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    moments = random.Random(11)
    async with receiving(context) as receiver:
        url = f"https://localhost:{receiver.port}/"
        program = (sys.executable, "-m", "tests.delivery.spooling")
        words = (*program, url, str(ca_file), str(folder / "spool"))
        for attempt in range(times):
            say(f"kill {attempt + 1} of {times}")
            receiver.answers = [(503, {})] * moments.randrange(3)
            agent = await asyncio.create_subprocess_exec(
                *words, str(attempt), stdout=asyncio.subprocess.PIPE
            )
            assert agent.stdout is not None
            assert await agent.stdout.readline() == b"ready\n"
            await asyncio.sleep(moments.uniform(0.01, 0.3))
            agent.kill()
            await agent.wait()
        agent = await asyncio.create_subprocess_exec(*words, "end")
        assert await agent.wait() == 0
    return _keys(receiver.requests)


def under_two_keys(keys: Keys) -> int:
    """Events that a receiver takes for two."""
    return sum(len(each) > 1 for run in keys.values() for each in run.values())


def lost_between(keys: Keys) -> int:
    """Events that are missing before one that came later from the same run.

    What came last may not have been on the disk yet.
    """
    return sum(max(run) + 1 - len(run) for run in keys.values())


def _keys(requests: list[Request]) -> Keys:
    keys: Keys = defaultdict(lambda: defaultdict(set))
    for request in requests:
        for event in request.events:
            run, number = event["argv"]
            keys[run][int(number)].add(request.key)
    return keys

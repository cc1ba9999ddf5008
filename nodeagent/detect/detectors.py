# SPDX-License-Identifier: Apache-2.0
"""All detectors that the agent brings."""

from __future__ import annotations

from nodeagent.detect import Detector, ProcessOf
from nodeagent.detect.commands import Commands
from nodeagent.detect.containers import Containers
from nodeagent.detect.destruction import Destruction
from nodeagent.detect.disguise import Disguise
from nodeagent.detect.drift import Drift
from nodeagent.detect.integrity import Integrity
from nodeagent.detect.lists import ThreatLists
from nodeagent.detect.memory import Memory
from nodeagent.detect.network import NetworkTalk
from nodeagent.detect.pipes import Pipes
from nodeagent.detect.posture import Posture
from nodeagent.detect.reach import Expected, Reach
from nodeagent.detect.sensitive import Sensitive
from nodeagent.detect.shells import Shells
from nodeagent.detect.talkers import Talkers
from nodeagent.detect.tampering import Tampering
from nodeagent.detect.tunnel import Tunnel

__all__ = ["own_detectors"]


def own_detectors(
    lists: ThreatLists,
    expected: Expected,
    process_of: ProcessOf = lambda _pid, _process: None,
) -> tuple[Detector, ...]:
    """New ones, which remember nothing yet; `process_of` finds a process by its number."""
    return (
        Shells(),
        Pipes(),
        Memory(process_of),
        Tampering(),
        Containers(),
        Posture(),
        Drift(),
        Disguise(),
        Destruction(),
        Sensitive(),
        Commands(),
        NetworkTalk(lists),
        Reach(expected),
        Talkers(),
        Tunnel(),
        Integrity(),
    )

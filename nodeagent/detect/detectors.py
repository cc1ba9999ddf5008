# SPDX-License-Identifier: Apache-2.0
"""All detectors that the agent brings."""

from __future__ import annotations

from nodeagent.detect import Detector
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
from nodeagent.detect.sensitive import Sensitive
from nodeagent.detect.shells import Shells

__all__ = ["own_detectors"]


def own_detectors(lists: ThreatLists) -> tuple[Detector, ...]:
    """New ones, which remember nothing yet."""
    return (
        Shells(),
        Pipes(),
        Memory(),
        Containers(),
        Posture(),
        Drift(),
        Disguise(),
        Destruction(),
        Sensitive(),
        Commands(),
        NetworkTalk(lists),
        Integrity(),
    )

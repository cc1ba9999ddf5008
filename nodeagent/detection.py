# SPDX-License-Identifier: Apache-2.0
"""All detectors that the configuration asks for: our own, rules of Sigma, and plug-ins."""

from __future__ import annotations

from collections import Counter
from typing import Final

from nodeagent.config import Config
from nodeagent.detect import Detector, ProcessOf
from nodeagent.detect.detectors import own_detectors
from nodeagent.detect.engine import Engine
from nodeagent.detect.lists import ThreatLists
from nodeagent.detect.plugin import Plugin
from nodeagent.detect.sigma.detector import SigmaRules
from nodeagent.errors import ConfigError
from nodeagent.ledger import Ledger
from nodeagent.parts import brought, lists_of, sigma_of, tell_rules

__all__ = ["Detection", "plugins_of"]

DETECTOR_GROUP: Final = "nodeagent.detectors"


class Detection:
    """What looks for what is wrong, and those of its parts that a reload changes."""

    def __init__(
        self, config: Config, ledger: Ledger, boot_ns: int, node_name: str, process_of: ProcessOf
    ) -> None:
        """Raises ConfigError for what cannot be used; `process_of` as for `own_detectors`."""
        chosen = config.detect
        rules = sigma_of(config)
        tell_rules(rules, config, ledger)
        self.lists = ThreatLists(lists_of(config))
        self.expected = chosen.network.expected()
        self.sigma = SigmaRules(rules)
        plugins = plugins_of(config, ledger.failures)
        ledger.rules |= {each.name: len(each.rules) for each in plugins}
        own = own_detectors(self.lists, self.expected, process_of)
        detectors: tuple[Detector, ...] = (*own, self.sigma, *plugins)
        self.engine: Engine | None = None
        if chosen.findings:
            self.engine = Engine(
                detectors,
                boot_ns=boot_ns,
                node=node_name,
                failures=ledger.failures,
                signals=chosen.signals,
                update_seconds=chosen.update_seconds,
            )


def plugins_of(config: Config, failures: Counter[str]) -> list[Plugin]:
    """Those that are asked for; raises ConfigError for one that cannot be used."""
    found: list[Plugin] = []
    chosen = list(dict.fromkeys(config.detect.plugins))
    for entry in brought(DETECTOR_GROUP, chosen, "detect.plugins"):
        name = entry.name
        try:
            detector = entry.load()()
        except Exception as error:  # the code of others may raise anything
            raise ConfigError(
                f"detect.plugins: {name} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        found.append(Plugin(name, detector, failures))
    names = Counter(rule for each in found for rule in each.rules)
    if twice := [rule for rule, count in names.items() if count > 1]:
        raise ConfigError(f"detect.plugins: several plug-ins have a rule {', '.join(twice)}")
    return found

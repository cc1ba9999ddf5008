# SPDX-License-Identifier: Apache-2.0
"""Figures: what was measured, beside the bar that it should keep."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"
NAME_WIDTH: Final = 42


@dataclass
class Figure:
    """One quantity with all values that were measured."""

    name: str
    unit: str
    values: Sequence[float]
    bar: float | None = None
    """The largest median that passes; None: there is no bar."""
    aim: float | None = None
    """What is wished for besides; not meeting it is no miss."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else is good to know, kept in the JSON."""

    @property
    def median(self) -> float:
        """Half of the values are not above it."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """`pass`, `MISS`, or nothing where there is no bar."""
        if self.bar is None:
            return ""
        return "pass" if self.median <= self.bar else "MISS"

    def row(self) -> str:
        """One line of the table."""
        spread = f"{_short(min(self.values))} - {_short(max(self.values))}"
        bar = "" if self.bar is None else f"<= {_short(self.bar)}"
        if self.aim is not None:
            bar += f" ({_short(self.aim)})"
        name = f"{self.name}, {self.unit}" if self.unit else self.name
        median_ = _short(self.median)
        return f"{name:<{NAME_WIDTH}}{median_:>8}  {spread:<15}{bar:<15}{self.verdict}".rstrip()


def table(figures: Iterable[Figure]) -> str:
    """All figures for a terminal of 80 to 85 columns."""
    head = f"{'figure':<{NAME_WIDTH}}{'median':>8}  {'min - max':<15}{'bar (aim)':<15}"
    return "\n".join([head.rstrip(), *(figure.row() for figure in figures)])


def keep(figures: Iterable[Figure], quick: bool) -> Path:
    """Write all figures as JSON into a new file of `RESULTS`; its path."""
    now = datetime.now(UTC)
    shown = {
        "time": now.isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine(),
        "figures": [
            {
                "name": figure.name,
                "unit": figure.unit,
                "median": figure.median,
                "values": list(figure.values),
                "bar": figure.bar,
                "aim": figure.aim,
                "verdict": figure.verdict,
                **figure.facts,
            }
            for figure in figures
        ],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(shown, indent=2) + "\n")
    return path


def machine() -> dict[str, Any]:
    """Where it was measured; the load says how quiet the machine was at this moment."""
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "commit": _commit(),
    }


def _commit() -> str | None:
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _short(value: float) -> str:
    """Three digits, whole numbers as they are."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

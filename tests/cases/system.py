# SPDX-License-Identifier: Apache-2.0
"""Modules, eBPF, signals."""

from __future__ import annotations

from tests.cases import Case

CASES: list[Case] = []

# SPDX-License-Identifier: Apache-2.0
"""Executable memory, and the memory of other processes."""

from __future__ import annotations

from tests.cases import Case

CASES: list[Case] = []

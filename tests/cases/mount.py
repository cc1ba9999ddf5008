# SPDX-License-Identifier: Apache-2.0
"""Mounts and roots."""

from __future__ import annotations

from tests.cases import Case

CASES: list[Case] = []

# SPDX-License-Identifier: Apache-2.0
"""Sockets and their descriptors."""

from __future__ import annotations

from tests.cases import Case

CASES: list[Case] = []

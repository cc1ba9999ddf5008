# SPDX-License-Identifier: Apache-2.0
"""User and group ids, capabilities, namespaces, keys."""

from __future__ import annotations

from tests.cases import Case

CASES: list[Case] = []

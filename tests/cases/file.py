# SPDX-License-Identifier: Apache-2.0
"""Names, permissions and owners of files."""

from __future__ import annotations

from tests.cases import Case

CASES: list[Case] = []

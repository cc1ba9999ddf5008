# SPDX-License-Identifier: Apache-2.0
"""Events and findings in the Open Cybersecurity Schema Framework, as lines of JSON.

`rows.py` says which class and activity each kind is, `shapes.py` how the objects of OCSF
are made of ours, `encoder.py` compiles one function per kind from both.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from nodeagent.encode import Encode

__all__ = ["Version", "ocsf_encoder"]

Version = Literal["1.3.0", "1.8.0"]
"""The first is the newest that Amazon Security Lake takes."""


@cache
def ocsf_encoder(version: Version) -> Encode:
    """Compiled at the first use, and the same for all who ask."""
    # Who sends no OCSF does not pay for it.
    from nodeagent.ocsf.encoder import make_encoder  # noqa: PLC0415

    return make_encoder(version)

# SPDX-License-Identifier: Apache-2.0
"""The built eBPF object, opened but not loaded: that needs no root."""

from __future__ import annotations

import functools

from nodeagent.kernel.btf import Btf
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object


@functools.cache
def object_btf_bytes() -> bytes:
    """The BTF of the object as it stands in the file."""
    with BpfObject(Libbpf(), find_object()) as opened:
        return opened.btf_bytes()


@functools.cache
def object_btf() -> Btf:
    """The types of the object."""
    return Btf(object_btf_bytes())

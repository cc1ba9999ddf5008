# SPDX-License-Identifier: Apache-2.0
"""What is said where tracepoints cannot be opened."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nodeagent.errors import BpfError
from nodeagent.kernel import tracepoint


class Refusing:
    """In the place of libbpf."""

    def syscall(self, *arguments: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    ("level", "named"), [("3", "CAP_SYS_ADMIN"), ("2", "CAP_PERFMON"), ("", "CAP_PERFMON")]
)
def test_refusal_names_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, named: str
) -> None:
    setting = tmp_path / "perf_event_paranoid"
    setting.write_text(f"{level}\n")
    monkeypatch.setattr(tracepoint, "PARANOID", setting)
    with pytest.raises(BpfError, match=named) as refused:
        tracepoint.open_tracepoint(Refusing(), 1)  # type: ignore[arg-type]
    assert refused.value.errno == errno.EACCES

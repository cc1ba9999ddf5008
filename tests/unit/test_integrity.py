# SPDX-License-Identifier: Apache-2.0
"""Where the kernel has its tables, as /proc/kallsyms says it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from nodeagent.errors import BpfError
from nodeagent.kernel.integrity import Addresses, Symbols, Table

SHOWN = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81400000 T _etext
ffffffff82000000 D sys_call_table
ffffffff82000000 D alias_of_it
ffffffff82000e40 D ia32_sys_call_table
ffffffff82001c80 d what_follows
ffffffff82002000 d tcp4_seq_ops
ffffffff82002020 d udp_seq_ops
ffffffff82002400 d far_away
ffffffff83000000 B _end
ffffffffc0000000 t raw_seq_ops\t[rootkit]
"""


def read(
    folder: Path, symbols: str, modules: str = ""
) -> tuple[Symbols, list[tuple[str, int, int]]]:
    (folder / "kallsyms").write_text(symbols)
    (folder / "modules").write_text(modules)
    with closing(Addresses(folder / "kallsyms", folder / "modules")) as addresses:
        return addresses.read(), list(addresses.modules())


def test_tables_end_where_the_next_symbol_starts_and_have_no_more_pointers_than_they_can(
    tmp_path: Path,
) -> None:
    symbols, _ = read(tmp_path, SHOWN)
    assert symbols.image == (0xFFFFFFFF81000000, 0xFFFFFFFF83000000)
    assert symbols.tables == (
        Table("sys_call_table", 0xFFFFFFFF82000000, 456),
        Table("ia32_sys_call_table", 0xFFFFFFFF82000E40, 456),
        Table("tcp4_seq_ops", 0xFFFFFFFF82002000, 4),
        Table("udp_seq_ops", 0xFFFFFFFF82002020, 4),
    )


def test_modules_are_named_with_their_addresses(tmp_path: Path) -> None:
    line = "dummy 16384 0 - Live 0xffffffffc0123000 (O)\n"
    _, modules = read(tmp_path, SHOWN, line)
    assert modules == [("dummy", 0xFFFFFFFFC0123000, 0xFFFFFFFFC0127000)]


def test_hidden_addresses_are_told(tmp_path: Path) -> None:
    hidden = "".join(f"{'0' * 16}{line[16:]}" for line in SHOWN.splitlines(keepends=True))
    with pytest.raises(BpfError, match="CAP_SYSLOG"):
        read(tmp_path, hidden)


def test_kernel_that_names_no_tables_is_told(tmp_path: Path) -> None:
    code = "".join(line for line in SHOWN.splitlines(keepends=True) if " T " in line)
    with pytest.raises(BpfError, match="CONFIG_KALLSYMS_ALL"):
        read(tmp_path, code)


def test_kernel_that_names_nothing_is_told(tmp_path: Path) -> None:
    with closing(Addresses(tmp_path / "none", tmp_path / "none")) as addresses:
        with pytest.raises(BpfError, match="cannot be opened"):
            addresses.read()
        assert list(addresses.modules()) == []

# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel still runs its own code.

Rootkits change pointers to functions: of system calls, and of what lists files, processes,
modules and connections. All of these lead into the kernel's own image, unless somebody
has changed them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from nodeagent.errors import BpfError
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.object import BpfObject
from nodeagent.kernel.wire import integers, pack_into

__all__ = ["Addresses", "KernelCheck", "Symbols"]

SYMBOLS: Final = Path("/proc/kallsyms")
MODULES: Final = Path("/proc/modules")

CALLS: Final = ("sys_call_table", "ia32_sys_call_table", "compat_sys_call_table")
LISTS: Final = (
    *("tcp4_seq_ops", "tcp6_seq_ops", "udp_seq_ops", "udp6_seq_ops", "raw_seq_ops", "raw6_seq_ops"),
    *("unix_seq_ops", "packet_seq_ops", "modules_op", "kallsyms_op", "mounts_op"),
)
"""struct seq_operations: what /proc/net/tcp, /proc/modules and others say."""
FILES: Final = (
    *("proc_root_operations", "proc_root_inode_operations", "proc_dir_operations"),
    *("proc_dir_inode_operations", "proc_tgid_base_operations"),
    *("proc_tgid_base_inode_operations", "modules_proc_ops", "proc_modules_operations"),
)
"""struct file_operations and the like: which folders /proc has, and what is in them."""
POINTERS: Final = dict.fromkeys(CALLS, 600) | dict.fromkeys(LISTS, 4) | dict.fromkeys(FILES, 32)
"""How many pointers a table has at most, by its name. The next symbol ends it before that."""
IMAGE: Final = ("_stext", "_end")
WANTED: Final = frozenset(name.encode() for name in (*POINTERS, *IMAGE))
ADDRESS_DIGITS: Final = 16
NAME_AT: Final = 19
"""Behind an address, the type and blanks."""
POINTER_BYTES: Final = 8


class Table(NamedTuple):
    """Pointers that follow each other."""

    name: str
    start: int
    pointers: int


class Symbols(NamedTuple):
    """Where this kernel has what is looked at."""

    image: tuple[int, int]
    tables: tuple[Table, ...]


class Addresses:
    """Where the kernel has what is looked at.

    It tells whoever had CAP_SYSLOG when the files were opened, and hides it from others.
    """

    def __init__(self, symbols: Path = SYMBOLS, modules: Path = MODULES) -> None:
        """Open them; what cannot be opened is told by `read`."""
        self._symbols = _opened(symbols)
        self._modules = _opened(modules)

    def close(self) -> None:
        """Let go of the files."""
        for file in (self._symbols, self._modules):
            if file is not None:
                file.close()

    def read(self) -> Symbols:
        """Find the tables, in some tenths of a second; raises BpfError when there is none."""
        if self._symbols is None:
            raise BpfError(f"{SYMBOLS} cannot be opened")
        self._symbols.seek(0)
        found: dict[str, int] = {}
        ends: dict[str, int] = {}
        open_ended: dict[str, int] = {}
        for line in self._symbols:
            if open_ended:
                address = int(line[:ADDRESS_DIGITS], 16)
                for name in [name for name, start in open_ended.items() if address > start]:
                    ends[name] = address
                    del open_ended[name]
            # What belongs to a module has its name behind it.
            if (symbol := line[NAME_AT:-1]) in WANTED:
                name = symbol.decode()
                found[name] = open_ended[name] = int(line[:ADDRESS_DIGITS], 16)
        return _symbols(found, ends)

    def modules(self) -> Iterator[tuple[str, int, int]]:
        """Those that can be seen: name, start and end."""
        if self._modules is None:
            return
        self._modules.seek(0)
        for line in self._modules:
            name, size, _, _, _, start = line.decode().split()[:6]
            yield name, int(start, 16), int(start, 16) + int(size)


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except OSError:
        return None


def _symbols(found: Mapping[str, int], ends: Mapping[str, int]) -> Symbols:
    start, end = (found.get(name, 0) for name in IMAGE)
    if not start:
        raise BpfError("the kernel hides its addresses: start the agent with CAP_SYSLOG")
    tables = tuple(
        Table(name, found[name], min((ends[name] - found[name]) // POINTER_BYTES, most))
        for name, most in POINTERS.items()
        if name in ends
    )
    if not tables or not end:
        raise BpfError(f"{SYMBOLS} names no tables: the kernel lacks CONFIG_KALLSYMS_ALL")
    return Symbols((start, end), tables)


class KernelCheck:
    """Looks by programs of the object, and tells what is new."""

    def __init__(self, loaded: BpfObject, btf: Btf, addresses: Addresses) -> None:
        """`btf` holds the object's own types."""
        self._loaded = loaded
        self._addresses = addresses
        names = ("kernel_table", "kernel_hook", "kernel_check")
        self._layouts = {name: btf.struct(name) for name in names}
        self._told: list[dict[str, int]] = []
        self._wanted = 0

    def learn(self, symbols: Symbols) -> None:
        """Look there from now on; raises BpfError."""
        start, end = symbols.image
        for number, table in enumerate(symbols.tables):
            values = {"start": table.start, "pointers": table.pointers}
            values |= {"image_start": start, "image_end": end}
            self._write("kernel_table", number, values | {"name": table.name.encode()})
        self._wanted = sum(table.pointers for table in symbols.tables)

    def look(self) -> None:
        """Tell the stream of pointers that lead elsewhere, each once; raises BpfError.

        Also when some could not be read.
        """
        self._loaded.iterate("check_kernel")
        seen = self._read("kernel_check", 0)
        hooks = [self._read("kernel_hook", number) for number in range(seen["hooks"])]
        new = [hook for hook in hooks if hook not in self._told]
        self._told = hooks
        if new:
            self._tell(new, seen)
        if missed := self._wanted - seen["pointers"]:
            raise BpfError(f"{missed} of {self._wanted} pointers of the kernel cannot be read")

    def _tell(self, hooks: list[dict[str, int]], seen: dict[str, int]) -> None:
        modules = list(self._addresses.modules())
        for number, hook in enumerate(hooks):
            owners = (name for name, start, end in modules if start <= hook["address"] < end)
            self._write("kernel_hook", number, hook | {"module": next(owners, "").encode()})
        self._write("kernel_check", 0, seen | {"hooks": len(hooks)})
        self._loaded.iterate("tell_hooks")

    def _read(self, name: str, number: int) -> dict[str, int]:
        layout = self._layouts[name]
        return integers(layout, self._loaded.lookup_bytes(f"{name}s", number, layout.size))

    def _write(self, name: str, number: int, values: Mapping[str, int | bytes]) -> None:
        packed = bytearray(self._layouts[name].size)
        pack_into(self._layouts[name], packed, values)
        self._loaded.update(f"{name}s", number, bytes(packed))

# SPDX-License-Identifier: Apache-2.0
"""The eBPF object: opened, set up, loaded, attached, and taken down whole.

Nothing is pinned. Programs, maps and links live exactly as long as the file
descriptors of this process, so even SIGKILL leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from nodeagent.errors import BpfError
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.cgroup import open_root
from nodeagent.kernel.libbpf import Libbpf, OpenOptions
from nodeagent.kernel.program import ProgramFacts, program_facts
from nodeagent.kernel.tracepoint import Tracepoints, open_tracepoint
from nodeagent.kernel.wire import pack
from nodeagent.places import shipped

__all__ = ["BpfObject", "find_object"]

ELF_MAGIC = b"\x7fELF"
READ_BYTES = 1 << 20
DRAIN_ENTRIES = 256
"""Taken out of a map by one call."""
DETACHED_AT_ONCE: Final = 16
"""Halves the time: part of the wait for a tracepoint is under a lock of the kernel."""

FILE_NAME: Final = "nodeagent.bpf.o"


def find_object() -> Path:
    """Where the built object lies: beside the code, or in a checkout in bpf/."""
    package = Path(__file__).parent
    return shipped(package / FILE_NAME, package.parents[1] / "bpf" / FILE_NAME)


class BpfObject:
    """A context manager around `struct bpf_object`."""

    def __init__(self, libbpf: Libbpf, path: Path) -> None:
        """Open the object file; raises BpfError when it cannot be used."""
        self._libbpf = libbpf
        self._calls = libbpf.calls
        self.path = path
        self._links: list[int] = []
        self._places: dict[str, int] = {}
        self._handle: int | None = None
        try:
            image = path.read_bytes()
        except OSError as error:
            raise BpfError(f"the eBPF object {path} cannot be read: {error.strerror}") from error
        if not image.startswith(ELF_MAGIC):
            raise BpfError(f"{path} is no eBPF object: build it again with `make build`")
        options = OpenOptions(ctypes.sizeof(OpenOptions), b"nodeagent")
        self._handle = libbpf.check(
            self._calls.bpf_object__open_mem(image, len(image), ctypes.byref(options)),
            f"the eBPF object {path} is damaged, build it again with `make build`",
        )
        self.programs = self._walk(
            self._calls.bpf_object__next_program, self._calls.bpf_program__name
        )
        self._maps = self._walk(self._calls.bpf_object__next_map, self._calls.bpf_map__name)
        self.possible_cpus: int = libbpf.check(
            self._calls.libbpf_num_possible_cpus(), "the number of CPUs is not known"
        )

    def __enter__(self) -> Self:
        """The object itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Detach and unload everything."""
        self.close()

    def close(self) -> None:
        """Detach and unload everything; may be called twice."""
        self.detach()
        while self._places:
            os.close(self._places.popitem()[1])
        if self._handle is not None:
            self._calls.bpf_object__close(self._handle)
            self._handle = None

    def btf(self) -> Btf:
        """The object's own types."""
        return Btf(self.btf_bytes())

    def btf_bytes(self) -> bytes:
        """The object's own types as BTF; raises BpfError when it was built without."""
        size = ctypes.c_uint32()
        handle = self._libbpf.check(
            self._calls.bpf_object__btf(self._handle), "the eBPF object has no BTF"
        )
        data = self._calls.btf__raw_data(handle, ctypes.byref(size))
        return ctypes.string_at(data, size.value)

    def section(self, program: str) -> str:
        """What a program is for, for example `tp/syscalls/sys_exit_openat`."""
        name: bytes = self._calls.bpf_program__section_name(self.programs[program])
        return name.decode()

    def set_constants(self, btf: Btf, values: Mapping[str, int]) -> None:
        """Fill `struct constants` before load."""
        offset, layout = btf.variable(".rodata", "constants")
        size = ctypes.c_size_t()
        start = self._calls.bpf_map__initial_value(self._map_handle(".rodata"), ctypes.byref(size))
        packed = pack(layout, values)
        ctypes.memmove(start + offset, packed, len(packed))

    def set_max_entries(self, name: str, entries: int) -> None:
        """The size of a map before load; bytes for a ring."""
        self._libbpf.check(
            self._calls.bpf_map__set_max_entries(self._map_handle(name), entries),
            f"map {name} cannot have {entries} entries",
        )

    def entry_bytes(self, name: str) -> list[int]:
        """How large a key and a value of a map are."""
        handle = self._map_handle(name)
        return [self._calls.bpf_map__key_size(handle), self._calls.bpf_map__value_size(handle)]

    def share(self, name: str, fd: int) -> None:
        """Before load: use the map of another process behind `fd`, which stays with the caller."""
        self._libbpf.check(
            self._calls.bpf_map__reuse_fd(self._map_handle(name), fd),
            f"map {name} of another agent cannot be used",
        )

    def load(self, programs: Collection[str]) -> None:
        """Load only these programs, and all maps; raises BpfError."""
        for name, handle in self.programs.items():
            self._calls.bpf_program__set_autoload(handle, name in programs)
        self._libbpf.take_log()
        self._libbpf.check(
            self._calls.bpf_object__load(self._handle),
            "the kernel refuses the eBPF programs (`nodeagent doctor` says more)",
        )

    def open_places(self, programs: Iterable[str], tracepoints: Tracepoints) -> None:
        """Open what these programs will be attached to; raises BpfError.

        It may take CAP_SYS_ADMIN: for tracepoints where kernel.perf_event_paranoid is more
        than 2, for the root of cgroup v2 where it is not mounted. attach() does not.
        """
        for program in programs:
            section = self.section(program)
            if section.startswith("tp/"):
                number = tracepoints.id(section.removeprefix("tp/"))
                self._places[program] = open_tracepoint(self._libbpf, number)
            elif section.startswith("cgroup"):
                self._places[program] = open_root(self._libbpf)

    def attach(self, program: str) -> None:
        """Attach a loaded program where its section says; raises BpfError."""
        handle = self.programs[program]
        section = self.section(program)
        place = self._places.pop(program, None)
        if place is None:
            link = self._calls.bpf_program__attach(handle)
        elif section.startswith("tp/"):
            link = self._calls.bpf_program__attach_perf_event(handle, place)
            if link is None:
                os.close(place)
        else:
            link = self._calls.bpf_program__attach_cgroup(handle, place)
            os.close(place)
        what = f"program {program} cannot be attached to {section}"
        self._links.append(self._libbpf.check(link, what))

    def detach(self) -> None:
        """Detach all programs, so that the counters come to rest."""
        with ThreadPoolExecutor(DETACHED_AT_ONCE) as threads:
            # Each waits for the kernel to be sure that the program runs nowhere.
            list(threads.map(self._calls.bpf_link__destroy, self._links))
        self._links.clear()

    def iterate(self, program: str) -> bytes:
        """Everything that an iterator program writes, from one run of it; raises BpfError."""
        what = f"the iterator {program} cannot be run"
        link = self._libbpf.check(
            self._calls.bpf_program__attach_iter(self.programs[program], None), what
        )
        try:
            fd = self._libbpf.check(
                self._calls.bpf_iter_create(self._calls.bpf_link__fd(link)), what
            )
            try:
                return b"".join(iter(lambda: os.read(fd, READ_BYTES), b""))
            finally:
                os.close(fd)
        finally:
            self._calls.bpf_link__destroy(link)

    def map(self, name: str) -> int:
        """The file descriptor of a map, valid until close."""
        fd: int = self._calls.bpf_map__fd(self._map_handle(name))
        return fd

    def max_entries(self, name: str) -> int:
        """The size of a map; bytes for a ring."""
        entries: int = self._calls.bpf_map__max_entries(self._map_handle(name))
        return entries

    def program(self, name: str) -> int:
        """The file descriptor of a loaded program, valid until close."""
        fd: int = self._calls.bpf_program__fd(self.programs[name])
        return fd

    def facts(self, name: str) -> ProgramFacts:
        """What the kernel says about a loaded program; raises BpfError."""
        return program_facts(self._libbpf, self.program(name))

    def map_ids(self) -> list[int]:
        """The kernel's ids of all maps, after load; raises BpfError."""
        return [self._id(self._calls.bpf_map__fd(handle)) for handle in self._maps.values()]

    def program_ids(self) -> list[int]:
        """The kernel's ids of the programs that are loaded; raises BpfError."""
        fds = [self._calls.bpf_program__fd(handle) for handle in self.programs.values()]
        return [self._id(fd) for fd in fds if fd >= 0]

    def link_ids(self) -> list[int]:
        """The kernel's ids of all that is attached.

        Before v5.15 a tracepoint has no link, and nothing but its descriptor leads to it.
        """
        found = (self._start_of_info(self._calls.bpf_link__fd(link)) for link in self._links)
        return [start[1] for result, start in found if result == 0]

    def lookup(self, fd: int, key: int, into: ctypes.Array[ctypes.c_char]) -> None:
        """Copy the value of an array map; raises BpfError."""
        index = ctypes.c_uint32(key)
        self._libbpf.check(
            self._calls.bpf_map_lookup_elem(fd, ctypes.byref(index), into),
            "an eBPF map cannot be read",
        )

    def update(self, name: str, key: int, value: bytes) -> None:
        """Write the value of an array map; raises BpfError."""
        index = ctypes.c_uint32(key)
        self._libbpf.check(
            self._calls.bpf_map_update_elem(self.map(name), ctypes.byref(index), value, 0),
            f"eBPF map {name} cannot be written",
        )

    def lookup_bytes(self, name: str, key: int, size: int) -> bytes:
        """The value of an array map; raises BpfError."""
        value = ctypes.create_string_buffer(size)
        self.lookup(self.map(name), key, value)
        return value.raw

    def fill(self, name: str, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> None:
        """Turn a table that holds `before` into one that holds `after`; raises BpfError."""
        fd = self.map(name)
        for key, value in after.items():
            if before.get(key) != value:
                self._libbpf.check(
                    self._calls.bpf_map_update_elem(fd, key, value, 0),
                    f"eBPF map {name} takes no more entries",
                )
        for key in before.keys() - after.keys():
            self._calls.bpf_map_delete_elem(fd, key)

    def drain(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """Take every entry out of a hash map; raises BpfError."""
        handle = self._map_handle(name)
        key_bytes: int = self._calls.bpf_map__key_size(handle)
        value_bytes: int = self._calls.bpf_map__value_size(handle)
        keys = ctypes.create_string_buffer(key_bytes * DRAIN_ENTRIES)
        values = ctypes.create_string_buffer(value_bytes * DRAIN_ENTRIES)
        at = ctypes.create_string_buffer(key_bytes)
        more = True
        begun = False
        while more:
            count = ctypes.c_uint32(DRAIN_ENTRIES)
            result = self._calls.bpf_map_lookup_and_delete_batch(
                self._calls.bpf_map__fd(handle),
                at if begun else None,
                at,
                keys,
                values,
                ctypes.byref(count),
                None,
            )
            begun = True
            more = result == 0
            # No such entry: those that came were the last.
            if result != -errno.ENOENT:
                self._libbpf.check(result, f"eBPF map {name} cannot be read")
            for n in range(count.value):
                yield (
                    keys.raw[n * key_bytes : (n + 1) * key_bytes],
                    values.raw[n * value_bytes : (n + 1) * value_bytes],
                )

    def _id(self, fd: int) -> int:
        result, start = self._start_of_info(fd)
        self._libbpf.check(result, "no information on an eBPF map or program")
        return start[1]

    def _start_of_info(self, fd: int) -> tuple[int, ctypes.Array[ctypes.c_uint32]]:
        # What the kernel says of a map, a program or a link starts with type and id.
        start = (ctypes.c_uint32 * 2)()
        size = ctypes.c_uint32(ctypes.sizeof(start))
        result: int = self._calls.bpf_obj_get_info_by_fd(fd, start, ctypes.byref(size))
        return result, start

    def _map_handle(self, name: str) -> int:
        # libbpf puts the object's name in front of .rodata.
        for found, handle in self._maps.items():
            if found == name or (name.startswith(".") and found.endswith(name)):
                return handle
        raise BpfError(f"the eBPF object has no map {name}: build it again with `make build`")

    def _walk(self, following: Callable[..., Any], name: Callable[..., Any]) -> dict[str, int]:
        handles = {}
        handle = following(self._handle, None)
        while handle:
            handles[name(handle).decode()] = handle
            handle = following(self._handle, handle)
        return handles

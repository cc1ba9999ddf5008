# SPDX-License-Identifier: Apache-2.0
"""What the bytes of a field say: strings, paths, addresses.

All of them take any bytes and give text that is valid UTF-8.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct

from nodeagent.event import Endpoint, Incomplete

__all__ = [
    "incomplete_of",
    "join_target",
    "read_comm",
    "read_endpoint",
    "read_path",
    "read_strings",
    "read_text",
    "read_variables",
]


def read_text(raw: bytes) -> str:
    r"""Bytes as text; what is not UTF-8 is shown as \\xNN. A leading NUL becomes @."""
    if raw[:1] == b"\0":
        raw = b"@" + raw[1:]
    return raw.rstrip(b"\0").decode("utf-8", "backslashreplace")


def read_path(raw: bytes) -> str:
    """A path from its names, leaf first; without a leading slash when the top is cut off."""
    parts = raw.split(b"\0")
    parts.reverse()
    return b"/".join(parts).decode("utf-8", "backslashreplace")


def join_target(path: str, base: str, argument: str) -> str:
    """`struct target`: the real path, or else the argument, from where it starts.

    Nothing is resolved: a `..` may lead through a symbolic link.
    """
    if path or not base or not argument:
        return path or argument
    return f"{base.removesuffix('/')}/{argument.removeprefix('/')}"


def read_strings(raw: bytes) -> tuple[str, ...]:
    """NUL-terminated strings; the last one may have lost its NUL."""
    text = raw.decode("utf-8", "backslashreplace")
    return tuple(text.removesuffix("\0").split("\0"))


def read_variables(raw: bytes) -> dict[str, str]:
    """NAME=value strings; the first of a name counts, as for the loader."""
    variables: dict[str, str] = {}
    for string in read_strings(raw):
        name, _, value = string.partition("=")
        variables.setdefault(name, value)
    return variables


def read_comm(raw: bytes) -> str:
    """A name that ends at the first NUL."""
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def read_endpoint(raw: bytes) -> Endpoint | None:
    """`struct endpoint`; IPv4 in the first four bytes, or inside of IPv6 (::ffff:0:0/96)."""
    address, port, family = struct.unpack("<16sHH", raw)
    if not family:
        return None
    packed = address[:4] if family == socket.AF_INET else address
    shown = ipaddress.ip_address(packed)
    return Endpoint(str(getattr(shown, "ipv4_mapped", None) or shown), port)


def incomplete_of(texts: tuple[tuple[str, int], ...]) -> Incomplete:
    """Which fields are flawed; a flaw is `truncated` and `error` of `struct text` as one number."""
    flaws = [(name, *struct.unpack("<Hh", struct.pack("<I", flaw))) for name, flaw in texts]
    return Incomplete(
        truncated=tuple(dict.fromkeys(name for name, truncated, _ in flaws if truncated)),
        unread={name: errno.errorcode.get(-error, str(error)) for name, _, error in flaws if error},
    )

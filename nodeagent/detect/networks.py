# SPDX-License-Identifier: Apache-2.0
"""Sets of networks, and whether an address is in one of them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

__all__ = ["Networks", "networks_of"]


class Networks:
    """A look-up costs one look into a table for each length of prefix; few are different."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._firsts: dict[tuple[int, int], set[int]] = {}
        """First addresses by version and length of the prefix."""
        for each in networks:
            self.add(each)

    def add(self, network: IPv4Network | IPv6Network) -> None:
        """Have this one, too."""
        firsts = self._firsts.setdefault((network.version, network.prefixlen), set())
        firsts.add(int(network.network_address))

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._firsts.values()))

    def has(self, text: str) -> bool:
        """Whether the address is in one of them."""
        if not self._firsts:
            return False
        address = ip_address(text)
        bits, number = address.max_prefixlen, int(address)
        return any(
            version == address.version and (number >> (bits - length) << (bits - length)) in firsts
            for (version, length), firsts in self._firsts.items()
        )


def networks_of(entries: Iterable[str]) -> Networks:
    """The networks, and addresses, that are written so; raises ValueError for what is none."""
    networks = Networks()
    for entry in entries:
        try:
            networks.add(ip_network(entry.strip(), strict=False))
        except ValueError as error:
            raise ValueError(f'"{_shown(entry)}" is no address and no network (CIDR)') from error
    return networks


def _shown(entry: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in entry[:80])

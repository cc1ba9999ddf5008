# SPDX-License-Identifier: Apache-2.0
"""What is put into the kernel: other code in the place of its own, or filters that see packets."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.where import is_contained, is_one, is_runtime
from nodeagent.event import Event, KernelHook, Process, SocketFilter
from nodeagent.names import FAMILIES, SOCKET_FILTERS, SOCKET_TYPES

__all__ = ["Integrity"]

HIDDEN: Final = "hidden"
"""The name of a module that cannot be seen."""
ONE_SOCKET: Final = frozenset({26, 50})
"""SO_ATTACH_FILTER, SO_ATTACH_BPF; the others share out connections among servers."""
INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})
PINGS: Final = frozenset({socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6})
USERS: Final = frozenset(
    {"tcpdump", "tshark", "dumpcap", "ngrep", "nmap", "arp-scan", "arpwatch", "p0f", "iftop"}
    | {"nethogs", "ntopng", "suricata", "snort", "zeek", "packetbeat", "softflowd", "pmacctd"}
    | {"dhclient", "dhcpcd", "dhcpd", "dhcrelay", "udhcpc", "busybox", "dhcp", "kea-dhcp4"}
    | {"systemd-networkd", "NetworkManager", "connmand", "wicked", "wickedd-dhcp4", "netplan"}
    | {"wpa_supplicant", "hostapd", "iwd", "lldpd", "lldpad", "teamd", "avahi-autoipd"}
    | {"keepalived", "conntrackd", "bird", "zebra", "isisd", "ospfd", "vrrpd", "ovs-vswitchd"}
    | {"chronyd", "ptp4l", "tailscaled", "charon", "pppoe", "radvd", "nm-dhcp-helper"}
    | {"ping", "ping4", "ping6", "arping", "fping", "traceroute", "mtr", "mtr-packet", "criu"}
)
"""Programs that look at packets all day, or ask for addresses."""


class Integrity:
    """Remembers nothing."""

    name = "integrity"
    kinds: ClassVar[tuple[str, ...]] = ("socket_filter", "kernel_hook")

    def inspect(self, event: Event) -> Iterable[Signal]:
        """A pointer that was changed, or a program on a socket."""
        process = event.process
        if isinstance(event, KernelHook):
            return _on_hook(event)
        if process is None or not isinstance(event, SocketFilter):
            return ()
        return _on_filter(event, process)


def _on_hook(event: KernelHook) -> Iterator[Signal]:
    key = f"{event.table}[{event.index}]"
    context: dict[str, object] = {
        "kernelTable": event.table,
        "tableIndex": event.index,
        "moduleName": event.module or HIDDEN,
    }
    yield Signal("kernel_hooked", event, context, key=key)


def _on_filter(event: SocketFilter, process: Process) -> Iterator[Signal]:
    """Netlink and local sockets have filters on every system: who listens to udev has one."""
    if event.result < 0 or event.option not in ONE_SOCKET or is_runtime(process):
        return
    contained = is_contained(process)
    if event.family == socket.AF_PACKET:
        rule = "packet_filter_contained" if contained else "packet_filter"
    elif event.family not in INTERNET:
        return
    elif event.type == socket.SOCK_RAW and event.protocol not in PINGS:
        rule = "packet_filter"
    else:
        rule = "socket_filter"
    # Who makes an image chooses what it calls its own.
    if is_one(process, USERS) and rule != "packet_filter_contained":
        return
    family = str(FAMILIES.show(event.family))
    context: dict[str, object] = {
        "addressFamily": family,
        "socketType": SOCKET_TYPES.show(event.type),
        "filterOption": SOCKET_FILTERS.show(event.option),
    }
    yield Signal(rule, event, context, key=family)

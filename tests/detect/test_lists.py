# SPDX-License-Identifier: Apache-2.0
"""Connections, DNS requests and programs that are on a threat list; attempts and loopback count."""

from __future__ import annotations

import os
import platform
import time
from array import array
from pathlib import Path

import pytest

from nodeagent.detect.catalogue import RULES, rule_of_entry
from nodeagent.detect.lists import CATEGORIES, ThreatList, ThreatLists, builtin_lists, read_list
from nodeagent.errors import ConfigError
from tests.detect.conftest import Watch
from tests.detect.lists import (
    ADDRESSES,
    DOMAINS,
    TRUSTED_ADDRESS,
    TRUSTED_DOMAIN,
    known_program,
    program,
)
from tests.detect.shapes import misfits
from tests.findings import Note, note_found, note_near

CONNECTED = {name: rule for name in CATEGORIES if (rule := rule_of_entry(name, "connect"))}
REQUESTED = {name: rule for name in CATEGORIES if (rule := rule_of_entry(name, "dns"))}

only_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="it is for x86-64")

CONNECT = "exec python3 -c 'import socket; socket.socket().connect_ex((\"{address}\", 9))'"
ASK = """exec python3 - <<'EOF'
import socket
name = b"".join(bytes([len(part)]) + part for part in b"{name}".split(b"."))
query = b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + name + b"\\x00\\x00\\x01\\x00\\x01"
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(query, ("127.0.0.1", 53))
EOF"""
REBIND = """exec unshare --net python3 - <<'EOF'
import fcntl, socket, struct
control = socket.socket()
fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", 1))
name = b"".join(bytes([len(part)]) + part for part in b"{name}".split(b"."))
question = name + b"\\x00\\x00\\x01\\x00\\x01"
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + question, ("127.0.0.1", 53))
_, who = server.recvfrom(512)
answer = bytes([192, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 169, 254, 169, 254])
server.sendto(b"\\x12\\x34\\x81\\x80\\x00\\x01\\x00\\x01" + bytes(4) + question + answer, who)
client.recv(512)
EOF"""


@pytest.mark.parametrize("category", CONNECTED)
def test_connection_to_a_listed_address_is_found(
    category: str, watch: Watch, tmp_path: Path, record_property: Note
) -> None:
    address = ADDRESSES[category]
    root = watch.play(CONNECT.format(address=address), tmp_path)
    finding = watch.finding(root, RULES[CONNECTED[category]].type)
    action = finding["action"]["networkConnectionAction"]
    assert action["remoteIpDetails"]["ipAddressV4"] == address
    (details,) = finding["evidence"]["threatIntelligenceDetails"]
    assert details == {"threatListName": category, "threatNames": [category]}
    assert not list(misfits(finding))
    assert len(watch.findings(root)) == 1
    note_found(record_property, finding)


@pytest.mark.parametrize("category", REQUESTED)
def test_request_for_a_name_below_a_listed_domain_is_found(
    category: str, watch: Watch, tmp_path: Path, record_property: Note
) -> None:
    name = f"www.{DOMAINS[category]}"
    root = watch.play(ASK.format(name=name), tmp_path)
    finding = watch.finding(root, RULES[REQUESTED[category]].type)
    assert finding["action"]["dnsRequestAction"]["domain"] == name
    assert not list(misfits(finding))
    assert len(watch.findings(root)) == 1
    note_found(record_property, finding)


def test_test_domain_of_the_reference_is_found(watch: Watch, tmp_path: Path) -> None:
    root = watch.play(ASK.format(name="guarddutyc2activityb.com"), tmp_path)
    assert watch.finding(root, "Backdoor:Runtime/C&CActivity.B!DNS")["severity"] == "high"


def test_other_addresses_and_names_are_not_found(
    watch: Watch, tmp_path: Path, record_property: Note
) -> None:
    others = [ADDRESSES[category].replace("127.7.", "127.8.") for category in CONNECTED]
    connect = "; ".join(CONNECT.format(address=each) for each in others)
    root = watch.play(connect.replace("exec ", ""), tmp_path / "a")
    assert not watch.findings(root)
    names = [f"not{DOMAINS[category]}" for category in REQUESTED]
    ask = "\n".join(ASK.format(name=each) for each in names)
    root = watch.play(ask.replace("exec ", ""), tmp_path / "b")
    assert not watch.findings(root)
    rules = (*CONNECTED.values(), *REQUESTED.values())
    note_near(record_property, *(RULES[rule].type for rule in rules))


def test_what_is_trusted_is_not_found_whatever_other_lists_say(
    watch: Watch, tmp_path: Path
) -> None:
    root = watch.play(CONNECT.format(address=TRUSTED_ADDRESS), tmp_path / "a")
    assert not watch.findings(root)
    root = watch.play(ASK.format(name=f"www.{TRUSTED_DOMAIN}"), tmp_path / "b")
    assert not watch.findings(root)


def test_entries_that_no_finding_is_about_are_not_found(watch: Watch, tmp_path: Path) -> None:
    root = watch.play(CONNECT.format(address=ADDRESSES["dga"]), tmp_path / "a")
    assert not watch.findings(root)
    root = watch.play(ASK.format(name=DOMAINS["tor"]), tmp_path / "b")
    assert not watch.findings(root)


def test_name_that_leads_to_the_metadata_service_is_found(
    watch: Watch, tmp_path: Path, record_property: Note
) -> None:
    root = watch.play(REBIND.format(name="rebind.example"), tmp_path / "a")
    finding = watch.finding(root, "UnauthorizedAccess:Runtime/MetadataDNSRebind")
    assert finding["action"]["dnsRequestAction"]["domain"] == "rebind.example"
    assert not list(misfits(finding))
    note_found(record_property, finding)
    root = watch.play(REBIND.format(name="metadata.google.internal"), tmp_path / "b")
    assert not watch.findings(root)
    note_near(record_property, finding["type"])


@pytest.mark.parametrize(
    ("content", "type_"),
    [
        (program(), "Execution:Runtime/MaliciousFileExecuted.Custom"),
        pytest.param(known_program(), "Execution:Runtime/MaliciousFileExecuted", marks=only_x86),
    ],
    ids=["custom", "known"],
)
def test_program_whose_hash_is_listed_is_found(
    content: bytes, type_: str, watch: Watch, tmp_path: Path, record_property: Note
) -> None:
    (tmp_path / "program").write_bytes(content)
    # It has the same name, and does the same, but is another file.
    (tmp_path / "other").write_bytes(content + b"\n")
    # Long enough to be hashed while it runs for the first time.
    script = "mount -t tmpfs none /mnt; install {file} /mnt/program; /mnt/program 2"
    root = watch.play(script.format(file="program"), tmp_path)
    finding = watch.finding(root, type_)
    assert finding["context"]["threatFilePath"] == "/mnt/program"
    (details,) = finding["evidence"]["threatIntelligenceDetails"]
    assert details["threatFileSha256"] == finding["process"]["executableSha256"]
    assert not list(misfits(finding))
    note_found(record_property, finding)
    root = watch.play(script.format(file="other"), tmp_path)
    assert not watch.findings(root)
    note_near(record_property, type_)


def test_what_is_built_in_is_not_custom() -> None:
    lists = ThreatLists(builtin_lists())
    (match,) = lists.file("275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f")
    assert not match.is_custom
    assert [match.category for match in lists.domain("pool.minexmr.com")] == ["mining"]
    assert [match.category for match in lists.address("128.31.0.39")] == ["tor"]


def test_each_sort_of_entry_can_be_trusted() -> None:
    threats = ["10.0.0.0/8", "evil.test", "ab" * 32]
    trusted = ["10.9.0.0/16", "*.good.evil.test", "AB" * 32]
    lists = ThreatLists(
        [
            ThreatList("own", "trusted", trusted, is_custom=True),
            ThreatList("bad", "c2", threats, is_custom=True),
        ]
    )
    assert lists.address("10.8.0.1")
    assert not lists.address("10.9.0.1")
    assert lists.domain("evil.test")
    assert not lists.domain("a.good.evil.test")
    assert not lists.file("ab" * 32)


@pytest.mark.parametrize("entry", ["2001:db8::/32", "2001:DB8::5", "10.0.0.0/8", "*.evil.test"])
def test_entries_of_each_sort_are_taken(entry: str) -> None:
    lists = ThreatLists([ThreatList("x", "c2", [entry], is_custom=True)])
    assert bool(lists.address("2001:db8::5")) == entry.lower().startswith("2001")
    assert bool(lists.address("10.9.8.7")) == entry.startswith("10.")
    assert bool(lists.domain("a.evil.test")) == entry.endswith("test")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>\n", 'line 1: "<html>" is no address'),
        (b"evil.test\n\n# x\n1.2.3.4.5\n", "line 4: '1.2.3.4.5' does not appear"),
        (b"\x7fELF\x02\x01\x00\xff\xfe", "line 1: "),
        (b"single\n", 'line 1: "single" is no address'),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_its_line(
    content: bytes, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_list(path, "c2")
    assert why in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2 << 30)
    with pytest.raises(ConfigError, match="at most 256 MiB"):
        read_list(path, "c2")
    with pytest.raises(ConfigError, match="No such file"):
        read_list(tmp_path / "none", "c2")
    with pytest.raises(ConfigError, match="no category"):
        read_list(path, "c3")


def test_a_million_entries_take_little_memory_and_time() -> None:
    entries = (f"host-{number}.evil.test" for number in range(1_000_000))
    large = ThreatList("large", "c2", entries, is_custom=True)
    assert len(large) == 1_000_000
    assert large._hashes.itemsize * len(large._hashes) == 8_000_000
    names = array("Q")
    started = time.process_time()
    for number in range(100_000):
        names.append(large.has(f"host-{number}.other.test"))
    seconds = time.process_time() - started
    assert not any(names)
    # Ten times the bar, since this machine may be busy.
    assert seconds / 100_000 < 10e-6

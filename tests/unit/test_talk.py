# SPDX-License-Identifier: Apache-2.0
"""Whom programs talk to: what takes many machines, long times or a whole cluster to come about."""

from __future__ import annotations

import errno
import hashlib
import re
import socket
import stat
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from nodeagent.detect import Signal
from nodeagent.detect.reach import FURTHER, NETWORKS_LIMIT, Expected, Reach
from nodeagent.detect.talkers import Talkers
from nodeagent.detect.tunnel import FLOWS_LIMIT, LABELS_LIMIT, Tunnel
from nodeagent.dns import DnsAnswer, DnsMessage, DnsQuestion
from nodeagent.event import Dns, Endpoint, Event, Process, Stream
from nodeagent.kernel.values import read_endpoint
from tests.events import (
    TIME,
    a_bind,
    a_connect,
    a_container,
    a_dns,
    a_listen,
    a_process,
    a_sendto,
    an_accept,
    an_exec,
    inside,
)

SECOND = 1_000_000_000
TXT = 16


def digest(number: int, size: int = 40) -> str:
    return hashlib.sha512(str(number).encode()).hexdigest()[:size]


def a_question(name: str, number: int = 0, *, seconds: float = 0, **changes: Any) -> Dns:
    message = DnsMessage(number, False, 0, DnsQuestion(name, 1), (), 0)
    time = TIME + round(seconds * SECOND) + number
    return a_dns(**{"message": message, "time": time} | changes)


def an_answer(name: str, *data: tuple[int, str], **changes: Any) -> Dns:
    answers = tuple(DnsAnswer(name, kind, 60, text) for kind, text in data)
    message = DnsMessage(1, True, 0, DnsQuestion(name, TXT), answers, len(answers))
    return a_dns(message=message, incoming=True, **changes)


def told(events: Iterable[Event], detector: Tunnel | None = None) -> list[Signal]:
    detector = detector or Tunnel()
    return [signal for event in events for signal in detector.inspect(event)]


def asked(names: Iterable[str], **changes: Any) -> list[Signal]:
    return told(a_question(name, number, **changes) for number, name in enumerate(names))


# Names by which clusters, clouds and mail servers live.
def usual() -> Iterator[tuple[str, Iterable[str]]]:
    sites = [f"www.some-site-{n}.example" for n in range(2000)]
    for suffix in ("shop.svc.cluster.local", "svc.cluster.local", "corp.example.com"):
        yield f"search list {suffix}", [f"{site}.{suffix}" for site in sites]
    yield "services", [f"service-{n}-of-a-long-name.shop.svc.cluster.prod" for n in range(2000)]
    yield "machines", [f"ip-10-1-{n}-7.eu-west-1.prod.corp.example.com" for n in range(250)]
    yield "nodes", [f"ip-10-1-{n}-7.eu-west-1.compute.internal" for n in range(250)]
    yield "buckets", [f"{digest(n, 50)}.s3.eu-west-1.amazonaws.com" for n in range(999)]
    yield "clusters", [f"{digest(n, 32)}.gr7.eu-west-1.eks.amazonaws.com" for n in range(999)]
    yield "shards", [f"r{n}---sn-4g5e6nez.c.videos.example" for n in range(999)]
    reversed_ = [f"{n}.7.168.192" for n in range(250)]
    yield "blocklist", [f"{each}.bl.mails.example" for each in reversed_]
    yield "reverse", [f"{each}.in-addr.arpa" for each in reversed_]
    digits = [".".join(digest(n, 32)) for n in range(999)]
    yield "reverse of IPv6", [f"{each}.ip6.arpa" for each in digits]
    yield "blocklist of IPv6", [f"{each}.bl.mails.example" for each in digits]
    yield "hashes", [f"{digest(n)}.malware.hash.cymru.com" for n in range(999)]
    yield "hashes of mail", [f"{digest(n, 52)}._file.key.hbl.dq.spamhaus.net" for n in range(999)]
    yield "certificates", [f"_acme-challenge.www.site-{n}.example" for n in range(999)]
    yield "one long name", [f"{digest(1, 60)}.tenant.example"] * 999
    yield "long domains", [f"www.{digest(n, 50)}.example" for n in range(90)]


@pytest.mark.parametrize("names", [pytest.param(each, id=what) for what, each in usual()])
def test_usual_names_are_no_tunnel(names: Iterable[str]) -> None:
    assert not asked(names)


@pytest.mark.parametrize(
    ("suffix", "domain"),
    [
        ("evil.test", "evil.test"),
        ("t.session.evil.test", "evil.test"),
        ("evil.co.uk", "evil.co.uk"),
        ("x1.io", "x1.io"),
        ("s3.amazonaws.com.evil.test", "evil.test"),
    ],
)
def test_tunnel_is_told_with_its_domain(suffix: str, domain: str) -> None:
    first, *_ = asked(f"{digest(n, 60)}.{digest(-n, 60)}.{suffix}".upper() for n in range(50))
    assert (first.rule, first.key) == ("data_in_names", domain)
    assert first.context["tunnelDomain"] == domain


def test_tunnel_of_many_short_labels_is_found_and_a_slow_one_is_not() -> None:
    names = [
        ".".join(digest(4 * n + part, 15) for part in range(4)) + ".a.test" for n in range(200)
    ]
    assert asked(names)
    assert not told(a_question(name, seconds=9 * n) for n, name in enumerate(names[:-1]))


def test_tunnel_goes_on_and_is_told_again_but_not_for_each_name() -> None:
    signals = asked(f"{digest(n, 60)}.{digest(-n, 60)}.evil.test" for n in range(1, 351))
    assert len(signals) == 10


def test_a_resolver_may_carry_more_and_a_tunnel_still_shows() -> None:
    process = a_process("/usr/sbin/unbound")
    detector = Tunnel()
    assert not told([a_question("a.test", incoming=True, process=process)], detector)
    names = [f"{digest(n, 60)}.evil.test" for n in range(600)]
    questions = [a_question(name, n, process=process) for n, name in enumerate(names)]
    assert not told(questions[:500], detector)
    assert told(questions[500:], detector)


def test_what_others_ask_a_server_is_not_its_own() -> None:
    process = a_process("/usr/sbin/unbound")
    names = [f"{digest(n, 60)}.evil.test" for n in range(600)]
    assert not asked(names, incoming=True, process=process)


def test_containers_are_told_apart_and_processes_are_not() -> None:
    names = [f"{digest(n, 60)}.evil.test" for n in range(100)]

    def each_by(processes: Iterable[Process]) -> list[Signal]:
        pairs = zip(names, processes, strict=True)
        return told(a_question(name, process=process) for name, process in pairs)

    assert each_by(a_process("/usr/bin/dig", pid=n) for n in range(100, 200))
    assert not each_by(inside(a_process(), a_container(id=str(n % 2))) for n in range(100))


def test_keys_and_policies_of_mail_are_no_data_in_answers() -> None:
    key = (TXT, "v=DKIM1; k=rsa; p=" + "A" * 400)
    domains = [f"s1._domainkey.customer-{n}.example" for n in range(999)]
    assert not told(an_answer(each, key) for each in domains)
    policy = (TXT, "v=spf1 include:_spf.mail.example ~all" * 6)
    assert not told(an_answer("mail.example", policy) for _ in range(999))
    names = [f"{n}.7.168.192.origin.asn.example" for n in range(250)]
    assert not told(an_answer(each, (TXT, "64496 | 192.0.2.0/24 | ZZ | test |")) for each in names)


@pytest.mark.parametrize(
    "data", [(TXT, "A" * 200), (10, "A" * 200), (65399, "A" * 200), (5, f"{'a' * 63}." * 3)]
)
def test_data_in_answers_is_told(data: tuple[int, str]) -> None:
    first, *_ = told(an_answer(f"{n}.evil.test", data) for n in range(100))
    assert (first.rule, first.key) == ("data_in_answers", "evil.test")


def test_memory_of_names_is_bounded() -> None:
    detector = Tunnel()
    for n in range(3 * LABELS_LIMIT):
        told([a_question(f"{digest(n)}.domain-{n}.test")], detector)
    kept = detector._seen, detector._flows
    assert [len(each._new) + len(each._old) for each in kept] <= [LABELS_LIMIT, FLOWS_LIMIT]


OUTSIDE = Endpoint("203.0.113.9", 443)
API = {"shop/web": ["10.0.0.0/8"]}


def egress(said: dict[str, list[str]], *events: Event) -> list[str]:
    reach = Reach(Expected(said, {}))
    return [signal.key for event in events for signal in reach.inspect(event)]


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"*": ["10.0.0.0/33"]}, 'egress of "*" has an entry of no use: "10.0.0.0/33" is no'),
        ({"*": ["evil.test"]}, '"evil.test" is no address and no network'),
        ({"a/b": ["fd00::/129"]}, 'egress of "a/b" has an entry of no use'),
        ({"shop": ["10.0.0.0/8"]}, 'egress is for "shop", which is nobody: take *, node'),
    ],
)
def test_what_says_nothing_is_refused(said: dict[str, list[str]], wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        Expected(said, {})


def test_what_is_said_counts_for_whom_it_is_meant_and_together() -> None:
    node, curl = a_process(), a_process("/usr/bin/curl")
    pod = inside(a_process("/usr/bin/curl"), a_container())
    docker = inside(a_process(), a_container(id="d", runtime="docker", name="db", pod=None))
    inner = Endpoint("10.1.2.3", 443)

    def who_is_told(said: dict[str, list[str]], remote: Endpoint) -> list[Process]:
        everybody = (node, curl, pod, docker)
        return [each for each in everybody if egress(said, a_connect(process=each, remote=remote))]

    ten = ["10.0.0.0/8"]
    assert who_is_told({}, OUTSIDE) == []
    assert who_is_told({"*": ten}, OUTSIDE) == [node, curl, pod, docker]
    assert who_is_told({"*": ten}, inner) == []
    assert who_is_told({"node": ten}, OUTSIDE) == [node, curl]
    assert who_is_told({"containers": ten}, OUTSIDE) == [pod, docker]
    assert who_is_told({"shop/*": ten, "docker/web": ten}, OUTSIDE) == [pod]
    assert who_is_told({"*/*": ten}, OUTSIDE) == [pod, docker]
    # An image chooses what it calls its programs.
    assert who_is_told({"/usr/bin/c*": ten}, OUTSIDE) == [curl]
    both = {"*": ten, "shop/web": ["203.0.113.0/24"]}
    assert who_is_told(both, OUTSIDE) == [node, curl, docker]
    assert who_is_told({"*": []}, inner) == [node, curl, pod, docker]


@pytest.mark.parametrize(
    "address", ["127.0.0.5", "::1", "0.0.0.0", "::", "224.0.0.251", "ff02::fb", "255.255.255.255"]
)
def test_the_machine_itself_and_its_link_are_expected(address: str) -> None:
    assert not egress({"*": []}, a_connect(remote=Endpoint(address, 5353)))


def test_only_what_may_have_left_is_told() -> None:
    def is_told(**changes: Any) -> bool:
        return bool(egress({"*": []}, a_connect(**{"remote": OUTSIDE} | changes)))

    for number in (errno.EINPROGRESS, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EPERM):
        assert is_told(result=-number)
    for number in (errno.ENETUNREACH, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EISCONN):
        assert not is_told(result=-number)
    assert not is_told(local=Endpoint(OUTSIDE.address, 50000))
    assert not is_told(remote=None)
    packets = {"type": socket.SOCK_DGRAM}
    assert is_told(**packets)
    assert not is_told(**packets, remote=Endpoint(OUTSIDE.address, 9))
    # Which wakes a machine up; nobody has to send to learn an address.
    assert egress({"*": []}, a_sendto(remote=Endpoint(OUTSIDE.address, 9)))


def test_networks_are_told_ten_times_a_second_and_not_all_of_them() -> None:
    def at(seconds: float, address: str) -> Event:
        return a_connect(time=TIME + round(seconds * SECOND), remote=Endpoint(address, 443))

    same = [at(0.01 * n, f"203.0.113.{n}") for n in range(100)]
    assert egress({"*": []}, *same) == ["203.0.113.0/24"] * 10
    assert egress({"*": []}, at(0, "2001:db8::1"), at(0, "2001:db8::2")) == ["2001:db8::/64"]
    many = [at(n, f"198.{n}.2.1") for n in range(100)]
    keys = egress({"*": []}, *many)
    assert len(set(keys)) == NETWORKS_LIMIT + 1
    assert keys[NETWORKS_LIMIT:] == [FURTHER] * (100 - NETWORKS_LIMIT)


def test_pod_that_is_known_late_gets_what_is_said_of_it() -> None:
    reach = Reach(Expected({}, {"shop/*": ["10.0.0.0/8"]}))
    known = a_container()
    early = a_container(enrichment="timeout", pod=None)
    rules = []
    for container in (early, known):
        accepted = an_accept(process=inside(a_process(), container), remote=OUTSIDE)
        rules += [each.rule for each in reach.inspect(accepted)]
    assert rules == ["unexpected_ingress"]


def test_another_expectation_holds_at_once() -> None:
    expected = Expected({"*": ["203.0.113.0/24"]}, {})
    reach = Reach(expected)
    assert not [*reach.inspect(a_connect(remote=OUTSIDE))]
    expected.replace(Expected({"*": ["10.0.0.0/8"]}, {}))
    assert [*reach.inspect(a_connect(remote=OUTSIDE))]


def test_address_of_ipv4_inside_of_ipv6_is_the_one_of_ipv4() -> None:
    mapped = bytes(10) + b"\xff\xff\xc0\0\2\1"
    port_and_family = (80).to_bytes(2, "little") + socket.AF_INET6.to_bytes(2, "little")
    assert read_endpoint(mapped + port_and_family) == Endpoint("192.0.2.1", 80)
    assert read_endpoint(bytes(15) + b"\1" + port_and_family) == Endpoint("::1", 80)


FILE, TERMINAL = Stream(stat.S_IFREG, None), Stream(stat.S_IFCHR, None)


def talks(path: str, *words: str, stdin: Stream = TERMINAL) -> bool:
    """Whether it is told when it is started like that and connects."""
    process, detector = a_process(path), Talkers()
    started = an_exec((path, *words), path=path, process=process, stdio=(stdin, TERMINAL, TERMINAL))
    assert not [*detector.inspect(started)]
    connected = a_connect(process=process, remote=OUTSIDE)
    signals = [each.rule for _ in range(2) for each in detector.inspect(connected)]
    assert signals in ([], ["fileless_code_talks"])
    return bool(signals)


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/python3.11 -c code",
        "/usr/bin/python3 -W ignore -Iuc code",
        "/usr/bin/python3 - argument",
        "/usr/bin/python3 -u /dev/fd/63",
        "/usr/bin/perl -MSocket -e code",
        "/usr/bin/perl -I lib -lne code",
        "/usr/bin/ruby3.1 -r socket -e code",
        "/usr/bin/node --eval=code",
        "/usr/bin/node -pe code",
        "/usr/bin/php8.2 -d x=y -r code",
        "/usr/bin/lua5.4 -l socket -e code",
    ],
)
def test_code_in_arguments_is_known(line: str) -> None:
    assert talks(*line.split())


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/python3 -W ignore script.py -c x",
        "/usr/bin/python3 -m http.server -c",
        "/usr/bin/python3 -- script.py",
        "/usr/bin/perl -MHTTP::Server::Simple script -e",
        "/usr/bin/perl -Iexternal script",
        "/usr/bin/perl -w script -e",
        "/usr/bin/ruby -rsocket server.rb",
        "/usr/bin/node -r dotenv server.js",
        "/usr/bin/php -f script -r",
        "/usr/bin/php-fpm8.2 -e",
        "/usr/bin/python3",
        "/usr/bin/curl -e x",
    ],
)
def test_code_in_files_and_at_terminals_is_not(line: str) -> None:
    assert not talks(*line.split())


def test_code_that_comes_by_standard_input_is_known() -> None:
    assert talks("/usr/bin/python3", "-u", stdin=FILE)
    assert not talks("/usr/bin/python3", "script", stdin=FILE)


@pytest.mark.parametrize("path", ["/usr/bin/cat", "/bin/sleep"])
def test_silent_programs_do_nothing_with_the_internet(path: str) -> None:
    def rules(event: Event) -> list[str]:
        return [each.rule for each in Talkers().inspect(event)]

    process = a_process(path)
    packets = {"type": socket.SOCK_DGRAM, "process": process}
    for event in (a_connect(process=process), a_listen(process=process), a_bind(**packets)):
        assert rules(event) == ["silent_program_talks"]
    assert not rules(a_bind(process=process))
    assert not rules(a_connect(process=process, family=socket.AF_UNIX, remote=None))
    assert not rules(a_connect(**packets, remote=Endpoint("10.0.0.2", 53)))
    elsewhere = msgspec.structs.replace(process, path=f"/opt/tool{path}")
    assert not rules(a_connect(process=elsewhere))


def test_a_shell_talks_by_itself_unless_to_its_own_machine() -> None:
    def rules(event: Event) -> list[str]:
        return [each.rule for each in Talkers().inspect(event)]

    bash = a_process("/usr/bin/bash")
    assert rules(a_connect(process=bash, remote=OUTSIDE)) == ["shell_talks"]
    assert rules(a_listen(process=bash, local=Endpoint("::", 4444))) == ["shell_talks"]
    assert not rules(a_connect(process=bash))
    packets = {"type": socket.SOCK_DGRAM, "process": bash}
    assert not rules(a_connect(**packets, remote=Endpoint("10.0.0.2", 53)))
    assert not rules(a_connect(process=a_process("/usr/bin/busybox"), remote=OUTSIDE))

# SPDX-License-Identifier: Apache-2.0
"""The agent's own numbers over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kernel.stream import Stream

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def free_port() -> int:
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return int(any_socket.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stream(kernel: None, port: int) -> Iterator[Stream]:
    with Stream("--set", f"metrics.listen=127.0.0.1:{port}") as running:
        yield running
        assert running.stop() == 143, running.errors


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scraped(port: int) -> Samples:
    status, text = get(port, "/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"nodeagent_{name}", frozenset(labels.items())]


def test_numbers_are_those_of_the_ledger(stream: Stream, port: int) -> None:
    first = scraped(port)
    for _ in range(50):
        Path("/dev/null").read_bytes()
    stream.catch_up()
    second = scraped(port)

    def opens(samples: Samples, state: str) -> float:
        return value(samples, "events_total", kind="open", state=state)

    assert opens(second, "seen") - opens(first, "seen") >= 50
    assert opens(second, "decoded") - opens(first, "decoded") >= 50
    assert value(second, "sink_items_total", sink="stdout", state="delivered") > value(
        first, "sink_items_total", sink="stdout", state="delivered"
    )
    for stage in ("decode", "process", "file", "detect", "route"):
        assert value(second, "stage_cpu_seconds_total", stage=stage) > 0
    assert value(second, "cpu_seconds_total") > value(first, "cpu_seconds_total")
    assert 20e6 < value(second, "resident_bytes") < 200e6
    assert value(second, "kind_covered", kind="exec", family="tracepoint") == 1
    assert value(second, "misses_total", enricher="process") >= 0
    assert value(second, "runs_missed_total", kind="open") == 0


def test_it_is_alive_and_ready(stream: Stream, port: int) -> None:
    assert stream.agent.poll() is None
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz") == (200, "ok\n")
    assert get(port, "/etc/passwd")[0] == 404


def test_it_serves_both_versions_of_ip_on_all_addresses(kernel: None) -> None:
    port = free_port()
    with Stream("--set", f"metrics.listen=[::]:{port}") as stream:
        for host in ("127.0.0.1", "[::1]"):
            assert get(port, "/healthz", host) == (200, "ok\n")
        assert stream.stop() == 143, stream.errors


def test_client_that_says_nothing_holds_up_nobody(stream: Stream, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as silent:
        assert get(port, "/healthz")[0] == 200
        silent.settimeout(20)
        assert silent.recv(1) == b""
    assert stream.agent.poll() is None


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_end_of_the_agent_does_not_wait_for_a_client(kernel: None, path: str) -> None:
    port = free_port()
    with (
        Stream("--set", f"metrics.listen=127.0.0.1:{port}") as stream,
        socket.create_connection(("127.0.0.1", port)) as slow,
    ):
        slow.sendall(f"GET {path} HTTP/1.1\r\n".encode())
        assert stream.stop() == 143, stream.errors
    assert "Traceback" not in stream.errors


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("127.0.0.1:{used}", "Address already in use"),
        ("127.0.0.1:99999", "port must be 0-65535"),
        ("no such host:80", "Name or service not known"),
        ("9464", "metrics.listen"),
    ],
)
def test_address_of_no_use_stops_the_start(listen: str, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        where = listen.format(used=used.getsockname()[1])
        command = [sys.executable, "-m", "nodeagent", "run", "--set", f"metrics.listen={where}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr

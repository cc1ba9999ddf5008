# SPDX-License-Identifier: Apache-2.0
"""Another configuration while the stream goes on: nothing is lost, doubled or half applied."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases import EVERYTHING
from tests.detect.scenes import OWN_ADDRESSES
from tests.kernel.test_ledger import check_balance

PATIENCE_SECONDS = 30.0


class Service:
    """An agent as systemd runs it: a configuration file, and notifications."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.toml"
        self.control = folder / "control.sock"
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(folder / "notify"))
        self.told.settimeout(PATIENCE_SECONDS)
        self.errors = ""

    def configure(self, text: str) -> None:
        self.file.write_text(f'control.socket = "{self.control}"\n{text}')

    def start(self) -> None:
        self.agent = subprocess.Popen(
            [sys.executable, "-m", "nodeagent", "run", "--config", str(self.file), *EVERYTHING],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(self.folder / "notify"),
                "WATCHDOG_USEC": "400000",
            },
        )
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()
        self.until("READY=1")

    def until(self, what: str) -> list[str]:
        """What systemd is told before this, and it."""
        lines: list[str] = []
        while what not in lines:
            lines += self.told.recv(4096).decode().splitlines()
        return lines

    def reload(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nodeagent", "reload", "--control", str(self.control)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def stop(self) -> int:
        self.agent.send_signal(signal.SIGTERM)
        code = self.agent.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        self.told.close()
        return code

    def events(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def _read_errors(self) -> None:
        assert self.agent.stderr is not None
        with self.agent.stderr as errors:
            for line in errors:
                self.errors += line


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    if made.agent.poll() is None:
        made.agent.kill()
        made.agent.wait()


def sinks(folder: Path, *names: str, **more: str) -> str:
    return "".join(
        f'[sinks.{name}]\ntype = "file"\npath = "{folder / name}"\n{more.get(name, "")}\n'
        for name in names
    )


def executed(service: Service, sink: str, pids: list[int]) -> Counter[int]:
    """How often a sink has each of these processes."""
    ours = set(pids)
    found = (e["process"]["pid"] for e in service.events(sink) if e["kind"] == "exec")
    return Counter(pid for pid in found if pid in ours)


def act(stop: threading.Event, done: list[int]) -> None:
    """Programs that run all the time."""
    while not stop.is_set():
        process = subprocess.Popen(["/bin/true"])
        process.wait()
        done.append(process.pid)


def test_sinks_come_change_and_go_and_each_event_is_in_each_of_them_once(service: Service) -> None:
    folder = service.folder
    service.configure('kinds = ["exec"]\n' + sinks(folder, "a", "b", "c"))
    service.start()
    stop, pids = threading.Event(), list[int]()
    actor = threading.Thread(target=act, args=(stop, pids))
    actor.start()
    time.sleep(0.5)
    # `a` stays, `b` is changed again and again, `c` goes and comes.
    for number in range(6):
        names = ("a", "b") if number % 2 == 0 else ("a", "b", "c")
        rotation = f"rotate_bytes = 0\nqueue_events = {20_000 + number}"
        service.configure('kinds = ["exec"]\n' + sinks(folder, *names, b=rotation))
        done = service.reload()
        assert done.returncode == 0, done.stderr
        assert done.stdout == "changed: sinks.b, sinks.c\n"
        time.sleep(0.2)
    stop.set()
    actor.join()
    time.sleep(0.5)
    assert service.stop() == 143
    assert "balanced: every event is accounted for" in service.errors
    once = dict.fromkeys(pids, 1)
    assert executed(service, "a", pids) == once
    assert executed(service, "b", pids) == once
    report = service.events("a")[-1]
    check_balance(report)
    for row in report["sinks"].values():
        assert not row["dropped"]
    reloads = [e["changed"] for e in service.events("a") if e["kind"] == "agent.reload"]
    assert reloads == [["sinks.b", "sinks.c"]] * 6


def test_filters_and_kinds_change_at_once(service: Service) -> None:
    folder = service.folder
    service.configure('kinds = ["exec", "listen"]\n' + sinks(folder, "a"))
    service.start()
    program = [sys.executable, "-c", "import socket; socket.create_server(('127.0.0.1', 0))"]
    subprocess.run(program, check=True)
    # What is still in the ring is judged by the new configuration.
    time.sleep(0.5)
    service.configure('kinds = ["exec"]\n' + sinks(folder, "a"))
    assert service.reload().stdout == "changed: kinds\n"
    # The answer may come before what systemd is told.
    assert "WATCHDOG=1" in service.until("READY=1")
    subprocess.run(program, check=True)
    service.configure('kinds = ["exec", "listen"]\n' + sinks(folder, "a"))
    os.kill(service.agent.pid, signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    subprocess.run(program, check=True)
    time.sleep(0.5)
    assert service.stop() == 143
    assert sum(event["kind"] == "listen" for event in service.events("a")) == 2


RULE = """
title: {title}
logsource: {{category: process_creation}}
detection: {{s: {{Image|endswith: /true, CommandLine|contains: {word}}}, condition: s}}
"""


def test_rules_that_were_changed_are_read_again(service: Service) -> None:
    folder = service.folder
    file = folder / "rule.yml"
    service.configure(f'kinds = ["exec"]\ndetect.sigma = ["{file}"]\n{sinks(folder, "a")}')
    found = []
    file.write_text(RULE.format(title="Before", word="before-it"))
    service.start()
    for title, word in (("Before", "after-it"), ("After", "after-it"), ("After", "before-it")):
        file.write_text(RULE.format(title=title, word=word))
        assert service.reload().returncode == 0
        subprocess.run(["/bin/true", "before-it"], check=True)
        subprocess.run(["/bin/true", "after-it"], check=True)
        time.sleep(0.5)
    file.write_text("title: [")
    assert service.reload().returncode == 0
    assert service.stop() == 143
    found = [e["type"] for e in service.events("a") if e["kind"] == "finding"]
    # A finding comes again when the hash of the program is known.
    assert list(dict.fromkeys(found)) == ["Sigma:Runtime/Before", "Sigma:Runtime/After"]
    assert service.events("a")[-1]["rules"] == {"sigma": 0, "refused": 1}
    assert "rule.yml:2: this is no YAML" in service.errors


def test_expectations_of_the_network_hold_at_once(service: Service) -> None:
    folder = service.folder
    code = f"{OWN_ADDRESSES}socket.socket().connect_ex(('192.0.2.77', 1))"
    program = str(Path(sys.executable).resolve())

    def expect(network: str) -> None:
        said = f'[detect.network.egress]\n"{program}" = ["{network}"]'
        service.configure(f'kinds = ["connect"]\n{sinks(folder, "a")}{said}')

    expect("192.0.2.0/24")
    service.start()
    for network in ("192.0.2.0/24", "192.0.2.0/28"):
        expect(network)
        assert service.reload().returncode == 0
        subprocess.run(["unshare", "--net", program, "-c", code], check=True)
        time.sleep(0.5)
        type_ = "UnauthorizedAccess:Runtime/UnexpectedEgress"
        found = [e for e in service.events("a") if e["kind"] == "finding" and e["type"] == type_]
        assert len(found) == (network == "192.0.2.0/28")
    assert service.stop() == 143


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kinds = 5", "kinds (file"),
        ('kinds = ["exec", "open"]', "open had no hooks loaded at the start: restart the agent"),
        ('kinds = ["exec"]\nnode.name = "x"', "node.name can only be changed by a restart"),
        ('kinds = ["exec"]\nredact.patterns = ["("]', "'(' is no regular expression"),
        ('kinds = ["exec"]\ndetect.sigma = ["/none"]', "detect.sigma: /none cannot be read"),
        ('kinds = ["exec"]\ndetect.lists.tor = ["/none"]', "/none cannot be read"),
        ('kinds = ["exec"]\ndetect.network.egress."*" = ["x"]', '"x" is no address and no network'),
        ('kinds = ["exec"]\n[sinks.b]\ntype = "file"\npath = "/none/b"', "/none does not exist"),
        ("kinds = [", "config.toml"),
    ],
)
def test_what_cannot_be_used_changes_nothing(service: Service, text: str, says: str) -> None:
    folder = service.folder
    service.configure('kinds = ["exec"]\n' + sinks(folder, "a"))
    service.start()
    service.configure(text + "\n" + sinks(folder, "a", a="queue_events = 7"))
    done = service.reload()
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["/bin/true"], check=True)
    time.sleep(0.5)
    assert service.stop() == 143
    events = service.events("a")
    assert not [e for e in events if e["kind"] == "agent.reload"]
    assert [e for e in events if e["kind"] == "exec" and e.get("path", "").endswith("true")]
    assert "balanced" in service.errors

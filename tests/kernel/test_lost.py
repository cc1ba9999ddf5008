# SPDX-License-Identifier: Apache-2.0
"""Where records are lost, processes are found again."""

from __future__ import annotations

import subprocess

from tests.kernel.stream import Stream

CHILDREN = 200
SMALLEST_RING = 4096
SCRIPT = f"""
for i in $(seq {CHILDREN}); do
    ( true < /nowhere/early-$i; sleep 8; true < /nowhere/late-$i ) 2> /dev/null &
done
wait
"""


def test_process_whose_birth_was_lost_is_known_a_little_later() -> None:
    with Stream("--set", f"kernel.high_ring_bytes={SMALLEST_RING}") as stream:
        shell = subprocess.Popen(["dash", "-c", SCRIPT])
        shell.wait()
        # Its exit may be lost, too.
        subprocess.run(["cat", "/nowhere/last"], stderr=subprocess.DEVNULL, check=False)
        stream.one(kind="open", argument="/nowhere/last")
        opens = [event for event in stream.events if event["kind"] == "open"]
        stream.stop()
        end = stream.one(kind="agent.stop")
    early = [event["process"] for event in opens if "/early-" in event.get("argument", "")]
    late = [event["process"] for event in opens if "/late-" in event.get("argument", "")]
    assert end["kinds"]["fork"]["lost"]
    assert [process for process in early if not process["path"]]
    assert len(late) == CHILDREN
    assert {process["path"] for process in late} == {"/usr/bin/dash"}
    assert {process["lineage"][0]["pid"] for process in late} == {shell.pid}
    assert {process["namespace_pid"] for process in late} == {process["pid"] for process in late}

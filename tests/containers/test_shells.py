# SPDX-License-Identifier: Apache-2.0
"""Shells that somebody starts in a container from outside; the agent starts after the container."""

from __future__ import annotations

from tests.containers.lab import Lab
from tests.containers.test_findings import finding, findings
from tests.detect.shapes import misfits
from tests.findings import Note, note_found, note_near
from tests.kernel.stream import Stream


def test_shells_that_come_from_outside_are_told_in_older_containers_too(
    lab: Lab, record_property: Note
) -> None:
    type_ = "Execution:Runtime/ContainerExec"
    forever = ["/bin/sh", "-c", "sleep 1000; true"]
    pods = [lab.pod("older"), lab.pod("newer")]
    older = lab.container(pods[0], "main", forever)
    lab.execute(older, "/bin/sh", "-c", "true")
    with Stream("--signals", "--set", f'containers.cri_sockets=["{lab.socket}"]') as stream:
        newer = lab.container(pods[1], "main", forever)
        # What it was started for, and what is no shell.
        assert lab.execute(newer, "/bin/true").exit_code == 0
        assert type_ not in {each["type"] for each in findings(stream, newer)}
        note_near(record_property, type_)
        for number in (older, newer):
            assert lab.execute(number, "/bin/sh", "-c", "true").exit_code == 0
            found = finding(stream, number, type_)
            assert found["severity"] == "informational"
            assert found["process"]["name"] == "busybox"
            assert not list(misfits(found))
            note_found(record_property, found)
        # As `kubectl cp` does it, which asks for an archive, or sends one.
        copied = "Exfiltration:Runtime/RemoteFileCopy"
        lab.execute(newer, "tar", "tf", "-")
        assert copied not in {each["type"] for each in findings(stream, newer)}
        assert lab.execute(newer, "tar", "cf", "-", "/etc").exit_code == 0
        assert not list(misfits(finding(stream, newer, copied)))
        lab.execute(newer, "tar", "-xmf", "-", "-C", "/tmp")
        stream.first(lambda e: e.get("evidence", {}).get("rule") == "container_copied_in", "copy")
        assert stream.stop() == 143
    for pod in pods:
        lab.remove(pod)

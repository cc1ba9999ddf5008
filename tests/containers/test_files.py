# SPDX-License-Identifier: Apache-2.0
"""Programs in containers: of the image, or brought in later, and by whom."""

from __future__ import annotations

from pathlib import Path

from tests.containers.lab import BUSYBOX, Lab, digest
from tests.kernel.stream import Event, Stream

DROP = "cat /bin/busybox > /tmp/busybox; chmod 755 /tmp/busybox; /tmp/busybox true dropped-mark"


def told(stream: Stream, event: Event) -> Event:
    """The line about the file of an event."""
    joined = {name: event[name] for name in ("inode", "device", "file_changed")}
    namespace = event["process"]["namespaces"]["mnt"]
    return stream.one(kind="agent.file", mount_namespace=namespace, **joined)


def exec_of(stream: Stream, mark: str) -> Event:
    return stream.first(
        lambda e: e["kind"] == "exec" and bool(e.get("argv")) and e["argv"][-1] == mark, mark
    )


def test_program_of_the_image_is_told_apart_from_one_that_was_dropped(
    lab: Lab, stream: Stream
) -> None:
    pod = lab.pod("drift")
    number = lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000", "image-mark"])
    image = told(stream, exec_of(stream, "image-mark"))
    assert lab.execute(number, "/bin/sh", "-c", DROP).exit_code == 0
    event = exec_of(stream, "dropped-mark")
    dropped = told(stream, event)
    assert (image["origin"], dropped["origin"]) == ("image", "upper")
    assert image["sha256"] == dropped["sha256"] == digest(BUSYBOX.read_bytes())
    assert dropped["container_id"] == number
    # The shell opened the file for the program that wrote into it.
    assert dropped["modified_by"]["path"] == "/bin/busybox"
    assert event["file"]["modified_by"] == dropped["modified_by"]
    # With this snapshotter an image is a copy that the runtime makes.
    assert image["modified_by"]["path"] == "/usr/bin/containerd"
    lab.remove(pod)


def test_program_of_a_volume_is_told_apart(lab: Lab, stream: Stream, tmp_path: Path) -> None:
    tool = tmp_path / "busybox"
    tool.write_bytes(BUSYBOX.read_bytes())
    tool.chmod(0o755)
    pod = lab.pod("mounted")
    mounts = [{"container_path": "/volume", "host_path": str(tmp_path), "readonly": True}]
    lab.container(pod, "main", ["/volume/busybox", "sleep", "1000"], mounts=mounts)
    event = stream.one(kind="exec", path="/volume/busybox")
    assert told(stream, event)["origin"] == "volume"
    lab.remove(pod)

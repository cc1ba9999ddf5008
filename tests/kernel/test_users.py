# SPDX-License-Identifier: Apache-2.0
"""Events name the user of their process, by the passwd that counts for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.kernel.stream import Stream
from tests.requirement import need

BUSYBOX = Path("/bin/busybox")


def test_user_of_the_host_has_its_name_from_the_first_event_on(stream: Stream) -> None:
    with subprocess.Popen(["/bin/true"], user="nobody") as process:
        process.wait()
    event = stream.one(kind="exec", process__pid=process.pid)
    assert (event["process"]["user"], event["process"]["user_passwd"]) == ("nobody", "host")


def test_user_of_another_root_has_its_name_there(stream: Stream, tmp_path: Path) -> None:
    need("containers", BUSYBOX.exists(), "busybox-static is not installed")
    shutil.copy(BUSYBOX, tmp_path / "busybox")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("inner:x:0:0::/:\n")
    script = "until /busybox false own-root; do /busybox sleep 0.2; done"
    command = ["unshare", "--mount", "--root", str(tmp_path), "/busybox", "sh", "-c", script]
    with subprocess.Popen(command) as process:
        try:
            event = stream.one(kind="exec", process__user="inner", path=str(tmp_path / "busybox"))
        finally:
            process.kill()
    assert event["process"]["user_passwd"] == "own root"

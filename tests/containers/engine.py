# SPDX-License-Identifier: Apache-2.0
"""A Docker Engine of our own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from tests.containers.lab import START_SECONDS, image

CGROUPS: Final = Path("/sys/fs/cgroup")
LEFT: Final = "docker"
"""The cgroup in each hierarchy that the engine leaves behind."""


class Engine:
    """dockerd with its own root, state and socket; a context manager that leaves nothing."""

    def __init__(self) -> None:
        # A path of a socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="nodeagent-docker-", dir="/run"))
        self.socket = self.folder / "docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = ["dockerd", "--host", f"unix://{self.socket}", "--storage-driver", "vfs"]
        for option, name in (
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ):
            command += [option, str(self.folder / name)]
        # Nothing of the machine's network changes.
        command += ["--bridge", "none", "--ip-forward=false"]
        command += ["--iptables=false", "--ip6tables=false"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)
        self.take(image())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(START_SECONDS)
        shutil.rmtree(self.folder)
        for left in (*CGROUPS.glob(f"*/{LEFT}"), CGROUPS / LEFT):
            # Somebody else may use it.
            with suppress(OSError):
                left.rmdir()

    def take(self, archive: bytes) -> None:
        """Load the images of an archive."""
        subprocess.run(self._docker("load"), input=archive, check=True, capture_output=True)

    def run(self, *arguments: str) -> str:
        """`docker run` without a network; what it says."""
        command = self._docker("run", "--network", "none", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def inspect(self, container: str, what: str) -> str:
        """A part of what the engine knows of a container, as a Go template."""
        command = self._docker("inspect", "--format", what, container)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def remove(self, container: str) -> None:
        """End it."""
        subprocess.run(self._docker("rm", "--force", container), capture_output=True, check=True)

    def _answers(self) -> bool:
        return not subprocess.run(self._docker("info"), capture_output=True, check=False).returncode

    def _docker(self, *arguments: str) -> list[str]:
        return ["docker", "--host", f"unix://{self.socket}", *arguments]

# SPDX-License-Identifier: Apache-2.0
"""A containerd of our own, driven through the CRI as a kubelet does it."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError

from nodeagent.follow.cri import MESSAGES, SERVICE, message_types
from nodeagent.kernel.object import find_object
from tests.polling import wait_for
from tests.requirement import need

T = TypeVar("T")

IMAGE: Final = "nodeagent.test/busybox:1"
BUSYBOX: Final = Path("/bin/busybox")
APPLETS: Final = (
    *("cat", "echo", "false", "ls", "mkdir", "mount", "nc", "sh", "sleep", "tar", "touch", "true"),
)
START_SECONDS: Final = 30.0
WITH_MOUNTS: Final = (
    *("unshare", "--mount", "--propagation", "shared", "sh", "-ec"),
    'test -e /sys/kernel/tracing/events || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"',
    "sh",
)
OF_THE_CONTAINER: Final = 1
OF_THE_NODE: Final = 2
"""CONTAINER and NODE of NamespaceMode of the CRI."""
HOST_NETWORK: Final = {"network": OF_THE_NODE}

TEXT: Final = "string"
MORE_MESSAGES: Final[dict[str, dict[int, tuple[str, str]]]] = {
    **MESSAGES,
    "NamespaceOption": {1: ("network", "int32"), 2: ("pid", "int32"), 3: ("ipc", "int32")},
    "LinuxSandboxSecurityContext": {
        1: ("namespace_options", "NamespaceOption"),
        9: ("seccomp", "SecurityProfile"),
    },
    "LinuxPodSandboxConfig": {
        1: ("cgroup_parent", TEXT),
        2: ("security_context", "LinuxSandboxSecurityContext"),
    },
    "PodSandboxMetadata": {
        1: ("name", TEXT),
        2: ("uid", TEXT),
        3: ("namespace", TEXT),
        4: ("attempt", "uint32"),
    },
    "PodSandboxConfig": {
        1: ("metadata", "PodSandboxMetadata"),
        3: ("log_directory", TEXT),
        6: ("labels", "{}"),
        7: ("annotations", "{}"),
        8: ("linux", "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {1: ("config", "PodSandboxConfig")},
    "RunPodSandboxResponse": {1: ("pod_sandbox_id", TEXT)},
    "PodSandboxNetworkStatus": {1: ("ip", TEXT)},
    "PodSandboxStatus": {
        **MESSAGES["PodSandboxStatus"],
        5: ("network", "PodSandboxNetworkStatus"),
    },
    "PodSandboxStatusRequest": {1: ("pod_sandbox_id", TEXT)},
    "PodSandboxStatusResponse": {1: ("status", "PodSandboxStatus")},
    "Mount": {
        1: ("container_path", TEXT),
        2: ("host_path", TEXT),
        3: ("readonly", "bool"),
        5: ("propagation", "int32"),
    },
    "Int64Value": {1: ("value", "int64")},
    "Capability": {1: ("add_capabilities", "[string]"), 2: ("drop_capabilities", "[string]")},
    "SecurityProfile": {1: ("profile_type", "int32")},
    "LinuxContainerSecurityContext": {
        1: ("capabilities", "Capability"),
        2: ("privileged", "bool"),
        3: ("namespace_options", "NamespaceOption"),
        5: ("run_as_user", "Int64Value"),
        7: ("readonly_rootfs", "bool"),
        11: ("no_new_privs", "bool"),
        13: ("masked_paths", "[string]"),
        14: ("readonly_paths", "[string]"),
        15: ("seccomp", "SecurityProfile"),
        16: ("apparmor", "SecurityProfile"),
    },
    "LinuxContainerResources": {
        1: ("cpu_period", "int64"),
        2: ("cpu_quota", "int64"),
        3: ("cpu_shares", "int64"),
        4: ("memory_limit_in_bytes", "int64"),
    },
    "LinuxContainerConfig": {
        1: ("resources", "LinuxContainerResources"),
        2: ("security_context", "LinuxContainerSecurityContext"),
    },
    "KeyValue": {1: ("key", TEXT), 2: ("value", TEXT)},
    "ContainerConfig": {
        1: ("metadata", "ContainerMetadata"),
        2: ("image", "ImageSpec"),
        3: ("command", "[string]"),
        4: ("args", "[string]"),
        6: ("envs", "[KeyValue]"),
        7: ("mounts", "[Mount]"),
        9: ("labels", "{}"),
        10: ("annotations", "{}"),
        11: ("log_path", TEXT),
        15: ("linux", "LinuxContainerConfig"),
    },
    "CreateContainerRequest": {
        1: ("pod_sandbox_id", TEXT),
        2: ("config", "ContainerConfig"),
        3: ("sandbox_config", "PodSandboxConfig"),
    },
    "CreateContainerResponse": {1: ("container_id", TEXT)},
    "StartContainerRequest": {1: ("container_id", TEXT)},
    "StartContainerResponse": {},
    "StopContainerRequest": {1: ("container_id", TEXT), 2: ("timeout", "int64")},
    "StopContainerResponse": {},
    "ContainerStatus": {
        **MESSAGES["ContainerStatus"],
        3: ("state", "int32"),
        7: ("exit_code", "int32"),
    },
    "ExecSyncRequest": {1: ("container_id", TEXT), 2: ("cmd", "[string]"), 3: ("timeout", "int64")},
    "ExecSyncResponse": {1: ("stdout", "bytes"), 2: ("stderr", "bytes"), 3: ("exit_code", "int32")},
    "StopPodSandboxRequest": {1: ("pod_sandbox_id", TEXT)},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {1: ("pod_sandbox_id", TEXT)},
    "RemovePodSandboxResponse": {},
}
TYPES: Final = message_types(MORE_MESSAGES)


def need_containers(*tools: str) -> None:
    """Skip the test, or fail it, where containers cannot be run by these programs."""
    need("containers", os.geteuid() == 0, "containers need root")
    for tool in tools:
        need("containers", shutil.which(tool) is not None, f"{tool} is not installed")
    need("containers", BUSYBOX.exists(), "busybox-static is not installed")
    need("containers", find_object().exists(), "bpf/nodeagent.bpf.o is not built")


class Lab:
    """containerd with its own root, state and socket; a context manager that leaves nothing."""

    def __init__(self, *, own_mounts: bool = False) -> None:
        """With `own_mounts` it sees the machine as systemd mounts it, whatever that is like."""
        self._enter = WITH_MOUNTS if own_mounts else ()
        # A path of a socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="nodeagent-lab-", dir="/run"))
        self.socket = self.folder / "containerd.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.new_event_loop()
        self._channel: Channel | None = None
        self._pods: dict[str, Any] = {}

    def __enter__(self) -> Self:
        (self.folder / "config.toml").write_text(self._config())
        (self.folder / "cni").mkdir()
        (self.folder / "cni/lab.conflist").write_text(self._network())
        self.start()
        archive = self.folder / "image.tar"
        archive.write_bytes(image())
        self.take(archive)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for pod in list(self._pods):
                self.remove(pod)
        finally:
            self.stop()
            self._loop.close()
            self._unmount()
            shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start containerd and wait until it answers."""
        log = (self.folder / "log").open("ab")
        command = [*self._enter, "containerd", "--config", str(self.folder / "config.toml")]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.call("Version")
            except (OSError, GRPCError):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()[-3000:]) from None
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Stop containerd; the containers go on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            # The loop closes the socket in its next turn.
            self._run(asyncio.sleep(0.01))
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(START_SECONDS)
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It answers nobody for a while, though its socket is there."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ctr(self, *arguments: str) -> str:
        """containerd's own tool."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def take(self, archive: Path) -> None:
        """Import the images of an archive."""
        self.ctr("images", "import", "--no-unpack", str(archive))

    def mount(self, kind: str, where: Path, options: str) -> None:
        """Mount a file system where containerd sees it."""
        assert self._process is not None
        inside = ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt"]
        subprocess.run([*inside, "mount", "-t", kind, "-o", options, kind, where], check=True)

    def call(self, method: str, **values: object) -> Any:
        """One call of the CRI."""
        return self._run(self._call(method, **values))

    def pod(
        self,
        name: str,
        *,
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        namespaces: Mapping[str, int] = HOST_NETWORK,
    ) -> str:
        """Run a sandbox, in the network of the host unless told otherwise; returns its id."""
        uid = str(abs(hash((name, time.monotonic_ns()))))[:12].zfill(12)
        pod_uid = f"0a0a0a0a-0b0b-4c0c-8d0d-{uid}"
        config = {
            "metadata": {"name": name, "uid": pod_uid, "namespace": namespace, "attempt": 0},
            "log_directory": str(self.logs(name)),
            "labels": {
                "io.kubernetes.pod.name": name,
                "io.kubernetes.pod.namespace": namespace,
                "io.kubernetes.pod.uid": pod_uid,
                **(labels or {}),
            },
            "linux": {
                "cgroup_parent": f"/nodeagent-lab-{os.getpid()}/pod{pod_uid}",
                "security_context": {"namespace_options": namespaces},
            },
        }
        number: str = self.call("RunPodSandbox", config=config).pod_sandbox_id
        self._pods[number] = config
        return number

    def logs(self, pod: str) -> Path:
        """The folder with the logs of the containers of a pod, named like it."""
        return self.folder / "logs" / pod

    def container(self, pod: str, name: str, command: Sequence[str], **more: Any) -> str:
        """Create and start a container in a sandbox; returns its id."""
        config = {
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": IMAGE},
            "command": list(command),
            "log_path": f"{name}.log",
            "linux": {
                "security_context": {
                    "namespace_options": HOST_NETWORK,
                    **more.pop("security_context", {}),
                }
            },
            "labels": {"io.kubernetes.container.name": name},
            **more,
        }
        created = self.call(
            "CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=self._pods[pod]
        )
        self.call("StartContainer", container_id=created.container_id)
        return str(created.container_id)

    def execute(self, container: str, *command: str) -> Any:
        """Run a command in a container."""
        return self.call("ExecSync", container_id=container, cmd=command, timeout=20)

    def remove(self, pod: str) -> None:
        """Stop and remove a sandbox with its containers."""
        self.call("StopPodSandbox", pod_sandbox_id=pod)
        self.call("RemovePodSandbox", pod_sandbox_id=pod)
        del self._pods[pod]

    async def _call(self, method: str, **values: object) -> Any:
        if self._channel is None:
            self._channel = Channel(path=str(self.socket))
        request, reply = TYPES[f"{method}Request"], TYPES[f"{method}Response"]
        call: Any = UnaryUnaryMethod(self._channel, SERVICE + method, request, reply)
        async with asyncio.timeout(60):
            return await call(request(**values))

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(call)

    def _config(self) -> str:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        runc = f"{cri}.containerd.runtimes.runc"
        return f"""
version = 2
root = "{self.folder}/root"
state = "{self.folder}/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{self.socket}"
[{cri}]
sandbox_image = "{IMAGE}"
# Not everybody who is root may lower it.
restrict_oom_score_adj = true
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{self.folder}/cni"
[{cri}.containerd]
snapshotter = "native"
[{runc}]
runtime_type = "io.containerd.runc.v2"
[{runc}.options]
SystemdCgroup = false
"""

    def _network(self) -> str:
        """That of pods which have one of their own."""
        # The addresses are among those that are set aside for measurements (RFC 2544).
        return json.dumps(
            {
                "cniVersion": "0.4.0",
                "name": "lab",
                "plugins": [
                    {
                        "type": "ptp",
                        "ipam": {
                            "type": "host-local",
                            "ranges": [[{"subnet": "198.18.113.0/28"}]],
                            "dataDir": f"{self.folder}/addresses",
                        },
                    }
                ],
            }
        )

    def _unmount(self) -> None:
        """What a sandbox that did not end well has left."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        for line in reversed(mounts):
            where = line.split()[4]
            if where.startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", where], check=False)
        name = f"nodeagent-lab-{os.getpid()}"
        for top in [*Path("/sys/fs/cgroup").glob(f"*/{name}"), Path("/sys/fs/cgroup") / name]:
            for folder, _, _ in os.walk(top, topdown=False):
                wait_for(partial(_is_removed, Path(folder)))


def _is_removed(cgroup: Path) -> bool:
    """Not as long as a process that was killed is still there."""
    try:
        cgroup.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def image(tag: str = IMAGE) -> bytes:
    """A Docker archive with busybox; with another tag it is another image."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(BUSYBOX, "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/bin/sleep"],
            "Cmd": ["1000000"],
            "Env": ["PATH=/bin", f"IMAGE={tag}"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer.getvalue())}"]},
    }
    raw = json.dumps(config).encode()
    manifest = [{"Config": f"{digest(raw)}.json", "RepoTags": [tag], "Layers": ["layer/layer.tar"]}]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (
            (f"{digest(raw)}.json", raw),
            ("layer/layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""The image, run as the pod of the DaemonSet by a real container runtime."""

from __future__ import annotations

import gzip
import io
import json
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from nodeagent import __version__
from nodeagent.names import CAPABILITIES
from tests.containers.engine import Engine
from tests.containers.kubelet import NODE, Kubelet, RunningPod
from tests.containers.lab import IMAGE, Lab, need_containers
from tests.kernel.stream import bpf_ids
from tests.polling import wait_for

CHECKOUT = Path(__file__).parents[2]
MANIFEST = CHECKOUT / "packaging/kustomize/nodeagent.yaml"
LARGEST_BYTES = 45 << 20
GATEWAY = "198.18.113.1"
"""The node, as pods of the lab see it."""
CANARY_SECONDS = 4.0
"""After the start every hook was tried once."""

Objects = dict[str, Any]
Line = dict[str, Any]
Change = Callable[[Objects], None]


@pytest.fixture(scope="module")
def archive(dist: Path) -> Path:
    return dist / "nodeagent.oci.tar"


@pytest.fixture(scope="module")
def lab(archive: Path) -> Iterator[Lab]:
    """A node of its own with the image on it."""
    need_containers("containerd", "ctr", "runc", "/usr/lib/cni/ptp")
    # The network of pods switches it on.
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    was = forward.read_text()
    try:
        with Lab(own_mounts=True) as running:
            running.take(archive)
            yield running
    finally:
        forward.write_text(was)


@pytest.fixture(scope="module")
def kubelet(lab: Lab) -> Kubelet:
    return Kubelet(lab, {"/var/lib/nodeagent": lab.folder / "state"})


@pytest.fixture
def objects() -> Objects:
    """The manifest as it is shipped, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text()) if each}


@contextmanager
def running(
    kubelet: Kubelet, objects: Objects, name: str, **environment: str
) -> Iterator[RunningPod]:
    """The manifest says all but where the lab has its socket."""
    sockets = json.dumps([str(kubelet.lab.socket)])
    pod = kubelet.run(objects, name, NODEAGENT_CONTAINERS__CRI_SOCKETS=sockets, **environment)
    try:
        yield pod
    finally:
        pod.remove()


def wait(find: Callable[[], Any], pod: RunningPod) -> Any:
    try:
        return wait_for(find)
    except TimeoutError:
        raise AssertionError(f"the pod said {pod.said('stderr')[-20:]}") from None


def wait_until_ready(pod: RunningPod) -> None:
    wait(lambda: any(" ready " in line for line in pod.said("stderr")), pod)


def lines(pod: RunningPod) -> list[Line]:
    return [json.loads(line) for line in pod.said("stdout")]


def exec_of(pod: RunningPod, mark: str) -> Line:
    """The program with this last argument."""

    def find() -> Line | None:
        execs = (line for line in lines(pod) if line["kind"] == "exec")
        return next((line for line in execs if (line["argv"] or [""])[-1] == mark), None)

    found: Line = wait(find, pod)
    return found


def start_another(lab: Lab, name: str, mark: str) -> str:
    """A pod of somebody else, whose program has `mark` as its last argument."""
    pod = lab.pod(name, namespace="shop", labels={"app": "web"})
    lab.container(pod, "main", ["/bin/sh", "-c", "exec sleep 1000", mark])
    return pod


def pid_of(lab: Lab, pod: RunningPod) -> int:
    (line,) = [
        line for line in lab.ctr("tasks", "list").splitlines() if line.startswith(pod.container)
    ]
    return int(line.split()[1])


def layer_of(archive: Path) -> tarfile.TarFile:
    with tarfile.open(archive) as tar:
        (image,) = json.load(read(tar, "manifest.json"))
        (layer,) = image["Layers"]
        return tarfile.open(fileobj=io.BytesIO(gzip.decompress(read(tar, layer).read())))


def read(tar: tarfile.TarFile, name: str) -> io.BytesIO:
    member = tar.extractfile(name)
    assert member is not None
    return io.BytesIO(member.read())


def test_image_holds_the_program_and_nothing_to_work_with(archive: Path) -> None:
    assert archive.stat().st_size < LARGEST_BYTES
    with layer_of(archive) as layer:
        members = {member.name: member for member in layer}
    programs = {Path(name).name for name in members if Path(name).parent.name in {"bin", "sbin"}}
    assert programs == {"nodeagent"}
    system = {name for name in members if name.startswith("lib") and "." in name}
    assert {Path(name).name.partition(".")[0] for name in system} <= {
        *("ld-linux-x86-64", "ld-linux-aarch64", "libc", "libdl", "libm", "libpthread", "librt"),
        *("libutil", "libz", "libgcc_s", "libstdc++"),
    }
    assert not [name for name, member in members.items() if member.mode & 0o6000]
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}


def test_same_files_give_the_same_image(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    make = [sys.executable, "packaging/image.py", "dist/nodeagent", str(again)]
    subprocess.run(make, cwd=CHECKOUT, check=True)
    assert again.read_bytes() == archive.read_bytes()


def test_image_says_what_it_is(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        (image,) = json.load(read(tar, "manifest.json"))
        config = json.load(read(tar, image["Config"]))
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"].startswith("Apache-2.0")
    assert (config["config"]["User"], config["os"]) == ("0:0", "linux")
    environment = dict(each.split("=") for each in config["config"]["Env"])
    with layer_of(archive) as layer:
        authorities = read(layer, environment["SSL_CERT_FILE"].lstrip("/")).read()
    assert authorities.count(b"BEGIN CERTIFICATE") > 50


def test_bill_in_the_image_lists_the_libraries_of_the_system(archive: Path) -> None:
    with layer_of(archive) as layer:
        bill = json.load(read(layer, "usr/share/doc/nodeagent/sbom.cdx.json"))
    named = {component["name"] for component in bill["components"]}
    assert {"libc.so.6", "libz.so.1", "libbpf.so.1", "aiohttp"} <= named


def test_docker_takes_the_image_too(archive: Path) -> None:
    need_containers("dockerd", "docker", "containerd", "runc")
    with Engine() as engine:
        engine.take(archive.read_bytes())
        said = engine.run("--rm", "--read-only", f"nodeagent:{__version__}", "--version")
    assert said.startswith(f"nodeagent {__version__}\n")


def test_pod_of_the_manifest_sees_other_pods_and_leaves_nothing(
    lab: Lab, kubelet: Kubelet, objects: Objects
) -> None:
    with running(kubelet, objects, "agent") as pod:
        wait_until_ready(pod)
        other = start_another(lab, "web-5d8f-abcde", "seen-mark")
        container = exec_of(pod, "seen-mark")["container"]
        assert container["name"] == "main"
        assert container["image"] == IMAGE
        assert container["enrichment"] == "complete"
        assert container["pod"]["name"] == "web-5d8f-abcde"
        assert container["pod"]["namespace"] == "shop"
        lab.remove(other)
        start, node = (
            next(line for line in lines(pod) if line["kind"] == kind)
            for kind in ("agent.start", "agent.node")
        )
        assert start["version"] == __version__
        assert node["name"] == NODE
        assert node["machine_id"] == Path("/etc/machine-id").read_text().strip()
        # Those of the pod would be a lie.
        assert node["interfaces"] is None
        time.sleep(CANARY_SECONDS)
        for probe in ("livenessProbe", "readinessProbe"):
            assert pod.probe(probe) == (200, "ok\n")
        held = bpf_ids(pid_of(lab, pod))
        assert len(held) > 100
        code, seconds = pod.stop()
        assert code == 143
        assert seconds < pod.grace_seconds / 2
        assert not held & bpf_ids()
        assert lines(pod)[-1]["kind"] == "agent.stop"
        said = pod.said("stderr")
    assert "balanced: every event is accounted for" in said[-1]
    assert not [line for line in said if " warning " in line]


def test_container_may_do_what_the_manifest_says_and_no_more(
    lab: Lab, kubelet: Kubelet, objects: Objects
) -> None:
    with running(kubelet, objects, "confined") as pod:
        wait_until_ready(pod)
        process = Path(f"/proc/{pid_of(lab, pod)}")
        pairs = (line.split(":\t") for line in (process / "status").read_text().splitlines())
        status = dict(pairs)
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    (options,) = [words[5] for words in mounts if words[4] == "/"]
    assert options.startswith("ro,")
    asked = container_of(objects)["securityContext"]["capabilities"]["add"]
    numbers = [CAPABILITIES[f"CAP_{name}"] for name in asked]
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == sum(1 << n for n in numbers)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_running_agent_is_asked_in_its_pod_and_knows_its_limits(
    lab: Lab, kubelet: Kubelet, objects: Objects
) -> None:
    with running(kubelet, objects, "asked") as pod:
        wait_until_ready(pod)
        done = lab.execute(pod.container, "nodeagent", "status", "--json")
        assert done.exit_code == 0, done.stderr
        status = json.loads(done.stdout)
        assert status["node"] == NODE
        assert status["usage"]["memory_limit_bytes"] == 1 << 30
        assert status["usage"]["cpu_limit"] == 1.0


def test_hash_of_a_program_in_another_pod_is_told(
    lab: Lab, kubelet: Kubelet, objects: Objects
) -> None:
    with running(kubelet, objects, "hashes") as pod:
        wait_until_ready(pod)
        other = start_another(lab, "hashed", "hash-mark")
        number = exec_of(pod, "hash-mark")["container"]["id"]

        def find() -> list[Line]:
            return [
                line
                for line in lines(pod)
                if line["kind"] == "agent.file" and line["container_id"] == number
            ]

        (told,) = wait(find, pod)
        assert told["path"] == "/bin/busybox"
        assert len(told["sha256"]) == 64
        assert told["origin"] == "image"
        lab.remove(other)


@contextmanager
def receiver(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A server with TLS on this machine: its port, and the batches that it took."""
    took = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            took.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Requests are no news."""

    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, took
        finally:
            server.shutdown()
            thread.join()


def test_events_leave_the_pod_by_tls_which_the_authorities_of_the_image_vouch_for(
    kubelet: Kubelet, objects: Objects
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(GATEWAY).configure_cert(context)
    with receiver(context) as (port, took):
        config = f'[sinks.https]\nurl = "https://{GATEWAY}:{port}/"\ncompression = "none"\n'
        data = objects["ConfigMap"]["data"]
        data.update({"config.toml": config, "ca.pem": authority.cert_pem.bytes().decode()})
        with running(kubelet, objects, "distrusting") as pod:
            wait(lambda: "certificate verify failed" in "\n".join(pod.said("stderr")), pod)
        assert not took
        # The place that the image says, with another file in it.
        trusted = {"SSL_CERT_FILE": "/etc/nodeagent/ca.pem"}
        with running(kubelet, objects, "trusting", **trusted) as pod:
            wait(lambda: b'"agent.start"' in b"".join(took), pod)


def test_second_pod_of_a_node_takes_over_and_the_first_one_rests(
    kubelet: Kubelet, objects: Objects
) -> None:
    with running(kubelet, objects, "first") as first:
        wait_until_ready(first)
        with running(kubelet, objects, "second") as second:
            wait_until_ready(second)
            wait(lambda: "the agent that took over" in "\n".join(first.said("stderr")), first)
            *_, last = lines(first)
            assert (last["kind"], last["reason"]) == ("agent.stop", "hand-over")
            previous = lines(second)[0]["previous"]
            assert (previous["ended"], previous["gap_seconds"]) == ("hand-over", 0)
            second.stop()
        # Whoever keeps it running starts it again, since nobody watches any more.
        assert first.exit_code() == 0


def container_of(objects: Objects) -> dict[str, Any]:
    (container,) = objects["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def without_capability(name: str) -> Change:
    return lambda objects: container_of(objects)["securityContext"]["capabilities"]["add"].remove(
        name
    )


def without_mount(name: str) -> Change:
    def change(objects: Objects) -> None:
        mounts = container_of(objects)["volumeMounts"]
        mounts[:] = [mount for mount in mounts if mount["name"] != name]

    return change


def without_btf(objects: Objects) -> None:
    mount = {"name": "nothing", "mountPath": "/sys/kernel/btf", "readOnly": True}
    container_of(objects)["volumeMounts"].append(mount)
    volumes = objects["DaemonSet"]["spec"]["template"]["spec"]["volumes"]
    volumes.append({"name": "nothing", "emptyDir": {}})


def with_config(text: str) -> Change:
    return lambda objects: objects["ConfigMap"]["data"].update({"config.toml": text})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_capability("BPF"), "cannot be loaded without CAP_BPF:"),
        (without_capability("PERFMON"), "cannot be loaded without CAP_PERFMON:"),
        (without_btf, "there is no /sys/kernel/btf/vmlinux"),
        (without_mount("tracing"), "tracefs is not mounted and cannot be opened"),
        (without_mount("cgroup"), "show it /sys/fs/cgroup of the node"),
        (
            with_config('[sinks.stdout]\nformat = "jsn"\n'),
            'sinks.stdout.format (file /etc/nodeagent/config.toml) must be one of "auto", "json"',
        ),
        (with_config("typo = 1\n"), "typo (file /etc/nodeagent/config.toml) is not a known key"),
        (with_config("[sinks\n"), "file /etc/nodeagent/config.toml is not valid TOML at line 1"),
    ],
    ids=["BPF", "PERFMON", "BTF", "tracing", "cgroup", "value", "key", "TOML"],
)
def test_pod_that_cannot_start_says_why_in_one_sentence(
    kubelet: Kubelet, objects: Objects, change: Change, sentence: str, name: str
) -> None:
    change(objects)
    with running(kubelet, objects, name) as pod:
        assert pod.exit_code() == 2
        last = pod.said("stderr")[-1]
    assert last.startswith("nodeagent: ")
    assert sentence in last
    assert not pod.said("stdout")


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (without_capability("NET_ADMIN"), "without CAP_NET_ADMIN: neither DNS nor datagrams"),
        (without_capability("SYS_PTRACE"), "without CAP_SYS_PTRACE: files of processes"),
        (without_capability("DAC_READ_SEARCH"), "without CAP_DAC_READ_SEARCH: files that"),
    ],
    ids=["NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"],
)
def test_pod_that_sees_less_runs_and_says_what_is_missed(
    kubelet: Kubelet, objects: Objects, change: Change, warning: str, name: str
) -> None:
    change(objects)
    with running(kubelet, objects, name) as pod:
        wait_until_ready(pod)
        assert warning in "\n".join(pod.said("stderr"))


def test_pod_without_the_pids_of_the_node_says_what_is_missed(
    kubelet: Kubelet, objects: Objects
) -> None:
    objects["DaemonSet"]["spec"]["template"]["spec"]["hostPID"] = False
    with running(kubelet, objects, "own-pids") as pod:
        wait_until_ready(pod)
        assert "with pids of its own instead of the node's" in "\n".join(pod.said("stderr"))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a pod, after the case."""
    return f"pod-{request.node.callspec.id}".lower().replace("_", "-")

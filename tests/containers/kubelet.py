# SPDX-License-Identifier: Apache-2.0
"""What a kubelet does with the pod of a DaemonSet, on the containerd of the lab.

Whatever the manifest says is either done or an error, so that nothing in it goes untried.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.containers.lab import OF_THE_CONTAINER, OF_THE_NODE, Lab
from tests.polling import wait_for

NODE: Final = "node-of-the-lab"
PROPAGATION: Final = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
PROFILES: Final = {"RuntimeDefault": 0, "Unconfined": 1}
PERIOD_MICROSECONDS: Final = 100_000
SHARES_OF_A_CPU: Final = 1024
EXITED: Final = 2
MASKED: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""procMount: Default."""

SUFFIXES: Final = {"m": 0.001, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "": 1}


class Taken:
    """A part of a manifest of which every key must be taken."""

    def __init__(self, part: Mapping[str, Any]) -> None:
        self._rest = dict(part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            assert not self._rest, f"nothing is done about {self._rest}"

    def __call__(self, key: str, default: Any = None) -> Any:
        return self._rest.pop(key, default)


class Kubelet:
    """Starts pods as manifests say it."""

    def __init__(self, lab: Lab, places: Mapping[str, Path]) -> None:
        """`places` are paths of the node that the lab has elsewhere."""
        self.lab = lab
        self._places = places
        self._volumes = lab.folder / "volumes"

    def run(self, objects: Mapping[str, Any], name: str, **environment: str) -> RunningPod:
        """The pod of the DaemonSet among `objects`, with some more environment."""
        template = deepcopy(objects["DaemonSet"]["spec"]["template"])
        with Taken(template["spec"]) as spec:
            for key in ("nodeSelector", "tolerations", "priorityClassName", "serviceAccountName"):
                # For those who choose a node, and for the API server.
                spec(key)
            assert spec("automountServiceAccountToken") is False
            assert spec("dnsPolicy") == "ClusterFirst"
            namespaces = {
                "network": OF_THE_NODE if spec("hostNetwork") else 0,
                "pid": OF_THE_NODE if spec("hostPID") else OF_THE_CONTAINER,
            }
            grace_seconds = spec("terminationGracePeriodSeconds")
            folders = {each["name"]: self._volume(each, name, objects) for each in spec("volumes")}
            (container,) = spec("containers")
        labels = template["metadata"]["labels"]
        pod = self.lab.pod(name, namespace="nodeagent", labels=labels, namespaces=namespaces)
        ip = self.lab.call("PodSandboxStatus", pod_sandbox_id=pod).status.network.ip
        config, probes = self._container(container, folders, namespaces, environment)
        number = self.lab.container(pod, container["name"], (), **config)
        return RunningPod(
            lab=self.lab,
            pod=pod,
            container=number,
            ip=ip,
            log=self.lab.logs(name) / f"{container['name']}.log",
            probes=probes,
            grace_seconds=grace_seconds,
        )

    def _container(
        self,
        manifest: Mapping[str, Any],
        folders: Mapping[str, str],
        namespaces: Mapping[str, int],
        environment: Mapping[str, str],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with Taken(manifest) as container:
            container("name")
            container("imagePullPolicy")
            probes = {
                name: container(name)
                for name in ("startupProbe", "livenessProbe", "readinessProbe")
                if name in manifest
            }
            ports = {each["name"]: each["containerPort"] for each in container("ports", [])}
            for probe in probes.values():
                probe["httpGet"]["port"] = ports[probe["httpGet"]["port"]]
            envs = {each["name"]: _value(each) for each in container("env", [])} | {**environment}
            config = {
                "image": {"image": f"docker.io/library/{container('image')}"},
                "args": container("args"),
                "envs": [{"key": name, "value": value} for name, value in envs.items()],
                "mounts": [_mount(each, folders) for each in container("volumeMounts")],
                "linux": {
                    "resources": _resources(container("resources")),
                    "security_context": {
                        "namespace_options": namespaces,
                        **_security(container("securityContext")),
                    },
                },
            }
        return config, probes

    def _volume(self, volume: Mapping[str, Any], pod: str, objects: Mapping[str, Any]) -> str:
        """Where on this machine the files of a volume are."""
        with Taken(volume) as given:
            name = given("name")
            folder = self._volumes / pod / name
            if (host := given("hostPath")) is not None:
                return self._host_path(**host)
            if (config := given("configMap")) is not None:
                # As a kubelet lays it out, with links that it can turn in one step.
                data = folder / "..1"
                data.mkdir(parents=True)
                (folder / "..data").symlink_to("..1")
                assert config == {"name": objects["ConfigMap"]["metadata"]["name"]}
                for key, text in objects["ConfigMap"]["data"].items():
                    (data / key).write_text(text)
                    (folder / key).symlink_to(f"..data/{key}")
                return str(folder)
            folder.mkdir(parents=True)
            empty = given("emptyDir")
            assert empty.keys() <= {"medium", "sizeLimit"}
            if empty.get("medium") == "Memory":
                self.lab.mount("tmpfs", folder, f"size={int(_quantity(empty['sizeLimit']))}")
            return str(folder)

    def _host_path(self, path: str, type: str) -> str:  # noqa: A002  its name
        place = self._places.get(path, Path(path))
        match type:
            case "DirectoryOrCreate":
                place.mkdir(parents=True, exist_ok=True)
            case "Directory":
                assert place.is_dir(), path
            case "File":
                assert place.is_file(), path
            case _:
                raise AssertionError(type)
        return str(place)


@dataclass(frozen=True)
class RunningPod:
    """A pod with one container."""

    lab: Lab
    pod: str
    container: str
    ip: str
    log: Path
    probes: Mapping[str, Any]
    grace_seconds: int

    def said(self, stream: str) -> list[str]:
        """The complete lines of stdout or stderr, from the log in the format of the CRI."""
        lines = []
        begun = ""
        # What stands behind the last end of line is still being written.
        for line in self.log.read_text().split("\n")[:-1]:
            _, where, tag, text = line.split(" ", 3)
            if where == stream:
                begun += text
                if tag == "F":
                    lines.append(begun)
                    begun = ""
        return lines

    def probe(self, name: str) -> tuple[int, str]:
        """Ask what a probe of the manifest asks; returns status and text."""
        get = self.probes[name]["httpGet"]
        assert get.keys() == {"path", "port"}
        try:
            with urllib.request.urlopen(
                f"http://{self.ip}:{get['port']}{get['path']}",
                timeout=self.probes[name].get("timeoutSeconds", 1),
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def stop(self) -> tuple[int, float]:
        """End it as a kubelet does; returns exit code and seconds."""
        started = time.monotonic()
        self.lab.call("StopContainer", container_id=self.container, timeout=self.grace_seconds)
        return self.exit_code(), time.monotonic() - started

    def exit_code(self) -> int:
        """Wait for its own end."""

        def has_ended() -> Any:
            status = self.lab.call("ContainerStatus", container_id=self.container).status
            return status if status.state == EXITED else None

        return int(wait_for(has_ended).exit_code)

    def remove(self) -> None:
        """The whole pod."""
        self.lab.remove(self.pod)


def _value(variable: Mapping[str, Any]) -> str:
    if "value" in variable:
        return str(variable["value"])
    fields = {"spec.nodeName": NODE}
    return fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]


def _mount(mount: Mapping[str, Any], folders: Mapping[str, str]) -> dict[str, Any]:
    with Taken(mount) as given:
        return {
            "container_path": given("mountPath"),
            "host_path": folders[given("name")],
            "readonly": given("readOnly", False),
            "propagation": PROPAGATION[given("mountPropagation", "None")],
        }


def _resources(resources: Mapping[str, Any]) -> dict[str, int]:
    with Taken(resources) as given:
        limits, requests = given("limits"), given("requests")
    return {
        "cpu_period": PERIOD_MICROSECONDS,
        "cpu_quota": int(_quantity(limits["cpu"]) * PERIOD_MICROSECONDS),
        "cpu_shares": int(_quantity(requests["cpu"]) * SHARES_OF_A_CPU),
        "memory_limit_in_bytes": int(_quantity(limits["memory"])),
    }


def _security(context: Mapping[str, Any]) -> dict[str, Any]:
    with Taken(context) as given:
        capabilities = given("capabilities")
        return {
            "privileged": given("privileged"),
            "no_new_privs": not given("allowPrivilegeEscalation"),
            "readonly_rootfs": given("readOnlyRootFilesystem"),
            "run_as_user": {"value": given("runAsUser")},
            "capabilities": {
                "add_capabilities": capabilities["add"],
                "drop_capabilities": capabilities["drop"],
            },
            "seccomp": {"profile_type": PROFILES[given("seccompProfile")["type"]]},
            "apparmor": {"profile_type": PROFILES[given("appArmorProfile")["type"]]},
            "masked_paths": MASKED,
            "readonly_paths": READ_ONLY,
        }


def _quantity(text: str) -> float:
    match = re.fullmatch(r"(\d+)(\w*)", str(text))
    assert match
    return int(match[1]) * SUFFIXES[match[2]]

# SPDX-License-Identifier: Apache-2.0
"""The chart and what is made of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent import __version__

PACKAGING = Path(__file__).parents[2] / "packaging"
CHART = PACKAGING / "chart"
TOOLS = Path(sys.executable).parent
VERSIONS = ("1.28", "1.30", "1.32", "1.34", "1.36")

EVERYTHING = """
image: {digest: "sha256:%s"}
imagePullSecrets: [{name: registry}]
env: [{name: NODEAGENT_KERNEL_HOOKS, value: tracepoint}]
secretMounts: [{name: token, secretName: nodeagent-token, mountPath: /run/secrets/backend}]
priorityClass: {create: false, name: system-node-critical}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [amd64]}]
labels: {team: security}
annotations: {owner: security}
podLabels: {tier: node}
podAnnotations: {note: here}
tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
nodeSelector: {kubernetes.io/os: linux, pool: main}
metrics: {address: "192.0.2.1", port: 9999}
livenessProbe: {periodSeconds: 60, timeoutSeconds: 6}
updateStrategy: {type: OnDelete}
resources: {requests: {cpu: 200m, memory: 256Mi}, limits: {cpu: "2", memory: 2Gi}}
appArmorProfile: {type: RuntimeDefault}
seccompProfile: {type: Localhost, localhostProfile: nodeagent.json}
seLinuxOptions: {type: spc_t}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
serviceAccount: {create: true, name: other, annotations: {eks.amazonaws.com/role-arn: arn}}
extraCapabilities: [SYS_ADMIN]
networkPolicy: {enabled: true, egress: [{ports: [{port: 443, protocol: TCP}]}]}
""" % ("0" * 64)


def helm(*arguments: str, values: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOLS / "helm", *arguments, "--values", "-"],
        input=values,
        check=False,
        capture_output=True,
        text=True,
    )


def rendered(values: str = "", *options: str) -> str:
    template = ("template", "nodeagent", str(CHART), "--namespace", "nodeagent")
    done = helm(*template, *options, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(text) if each}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", ["", EVERYTHING], ids=["default", "everything"])
def test_objects_are_valid(version: str, values: str, tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text(rendered(values, "--kube-version", version))
    validate: list[str | Path] = [TOOLS / "kubernetes-validate", "--strict", "-k", version, path]
    done = subprocess.run(validate, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kustomization_is_what_the_chart_gives() -> None:
    assert (PACKAGING / "kustomize/nodeagent.yaml").read_text() == rendered()


def test_kustomization_builds() -> None:
    kubectl = shutil.which("kubectl")
    files = yaml.safe_load((PACKAGING / "kustomize/kustomization.yaml").read_text())["resources"]
    for name in files:
        assert list(yaml.safe_load_all((PACKAGING / "kustomize" / name).read_text()))
    if kubectl:
        build: list[str | Path] = [kubectl, "kustomize", PACKAGING / "kustomize"]
        done = subprocess.run(build, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_container_is_as_small_as_it_can_be() -> None:
    pod = objects(rendered())["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["privileged"] is False
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"]["drop"] == ["ALL"]
    assert set(security["capabilities"]["add"]) == {
        "BPF",
        "PERFMON",
        "NET_ADMIN",
        "SYS_PTRACE",
        "DAC_READ_SEARCH",
    }
    assert pod["automountServiceAccountToken"] is False
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["state", "tmp"]


def test_service_and_pod_have_the_same_capabilities() -> None:
    unit = (PACKAGING / "systemd/nodeagent.service").read_text().splitlines()
    (line,) = [line for line in unit if line.startswith("CapabilityBoundingSet=")]
    named = {name.removeprefix("CAP_") for name in line.partition("=")[2].split()}
    pod = objects(rendered())["DaemonSet"]["spec"]["template"]["spec"]
    assert named == set(pod["containers"][0]["securityContext"]["capabilities"]["add"])


def test_profile_of_apparmor_compiles_and_has_the_same_capabilities() -> None:
    profile = PACKAGING / "apparmor/nodeagent"
    command: list[str | Path] = ["/usr/sbin/apparmor_parser", "-QK", profile]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    named = set(re.findall(r"^  capability (\w+),$", profile.read_text(), re.MULTILINE))
    more = "extraCapabilities: [SYS_ADMIN, SYSLOG]"
    pod = objects(rendered(more))["DaemonSet"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert {name.upper() for name in named} == set(
        container["securityContext"]["capabilities"]["add"]
    )


def test_page_about_platforms_names_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    page = (PACKAGING.parent / "docs/platforms.md").read_text()
    assert [key for key in values if f"`{key}" not in page] == []


def test_profile_of_apparmor_is_said_as_each_version_reads_it() -> None:
    annotation = "container.apparmor.security.beta.kubernetes.io/nodeagent"
    for version, annotated in (("1.28", "unconfined"), ("1.30", None)):
        template = objects(rendered("", "--kube-version", version))["DaemonSet"]["spec"]["template"]
        (container,) = template["spec"]["containers"]
        profile = container["securityContext"].get("appArmorProfile")
        assert template["metadata"]["annotations"].get(annotation) == annotated
        assert profile == (None if annotated else {"type": "Unconfined"})


@pytest.mark.parametrize(
    ("values", "listens", "host"),
    [
        ("", "0.0.0.0:9464", None),
        ("{hostNetwork: true}", "127.0.0.1:9464", "127.0.0.1"),
        ('{metrics: {address: "[::]", port: 9999}}', "[::]:9999", None),
        ("{hostNetwork: true, metrics: {address: 192.0.2.1}}", "192.0.2.1:9464", "192.0.2.1"),
    ],
)
def test_probes_ask_where_the_agent_listens(values: str, listens: str, host: str | None) -> None:
    pod = objects(rendered(values))["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["NODEAGENT_METRICS__LISTEN"] == listens
    number = int(listens.rpartition(":")[2])
    # Whatever is named on the network of the node, only one pod can have.
    ports = {each["name"]: each["containerPort"] for each in container.get("ports", [])}
    assert ports == ({} if host else {"metrics": number})
    for name in ("livenessProbe", "readinessProbe"):
        asked = container[name]["httpGet"]
        assert asked.get("host") == host
        assert ports.get(asked["port"], asked["port"]) == number


def test_new_pod_starts_beside_the_old_one_and_takes_over() -> None:
    daemons = objects(rendered())["DaemonSet"]["spec"]
    assert daemons["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = daemons["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["NODEAGENT_STATE__TAKE_OVER"] == "true"
    state = environment["NODEAGENT_STATE__FILE"]
    folder = next(m["mountPath"] for m in container["volumeMounts"] if m["name"] == "state")
    assert Path(state).parent == Path(folder)


def test_prometheus_is_let_in_where_it_is_told_to_come() -> None:
    made = objects(rendered("{podMonitor: {enabled: true}, metrics: {port: 9999}}"))
    (endpoint,) = made["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert made["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == 9999


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("{typo: 1}", "typo"),
        ("{resources: 3}", "resources"),
        ('{image: {repository: ""}}', "repository"),
        ("{image: {digest: latest}}", "digest"),
        ("{dnsPolicy: Any}", "dnsPolicy"),
    ],
)
def test_wrong_value_is_refused_by_name(values: str, named: str) -> None:
    done = helm("template", "nodeagent", str(CHART), values=values)
    assert done.returncode == 1
    assert named in done.stderr

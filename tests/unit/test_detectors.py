# SPDX-License-Identifier: Apache-2.0
"""What detectors say about events that no scene on one machine can bring about."""

from __future__ import annotations

import pytest

from nodeagent.detect import Detector
from nodeagent.detect.drift import Drift
from nodeagent.detect.sensitive import Sensitive
from nodeagent.event import Event, Incomplete
from tests.events import a_symlink, an_exec

SETUID = 0o104755


def rules(detector: Detector, event: Event) -> list[str]:
    return [each.rule for each in detector.inspect(event)]


@pytest.mark.parametrize("argv", [(), ("",)])
def test_no_argument_is_told_from_arguments_that_could_not_be_read(argv: tuple[str, ...]) -> None:
    event = an_exec(argv, mode=SETUID)
    assert rules(Drift(), event) == ["pkexec_exploit"]
    event.incomplete = Incomplete(truncated=("cwd",), unread={"cwd": "EFAULT"})
    assert rules(Drift(), event) == ["pkexec_exploit"]
    event.incomplete = Incomplete(truncated=(), unread={"argv": "EFAULT"})
    assert rules(Drift(), event) == []


@pytest.mark.parametrize(
    ("path", "target", "is_secret"),
    [
        ("/tmp/x", "/etc/shadow", True),
        ("/tmp/x", "//etc/./shadow", True),
        ("/tmp/x", "../etc/shadow", True),
        ("/x", "../../etc/shadow", True),
        ("/etc/x", "shadow", True),
        ("/tmp/a/x", "../etc/shadow", False),
        ("/tmp/x", "etc/shadow", False),
        ("x", "etc/shadow", False),
    ],
)
def test_links_lead_from_their_own_folder(path: str, target: str, is_secret: bool) -> None:
    event = a_symlink(path=path, target=target)
    assert rules(Sensitive(), event) == ["sensitive_link"] * is_secret

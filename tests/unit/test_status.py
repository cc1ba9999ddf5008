# SPDX-License-Identifier: Apache-2.0

import subprocess
import sys
import time

from nodeagent.cli.status import age_seconds


def test_age_is_that_of_the_process_whenever_it_is_looked_at() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = time.monotonic()
        time.sleep(0.5)  # noqa: TID251  it has to grow old
        age = age_seconds(process.pid)
        passed = time.monotonic() - began
        process.communicate(b"\n")
    assert passed - 0.1 < age < passed + 0.5

# SPDX-License-Identifier: Apache-2.0
"""`python -m nodeagent`."""

import sys

from nodeagent.cli import main

sys.exit(main())

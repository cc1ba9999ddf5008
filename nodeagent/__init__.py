# SPDX-License-Identifier: Apache-2.0
"""Runtime security for a Linux node: what ran, what it touched, what looks wrong."""

__version__ = "0.1.0"

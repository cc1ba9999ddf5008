# SPDX-License-Identifier: Apache-2.0
"""The border with the kernel."""

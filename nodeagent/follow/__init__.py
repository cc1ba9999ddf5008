# SPDX-License-Identifier: Apache-2.0
"""Tasks that find out what lies outside of the stream, and tell it by items."""

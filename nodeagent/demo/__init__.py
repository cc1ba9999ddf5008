# SPDX-License-Identifier: Apache-2.0
"""Harmless behaviours that give findings, done on a stage under the eyes of an agent."""

# SPDX-License-Identifier: Apache-2.0
"""Rules of Sigma: read and compiled once, then plain functions over events.

`read` turns files into rules, by `documents` and `translate`; only these need pySigma, so
nobody else pays for it. `tree` is what a rule says, `match` makes functions of it, `fields`
says where its fields are in our events, `correlate` counts, and `detector` asks those that can
match.
"""

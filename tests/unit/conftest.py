# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis keeps nothing in the tree, and never fails a test for the time it took."""

import hypothesis
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(".cache/hypothesis")
hypothesis.settings.register_profile("unit", deadline=None, database=None)
hypothesis.settings.load_profile("unit")
